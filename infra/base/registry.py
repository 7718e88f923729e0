"""The schema registry client: the one place that speaks to the Confluent-compatible API."""

from __future__ import annotations

import json
import weakref
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2 as httpx

from infra.base.settings import settings


class RegistryError(Exception):
    """The registry answered with a refusal; the message holds its words, `code` its error code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class RegistryUnavailable(Exception):
    """The registry did not answer, or answered 5xx: retry, never treat as a verdict on a schema."""


class RegistryClient:
    """Subjects, versions, ids and compatibility; blocking, safe to share between threads.

    Raises `RegistryError` for a refusal by content and `RegistryUnavailable` for an outage; callers must keep the two apart.
    """

    def __init__(self, url: str | None = None, timeout_s: float | None = None) -> None:
        self.url = (url or settings().registry.url).rstrip("/")
        self._http = httpx.Client(timeout=timeout_s or settings().registry.timeout_s)
        weakref.finalize(self, self._http.close)
        self._schema_by_id: dict[int, dict[str, Any]] = {}

    def close(self) -> None:
        """Let the connection go; `with RegistryClient() as registry:` does it too."""
        self._http.close()

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Register `schema` under `subject` (idempotent) and return its id. A refused evolution raises RegistryError(code=409).

        The registry normalises: a version that differs from an earlier one only in docs and our own attributes has that one's id.
        """
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions?normalize=true", body)
        return int(answer["id"])

    def lookup(self, subject: str, schema: dict[str, Any]) -> int:
        """The id under which exactly this schema is registered. Raises RegistryError(code=404) where it is not: publish it first."""
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        try:
            answer = self._call("POST", f"/subjects/{quote(subject, safe='')}?normalize=true", body)
        except RegistryError as error:
            raise RegistryError(f"{subject}: {error}; `headrace schema register` publishes the contracts", error.code) from None
        return int(answer["id"])

    def set_level(self, subject: str | None, level: str) -> None:
        """Enforce a compatibility level for a subject, or globally for `None`."""
        path = "/config" if subject is None else f"/config/{quote(subject, safe='')}"
        self._call("PUT", path, {"compatibility": level})

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema with this id, remembered for ever: ids are immutable. Unknown id: RegistryError(code=404)."""
        if schema_id not in self._schema_by_id:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            self._schema_by_id[schema_id] = json.loads(answer["schema"])
        return self._schema_by_id[schema_id]

    def latest(self, subject: str) -> tuple[int, dict[str, Any]] | None:
        """(id, schema) of the newest version, or None where the subject is not registered."""
        try:
            answer = self._call("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        except RegistryError as error:
            if error.code == 404:
                return None
            raise
        return int(answer["id"]), json.loads(answer["schema"])

    def versions(self, subject: str) -> list[int]:
        """The version numbers of a subject, oldest first; empty where it is not registered."""
        try:
            return [int(v) for v in self._call("GET", f"/subjects/{quote(subject, safe='')}/versions")]
        except RegistryError as error:
            if error.code == 404:
                return []
            raise

    def history(self, subject: str) -> list[tuple[int, dict[str, Any]]]:
        """(version number, schema) of every version, oldest first; empty where the subject is not registered."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        return [(number, json.loads(self._call("GET", f"{path}/{number}")["schema"])) for number in sorted(self.versions(subject))]

    def level(self, subject: str) -> str:
        """The compatibility level enforced for a subject; NONE where none is set, and so nothing is enforced."""
        try:
            return str(self._call("GET", f"/config/{quote(subject, safe='')}")["compatibilityLevel"])
        except RegistryError as error:
            if error.code == 404:
                return "NONE"
            raise

    def accepts(self, subject: str, schema: dict[str, Any]) -> bool:
        """The registry's verdict on registering `schema` under `subject`, without doing it. A subject must exist."""
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        return bool(self._call("POST", f"/compatibility/subjects/{quote(subject, safe='')}/versions", body)["is_compatible"])

    def subjects_of(self, schema_id: int) -> list[str]:
        """Every subject that has this id among its versions. Unknown id: RegistryError(code=404)."""
        return [str(s) for s in self._call("GET", f"/schemas/ids/{schema_id}/subjects")]

    def subjects(self) -> list[str]:
        """All registered subjects."""
        return [str(s) for s in self._call("GET", "/subjects")]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._http.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise RegistryUnavailable(f"the registry at {self.url} does not answer: {error}") from error
        if response.status_code >= 500:
            raise RegistryUnavailable(f"the registry at {self.url} answered {response.status_code}: {response.text[:300]}")
        if response.status_code >= 400:
            try:
                words = str(response.json().get("message", response.text))
            except ValueError:
                words = response.text[:300]
            raise RegistryError(words, response.status_code)
        try:
            return response.json() if response.content else None
        except ValueError:
            raise RegistryUnavailable(f"what answers at {self.url} is no schema registry: {response.text[:300]}") from None

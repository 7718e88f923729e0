"""The Flink cluster, by its REST API: which jobs run, their checkpoints, stopping with a savepoint. Blocking; no JVM, no PyFlink."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from infra.base.settings import settings

ALIVE = frozenset({"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "RECONCILING"})
"""States of a job that needs nothing done: it runs, or the cluster is bringing it back."""


class ClusterError(Exception):
    """The cluster refused or does not answer; the message says what it said and where it was asked."""


@dataclass(frozen=True)
class Running:
    """A job the cluster knows."""

    job_id: str
    name: str
    state: str
    started_ms: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has ended. `size_bytes` is that of the whole state; of one that failed it says nothing."""

    number: int
    complete: bool
    ended_ms: int
    took_ms: int
    size_bytes: int


class Cluster:
    """One Flink cluster. Every method raises ClusterError."""

    def __init__(self, url: str | None = None, timeout_s: float = 30.0) -> None:
        self.url = (url or settings().flink.rest_url).rstrip("/")
        self._http = httpx.Client(timeout=timeout_s)
        weakref.finalize(self, self._http.close)

    def jobs(self) -> dict[str, Running]:
        """The newest job of each name."""
        found: dict[str, Running] = {}
        for entry in self._call("GET", "/jobs/overview")["jobs"]:
            job = Running(entry["jid"], entry["name"], entry["state"], entry["start-time"])
            if job.name not in found or (job.state in ALIVE, job.started_ms) > (found[job.name].state in ALIVE, found[job.name].started_ms):
                found[job.name] = job
        return found

    def alive(self) -> dict[str, Running]:
        """Jobs that run or are being brought back, by name."""
        return {name: job for name, job in self.jobs().items() if job.state in ALIVE}

    def why_failed(self, job_id: str) -> str:
        """The innermost reason of a job's last failure; empty where it has none."""
        history = self._call("GET", f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        causes = [line for line in history[0]["stacktrace"].splitlines() if line.startswith("Caused by:")] if history else []
        return (causes[-1].removeprefix("Caused by: ") if causes else history[0]["stacktrace"].splitlines()[0]) if history else ""

    def wait_until_running(self, job_id: str, within_s: float = 120.0) -> None:
        """Return when every task of the job runs; a job that fails or keeps restarting raises, in its own words."""
        deadline = time.monotonic() + within_s
        while True:
            job = self._call("GET", f"/jobs/{job_id}")
            if job["state"] == "RUNNING" and all(v["status"] in ("RUNNING", "FINISHED") for v in job["vertices"]):
                return
            if job["state"] in ("FAILED", "FAILING", "CANCELED") or time.monotonic() > deadline:
                raise ClusterError(f"job {job['name']} ({job_id}) is {job['state']}: {self.why_failed(job_id) or 'no reason given'}")
            time.sleep(0.2)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The newest checkpoints of a job that have ended, savepoints too, oldest first: as many as Flink remembers, ten by default."""
        history = self._call("GET", f"/jobs/{job_id}/checkpoints").get("history") or []
        ended = [entry for entry in history if entry["status"] in ("COMPLETED", "FAILED")]
        return sorted(
            (
                Checkpoint(
                    number=entry["id"],
                    complete=entry["status"] == "COMPLETED",
                    ended_ms=entry["trigger_timestamp"] + entry["end_to_end_duration"],
                    took_ms=entry["end_to_end_duration"],
                    size_bytes=entry["state_size"],
                )
                for entry in ended
            ),
            key=lambda checkpoint: checkpoint.number,
        )

    def newest_checkpoint(self, job_id: str) -> str | None:
        """Path of the newest complete checkpoint that the cluster remembers for a job."""
        completed = (self._call("GET", f"/jobs/{job_id}/checkpoints").get("latest") or {}).get("completed") or {}
        return completed.get("external_path") or None

    def stop(self, job_id: str, within_s: float = 120.0) -> str:
        """Stop a job with a savepoint and return the savepoint's path: what it had in flight is committed, nothing is left open."""
        asked = self._call("POST", f"/jobs/{job_id}/stop", {"targetDirectory": _place("savepoint"), "drain": False})
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            answer = self._call("GET", f"/jobs/{job_id}/savepoints/{asked['request-id']}")
            if answer["status"]["id"] == "COMPLETED":
                if cause := answer["operation"].get("failure-cause"):
                    raise ClusterError(f"{job_id} cannot be stopped with a savepoint and goes on: {cause['stack-trace'].splitlines()[0]}")
                self._wait_until_gone(job_id, deadline)
                return str(answer["operation"]["location"])
            time.sleep(0.2)
        raise ClusterError(f"the savepoint of {job_id} is not complete after {within_s:g} s")

    def _wait_until_gone(self, job_id: str, deadline: float) -> None:
        while self._call("GET", f"/jobs/{job_id}")["state"] != "FINISHED":
            if time.monotonic() > deadline:
                raise ClusterError(f"{job_id} wrote its savepoint and does not end")
            time.sleep(0.2)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._http.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise ClusterError(f"the Flink cluster at {self.url} does not answer: {error}") from error
        if response.status_code >= 400:
            raise ClusterError(f"{self.url}{path} answered {response.status_code}: {response.text[:500]}")
        return response.json()


def newest_on_disk(job_ids: list[str]) -> str | None:
    """Path of the newest complete checkpoint or savepoint of any of these incarnations of a job. None where there is none, or no files.

    A JobManager that dies while it stops a job leaves a savepoint that nobody has been told of; what the job wrote up to it is committed.
    """
    patterns = [("checkpoint", "{0}/chk-*/_metadata"), ("savepoint", "savepoint-{0:.6}-*/_metadata")]
    complete = [
        meta
        for kind, pattern in patterns
        if (place := _directory(kind)) is not None
        for job_id in job_ids
        for meta in place.glob(pattern.format(job_id))
    ]
    newest = max(complete, key=lambda meta: meta.stat().st_mtime_ns, default=None)
    return newest.parent.as_uri() if newest else None


def _place(kind: str) -> str:
    """URI of the directory of checkpoints or savepoints."""
    return getattr(settings().flink, f"{kind}_dir") or (settings().state_dir.resolve() / f"{kind}s").as_uri()


def _directory(kind: str) -> Path | None:
    """The same as a path; None where it is no file system of ours."""
    url = urlsplit(_place(kind))
    return Path(url.path) if url.scheme in ("", "file") else None

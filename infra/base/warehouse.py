"""ClickHouse clients by HTTP DSN: the embedded warehouse and a server look the same from here."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from infra.base.settings import settings


def reader(database: str | None = None) -> Client:
    """A read-only client; `database` defaults to that of the namespace. Raises clickhouse_connect's OperationalError if down."""
    warehouse = settings().warehouse
    return _connect(warehouse.user, warehouse.password, database)


def writer(database: str | None = None) -> Client:
    """A client with the loader's rights: inserts and DDL."""
    warehouse = settings().warehouse
    return _connect(warehouse.loader_user, warehouse.loader_password, database)


def _connect(user: str, password: str, database: str | None) -> Client:
    url = urlsplit(settings().warehouse.dsn)
    return clickhouse_connect.get_client(
        host=url.hostname or "127.0.0.1",
        port=url.port or (8443 if url.scheme == "https" else 8123),
        secure=url.scheme == "https",
        username=user,
        password=password,
        database=database or settings().database,
        autogenerate_session_id=False,
    )


class WarehouseError(Exception):
    """ClickHouse answered with an error; `code` is its exception code, 0 where there was none."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class WarehouseUnavailable(Exception):
    """No answer: whether a statement that was sent has been carried out is unknown."""


@dataclass(frozen=True)
class Reply:
    """What came back: the result in the format asked for, and how many rows were written, views included."""

    body: bytes
    written_rows: int


class BulkWriter:
    """One kept connection with write rights, for inserts whose data are many bytes that nobody here looks at. Not thread-safe.

    The statement goes in front of the data in one body, because it may be longer than a URL can be.
    """

    def __init__(self, timeout_s: float = 300.0) -> None:
        warehouse = settings().warehouse
        self._url = urlsplit(warehouse.dsn)
        self._timeout_s = timeout_s
        credentials = base64.b64encode(f"{warehouse.loader_user}:{warehouse.loader_password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/octet-stream"}
        self._connection: http.client.HTTPConnection | None = None

    def run(self, sql: str, data: Sequence[bytes] = (), query_id: str = "", **options: str | int) -> Reply:
        """Run one statement with `data` behind it; `options` are ClickHouse settings. Raises WarehouseError, WarehouseUnavailable."""
        named = {"database": settings().database, **options} | ({"query_id": query_id} if query_id else {})
        body = [sql.encode() + (b"\n" if data else b""), *data]
        try:
            connection = self._connect()
            connection.putrequest("POST", "/?" + urlencode(named))
            for name, value in {**self._headers, "Content-Length": str(sum(map(len, body)))}.items():
                connection.putheader(name, value)
            connection.endheaders()
            for part in body:
                connection.send(part)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise WarehouseUnavailable(f"the warehouse at {self._url.netloc} does not answer: {error or type(error).__name__}") from error
        if response.status != 200:
            code = response.headers.get("X-ClickHouse-Exception-Code", "0")
            raise WarehouseError(content.decode(errors="replace").strip()[:2_000], int(code))
        return Reply(content, int(json.loads(response.headers.get("X-ClickHouse-Summary", "{}")).get("written_rows", 0)))

    def close(self) -> None:
        """Drop the connection; the next statement opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "127.0.0.1", self._url.port, timeout=self._timeout_s)
        return self._connection

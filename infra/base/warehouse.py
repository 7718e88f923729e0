"""ClickHouse clients by HTTP DSN: the embedded warehouse and a server look the same from here."""

from __future__ import annotations

from urllib.parse import urlsplit

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

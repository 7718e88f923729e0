"""The embedded ClickHouse: one path, one process, and a fresh connection for every request.

A connection costs 0.1 ms and takes its settings with it when it closes, so nothing one client sets reaches another. A reader's
connection gets its limits first and `readonly = 1` last; from then on the engine itself refuses to change anything.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb

from sinks.warehouse import sql

ERROR = re.compile(r"Code: (\d+)\. DB::Exception: .*", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
READER_MAY_SET = re.compile(
    r"output_format_(?!schema)[a-z0-9_]+|date_time_output_format|session_timezone|low_cardinality_allow_in_native_format"
    r"|max_result_rows|max_result_bytes|result_overflow_mode|extremes|limit|offset|max_block_size|max_execution_time"
    r"|join_use_nulls|aggregate_functions_null_for_empty"
)
"""Settings that change how a result looks or tighten its limits; nothing that names a file, a host or a schema."""

OF_THE_ENGINE = frozenset({"system", "information_schema"})
"""Databases that ClickHouse brings along, in lower case."""
QUERY_SLOTS_WAIT_S = 10.0
CLOSE_WAIT_S = 2.0
SYNTAX_ERROR, UNKNOWN_EXCEPTION, READONLY, TOO_MANY_QUERIES, SAME_QUERY_ID = 62, 1002, 164, 202, 216


class EngineError(Exception):
    """ClickHouse refused or failed; `code` is its error code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Role:
    """What a user may do and how much of the machine it may take. Each role has slots of its own, so that neither waits for the other.

    `tables`: what readers of `team` may read; None for everything.
    """

    name: str
    writes: bool
    slots: int
    limits: Mapping[str, int | str]
    team: str = ""
    tables: frozenset[str] | None = None

    def allows(self, setting: str) -> bool:
        """Whether a request of this role may change `setting`."""
        return self.writes or READER_MAY_SET.fullmatch(setting) is not None


@dataclass(frozen=True)
class Request:
    """One statement as it came by HTTP: SQL with inline data behind it, what the result should look like, settings and parameters."""

    sql: bytes
    query_id: str
    format: str = "TabSeparated"
    database: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The body in the format asked for, and what the statement touched."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    elapsed_s: float = 0.0


class Engine:
    """Runs requests under a role. Safe to share between threads: requests run side by side, the engine releases the GIL.

    Raises `EngineError` at start when the path belongs to another process, and for whatever a statement meets.
    """

    def __init__(self, path: Path, roles: Mapping[str, Role], memory_bytes: int) -> None:
        self._address = f"{path}?max_server_memory_usage={memory_bytes}"
        self._roles = tuple(roles.values())
        self._slots = {role.name: threading.BoundedSemaphore(role.slots) for role in self._roles}
        self._running: set[str] = set()
        self._lock = threading.Lock()
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._anchor = chdb.connect(self._address)  # keeps the engine open between requests
        except (RuntimeError, chdb.ChdbError) as error:
            words = f"the warehouse at {path} cannot be opened; only one process may have it: {error}"
            raise EngineError(words, UNKNOWN_EXCEPTION) from None
        names = self._anchor.query("SELECT name FROM system.table_functions", "TSVRaw").bytes().decode()
        self._table_functions = frozenset(names.lower().split())

    def close(self) -> None:
        """Let running requests end for a few seconds, then close the engine."""
        for role in self._roles:
            for _ in range(role.slots):
                self._slots[role.name].acquire(timeout=CLOSE_WAIT_S)
        self._anchor.close()

    def run(self, request: Request, role: Role) -> Answer:
        """Run one statement. Raises EngineError, sql.Refused. Blocks until it is done."""
        with self._registered(request.query_id), self._slot(role), self._connection(request, role) as connection:
            try:
                if role.writes:
                    return self._write(connection, request)
                return self._read(connection, request, role)
            except (RuntimeError, chdb.ChdbError) as error:
                raise engine_error(error) from None
            except UnicodeDecodeError as error:
                words = bytes(error.object).decode(errors="replace")
                if ERROR.search(words):  # the engine's own words, which quote bytes of the data
                    raise engine_error(RuntimeError(words)) from None
                raise EngineError("the statement is not UTF-8", SYNTAX_ERROR) from None

    def _read(self, connection: Any, request: Request, role: Role) -> Answer:
        text = request.sql.decode()
        try:
            canonical = connection.query("SELECT formatQuerySingleLine({q:String})", "TSVRaw", params={"q": sql.escaped(text)}).bytes()
        except (RuntimeError, chdb.ChdbError) as error:
            words = str(engine_error(error)).partition(": In scope")[0]
            raise EngineError(words, SYNTAX_ERROR) from None
        sql.check_read(canonical, self._table_functions)
        if role.tables is not None:
            sql.check_tables(canonical, _existing(connection), role.tables, role.team)
        return _answer(connection.query(text, request.format, params=dict(request.params)))

    def _write(self, connection: Any, request: Request) -> Answer:
        insert = sql.insert_with_data(request.sql)
        sql.check_sources(request.sql if insert is None else _without(insert), self._table_functions)
        if insert is None:
            return _answer(connection.query(request.sql.decode(), request.format, params=dict(request.params)))
        data = memoryview(request.sql)[insert.data_start :]
        if insert.input_span is None:
            with connection.send_insert(insert.statement.decode(), insert.format) as inserter:
                inserter.append(bytes(data))
                done = inserter.finish()
            return Answer(b"", written_rows=done.rows_written, elapsed_s=done.elapsed)
        # A server feeds input() from the request's body; the embedded engine reads a file that exists in memory only.
        with _in_memory(data) as path:
            start, end = insert.input_span
            source = f"file('{path}', '{insert.format}', ".encode() + insert.structure + b")"
            statement = insert.statement[:start] + source + insert.statement[end:]
            return _answer(connection.query(statement.decode(), request.format, params=dict(request.params)))

    @contextmanager
    def _connection(self, request: Request, role: Role) -> Iterator[Any]:
        settings: dict[str, int | str] = {}
        for name, asked in request.settings.items():
            if not NAME.fullmatch(name):
                raise sql.Refused(f"{name!r} is not the name of a setting", 115)
            if not role.allows(name):
                raise sql.Refused(f"Cannot modify '{name}' setting in readonly mode")
            settings[name] = asked
        for name, limit in role.limits.items():
            settings[name] = _tighter(settings.get(name), limit)
        connection = chdb.connect(self._address)
        try:
            try:
                assigned = (f"{name} = {value if isinstance(value, int) else sql.literal(value)}" for name, value in settings.items())
                if settings:
                    connection.query(f"SET {', '.join(assigned)}")  # at once: a statement each costs more than the connection
                if role.tables is not None and request.database.lower() in OF_THE_ENGINE:
                    raise sql.Refused(f"{request.database} is not a database for readers of a team", 497)
                if request.database != "default":
                    connection.query(f"USE {sql.identifier(request.database)}")
                if not role.writes:
                    connection.query("SET readonly = 1")
            except (RuntimeError, chdb.ChdbError) as error:
                raise engine_error(error) from None
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _slot(self, role: Role) -> Iterator[None]:
        slot = self._slots[role.name]
        if not slot.acquire(timeout=QUERY_SLOTS_WAIT_S):
            raise EngineError(f"Too many simultaneous queries by {role.name}: maximum {role.slots}; try again", TOO_MANY_QUERIES)
        try:
            yield
        finally:
            slot.release()

    @contextmanager
    def _registered(self, query_id: str) -> Iterator[None]:
        with self._lock:
            if query_id in self._running:
                raise EngineError(f"Query with id = {query_id} is already running", SAME_QUERY_ID)
            self._running.add(query_id)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(query_id)


def _existing(connection: Any) -> frozenset[str]:
    """Every table there is, but those of the engine."""
    ours = ", ".join(map(sql.literal, sorted(OF_THE_ENGINE)))
    names = connection.query(f"SELECT name FROM system.tables WHERE lower(database) NOT IN ({ours})", "TSVRaw").bytes()
    return frozenset(names.decode().split())


def engine_error(error: Exception) -> EngineError:
    """The engine's words without their wrapping, and the code in them."""
    words = str(error)
    found = ERROR.search(words)
    return EngineError(found.group(0).strip(), int(found.group(1))) if found else EngineError(words, UNKNOWN_EXCEPTION)


def _without(insert: sql.Insert) -> bytes:
    """The statement without its input(), which is fed by us."""
    if insert.input_span is None:
        return insert.statement
    start, end = insert.input_span
    return insert.statement[:start] + insert.statement[end:]


def _answer(result: Any) -> Answer:
    return Answer(result.bytes(), result.rows_read(), result.bytes_read(), result.rows_written(), result.elapsed())


def _tighter(asked: int | str | None, limit: int | str) -> int | str:
    """A limit may be asked for, but only below the role's own; 0 means none and is above every limit."""
    if isinstance(limit, int) and isinstance(asked, str) and asked.isdigit() and 0 < int(asked) < limit:
        return int(asked)
    return limit


@contextmanager
def _in_memory(data: memoryview) -> Iterator[str]:
    descriptor = os.memfd_create("insert")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

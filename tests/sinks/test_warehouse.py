"""The warehouse over HTTP: the clients people have, and what a reader must not be able to do."""

from __future__ import annotations

import gzip
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
import httpx2 as httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.base import warehouse
from infra.base.settings import settings
from tests.kit import eventually
from tests.sinks.conftest import PASSWORD, WarehouseProcess


@pytest.fixture
def table(place: str) -> str:
    """A table of three rows in the namespace's database."""
    client = warehouse.writer("default")
    client.command(f"CREATE DATABASE {settings().database}")
    name = f"{settings().database}.t"
    client.command(f"CREATE TABLE {name} (a Int32, b String, c Nullable(DateTime64(3, 'UTC'))) ENGINE = MergeTree ORDER BY a")
    client.insert(name, [[1, "x", None], [2, "it's", None], [3, "tab\t", None]], column_names=["a", "b", "c"])
    return name


def ask(sql: str = "", body: bytes | None = None, headers: dict[str, str] | None = None, **parameters: str) -> httpx.Response:
    """One request, as curl would send it."""
    url = f"{settings().warehouse.dsn}/?{urlencode({**({'query': sql} if sql else {}), **parameters})}"
    if body is None:
        return httpx.get(url, headers=headers, timeout=60)
    return httpx.post(url, content=body, headers=headers, timeout=60)


def code(response: httpx.Response) -> int:
    """The exception code, 0 where all went well."""
    return int(response.headers.get("X-ClickHouse-Exception-Code", "0"))


LOADER = {"X-ClickHouse-User": "loader", "X-ClickHouse-Key": PASSWORD}


# The clients


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", False])
def test_clickhouse_connect_reads_and_writes(table: str, compression: str | bool) -> None:
    url = httpx.URL(settings().warehouse.dsn)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port, username="loader", password=PASSWORD, compress=compression, autogenerate_session_id=False
    )
    client.insert(table, [[n, f"row {n}", None] for n in range(10_000)], column_names=["a", "b", "c"])
    assert client.query(f"SELECT count(), uniqExact(b) FROM {table}").result_rows == [(10_003, 10_003)]
    assert client.query_df(f"SELECT a FROM {table} WHERE b = {{b:String}}", parameters={"b": "it's"}).a.tolist() == [2]
    assert client.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    assert client.query_arrow(f"SELECT sum(a) AS s FROM {table}").to_pydict() == {"s": [sum(range(10_000)) + 6]}


def test_the_reader_of_the_settings_reads(table: str) -> None:
    assert warehouse.reader().query("SELECT b FROM t ORDER BY a").result_rows == [("x",), ("it's",), ("tab\t",)]


def test_curl_needs_no_user(table: str) -> None:
    assert ask(f"SELECT a, b FROM {table} ORDER BY a LIMIT 1").text == "1\tx\n"
    assert ask(f"SELECT count() AS n FROM {table} FORMAT JSONEachRow").text == '{"n":3}\n'
    assert ask(default_format="CSV", body=f"SELECT b FROM {table} WHERE a = 2".encode()).text == '"it\'s"\n'
    assert ask("SELECT count()", body=f"FROM {table}".encode()).text == "3\n"
    assert ask("SELECT a FROM t WHERE b = {b:String}", database=settings().database, param_b="tab\\t").text == "3\n"


def test_inserts_come_in_the_body_or_in_url_and_body(table: str) -> None:
    assert code(ask(f"INSERT INTO {table} (a, b) FORMAT CSV", body=b'7,"seven"\n', headers=LOADER)) == 0
    assert code(ask(body=f"INSERT INTO {table} (a, b) FORMAT TSV\n8\teight\n".encode(), headers=LOADER)) == 0
    assert code(ask(body=f"INSERT INTO {table} (a, b) VALUES (9, 'nine')".encode(), headers=LOADER)) == 0
    zipped = gzip.compress(f"INSERT INTO {table} (a, b) FORMAT TSV\n10\tten\n".encode())
    assert code(ask(body=zipped, headers={**LOADER, "Content-Encoding": "gzip"})) == 0
    assert ask(f"SELECT groupArray(b) FROM (SELECT b FROM {table} WHERE a > 5 ORDER BY a)").text == "['seven','eight','nine','ten']\n"


def test_insert_select_from_input_reads_the_body_as_a_server_does(table: str) -> None:
    body = f"INSERT INTO {table} (a, b) SELECT a + rowNumberInAllBlocks(), b FROM input('a Int32, b String') FORMAT TSV\n20\tp\n20\tq\n"
    assert code(ask(body=body.encode(), headers=LOADER)) == 0
    assert ask(f"SELECT a, b FROM {table} WHERE a >= 20 ORDER BY a").text == "20\tp\n21\tq\n"


def test_ways_to_say_who_one_is(table: str) -> None:
    drop = f"DROP TABLE IF EXISTS {settings().database}.nothing"
    assert code(ask(body=drop.encode(), headers=LOADER)) == 0
    assert code(ask(body=drop.encode(), user="loader", password=PASSWORD)) == 0
    assert httpx.post(settings().warehouse.dsn, content=drop, auth=("loader", PASSWORD)).status_code == 200
    for wrong in ({"user": "loader", "password": "x"}, {"user": "nobody"}, {"user": "reader", "password": "x"}):
        assert (ask("SELECT 1", **wrong).status_code, code(ask("SELECT 1", **wrong))) == (403, 516)


def test_answers_are_compressed_on_request(table: str) -> None:
    response = ask("SELECT 1", enable_http_compression="1", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.text == "1\n"
    assert "Content-Encoding" not in ask("SELECT 1", headers={"Accept-Encoding": "gzip"}).headers


def test_ping_health_and_unknown_paths(place: str) -> None:
    assert httpx.get(f"{settings().warehouse.dsn}/ping").text == "Ok.\n"
    assert httpx.get(f"{settings().warehouse.dsn}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{settings().warehouse.dsn}/play").status_code == 404
    assert ask().text == "Ok.\n"


def test_errors_carry_their_code(table: str) -> None:
    for sql, expected, status in [("SELEC 1 +", 62, 400), ("SELECT * FROM nothing", 60, 404), ("SELECT no_such_function(1)", 46, 404)]:
        response = ask(sql)
        assert (code(response), response.status_code) == (expected, status), response.text
        assert response.text.startswith(f"Code: {expected}. DB::Exception: ")
    assert code(ask("SELECT 1", database="nowhere")) == 81


def test_a_body_that_is_too_large_or_broken_is_refused(place: str) -> None:
    url = httpx.URL(settings().warehouse.dsn)
    connection = HTTPConnection(url.host, url.port)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert ask(body=b"not gzip", headers={**LOADER, "Content-Encoding": "gzip"}).status_code == 400
    assert ask(body=b"x", headers={**LOADER, "Content-Encoding": "br"}).status_code == 415


def test_one_query_of_an_id_at_a_time(table: str) -> None:
    def code_of(sql: str) -> int:
        return code(ask(body=sql.encode(), headers=LOADER, query_id="mine"))

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(eventually, lambda: code_of("SELECT sleepEachRow(1.5)") == 0)
        eventually(lambda: code_of("SELECT 1") == 216, every=0.01)
        slow.result()
    assert code_of("SELECT 1") == 0


# What a reader must not do


ATTACKS = {
    "insert": "INSERT INTO {table} (a) VALUES (1)",
    "drop": "DROP TABLE {table}",
    "create": "CREATE TABLE {table}2 (a Int8) ENGINE = Memory",
    "alter": "ALTER TABLE {table} DELETE WHERE 1",
    "truncate": "TRUNCATE TABLE {table}",
    "file": "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "file as a value": "SELECT file('/etc/passwd')",
    "file behind a comment": "SELECT * FROM file/**/('/etc/passwd', 'LineAsString')",
    "file in quotes": "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
    "file by its path": "SELECT * FROM `/etc/passwd`",
    "description of a file": "DESCRIBE TABLE file('/etc/passwd')",
    "description of a nested file": "DESCRIBE (SELECT * FROM file('/etc/passwd'))",
    "url": "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "description of a url": "DESCRIBE url('http://127.0.0.1:1/x.csv')",
    "remote": "SELECT * FROM remote('127.0.0.1:1', system.one)",
    "s3": "SELECT * FROM s3('http://127.0.0.1:1/x.csv')",
    "python": "SELECT * FROM Python(x)",
    "executable": "SELECT * FROM executable('id', 'TSV', 'a String')",
    "outfile": "SELECT 1 INTO OUTFILE '{folder}/written'",
    "outfile behind a comment": "SELECT 1 INTO/* */OUTFILE '{folder}/written' TRUNCATE",
    "outfile of a description": "DESCRIBE TABLE system.one INTO OUTFILE '{folder}/written'",
    "backup": "BACKUP TABLE {table} TO File('{folder}/written')",
    "settings": "SELECT 1 SETTINGS max_execution_time = 0",
    "readonly by settings": "SELECT 1 SETTINGS readonly = 0",
    "settings of a subquery": "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
    "set": "SET readonly = 0",
    "several": "SELECT 1; DROP TABLE {table}",
    "several in parallel": "SELECT 1 PARALLEL WITH DROP TABLE {table}",
    "here-document": "SELECT $$a$$; DROP TABLE {table}",
    "kill": "KILL QUERY WHERE 1",
    "system": "SYSTEM FLUSH LOGS",
    "dictionary": "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)",
    "temporary": "CREATE TEMPORARY TABLE x (a Int8)",
    "use": "USE system",
    "explain of a file": "EXPLAIN SELECT * FROM file('/etc/passwd', 'LineAsString')",
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("by", ["GET", "POST"])
def test_a_reader_cannot(table: str, tmp_path: Path, attack: str, by: str) -> None:
    sql = ATTACKS[attack].format(table=table, folder=tmp_path)
    response = ask(sql) if by == "GET" else ask(body=sql.encode())
    assert response.status_code >= 400, response.text
    assert code(response) > 0
    assert "root:" not in response.text
    assert not list(tmp_path.iterdir())
    assert ask(f"SELECT count() FROM {table}").text == "3\n"


@pytest.mark.parametrize(
    "setting",
    [
        {"readonly": "0"}, {"max_threads": "64"}, {"max_memory_usage": "0"}, {"format_avro_schema_registry_url": "http://127.0.0.1:1"},
        {"output_format_schema": "/tmp/x"}, {"format_schema": "/etc/passwd"}, {"insert_deduplicate": "0"}, {"allow_ddl": "1"},
        {"max_execution_time' = 0; --": "1"},
    ],
)  # fmt: skip
def test_a_reader_cannot_set(place: str, setting: dict[str, str]) -> None:
    response = ask("SELECT 1", **setting)
    assert response.status_code in (403, 404), response.text


def test_a_reader_can_tighten_a_limit_but_not_loosen_it(place: str) -> None:
    assert ask("SELECT getSetting('max_execution_time')", max_execution_time="5").text == "5\n"
    for loose in ("0", "3600", "nonsense"):
        assert ask("SELECT getSetting('max_execution_time')", max_execution_time=loose).text == "30\n"


def test_parameters_are_values_and_never_sql(table: str) -> None:
    for value in ("' OR 1 = 1 --", "x'; DROP TABLE t", "\\' OR 1 = 1 --"):
        response = ask(f"SELECT count() FROM {table} WHERE b = {{b:String}}", param_b=value.replace("\\", "\\\\"))
        assert response.text == "0\n"
    assert code(ask(f"SELECT count() FROM {table} WHERE a = {{a:Int32}}", param_a="1 OR 1 = 1")) == 457
    assert code(ask("SELECT * FROM {t:Identifier}('/etc/passwd')", param_t="file")) > 0


def test_the_loader_cannot_reach_outside_either(table: str, tmp_path: Path) -> None:
    for attack in ("file", "url", "outfile", "python"):
        response = ask(body=ATTACKS[attack].format(table=table, folder=tmp_path).encode(), headers=LOADER)
        assert code(response) in (497, 164), response.text
    assert code(ask(f"DROP TABLE {table}", headers=LOADER)) == 164  # GET never writes


def test_a_query_that_asks_too_much_is_stopped_and_nobody_else_notices(table: str) -> None:
    response = ask("SELECT groupArray(number) FROM numbers(10000000000)")
    assert (code(response), response.status_code) == (241, 503)
    response = ask("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1", max_execution_time="1")
    assert (code(response), response.status_code) == (159, 504)
    assert ask(f"SELECT count() FROM {table}").text == "3\n"


# The process


def test_a_second_process_on_the_same_files_is_refused_in_words(warehouse_process: WarehouseProcess, place: str) -> None:
    second = subprocess.run([sys.executable, "-m", "sinks.warehouse"], capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "cannot be" in second.stderr


def test_without_a_loader_password_it_does_not_start(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_WAREHOUSE__LOADER_PASSWORD", "")
    process = subprocess.run([sys.executable, "-m", "sinks.warehouse"], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 1
    assert "set HEADRACE_WAREHOUSE__LOADER_PASSWORD" in process.stderr


def test_what_was_answered_survives_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = WarehouseProcess(tmp_path).start()
    for name, value in process.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    writer = warehouse.writer("default")
    writer.command("CREATE TABLE default.t (a Int32) ENGINE = MergeTree ORDER BY a")
    writer.insert("default.t", [[n] for n in range(1_000)], column_names=["a"])
    process.kill()
    process.start()
    try:
        assert ask("SELECT count() FROM default.t").text == "1000\n"
    finally:
        process.stop()
        settings.cache_clear()


def test_reader_error_type_is_the_clients_own(place: str) -> None:
    with pytest.raises(DatabaseError, match="only read"):
        warehouse.reader("default").command("DROP TABLE x")

"""Readers of a team: what they may read, that the warehouse keeps to it however they ask, and the same in a server's words."""

from __future__ import annotations

from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.base import warehouse
from infra.base.settings import TeamReader, settings
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from sinks import migrate
from sinks.grants import readable, statements
from tests.sinks.conftest import READERS, WarehouseProcess

TOPICS = list(catalogue().topics.values())
PUBLIC = {topic.table for topic in TOPICS if topic.public}


def test_a_team_reads_its_own_and_what_is_public() -> None:
    assert readable("playback", TOPICS, migrate.objects()) >= {"playback_report", "qoe_sessions", "encoding_published"}
    assert "landed" not in readable("playback", TOPICS, migrate.objects())
    assert readable("nobody", TOPICS, migrate.objects()) == PUBLIC


def asking(process: WarehouseProcess, user: str) -> Any:
    """A client of a reader of a team."""
    host, port = process.dsn.removeprefix("http://").split(":")
    return clickhouse_connect.get_client(
        host=host, port=int(port), username=user, password=READERS[user]["password"], database=settings().database,
        autogenerate_session_id=False,
    )  # fmt: skip


@pytest.fixture
def tables(world: Encoder) -> None:
    """Tables of two owners beside each other, one of them public."""
    migrate.migrate(warehouse.writer("default"), [catalogue().topic("encoding.published")], [])
    warehouse.writer().command("CREATE TABLE shadow_x AS playback_report")


REFUSED = [
    "SELECT count() FROM playback_report",
    "SELECT count() FROM {database}.playback_report",
    "SELECT count() FROM `playback_report`",
    "SELECT count() FROM shadow_x",
    "WITH x AS (SELECT 1 FROM playback_report) SELECT count() FROM x",
    "SELECT * FROM encoding_published WHERE cid IN (SELECT sid FROM playback_report)",
    "SELECT 1 WHERE 'a' IN playback_report",
    "SELECT count() FROM merge(currentDatabase(), 'playback_.*')",
    "SELECT count() FROM view(SELECT * FROM playback_report)",
    "EXPLAIN SELECT (SELECT max(sid) FROM playback_report)",
    "SELECT joinGet('playback_report', 'sid', 'x')",
    "SELECT query FROM system.processes",
    "SHOW PROCESSLIST",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_another_teams_table_is_refused_in_words(warehouse_process: WarehouseProcess, tables: None, sql: str) -> None:
    with pytest.raises(DatabaseError, match=r"of (a )?team"):
        asking(warehouse_process, "alice").command(sql.replace("{database}", settings().database))


def test_a_name_given_as_a_parameter_is_refused(warehouse_process: WarehouseProcess, tables: None) -> None:
    with pytest.raises(DatabaseError, match="of type Identifier is not allowed"):
        asking(warehouse_process, "alice").query("SELECT count() FROM {t:Identifier}", parameters={"t": "playback_report"})


def test_ones_own_and_public_tables_are_read(warehouse_process: WarehouseProcess, tables: None) -> None:
    assert asking(warehouse_process, "alice").command("SELECT count() FROM encoding_published") == 0
    assert asking(warehouse_process, "bob").command("SELECT count() FROM playback_report JOIN encoding_published USING cid") == 0
    assert warehouse.reader().command("SELECT count() FROM playback_report") >= 0
    with pytest.raises(DatabaseError, match=r"readers of team delivery, who may read .*encoding_published"):
        asking(warehouse_process, "alice").command("SELECT count() FROM playback_report")


def test_a_server_is_told_the_same_in_its_own_words(warehouse_process: WarehouseProcess, world: Encoder) -> None:
    readers = {name: TeamReader.model_validate(reader) for name, reader in READERS.items()}
    told = list(statements(readers, TOPICS, migrate.objects(), "headrace", "loader"))
    granted = {line.split("`")[3] for line in told if line.endswith("TO `team_playback`")}
    assert granted == readable("playback", TOPICS, migrate.objects())
    assert "ALTER TABLE `headrace`.`closed_sessions` MODIFY SQL SECURITY DEFINER DEFINER = `loader`" in told
    assert not any(reader["password"] in line for line in told for reader in READERS.values())
    for line in told:  # as far as a parser can tell without a server
        assert warehouse.reader().command("SELECT formatQuerySingleLine({q:String})", parameters={"q": line})

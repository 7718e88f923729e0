"""A fresh warehouse equals what is declared, an old one becomes it, and nothing is lost on the way."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.base import warehouse
from infra.base.settings import settings
from schemas import project
from schemas.catalogue import Event, Topic, catalogue
from sinks import migrate
from sinks.migrate import MigrationError
from tests.sinks.reports import TOPIC, newer


def described(client: Any) -> dict[str, dict[str, str]]:
    """Every object of the database → column → type."""
    names = [r[0] for r in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows]
    return {name: migrate.columns(client, name) for name in names}


def with_schema(schema: Mapping[str, Any]) -> Topic:
    """The topic of reports under another contract."""
    return replace(TOPIC, event=Event(TOPIC.domain, "report", dict(schema)))


def test_a_fresh_migrate_is_the_declaration(place: str) -> None:
    topics, objects = catalogue().landed(), migrate.objects()
    client = warehouse.writer("default")
    changes = migrate.migrate(client, topics, objects)
    found = described(client)
    assert set(found) == {t.table for t in topics} | {o.name for o in objects}
    for topic in topics:
        assert found[topic.table] == project.landing_columns(topic)
    assert len(changes) == len(found)
    assert all(change.endswith(": created") for change in changes)
    assert migrate.migrate(client, topics, objects) == []


def test_every_declared_object_answers(place: str) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, catalogue().landed(), migrate.objects())
    for declared in migrate.objects():
        assert warehouse.reader().query(f"SELECT * FROM {declared.name} LIMIT 1").result_rows == []


def test_an_old_table_gets_new_columns_and_keeps_its_rows(place: str) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, [TOPIC], [])
    client.command("INSERT INTO playback_report (event_id, seq) VALUES ('a', 1)")
    assert migrate.migrate(client, [with_schema(newer())], []) == ["playback_report.hdr: added"]
    assert client.query("SELECT event_id, hdr FROM playback_report").result_rows == [("a", None)]
    assert migrate.migrate(client, [TOPIC], []) == []  # an older declaration takes nothing away


def test_a_table_merges_many_parts_at_once_also_where_it_was_made_otherwise(place: str) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, [TOPIC], [])
    definition = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'playback_report'"
    wanted = f"min_parts_to_merge_at_once = {migrate.MERGED_PARTS}"
    assert wanted in client.query(definition).result_rows[0][0]
    client.command("ALTER TABLE playback_report RESET SETTING min_parts_to_merge_at_once")
    assert wanted not in client.query(definition).result_rows[0][0]
    assert migrate.migrate(client, [TOPIC], []) == []
    assert wanted in client.query(definition).result_rows[0][0]


def test_a_type_that_changes_is_refused_in_words(place: str) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, [TOPIC], [])
    schema = copy.deepcopy(TOPIC.event.schema)
    next(f for f in schema["fields"] if f["name"] == "sn")["type"] = "string"
    with pytest.raises(MigrationError, match=r"playback_report\.sn is Int64 and the contract says String.*new name"):
        migrate.migrate(client, [with_schema(schema)], [])


def test_expiry_comes_from_the_settings_and_replayed_worlds_have_none(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, [TOPIC], [])
    assert "TTL" not in client.command("SHOW CREATE TABLE playback_report")
    monkeypatch.setenv("HEADRACE_NAMESPACE", "")
    settings.cache_clear()
    assert migrate.ttl_days(TOPIC) == 35
    assert migrate.ttl_days(catalogue().topic("playback.qoe_session")) == 400
    assert migrate.ttl_days(catalogue().topic("experiments.change")) == 730
    assert migrate.ttl_days(catalogue().topic("recommendations.feature_value")) == 2
    monkeypatch.setenv("HEADRACE_WAREHOUSE__RAW_TTL_DAYS", "3")
    settings.cache_clear()
    client = warehouse.writer("default")
    try:
        migrate.migrate(client, [TOPIC], [])
        assert "toIntervalDay(3)" in client.command("SHOW CREATE TABLE playback_report")
        monkeypatch.setenv("HEADRACE_WAREHOUSE__RAW_TTL_DAYS", "5")
        settings.cache_clear()
        assert migrate.migrate(client, [TOPIC], []) == ["playback_report: kept for 5 days"]
        assert migrate.migrate(client, [TOPIC], []) == []
    finally:
        client.command("DROP DATABASE headrace")


def test_the_newest_row_of_a_session_is_the_one_with_most_reports(place: str) -> None:
    client = warehouse.writer("default")
    migrate.migrate(client, catalogue().landed(), migrate.objects())
    client.command(
        "INSERT INTO playback_qoe_session (topic_offset, sid, reports, marker) VALUES "
        "(1, 'a', 5, false), (2, 'a', 9, false), (3, 'a', 7, false), (4, 'b', 1, false), (5, '', 0, true)"
    )
    assert client.query("SELECT sid, reports FROM qoe_sessions ORDER BY sid").result_rows == [("a", 9), ("b", 1)]


HEADER = "-- question: q\n-- reads: r\n-- key: k\n-- time: t\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.sql", "CREATE VIEW x AS SELECT 1", "lacks `-- question: `"),
        ("x.sql", HEADER + "SELECT 1", "0 declarations"),
        ("x.sql", HEADER + "CREATE VIEW x AS SELECT 1;\nCREATE VIEW y AS SELECT 1", "2 declarations"),
        ("x.sql", HEADER + "CREATE VIEW y AS SELECT 1", "name the file after it"),
    ],
)
def test_a_file_that_declares_no_one_object_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "playback").mkdir()
    (tmp_path / "playback" / name).write_text(text)
    with pytest.raises(MigrationError, match=words):
        migrate.objects(tmp_path)


def test_objects_come_after_those_they_read(tmp_path: Path) -> None:
    (tmp_path / "playback").mkdir()
    for name, source in (("a", "b"), ("b", "c"), ("c", "t")):
        (tmp_path / "playback" / f"{name}.sql").write_text(f"{HEADER}CREATE OR REPLACE VIEW {name} AS SELECT * FROM {source}")
    assert [o.name for o in migrate.objects(tmp_path)] == ["c", "b", "a"]
    (tmp_path / "playback" / "c.sql").write_text(f"{HEADER}CREATE OR REPLACE VIEW c AS SELECT * FROM a")
    with pytest.raises(MigrationError, match="a -> b -> c -> a"):
        migrate.objects(tmp_path)


def test_a_view_whose_target_keeps_no_position_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "playback").mkdir()
    target = "CREATE TABLE IF NOT EXISTS plays (sid String) ENGINE = MergeTree ORDER BY sid"
    view = "CREATE MATERIALIZED VIEW IF NOT EXISTS plays_mv TO plays AS SELECT sid FROM playback_report"
    (tmp_path / "playback" / "plays.sql").write_text(HEADER + target)
    (tmp_path / "playback" / "plays_mv.sql").write_text(HEADER + view)
    client = warehouse.writer("default")
    with pytest.raises(MigrationError, match="plays_mv feeds plays, which has no topic_partition and no topic_offset"):
        migrate.migrate(client, [TOPIC], migrate.objects(tmp_path))
    client.command("DROP TABLE plays_mv")
    client.command("DROP TABLE plays")
    target = target.replace("sid String", "sid String, topic_partition Int32, topic_offset Int64")
    (tmp_path / "playback" / "plays.sql").write_text(HEADER + target)
    (tmp_path / "playback" / "plays_mv.sql").write_text(HEADER + view.replace("SELECT sid", "SELECT sid, topic_partition, topic_offset"))
    objects = migrate.objects(tmp_path)
    assert migrate.migrate(client, [TOPIC], objects) == ["plays: created", "plays_mv: created"]
    assert migrate.migrate(client, [TOPIC], objects) == []
    (tmp_path / "playback" / "plays_mv.sql").write_text(
        HEADER + view.replace("SELECT sid", "SELECT upper(sid) AS sid, topic_partition, topic_offset")
    )
    assert migrate.migrate(client, [TOPIC], migrate.objects(tmp_path)) == ["plays_mv: changed"]

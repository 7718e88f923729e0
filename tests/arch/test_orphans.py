"""Nothing hangs loose: every topic has its producers and consumers, every job, table and panel its topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.catalogue import catalogue, load
from schemas.lineage import exists_below, of
from tests.schemas.contracts import TOPIC, field, record, write

ROOT = Path(__file__).parents[2]
SOUND = {**TOPIC, "producers": ["edge.door"], "consumers": ["sinks.loader"]}
JOB = "INSERT INTO `lab.sum` SELECT id FROM `lab.thing`"


def test_nothing_hangs_loose() -> None:
    lineage = of(catalogue().topics, ROOT / "streams", ROOT / "sinks")
    assert lineage.orphans(exists_below(ROOT)) == []


def test_every_event_is_on_a_topic() -> None:
    used = {topic.event.full_name for topic in catalogue().topics.values()}
    assert catalogue().events.keys() - used == set()


@pytest.mark.parametrize(
    ("entries", "files", "words"),
    [
        ({"thing": {**SOUND, "producers": []}}, {}, "lab/topics.yaml: thing: has no producer"),
        ({"thing": {**SOUND, "consumers": []}}, {}, "lab/topics.yaml: thing: has no consumer"),
        ({"thing": {**SOUND, "producers": ["edge.gone"]}}, {}, "lab/topics.yaml: thing: producer edge.gone does not exist"),
        ({"thing": {**SOUND, "landing": False}}, {}, "thing: `landing` and the consumer sinks.loader go together"),
        ({"thing": SOUND}, {"streams/lab/sums.sql": JOB}, "streams/lab/sums.sql: writes lab.sum, which no topics.yaml declares"),
        ({"thing": SOUND}, {"streams/lab/sums.sql": JOB}, "sums.sql: is a consumer of lab.thing, and topics.yaml does not say so"),
        ({"thing": SOUND}, {"streams/lab/idle.sql": "SELECT 1"}, "streams/lab/idle.sql: neither reads nor writes a declared topic"),
        ({"thing": SOUND}, {"sinks/dashboards/lab/01_x.sql": "SELECT 1 FROM lab_thong"}, "01_x.sql: reads lab_thong, which is neither"),
        ({"thing": SOUND}, {"sinks/lab/v.sql": "CREATE VIEW v AS SELECT 1 FROM lab_thing JOIN gone USING id"}, "v.sql: reads gone"),
    ],
)
def test_what_hangs_loose_is_named(tmp_path: Path, entries: dict[str, Any], files: dict[str, str], words: str) -> None:
    assert [found for found in orphans(tmp_path, entries, files) if words in found]


def test_a_sound_tree_has_no_orphans(tmp_path: Path) -> None:
    entries = {
        "thing": {**SOUND, "consumers": ["streams.lab.sums", "sinks.loader"]},
        "sum": {**SOUND, "event": "thing", "producers": ["streams.lab.sums"]},
    }
    panel = (
        "WITH best AS (SELECT id FROM v) SELECT 'FROM nowhere', id FROM best JOIN system.one ON 1 -- FROM gone\n"
        "WHERE id IN (SELECT * FROM lab_thing)"
    )
    files = {
        "streams/lab/sums.sql": JOB,
        "sinks/lab/v.sql": "CREATE VIEW v AS SELECT * FROM lab_sum",
        "sinks/dashboards/lab/01_x.sql": panel,
        "edge/door.py": "",
        "sinks/loader/__init__.py": "",
    }
    assert orphans(tmp_path, entries, files) == []


def orphans(root: Path, entries: dict[str, Any], files: dict[str, str]) -> list[str]:
    """The orphans of a tree with these topics of one event and these files."""
    write(root, record(field("amount", "long")))
    (root / "lab" / "topics.yaml").write_text(yaml.safe_dump(entries))
    for name, text in {"streams/__init__.py": "", "sinks/__init__.py": "", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return of(load(root).topics, root / "streams", root / "sinks").orphans(exists_below(root))

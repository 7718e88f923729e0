"""Lineage: which job, table and panel uses a field, and what stands behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.catalogue import load
from schemas.lineage import Lineage, of
from tests.schemas.contracts import TOPIC, field, record, write

FILES = {
    "streams/__init__.py": "",
    "streams/lab/sums.sql": "-- reads colour? no: a comment\nINSERT INTO `lab.sum` SELECT id, total(amount) FROM `lab.thing` -- weight\n",
    "streams/lab/watch.py": '"""Reads weight, says the docstring."""\nfrom streams.lab import shades\nx = shades.of({})\n',
    "streams/lab/shades.py": 'def of(thing):\n    """Of weight."""\n    return thing["colour"]\n',
    "streams/lab/unused.py": "weight = 1\n",
    "sinks/__init__.py": "",
    "sinks/lab/totals.sql": "/* weight */ CREATE MATERIALIZED VIEW IF NOT EXISTS `totals` AS SELECT id, max(amount) AS most FROM lab_sum",
    "sinks/dashboards/lab/01_most.sql": "-- title: Most\nSELECT max(most) FROM totals",
    "sinks/dashboards/lab/02_colours.sql": "-- title: Colours\nSELECT colour, count() FROM lab_thing GROUP BY colour",
    "sinks/dashboards/lab/03_newest.sql": "-- title: Newest\nSELECT * FROM lab_thing",
}


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    write(tmp_path, record(field("amount", "long"), field("colour", "string"), field("weight", "int")))
    entries: dict[str, Any] = {
        "thing": {**TOPIC, "consumers": ["streams.lab.watch"]},
        "sum": {**TOPIC, "event": "thing", "producers": ["streams.lab.sums"]},
    }
    (tmp_path / "lab" / "topics.yaml").write_text(yaml.safe_dump(entries))
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return of(load(tmp_path).topics, tmp_path / "streams", tmp_path / "sinks")


def test_a_field_is_used_where_code_names_it_and_nowhere_else(lineage: Lineage) -> None:
    assert [str(use.asset) for use in lineage.users("lab.thing", "colour")] == [
        "job streams.lab.watch",
        "table lab_thing",
        "panel lab/colours",
        "panel lab/newest",
    ]
    assert [str(use.asset) for use in lineage.users("lab.thing", "weight")] == ["table lab_thing", "panel lab/newest"]


def test_what_stands_behind_a_user_is_named_with_it(lineage: Lineage) -> None:
    assert lineage.words("lab.thing", "amount") == [
        "job streams.lab.sums, and with it tables lab_sum, totals; panel lab/most",
        "table lab_thing, and with it panels lab/colours, lab/newest",
        "panel lab/newest",
    ]


def test_a_topic_as_such_is_used_by_all_who_touch_it(lineage: Lineage) -> None:
    assert [str(use.asset) for use in lineage.users("lab.thing")] == [
        "job streams.lab.sums",
        "job streams.lab.watch",
        "table lab_thing",
        "panel lab/colours",
        "panel lab/newest",
    ]


def test_what_jobs_read_and_write(lineage: Lineage) -> None:
    jobs = {job.name: job for job in lineage.jobs}
    assert jobs.keys() == {"streams.lab.sums", "streams.lab.watch"}
    assert (lineage.reads(jobs["streams.lab.sums"]), lineage.writes(jobs["streams.lab.sums"])) == ({"lab.thing"}, {"lab.sum"})
    assert (lineage.reads(jobs["streams.lab.watch"]), lineage.writes(jobs["streams.lab.watch"])) == ({"lab.thing"}, set())

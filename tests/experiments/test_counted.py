"""From a metric's definition to what a job is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.allocation.definition import Metric
from streams.experiments.counted import METRICS, counted, measured, measurements


def metric(**said: Any) -> Metric:
    known = {"kind": "metric", "key": "m", "owner": "tests", "unit": "ms", "topic": "playback.qoe_session", "measurement_id": "sid"}
    return Metric(**{**known, "version": "reports", "aggregation": "sum", "field": "playing_ms", "window_s": 60, "better": "lower", **said})


def test_each_topic_is_read_once() -> None:
    text = measurements(
        [metric(), metric(key="n"), metric(key="o", topic="playback.report", field="br_kbps", measurement_id="event_id", version=None)]
    )
    assert text.count("INSERT INTO `experiments.measurement`") == 2
    assert text.count("FROM `playback.qoe_session`") == 1
    assert "`event_id`, CAST(0 AS BIGINT)" in text


@pytest.mark.parametrize(
    ("said", "sql"),
    [
        ({}, "CAST(`playing_ms` AS DOUBLE)"),
        ({"field": None, "aggregation": "count"}, "CAST(1 AS DOUBLE)"),
        ({"field": "failed_start"}, "CAST(CASE `failed_start` WHEN TRUE THEN 1 WHEN FALSE THEN 0 END AS DOUBLE)"),
        ({"when": {"startup_ms": {"$exists": True, "$lte": 9.5}}}, "WHEN `startup_ms` IS NOT NULL AND `startup_ms` <= 9.5 THEN"),
        ({"when": {"startup_ms": {"$exists": False}}}, "WHEN `startup_ms` IS NULL THEN"),
        ({"when": {"player": "it's"}}, "WHEN `player` = 'it''s' THEN"),
        (
            {"when": {"region": {"$nin": ["a", "b"]}, "failed_start": False}},
            "WHEN `region` NOT IN ('a', 'b') AND `failed_start` = FALSE THEN",
        ),
    ],
)
def test_what_is_measured_in_sql(said: dict[str, Any], sql: str) -> None:
    assert sql in measurements([metric(**said)])


def test_bounds_and_scale_are_told() -> None:
    text = measurements([metric(aggregation="ratio", denominator="rebuffer_ms", scale=1000, at_least=0, cap=5)])
    assert '{"names": ["m", "m/below"], "scale": 1000, "at_least": 0.0, "cap": 5.0}' in text


def test_windows_are_counted_in_milliseconds() -> None:
    (one,) = counted([metric(aggregation="time_to_event", field=None, interval_s=20, covariate_s=0)])
    assert (one.window_ms, one.covariate_ms, one.interval_ms) == (60_000, 0, 20_000)


def test_the_products_own_metrics_are_there() -> None:
    assert {"played_ms", "rebuffer_ratio", "startup_p95_ms"} <= {one.key for one in METRICS}


def test_the_plain_function_measures_what_the_job_does() -> None:
    case = Path(__file__).parent / "golden/measurements/what_counts"
    told = [json.loads(line) for line in (case / "in.playback.qoe_session.jsonl").read_text().splitlines()]
    expected = {
        one["measurement_id"] + str(one["version"]): one["measured"]
        for one in map(json.loads, (case / "expect.experiments.measurement.jsonl").read_text().splitlines())
    }
    own = [one for one in METRICS if one.topic == "playback.qoe_session"]
    found = {one["sid"] + str(one["reports"]): measured(own, one) for one in told if "member_id" in one}
    assert found == expected


@pytest.mark.parametrize(
    ("said", "event", "values"),
    [
        ({"scale": 10}, {"playing_ms": 0.25}, {"m": 2}),
        ({"scale": 10}, {"playing_ms": 0.35}, {"m": 4}),
        ({}, {"playing_ms": float("nan")}, {}),
        ({}, {"playing_ms": 2.0**53}, {"m": 2**53}),
        ({}, {"playing_ms": 2.0**53 + 2}, {}),
        ({"floor": 3, "at_least": 1}, {"playing_ms": 2}, {"m": 3}),
        ({"when": {"region": {"$ne": "a"}}}, {"playing_ms": 2}, {}),
        ({"when": {"region": {"$nin": ["a"]}}}, {"playing_ms": 2, "region": "b"}, {"m": 2}),
        ({"when": {"region": {"$exists": False}}}, {"playing_ms": 2}, {"m": 2}),
        ({"aggregation": "ratio", "denominator": "rebuffer_ms"}, {"playing_ms": 2}, {}),
    ],
)  # fmt: skip
def test_what_an_event_measures(said: dict[str, Any], event: dict[str, Any], values: dict[str, int]) -> None:
    assert measured([metric(**said)], event) == values

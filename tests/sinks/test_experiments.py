"""Experiments in the warehouse: sums that add up, read-outs by SQL and by command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from edge import read_outs
from infra.base import warehouse
from infra.cli import app
from schemas.allocation.definition import Experiment
from schemas.catalogue import catalogue
from sinks import migrate
from streams.experiments.read_outs import Verdict
from tests.sinks.experiments import changes, insert, installed, sums

PUBLISHED = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def client(place: str) -> Any:
    """A warehouse with all tables and the product's own definitions."""
    made = warehouse.writer("default")
    migrate.migrate(made, catalogue().landed(), migrate.objects())
    made = warehouse.writer()
    insert(made, changes(installed(), PUBLISHED), "experiments_change")
    return made


def defined(key: str) -> Experiment:
    return next(one for one in installed() if isinstance(one, Experiment) and one.key == key)


def test_an_experiment_is_read_from_rows_that_add_up(client: Any) -> None:
    experiment = defined("policy_or_bola")
    rows = sums(experiment, days=4, units_a_day=600)
    insert(client, rows, "experiments_statistic")
    back = [
        {**row, **{name: -value for name, value in row.items() if name.startswith("sum_") or name in ("n", "measured")}}
        for row in rows[:99]
    ]
    insert(client, [*back, *rows[:99]], "experiments_statistic", first=len(rows))  # taken back and told again
    known = read_outs.known(client)
    report, step_s = read_outs.one(client, "policy_or_bola", known)
    assert step_s == read_outs.DAY_S
    assert [one.units for one in report.exposed] == [2_400, 2_400]
    assert report.verdict is Verdict.SHIP
    assert [point.units for point in report.over_time["rebuffer_ratio", "policy"]] == [1_200, 2_400, 3_600, 4_800]
    whole = {one.metric: one for one in report.answers if not one.segment}
    assert set(whole) == set(experiment.measured)
    assert all(one.read.effect for one in whole.values()), [one.read.refusals for one in whole.values()]
    assert whole["bitrate_kbps"].read.gain > 0.2
    everything = {one.experiment: one for one in read_outs.every(client, known)}
    assert everything["policy_or_bola"].answers == report.answers
    assert everything["fast_start"].verdict is Verdict.WAIT
    assert "holdout.playback_2026" in everything


def test_the_first_day_is_seen_in_finer_steps(client: Any) -> None:
    experiment = defined("fast_start")
    rows = sums(experiment, days=1, units_a_day=900)
    for number, row in enumerate(rows):
        row["event_time"] = row["event_time"].replace(minute=number % 50)
    insert(client, rows, "experiments_statistic")
    report, step_s = read_outs.one(client, "fast_start")
    assert step_s < 120
    points = report.over_time["startup_ms", "modest"]
    assert 30 < len(points) <= 50
    assert points[-1].read == next(one.read for one in report.answers if (one.metric, one.segment) == ("startup_ms", ""))


def test_what_is_said_on_the_command_line(client: Any) -> None:
    insert(client, sums(defined("fast_start"), days=2, units_a_day=900), "experiments_statistic")
    runner = CliRunner()
    listed = runner.invoke(app, ["experiment", "read"])
    assert "fast_start" in listed.output
    assert "no data" in next(line for line in listed.output.splitlines() if "same_or_same" in line)
    told = runner.invoke(app, ["experiment", "read", "fast_start"])
    assert "modest is better in startup_ms" in told.output
    one = json.loads(
        runner.invoke(app, ["experiment", "read", "fast_start", "--metric", "startup_ms", "--segment", "device_type=tv", "--json"]).output
    )
    (answer,) = one["answers"]
    assert answer["fixed"][1] < 0
    unknown = runner.invoke(app, ["experiment", "read", "fast_star"])
    assert "there is no experiment fast_star" in str(unknown.exception)
    segment = runner.invoke(app, ["experiment", "read", "fast_start", "--segment", "device_type=fridge"])
    assert "it has device_type=phone, device_type=tv, device_type=web" in str(segment.exception)

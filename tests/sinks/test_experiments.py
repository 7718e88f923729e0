"""Experiments in the warehouse: sums that add up, read-outs by SQL and by command."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from edge import read_outs, recompute
from infra.base import warehouse
from infra.bench import scale, scale_log
from infra.cli import app
from schemas.allocation.definition import Experiment, Metric
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from sinks import migrate
from streams.experiments.batch import Cell, Counted, statistics
from streams.experiments.read_outs import Verdict
from tests.experiments.worlds import METRICS, MOST_A_DAY, world
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
    heads, *lines = told.output.splitlines()[3:]
    assert heads.split() == ["metric", "control", "modest", "effect", "always", "fixed", "p", "gain"]
    assert [line.split()[0] for line in lines] == [*defined("fast_start").measured, "guardrails:"]
    assert all(re.match(r"\w+ +[\d.,]+ +[\d.,]+ +[-+][\d.]+% +\S+…\S+% +\S+…\S+% +[\d.e-]+", line) for line in lines[:-1])
    assert max(map(len, [heads, *lines[:-1]])) <= 80
    nobody = runner.invoke(app, ["experiment", "read", "same_or_same"]).output.splitlines()
    assert [line.partition(":")[0] for line in nobody if line.startswith("refused")] == ["refused, no data"]
    assert ", ".join(defined("same_or_same").measured) in nobody[-1]
    one = json.loads(
        runner.invoke(app, ["experiment", "read", "fast_start", "--metric", "startup_ms", "--segment", "device_type=tv", "--json"]).output
    )
    (answer,) = one["answers"]
    assert answer["fixed"][1] < 0
    unknown = runner.invoke(app, ["experiment", "read", "fast_star"])
    assert "there is no experiment fast_star" in str(unknown.exception)
    segment = runner.invoke(app, ["experiment", "read", "fast_start", "--segment", "device_type=fridge"])
    assert "it has device_type=phone, device_type=tv, device_type=web" in str(segment.exception)


def test_a_report_is_one_file_and_a_plan_goes_by_a_control(client: Any, tmp_path: Path) -> None:
    insert(client, sums(defined("fast_start"), days=4, units_a_day=900), "experiments_statistic")
    runner, file = CliRunner(), tmp_path / "fast_start.html"
    told = runner.invoke(app, ["experiment", "report", "fast_start", "--out", str(file)])
    assert "better" in told.output
    page = file.read_text()
    assert page.count("<svg") > 20
    assert "at every look" in page
    assert "FROM experiments_statistic" in page
    assert not re.search(r"(src|href)=|<script|url\(", page)
    nowhere = runner.invoke(app, ["experiment", "report", "fast_start", "--out", str(tmp_path / "no" / "where.html")])
    assert "cannot be written" in str(nowhere.exception)

    planned = json.loads(runner.invoke(app, ["experiment", "plan", "startup_ms", "--effect", "0.02", "--json"]).output)
    assert planned["experiment"] == "fast_start"
    assert planned["units_a_day"] == 1_800
    assert planned["fixed_units"] < planned["always_valid_units"]
    assert planned["fixed_units"] < 0.7 * planned["without_covariate_units"]
    finer = json.loads(runner.invoke(app, ["experiment", "plan", "startup_ms", "--effect", "0.01", "--json"]).output)
    assert 3.9 < finer["fixed_units"] / planned["fixed_units"] < 4.1
    assert "cannot be planned" in str(runner.invoke(app, ["experiment", "plan", "startup_ms", "--effect", "0"]).exception)
    assert "there is no metric" in str(runner.invoke(app, ["experiment", "plan", "nothing", "--effect", "0.1"]).exception)
    one = runner.invoke(app, ["experiment", "recompute", "fast_start"])  # sums without exposures: somebody wrote them
    assert "differ" in str(one.exception)


def test_the_statement_that_is_shown_can_be_run(client: Any) -> None:
    insert(client, sums(defined("fast_start"), days=4, units_a_day=90), "experiments_statistic")
    rows = client.query(read_outs.statement("fast_start", read_outs.DAY_S)).result_rows
    assert {row[0] for row in rows} == {"fast_start"}


SECONDS = 1000
DEFINED = {"slowest": {"quantile": 0.9}, "stalled": {"denominator": "d"}, "returned": {"interval_s": 3600}}


def as_defined(counted: Counted) -> Metric:
    """A metric of the small worlds, as a team would define it."""
    told = {"kind": "metric", "key": counted.key, "owner": "o", "unit": "u", "topic": "playback.qoe_session", "better": "lower"}
    times = {"window_s": counted.window_ms // SECONDS, "covariate_s": counted.covariate_ms // SECONDS}
    return Metric.model_validate({**told, "aggregation": counted.aggregation, **times, **DEFINED.get(counted.key, {})})


def test_the_sums_of_the_raw_tables_are_those_of_the_plain_function(client: Any) -> None:
    """Many small worlds at once in which units meet two variations, measurements are told twice, late and corrected, and machines
    measure too much: in SQL, day by day, as in Python.
    """
    exposures, measurements = [], []
    for seed in range(120):
        for told, into in zip(world(Random(seed)), (exposures, measurements), strict=True):
            into += [{**one, "unit": f"{seed} {one['unit']}", "event_time": at(one["event_time"]), "sid": None} for one in told]
    insert(client, [{name: one[name] for name in EXPOSURE} for one in exposures], "experiments_exposure")
    insert(client, [{name: one[name] for name in MEASUREMENT} for one in measurements], "experiments_measurement")
    plain = statistics(
        *([{**one, "event_time": ms(one["event_time"])} for one in told] for told in (exposures, measurements)), METRICS, MOST_A_DAY
    )
    metrics = {one.key: as_defined(one) for one in METRICS}
    experiments = {}
    for number in range(4):
        told = {
            "kind": "experiment",
            "key": "experiment",
            "owner": "o",
            "flag": "f",
            "unit": "member_id",
            "phase": number,
            "metrics": [*metrics],
        }
        variations = [{"key": key, "weight": 0.5, "value": key} for key in "ab"]
        experiments[number] = Experiment.model_validate({**told, "variations": variations})
    insert(client, [stored(cell, sums) for cell, sums in plain.items()], "experiments_statistic")
    first = min(cell.day for cell in plain)
    seen = 0
    for experiment in experiments.values():
        known = read_outs.Known({"experiment": experiment}, metrics, {})
        for until in (first + 1, first + 2, recompute.FOR_EVER):
            cells, wrong = recompute.differences(client, "experiment", known, until, MOST_A_DAY)
            assert wrong == []
            seen += cells
    assert seen > 500
    client.command("ALTER TABLE experiments_statistic DELETE WHERE topic_offset = 7 SETTINGS mutations_sync = 1")
    assert any(
        recompute.differences(client, "experiment", read_outs.Known({"experiment": one}, metrics, {}), most_a_day=MOST_A_DAY)[1]
        for one in experiments.values()
    )


def test_the_benchmark_reads_out_what_its_peer_joins(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last part of `scale`, over a small log of its own."""
    of = scale_log.World(members=400, measurements=2_000, experiments=8, of_a_member=4, without_effect=6, lift=0.5, metrics=5, days=4)
    told: dict[str, list[dict[str, Any]]] = {}
    for topic, made in ((scale_log.EXPOSURES, scale_log.exposures), (scale_log.MEASUREMENTS, scale_log.measurements)):
        schema = catalogue().topic(topic).event
        decode = Decoder(lambda _, schema=schema: schema.schema)  # type: ignore[misc]
        told[topic] = [decode(row.tobytes()) for copies, _, _ in made(of, 5, Encoder(schema, 1)) for row in copies]
    exposures, measurements = told.values()
    insert(client, [{name: one[name] for name in EXPOSURE} for one in exposures], "experiments_exposure")
    insert(client, [{name: one[name] for name in MEASUREMENT} for one in measurements], "experiments_measurement")
    plain = statistics(*([{**one, "event_time": ms(one["event_time"])} for one in each] for each in told.values()), of.counted)
    insert(client, [stored(cell, sums) for cell, sums in plain.items()], "experiments_statistic")
    insert(client, [{**one, "event_time": at(one["event_time"])} for one in of.definitions()], "experiments_change")
    monkeypatch.setattr(scale, "OUT", tmp_path)
    monkeypatch.setattr(scale, "READ", 4)
    found = scale.Figures()
    scale.read(found, of)
    scale.join(found, of)
    assert found.all["cells_that_differ"] == 0
    assert found.all["refused"] < 1
    assert json.loads((tmp_path / "scale-so-far.json").read_text()) == found.all
    client.command("ALTER TABLE experiments_statistic DELETE WHERE metric = 'metric_4' SETTINGS mutations_sync = 1")
    scale.join(found, of)
    assert found.all["cells_that_differ"] > 3


EXPOSURE = ("event_id", "event_time", "unit", "unit_name", "variations", "segments", "sid")
MEASUREMENT = ("event_id", "event_time", "unit", "unit_name", "source", "measurement_id", "version", "measured")


def at(moment_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment_ms)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def stored(cell: Cell, sums: dict[str, int]) -> dict[str, Any]:
    """What the stream would have told of a cell."""
    return {**cell._asdict(), "segment": dict(cell.segment), "day": date.fromordinal(cell.day + 719_163), **sums}

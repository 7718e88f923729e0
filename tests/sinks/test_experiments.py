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
from infra.chaos.recompute import recompute_experiments
from infra.cli import app
from schemas.allocation.definition import Experiment, Metric
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from sinks import migrate
from streams.experiments import counted
from streams.experiments.batch import Cell, Counted, statistics
from streams.experiments.read_outs import Row, Totals, Verdict
from streams.experiments.read_outs import report as report_of
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


def evening(experiment: Experiment, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Exposures to an experiment and measurements for its metrics in an hour around midnight, some before, some corrected."""
    random, begin = Random(seed), ms(datetime(2026, 11, 2, 23, 30, tzinfo=UTC))
    exposures: list[dict[str, Any]] = []
    measurements: list[dict[str, Any]] = []
    for number in range(400):
        unit = {"unit": f"member {number}", "unit_name": "member_id"}
        variation = experiment.variations[number % 2].key
        met = {"variations": {f"{experiment.key}.{experiment.phase}": variation}, "segments": {"device_type": random.choice(["tv", "web"])}}
        for press in range(random.randint(1, 3)):
            exposures.append({**unit, **met, "event_id": f"{number} {press}", "event_time": begin + random.randrange(3_000_000)})
        for session in range(random.randint(0, 4)):
            told = {**unit, "source": "playback.qoe_session", "measurement_id": f"{number} {session}"}
            for version in range(1, random.randint(2, 3)):
                measured = {metric.key: random.randrange(9_000) for metric in counted.METRICS}
                measured |= {f"{metric.key}/below": 60_000 for metric in counted.METRICS if metric.denominator}
                at_ms = begin - 600_000 + random.randrange(4_200_000)
                event = {"event_id": f"m {number} {session} {version}", "event_time": at_ms, "version": version, "measured": measured}
                measurements.append(told | event)
    return exposures, measurements


def told_anyhow(plain: dict[Cell, dict[str, int]], seed: int) -> list[dict[str, Any]]:
    """Rows that add up to these sums: split, in any order, told at any time, and some taken back on the day on which they were told."""
    random, rows = Random(seed), []
    for cell, added in plain.items():
        part = {name: random.randrange(-5, 5) for name in added}
        rest = {name: value - part[name] for name, value in added.items()}
        elsewhere = cell._replace(day=cell.day + 1)
        back = {name: -value for name, value in added.items()}
        rows += [stored(cell, part), stored(cell, rest), stored(elsewhere, added), stored(elsewhere, back)]
    random.shuffle(rows)
    times = (datetime(2026, 11, 3, random.randrange(24), random.randrange(60), tzinfo=UTC) for _ in rows)
    return [{**row, "event_time": at} for row, at in zip(rows, times, strict=True)]


def test_a_read_out_follows_from_what_happened_and_not_from_when_it_was_told(client: Any) -> None:
    """However the same facts were told, every number is the same; and each step of a young experiment is what had happened by its end."""
    metrics = counted.counted(counted.METRICS)
    experiment = defined("fast_start")
    assert experiment.plan.strata == "device_type"
    exposures, measurements = evening(experiment, 1)
    insert(client, [{**one, "event_time": at(one["event_time"]), "sid": None} for one in exposures], "experiments_exposure")
    insert(client, [{**one, "event_time": at(one["event_time"])} for one in measurements], "experiments_measurement")
    plain = statistics(exposures, measurements, metrics)
    known, told = read_outs.known(client), []
    for seed in range(2):
        client.command("TRUNCATE TABLE experiments_statistic")
        insert(client, told_anyhow(plain, seed), "experiments_statistic")
        report, step_s = read_outs.one(client, "fast_start", known)
        told.append(json.dumps(read_outs.as_json(report, known, step_s)))
    assert told[0] == told[1]
    assert step_s == 120
    points = report.over_time["startup_ms", "modest"]
    assert [one.step for one in points] == list(range(points[0].step, points[0].step + len(points)))
    assert 25 < len(points) <= read_outs.FINER
    assert points[-1].read == next(one.read for one in report.answers if (one.metric, one.segment) == ("startup_ms", ""))
    for number in (5, 15, 25):
        until_ms = 1000 * step_s * (points[number].step + 1)
        newest = {one["measurement_id"]: one for one in sorted(measurements, key=lambda one: int(one["version"]))}
        before = [[one for one in events if one["event_time"] < until_ms] for events in (exposures, list(newest.values()))]
        rows = [row for cell, added in statistics(*before, metrics).items() for row in rows_of(cell, added)]
        then = report_of(experiment, known.metrics, rows)
        assert points[number].units == sum(one.units for one in then.exposed)
        assert points[number].read == next(one.read for one in then.answers if (one.metric, one.segment) == ("startup_ms", ""))
    (listed,) = (one for one in read_outs.every(client, known, brief=True) if one.experiment == "fast_start")
    assert [one.read for one in listed.answers if one.metric == "startup_ms"] == [points[-1].read]
    assert any(words.startswith("strata by device_type: t") for words in points[-1].read.assumes)
    judged = recompute_experiments(client)
    assert (judged.mismatches, judged.compared > 200) == (0, True)
    for sql in read_outs.statements(report, known, step_s):
        assert client.query(sql).result_rows


def rows_of(cell: Cell, added: dict[str, int]) -> list[Row]:
    """Over all units, and in each segment."""
    totals = Totals(*(added.get(f"sum_{name}", 0) for name in Totals._fields))
    counts = added.get("n", 0), added.get("measured", 0)
    segments = ["", *(f"{name}={value}" for name, value in cell.segment)]
    return [Row(cell.variation, one, cell.metric, cell.value_bucket, cell.day, *counts, totals) for one in segments]


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
    assert [line.split()[0] for line in lines] == [*defined("fast_start").measured, "guardrails:"], told.output
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
    known = read_outs.known(client)
    (sql,) = read_outs.statements(read_outs.one(client, "fast_start", known)[0], known, read_outs.DAY_S)
    assert {row[0] for row in client.query(sql).result_rows} == {"fast_start"}


SECONDS = 1000
DEFINED = {"slowest": {"quantile": 0.9}, "stalled": {"denominator": "d"}, "returned": {"interval_s": 3600}}


def as_defined(one: Counted) -> Metric:
    """A metric of the small worlds, as a team would define it."""
    told = {"kind": "metric", "key": one.key, "owner": "o", "unit": "u", "topic": "playback.qoe_session", "better": "lower"}
    times = {"window_s": one.window_ms // SECONDS, "covariate_s": one.covariate_ms // SECONDS}
    return Metric.model_validate({**told, "aggregation": one.aggregation, **times, **DEFINED.get(one.key, {})})


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
        for until in (first + 1, recompute.FOR_EVER):
            found = recompute.recompute(client, "experiment", known, until, MOST_A_DAY)
            assert (found.differences, found.too_late) == ([], 0)
            seen += found.cells
    assert seen > 400
    in_time = [_in_time(told, latest_ms := 6 * 3_600_000) for told in (exposures, measurements)]
    late = statistics(*([{**one, "event_time": ms(one["event_time"])} for one in told] for told in in_time), METRICS, MOST_A_DAY)
    client.command("TRUNCATE TABLE experiments_statistic")
    insert(client, [stored(cell, sums) for cell, sums in late.items()], "experiments_statistic")
    found = recompute.recompute(client, "experiment", known, most_a_day=MOST_A_DAY, latest_ms=latest_ms)
    assert (found.differences, found.too_late > 50) == ([], True)
    assert recompute_experiments(client).compared == 0  # the product's own have met nobody
    client.command("ALTER TABLE experiments_statistic DELETE WHERE topic_offset = 7 SETTINGS mutations_sync = 1")
    assert any(
        recompute.recompute(client, "experiment", read_outs.Known({"experiment": one}, metrics, {}), most_a_day=MOST_A_DAY).differences
        for one in experiments.values()
    )


def _in_time(told: list[dict[str, Any]], latest_ms: int) -> list[dict[str, Any]]:
    """Those that are not so far behind the newest before them of their unit."""
    newest: dict[str, int] = {}
    kept = []
    for one in told:
        before = newest.get(one["unit"], 0)
        newest[one["unit"]] = max(before, ms(one["event_time"]))
        if ms(one["event_time"]) >= before - latest_ms:
            kept.append(one)
    return kept


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

"""Read-outs of experiments out of the warehouse: definitions and sums by SQL, the statistics by `streams.experiments.read_outs`.

The board and the commands ask the same functions, so they say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite
from typing import Annotated, Any, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from schemas.allocation.definition import AnyDefinition, Experiment, Holdout, Metric
from streams.experiments import read_outs
from streams.experiments.read_outs import DAY_S, Answer, Point, Report, Row, Totals
from streams.experiments.statistics.planning import Design, always_valid_units, days, fixed_units
from streams.experiments.statistics.readout import ReadOut

DEFINITIONS = """SELECT
  kind, key, version, action, author, reason, toUnixTimestamp64Milli(event_time), toUnixTimestamp64Milli(started_at), document
FROM experiment_definitions
WHERE kind IN ('experiment', 'metric', 'holdout') AND (kind = 'metric' OR {one:String} = '' OR kind = 'experiment' AND key = {one:String})
ORDER BY kind, key"""
_TOTALS = ", ".join(f"sum(sum_{name}) AS {name}" for name in Totals._fields)
SUMS = f"""SELECT
  experiment, phase, variation,
  arrayJoin(if({{brief:Bool}}, [''], arrayConcat([''], arrayMap((k, v) -> k || '=' || v, mapKeys(segment), mapValues(segment))))) AS part,
  metric, value_bucket, if({{by_day:Bool}} OR metric IN {{dated:Array(String)}}, toInt32(day), 0) AS on_day,
  if({{step_s:UInt32}} = 0, on_day, toInt32(intDiv(toUnixTimestamp(event_time), greatest({{step_s:UInt32}}, 1)))) AS step,
  sum(n) AS units, sum(measured) AS with_data, {_TOTALS}
FROM experiments_statistic
WHERE experiment BETWEEN {{first:String}} AND {{last:String}} AND (NOT {{brief:Bool}} OR metric IN {{needed:Array(String)}}) AND NOT marker
GROUP BY experiment, phase, variation, part, metric, value_bucket, on_day, step
ORDER BY experiment
FORMAT TabSeparated"""
SPAN = """SELECT toUnixTimestamp(min(event_time)), toUnixTimestamp(max(event_time)), toInt32(min(day)), toInt32(max(day)), count()
FROM experiments_statistic
WHERE experiment = {experiment:String} AND phase = {phase:Int32} AND NOT marker"""
FIRST_DAYS = 3
"""An experiment that has run for fewer days is shown in finer steps, by when the sums were told: so its first hour is seen as it goes."""
FINER = 48
"""So many steps there are then, at most about."""
AT_ONCE = 100
"""Experiments whose sums are asked for in one query, which bounds what an answer weighs."""
_DEFINITION: TypeAdapter[Any] = TypeAdapter(Annotated[AnyDefinition, Field(discriminator="kind")])


class Unknown(Exception):
    """No such experiment, metric or segment; the message names those that are."""


class Queries(Protocol):
    """What is needed of a warehouse client: clickhouse-connect's own."""

    def query(self, query: str, parameters: dict[str, Any] | None = None) -> Any: ...

    def raw_query(self, query: str, parameters: dict[str, Any] | None = None) -> bytes: ...


@dataclass(frozen=True)
class Told:
    """The newest change of a definition; times in ms since 1970, `started_ms` 0 where it never was started."""

    version: int
    action: str
    author: str
    reason: str
    at_ms: int
    started_ms: int


@dataclass(frozen=True)
class Known:
    """What is defined now. Holdouts are among the experiments, as `holdout.<key>`; `unread` says which cannot be read."""

    experiments: Mapping[str, Experiment]
    metrics: Mapping[str, Metric]
    told: Mapping[str, Told]
    unread: Mapping[str, str] = field(default_factory=dict)

    def experiment(self, key: str) -> Experiment:
        """Raises Unknown."""
        if key not in self.experiments:
            some = ", ".join(list(self.experiments)[:9]) or "none yet: `headrace experiment publish` makes them known"
            raise Unknown(self.unread.get(f"experiment/{key}") or f"there is no experiment {key}; there are {some}")
        return self.experiments[key]


def known(client: Queries, key: str = "") -> Known:
    """Every metric and every experiment, or only that of `key` if there is one. Raises clickhouse-connect's errors."""
    found = _known(client, "" if key.startswith("holdout.") else key)  # a holdout is measured by all experiments that name it
    return _known(client) if key and key not in found.experiments else found


def _known(client: Queries, one: str = "") -> Known:
    found: dict[str, dict[str, Any]] = {"experiment": {}, "metric": {}, "holdout": {}}
    told, unread = {}, {}
    for kind, key, version, action, author, reason, at_ms, started_ms, document in client.query(DEFINITIONS, {"one": one}).result_rows:
        try:
            found[kind][key] = _DEFINITION.validate_json(document)
        except ValidationError as error:
            unread[f"{kind}/{key}"] = f"{kind} {key} cannot be read: {error.errors()[0]['msg']}"
            continue
        told[key if kind != "holdout" else f"holdout.{key}"] = Told(version, action, author, reason, at_ms, max(started_ms, 0))
    experiments, metrics = found["experiment"], found["metric"]
    for key, experiment in list(experiments.items()):
        if missing := [name for name in experiment.measured if name not in metrics]:
            del experiments[key]
            unread[f"experiment/{key}"] = f"experiment {key} is measured by {', '.join(missing)}, which nobody has published"
    for key, holdout in found["holdout"].items():
        experiments[f"holdout.{key}"] = _of_holdout(holdout, [one for one in experiments.values() if key in one.holdouts])
    return Known(experiments, metrics, told, unread)


def _of_holdout(holdout: Holdout, held_from: Sequence[Experiment]) -> Experiment:
    metrics = list(dict.fromkeys(key for one in held_from for key in one.measured))
    return read_outs.of_holdout(holdout, metrics)


def one(client: Queries, key: str, of: Known | None = None) -> tuple[Report, int]:
    """An experiment's newest phase with all its steps, and how long a step is in seconds. Raises Unknown."""
    of = of or known(client, key)
    experiment = of.experiment(key)
    step_s = _step_s(client, experiment)
    parameters = _asked([key], by_day=True, step_s=step_s)
    rows = [row for _, phase, row in _rows(client, parameters) if phase == experiment.phase]
    return read_outs.report(experiment, of.metrics, rows, over_time=True), step_s or DAY_S


def every(client: Queries, of: Known | None = None, brief: bool = False) -> Iterator[Report]:
    """All experiments as they are now, by key, without their steps; `brief`: without what a verdict does not need."""
    of = of or known(client)
    dated = ["", *(key for key, metric in of.metrics.items() if metric.aggregation == "time_to_event")]
    keys = sorted(of.experiments)
    for begin in range(0, len(keys), AT_ONCE):
        some = keys[begin : begin + AT_ONCE]
        needed = sorted({"", *(metric for key in some for metric in read_outs.needed(of.experiments[key]))}) if brief else []
        rows: dict[str, list[Row]] = {key: [] for key in some}
        for key, phase, row in _rows(client, _asked(some, dated=dated, brief=brief, needed=needed)):
            if key in rows and phase == of.experiments[key].phase:
                rows[key].append(row)
        yield from (read_outs.report(of.experiments[key], of.metrics, rows[key], brief=brief) for key in some)


def _asked(keys: Sequence[str], **more: Any) -> dict[str, Any]:
    """The parameters of SUMS for experiments from the first key to the last."""
    return {"first": keys[0], "last": keys[-1], "by_day": False, "dated": [], "step_s": 0, "brief": False, "needed": [], **more}


def statement(key: str, step_s: int) -> str:
    """SUMS as it is asked of one experiment, to be run by hand."""
    text = SUMS.removesuffix("\nFORMAT TabSeparated")
    for name, value in _asked([key], by_day=True, step_s=0 if step_s == DAY_S else step_s).items():
        text = re.sub(rf"{{{name}:\w+(\(\w+\))?}}", repr(value) if isinstance(value, str) else str(value).lower(), text)
    return text


def plan(
    client: Queries, key: str, change: float, like: str, power: float, alpha: float, share: float, units_a_day: float
) -> dict[str, Any]:
    """How many units and days a relative `change` of a metric needs, from the control of `like`, or of the experiment with most units.

    `share` is b's part of the units. Raises Unknown, and ValueError for what cannot be planned.
    """
    of = known(client)
    if key not in of.metrics:
        raise Unknown(f"there is no metric {key}; there are {', '.join(of.metrics) or 'none yet'}")
    if not -1 < change < inf or change == 0:
        raise ValueError(f"a relative change of {change!r} cannot be looked for")
    metric, experiment = of.metrics[key], of.experiment(like) if like else _largest(client, of, key)
    control = experiment.control.key
    asked = _asked([experiment.key], by_day=True)
    rows = [row for _, phase, row in _rows(client, asked) if phase == experiment.phase and row.segment == read_outs.WHOLE]
    units = [row for row in rows if row.metric == ""]
    found = read_outs.baseline(
        metric, [row for row in units if row.variation == control], [row for row in rows if (row.variation, row.metric) == (control, key)]
    )
    absolute = abs(found.value * change)
    design = Design(absolute, found.variance, None, share, alpha, power)
    a_day = units_a_day or sum(row.n for row in units) / max(len({row.day for row in units}), 1)
    told: dict[str, Any] = {"metric": key, "experiment": experiment.key, "control": control}
    told |= {"value": found.value * read_outs.small(metric), "absolute": absolute * read_outs.small(metric), "units_a_day": a_day}
    for name, count in (("fixed", fixed_units(design)), ("always_valid", always_valid_units(design))):
        told |= {f"{name}_units": count, f"{name}_days": days(count, a_day) if a_day > 0 else None}
    return told | {"without_covariate_units": fixed_units(replace(design, variance=found.without))}


def _largest(client: Queries, of: Known, metric: str) -> Experiment:
    """The experiment with most units of those that have the metric."""
    counted = client.query(
        "SELECT experiment, phase, sum(n) FROM experiments_statistic WHERE metric = '' AND NOT marker GROUP BY ALL"
    ).result_rows
    units = {key: int(n) for key, phase, n in counted if key in of.experiments and of.experiments[key].phase == phase}
    having = [one for key, one in of.experiments.items() if metric in one.measured and units.get(key)]
    if not having:
        raise Unknown(f"no experiment with units is measured by {metric}: there is no baseline to plan by")
    return max(having, key=lambda one: units[one.key])


def _step_s(client: Queries, experiment: Experiment) -> int:
    """0 for days, or the seconds of a finer step."""
    ((first_s, last_s, first_day, last_day, count),) = client.query(
        SPAN, {"experiment": experiment.key, "phase": experiment.phase}
    ).result_rows
    if not count or last_day - first_day >= FIRST_DAYS:
        return 0
    return max(10, -(-(int(last_s) - int(first_s)) // FINER))


def _rows(client: Queries, parameters: dict[str, Any]) -> Iterator[tuple[str, int, Row]]:
    """(experiment, phase, row). Text, because that is several times as fast to read as decimals in ClickHouse's own format."""
    for line in client.raw_query(SUMS, parameters).decode().splitlines():
        experiment, phase, variation, part, metric, bucket, *numbers = line.split("\t")
        day, step, n, measured, *totals = map(int, numbers)
        yield experiment, int(phase), Row(variation, _plain(part), metric, int(bucket), day, step, n, measured, Totals._make(totals))


def _plain(text: str) -> str:
    """A text as it was before TabSeparated."""
    return text.encode().decode("unicode_escape").encode("latin-1").decode() if "\\" in text else text


def as_json(report: Report, of: Known, step_s: int = DAY_S) -> dict[str, Any]:
    """For the board and for machines: times in ms since 1970, numbers that are none null."""
    experiment, told = of.experiment(report.experiment), of.told.get(report.experiment)
    return {
        "experiment": report.experiment,
        "about": experiment.about,
        "owner": experiment.owner,
        "flag": experiment.flag,
        "unit": experiment.unit,
        "state": experiment.state,
        "shipped": experiment.shipped,
        "phase": report.phase,
        "alpha": experiment.plan.alpha,
        "planned_units": experiment.plan.units,
        "primary": read_outs.primary_of(experiment),
        "told": asdict(told) if told else None,
        "control": experiment.control.key,
        "exposed": [asdict(one) for one in report.exposed],
        "split_p": report.split_p,
        "verdict": report.verdict,
        "words": report.words,
        "metrics": {key: _metric(of.metrics[key], experiment) for key in experiment.measured},
        "answers": [_answer(one) for one in report.answers],
        "over_time": [
            {"metric": metric, "variation": variation, "points": [_point(one, step_s) for one in points]}
            for (metric, variation), points in report.over_time.items()
        ],
    }  # fmt: skip


def _point(one: Point, step_s: int) -> dict[str, Any]:
    """At the step's end, or where that is a day, at its begin."""
    return {"at_ms": one.step * step_s * 1000, "units": one.units, **_read(one.read)}


def _metric(metric: Metric, experiment: Experiment) -> dict[str, Any]:
    told = metric.model_dump(
        include={"about", "unit", "topic", "aggregation", "quantile", "better", "guardrail_margin", "window_s", "covariate_s"}
    )
    return {**told, "guardrail": metric.key in experiment.guardrails}


def _answer(one: Answer) -> dict[str, Any]:
    return {
        "metric": one.metric, "variation": one.variation, "segment": one.segment, "values": one.values, "adjusted_p": one.adjusted_p,
        "guard": one.guard, "assumes": one.read.assumes, **_read(one.read),
    }  # fmt: skip


def _read(read: ReadOut) -> dict[str, Any]:
    """A read-out's numbers, or its refusals."""
    if read.effect is None or read.fixed is None or read.always_valid is None:
        return {"refusals": [asdict(one) for one in read.refusals]}
    intervals = {
        name: [_finite(one.low), _finite(one.high), one.p] for name, one in (("fixed", read.fixed), ("always_valid", read.always_valid))
    }
    effect = read.effect
    return {
        "estimate": effect.estimate,
        "standard_error": effect.standard_error,
        "relative": effect.relative,
        "n": effect.n,
        "gain": read.gain,
        **intervals,
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None

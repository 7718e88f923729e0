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

from edge import recompute
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
  arrayJoin(arrayConcat([''], arrayFilter(part -> NOT {{brief:Bool}} OR splitByChar('=', part)[1] IN {{strata:Array(String)}},
    arrayMap((k, v) -> k || '=' || v, mapKeys(segment), mapValues(segment))))) AS part,
  metric, value_bucket, if({{by_day:Bool}} OR metric IN {{dated:Array(String)}}, toInt32(day), 0) AS on_day,
  sum(n) AS units, sum(measured) AS with_data, {_TOTALS}
FROM experiments_statistic
WHERE experiment BETWEEN {{first:String}} AND {{last:String}} AND (NOT {{brief:Bool}} OR metric IN {{needed:Array(String)}}) AND NOT marker
GROUP BY experiment, phase, variation, part, metric, value_bucket, on_day
HAVING units != 0 OR with_data != 0 OR {" OR ".join(f"{name} != 0" for name in Totals._fields)}
ORDER BY experiment
FORMAT TabSeparated"""
FIRST_DAYS = 3
"""An experiment that knows of fewer days is shown in finer steps, from the raw tables: so its first hour is seen as it goes."""
STEPS_S = (10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200)
FINER = 48
"""So many steps there are then at most."""
MOST_WORK = 1_000_000
"""Facts × metrics × steps that are gone through for them, a second or two; with more there are fewer steps, at last days."""
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
    """An experiment's newest phase with all its steps, and how long a step is in seconds. Raises Unknown.

    All of it follows from what happened and when, not from when it was told: a log that is replayed has the same.
    """
    of = of or known(client, key)
    experiment = of.experiment(key)
    rows = [row for _, phase, row in _rows(client, _asked([key], by_day=True)) if phase == experiment.phase]
    days = {row.day for row in rows}
    steps = _steps(client, experiment) if days and max(days) - min(days) < FIRST_DAYS else None
    if steps is None:
        return read_outs.report(experiment, of.metrics, rows, over_time=True), DAY_S
    step_s, numbers = steps
    knew: dict[int, list[Row]] = {number: [] for number in numbers}
    for until_ms, row in recompute.known_at(client, experiment, of.metrics, [1000 * step_s * (number + 1) for number in numbers]):
        knew[until_ms // (1000 * step_s) - 1].append(row)
    report = read_outs.report(experiment, of.metrics, rows)
    return replace(report, over_time=read_outs.finer(experiment, of.metrics, knew, step_s)), step_s


def every(client: Queries, of: Known | None = None, brief: bool = False) -> Iterator[Report]:
    """All experiments as they are now, by key, without their steps; `brief`: without what a verdict does not need."""
    of = of or known(client)
    dated = ["", *(key for key, metric in of.metrics.items() if metric.aggregation == "time_to_event")]
    keys = sorted(of.experiments)
    for begin in range(0, len(keys), AT_ONCE):
        some = keys[begin : begin + AT_ONCE]
        needed = sorted({"", *(metric for key in some for metric in read_outs.needed(of.experiments[key]))}) if brief else []
        strata = sorted({name for key in some if (name := of.experiments[key].plan.strata)})
        rows: dict[str, list[Row]] = {key: [] for key in some}
        for key, phase, row in _rows(client, _asked(some, dated=dated, brief=brief, needed=needed, strata=strata)):
            if key in rows and phase == of.experiments[key].phase:
                rows[key].append(row)
        yield from (read_outs.report(of.experiments[key], of.metrics, rows[key], brief=brief) for key in some)


def _asked(keys: Sequence[str], **more: Any) -> dict[str, Any]:
    """The parameters of SUMS for experiments from the first key to the last."""
    return {"first": keys[0], "last": keys[-1], "by_day": False, "dated": [], "brief": False, "needed": [], "strata": [], **more}


def statements(report: Report, of: Known, step_s: int) -> list[str]:
    """What the warehouse was asked for a read-out, to be run by hand: the sums by day, and where steps are finer what was known at each."""
    found = [_written(SUMS, _asked([report.experiment], by_day=True))]
    if step_s != DAY_S and report.over_time:
        moments = sorted({1000 * step_s * (one.step + 1) for points in report.over_time.values() for one in points})
        experiment = of.experiment(report.experiment)
        found.append(_written(recompute.RAW, recompute.as_it_was(experiment, of.metrics, moments)))
    return found


def _written(query: str, parameters: Mapping[str, Any]) -> str:
    """A query with its parameters put in."""

    def value(found: re.Match[str]) -> str:
        one = parameters[found[1]]
        return str(one).lower() if isinstance(one, bool) else repr(one)

    return re.sub(r"\{(\w+):[\w(), ]+\}", value, query.removesuffix("\nFORMAT TabSeparated"))


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


def _steps(client: Queries, experiment: Experiment) -> tuple[int, range] | None:
    """The seconds of a finer step, and the numbers of those from the first exposure to the last event; None where days have to do."""
    span = recompute.span(client, experiment)
    if span is None:
        return None
    first_ms, last_ms, facts = span
    most = min(FINER, MOST_WORK // (facts * max(1, len(experiment.measured))))
    for step_s in STEPS_S:
        numbers = range(first_ms // (1000 * step_s), last_ms // (1000 * step_s) + 1)
        if len(numbers) <= most:
            return step_s, numbers
    return None


def _rows(client: Queries, parameters: dict[str, Any]) -> Iterator[tuple[str, int, Row]]:
    """(experiment, phase, row). Text, because that is several times as fast to read as decimals in ClickHouse's own format."""
    for line in client.raw_query(SUMS, parameters).decode().splitlines():
        experiment, phase, variation, part, metric, bucket, *numbers = line.split("\t")
        day, n, measured, *totals = map(int, numbers)
        yield experiment, int(phase), Row(variation, _plain(part), metric, int(bucket), day, n, measured, Totals._make(totals))


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
    """At the step's begin."""
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
        "strata": effect.strata,
        "gain": read.gain,
        **intervals,
    }


def compare(a: Queries, b: Queries) -> tuple[int, list[str]]:
    """How many read-outs two databases have, and what is not the same in them to the last digit, the first difference of each in words."""
    whole = [{key: as_json(*_whole(client, key, of)) for key in of.experiments} for client in (a, b) for of in [known(client)]]
    apart = [next(_apart(whole[0].get(key), whole[1].get(key), key), "") for key in sorted(whole[0].keys() | whole[1].keys())]
    return len(whole[0]), [words for words in apart if words]


def _whole(client: Queries, key: str, of: Known) -> tuple[Report, Known, int]:
    report, step_s = one(client, key, of)
    return report, of, step_s


def _apart(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for name in a:
            yield from _apart(a[name], b[name], f"{where}.{name}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for number, (of_a, of_b) in enumerate(zip(a, b, strict=True)):
            yield from _apart(of_a, of_b, f"{where}[{number}]")
    elif a != b:
        yield f"{where}: {str(a)[:200]} and {str(b)[:200]}"


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None

"""Which metrics are counted, and how they are measured: from their definitions to the text of the jobs.

Definitions are the product's own and those of teams, `schemas/experiments/definitions`. A new metric is a new file and
`headrace jobs upgrade measurements statistics_by_unit`: it counts from then on. What a metric means never changes under its key.
"""

from __future__ import annotations

import json
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.base import rooms
from schemas.allocation.definition import DefinitionError, Metric, read_folder
from schemas.allocation.measurable import unmeasurable
from schemas.catalogue import Topic, catalogue
from streams.experiments.batch import DAY_MS, LARGEST, Counted, argument

DEFINITIONS = Path("experiments/definitions")
OPERATORS = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$in": "IN", "$nin": "NOT IN"}
HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq, "$ne": operator.ne, "$lt": operator.lt, "$lte": operator.le, "$gt": operator.gt, "$gte": operator.ge,
    "$in": lambda value, those: value in those, "$nin": lambda value, those: value not in those,
}  # fmt: skip


def defined() -> list[Metric]:
    """The metrics of this checkout and of teams, by key. Raises DefinitionError, also where a topic has not what a metric asks for."""
    import schemas

    folders = [room / DEFINITIONS for room in (Path(schemas.__file__).parent, *rooms.of_teams("schemas"))]
    found = [one for folder in folders if folder.is_dir() for one in read_folder(folder)]
    if wrong := unmeasurable(found, catalogue()):
        raise DefinitionError(wrong)
    return sorted((one for one in found if isinstance(one, Metric)), key=lambda metric: metric.key)


def counted(metrics: Iterable[Metric]) -> list[Counted]:
    """The metrics as they are counted."""
    return [
        Counted(
            metric.key, metric.aggregation, metric.window_s * 1000, metric.covariate_s * 1000,
            metric.interval_s * 1000 if metric.interval_s else DAY_MS,
        )
        for metric in metrics
    ]  # fmt: skip


def measurements(metrics: Sequence[Metric]) -> str:
    """An INSERT INTO `experiments.measurement` for each topic that metrics are measured on, separated by semicolons."""
    by_source: dict[tuple[str, str, str, str | None], list[Metric]] = defaultdict(list)
    for metric in metrics:
        by_source[metric.source].append(metric)
    return ";\n".join(_insert(*source, of) for source, of in sorted(by_source.items(), key=lambda item: item[0][0]))


def _insert(topic: str, unit_field: str, measurement_id: str, version: str | None, metrics: Sequence[Metric]) -> str:
    """Every event with a unit, where versions are told: one that measures nothing any more takes the place of one that did."""
    values = ",\n    ".join(value for metric in metrics for value in _values(metric, catalogue().topic(topic)))
    told = json.dumps([_told(metric) for metric in metrics])
    at = "0" if version is None else f"`{version}`"
    return (
        "INSERT INTO `experiments.measurement`\n"
        "SELECT\n"
        "  event_id, event_time, 'measurements', 0, CAST(-1 AS BIGINT), correlation_id, FALSE,\n"
        f"  `{unit_field}`, {_literal(unit_field)}, {_literal(topic)}, `{measurement_id}`, CAST({at} AS BIGINT),\n"
        f"  measured(\n    {_literal(told)},\n    {values})\n"
        f"FROM `{topic}`\n"
        f"WHERE NOT marker AND `{unit_field}` IS NOT NULL AND `{unit_field}` <> ''"
    )


def _told(metric: Metric) -> dict[str, Any]:
    """What Measured.java is told of a metric: names of its values, and bounds."""
    names = [metric.key, *([f"{metric.key}/below"] if metric.denominator else [])]
    bounds = {name: getattr(metric, name) for name in ("at_least", "at_most", "floor", "cap") if getattr(metric, name) is not None}
    return {"names": names, "scale": metric.scale, **bounds}


def _values(metric: Metric, topic: Topic) -> Iterator[str]:
    """What is measured, DOUBLE, and null where nothing is."""
    asked = " AND ".join(words for name, asks in metric.when.items() for words in _asked(name, asks))
    for name in (metric.field, metric.denominator) if metric.denominator else (metric.field,):
        value = "1" if name is None else f"`{name}`"
        if name is not None and _is_boolean(topic, name):
            value = f"CASE {value} WHEN TRUE THEN 1 WHEN FALSE THEN 0 END"
        yield f"CASE WHEN {asked} THEN CAST({value} AS DOUBLE) END" if asked else f"CAST({value} AS DOUBLE)"


def _is_boolean(topic: Topic, name: str) -> bool:
    kind = next(field["type"] for field in topic.event.fields if field["name"] == name)
    return kind == "boolean" or (isinstance(kind, list) and "boolean" in kind)


def _asked(name: str, asks: Any) -> Iterator[str]:
    """The conditions on a field, in SQL."""
    for asked, value in (asks if isinstance(asks, dict) else {"$eq": asks}).items():
        if asked == "$exists":
            yield f"`{name}` IS {'NOT ' if value else ''}NULL"
        elif isinstance(value, list):
            yield f"`{name}` {OPERATORS[asked]} ({', '.join(map(_literal, value))})"
        else:
            yield f"`{name}` {OPERATORS[asked]} {_literal(value)}"


def measured(metrics: Iterable[Metric], event: Mapping[str, Any]) -> dict[str, int]:
    """What one event of their topic measures, in small units: the plain function of what `measurements` has SQL and Measured.java do.

    What is null, not finite, out of bounds or beyond `LARGEST` is left out; of a ratio both where one of both is.
    """
    found: dict[str, int] = {}
    for metric in metrics:
        names = _told(metric)["names"]
        fields = (metric.field, metric.denominator) if metric.denominator else (metric.field,)
        values: list[Any] = [1 if name is None else event.get(name) for name in fields]
        if all(_meets(event.get(name), asks) for name, asks in metric.when.items()) and all(_is_true(metric, value) for value in values):
            found |= {name: round(_scaled(metric, value)) for name, value in zip(names, values, strict=True)}
    return found


def _meets(value: Any, asks: Any) -> bool:
    """As SQL has it: null meets nothing but that it is not there."""
    for asked, other in (asks if isinstance(asks, dict) else {"$eq": asks}).items():
        if asked == "$exists":
            if (value is not None) != other:
                return False
        elif value is None or not HOLDS[asked](value, other):
            return False
    return True


def _is_true(metric: Metric, value: Any) -> bool:
    least, most = (bound if bound is not None else far for bound, far in ((metric.at_least, -math.inf), (metric.at_most, math.inf)))
    return value is not None and math.isfinite(value) and least <= value <= most and abs(_scaled(metric, value)) <= LARGEST


def _scaled(metric: Metric, value: float) -> float:
    floor, cap = (bound if bound is not None else far for bound, far in ((metric.floor, -math.inf), (metric.cap, math.inf)))
    return max(floor, min(float(value), cap)) * metric.scale


def _literal(value: str | float | bool) -> str:
    """In SQL."""
    if isinstance(value, bool):
        return str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


METRICS = defined()
ARGUMENT = argument(counted(METRICS)).replace("'", "''")
MEASUREMENTS = measurements(METRICS)

"""What was known then, from the landing tables: the training join of a feature as SQL. Pure.

    client.query(training_query(feature, "asked"))

`asked` has a row a query: `id`, when as `at_ms`, and a column per entity that features are about (member, title, genre, region). The result
has a row for each: `id`, and the feature's values by name. The rules are those of streams/recommendations (see docs/features.md), said
again in SQL, which is why a test holds the two against each other: an event that came again, or beyond the most of a day, does not count;
a value comes from what had arrived before its time. Two things are different: *top_k* counts all texts of a tile, where the stream keeps a
hundred, and `over_cap` is not told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.catalogue import Catalogue, Topic, catalogue
from schemas.recommendations.definition import (
    CAPPED,
    DAY_MS,
    ENTITIES,
    MOST_A_DAY,
    MOST_DISTINCT,
    MOST_KEYS,
    MOST_NUMBER,
    MOST_TEXT_BYTES,
    STEPS,
    TWICE_MS,
    WEIGHTS,
    Bounds,
    Feature,
    Window,
)


def training_query(feature: Feature, asked: str, among: Catalogue | None = None) -> str:
    """One SELECT: `id` and the feature's values, for each row of the table or subquery `asked`."""
    events = "\nUNION ALL\n".join(_events(feature, (among or catalogue()).topic(name)) for name in feature.sources)
    on = " AND ".join(f"events.{entity} = asked.{entity}" for entity in feature.key)
    longest = max(feature.values.values())
    values = ",\n".join(f"  {_value(feature, window)} AS {name}" for name, window in feature.values.items())
    return (
        f"WITH asked AS (SELECT * FROM {asked}), events AS (\n{events}\n),\n"
        "known AS (\n"
        f"SELECT asked.id AS id, asked.at_ms AS at_ms, events.* FROM asked INNER JOIN events ON {on}\n"
        f"WHERE events.arrived_ms < asked.at_ms AND events.at >= {_begin(longest, 'asked.at_ms')}\n"
        ")\n"
        f"SELECT asked.id AS id,\n{values}\n"
        "FROM asked LEFT JOIN known ON asked.id = known.id GROUP BY asked.id, asked.at_ms ORDER BY id\n"
        "SETTINGS join_use_nulls = 1"
    )


def _events(feature: Feature, topic: Topic) -> str:
    """What a feature counts of one topic: key, time, arrival and value of each event."""
    types = {field["name"]: field["type"] for field in topic.event.fields}
    keys = ",\n".join(f"  {_each(ENTITIES[entity], types, MOST_KEYS)} AS {entity}" for entity in feature.key)
    asked = " AND ".join(["1", *(_condition(name, what) for name, what in sorted(feature.filter.items()))])
    usable = " AND ".join(f"{entity} != '' AND length({entity}) <= {MOST_TEXT_BYTES}" for entity in feature.key)
    return (
        f"SELECT at, arrived_ms, value, {', '.join(feature.key)} FROM (\n"
        f"SELECT at, arrived_ms,\n  {_field(feature, types)} AS value,\n{keys}\n"
        f"FROM (\n{counted(topic)}\n) WHERE {asked}\n"
        f") WHERE isNotNull(value) AND {usable} AND {_in_bounds(feature, types)}"
    )


def counted(topic: Topic, among: str = "1") -> str:
    """One SELECT: the topic's events that count, with `at` and `arrived_ms`, in ms. `among`: which keys' events, all of a key or none."""
    capped = f"place <= {MOST_A_DAY}" if topic.key in CAPPED else "1"
    return (
        "SELECT * FROM (\n"
        f"SELECT *, row_number() OVER (PARTITION BY {topic.key}, intDiv(clock_ms, {DAY_MS}) ORDER BY topic_offset) AS place\n"
        "FROM (\n"
        f"SELECT *, lagInFrame(clock_ms, 1, {-(2**62)}) OVER (PARTITION BY {topic.key}, event_id ORDER BY topic_offset\n"
        "  ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before_ms\n"
        "FROM (\n"
        "SELECT *, toUnixTimestamp64Milli(topic_time) AS arrived_ms, toUnixTimestamp64Milli(least(event_time, topic_time)) AS at,\n"
        f"  max(arrived_ms) OVER (PARTITION BY {topic.key} ORDER BY topic_offset ROWS UNBOUNDED PRECEDING) AS clock_ms\n"
        f"FROM {topic.table} WHERE NOT marker AND {among}\n"
        f")) WHERE before_ms < clock_ms - {TWICE_MS}\n"
        f") WHERE {capped}"
    )


def _each(name: str, types: Mapping[str, Any], most: int) -> str:
    """A field's text; of a list each item once."""
    if isinstance(types[name], Mapping):
        return f"arrayJoin(arraySlice(arrayDistinct(arrayFilter(one -> one != '', {name})), 1, {most}))"
    return f"ifNull({name}, '')"


def _field(feature: Feature, types: Mapping[str, Any]) -> str:
    if feature.field is None:
        return "1"
    if feature.aggregation not in ("distinct", "top_k"):
        return feature.field
    return _each(feature.field, types, 1_000_000) if isinstance(types[feature.field], Mapping) else f"toString({feature.field})"


def _in_bounds(feature: Feature, types: Mapping[str, Any]) -> str:
    if feature.field is None:
        return "1"
    kind = types[feature.field]
    whole = not {"int", "long"}.isdisjoint([kind] if isinstance(kind, str) else kind)
    if not whole:
        return f"value != '' AND length(value) <= {MOST_TEXT_BYTES}"
    return f"abs(toInt64(value)) <= {MOST_NUMBER}"


def _condition(name: str, what: Any) -> str:
    if isinstance(what, Bounds):
        bounds = [f"{name} >= {what.at_least}"] if what.at_least is not None else []
        bounds += [f"{name} < {what.below}"] if what.below is not None else []
        return " AND ".join([f"isNotNull({name})", *bounds])
    return f"ifNull({name} IN ({', '.join(literal(one) for one in (what if isinstance(what, list) else [what]))}), 0)"


def literal(value: Any) -> str:
    """A value in SQL; texts as ClickHouse escapes them, which is as JSON does but for the quotes."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "NULL" if value is None else json.dumps(value)


def _begin(window: Window, at_ms: str) -> str:
    return f"intDiv({at_ms} - {window.length_ms}, {window.hop_ms}) * {window.hop_ms}"


def _value(feature: Feature, window: Window) -> str:
    within = f"isNotNull(value) AND at >= {_begin(window, 'asked.at_ms')}"
    told = _summed_up(feature, window, within)
    if feature.aggregation == "top_k":
        return told
    return f"if(countIf({within}) = 0, {literal(feature.default)}, {told})"


def _summed_up(feature: Feature, window: Window, within: str) -> str:
    match feature.aggregation:
        case "count":
            return f"countIf({within})"
        case "sum":
            return f"sumIf(toInt64(value), {within})"
        case "mean":
            return f"sumIf(toInt64(value), {within}) / countIf({within})"
        case "last":
            return f"argMaxIf(value, (at, value), {within})"
        case "distinct":
            return f"least(uniqExactIf(value, {within}), {MOST_DISTINCT})"
        case "top_k":
            often = f"CAST(sumMapIf(map(ifNull(value, ''), toInt64(1)), {within}), 'Array(Tuple(String, Int64))')"
            return f"arraySlice(arraySort(pair -> (-pair.2, pair.1), {often}), 1, {feature.k})"
        case _:
            return "".join(_decayed(feature, window, within))


def _decayed(feature: Feature, window: Window, within: str) -> Iterator[str]:
    """Whole numbers by tile, added up from the oldest on, as the stream does; powers of two by shifting, so that nothing is rounded."""
    half_life, weights = feature.half_life_ms, f"[{', '.join(map(str, WEIGHTS))}]"
    tile = f"intDiv(ifNull(at, 0), {window.hop_ms})"
    step, now = f"intDiv(ifNull(at, 0) * {STEPS}, {half_life})", f"intDiv(any(asked.at_ms) * {STEPS}, {half_life})"
    begins = f"intDiv(intDiv({{}} * {window.hop_ms} * {STEPS}, {half_life}), {STEPS})"
    weight = f"bitShiftLeft(toInt64({weights}[{step} % {STEPS} + 1]), intDiv({step}, {STEPS}) - {begins.format(tile)})"
    yield f"arrayFold((total, part) -> total + toFloat64(part.2) / toFloat64(bitShiftLeft(toUInt64(1), intDiv({now}, {STEPS}) - "
    yield f"{begins.format('part.1')})), arraySort(CAST(sumMapIf(map({tile}, toInt64(greatest(ifNull(value, 0), 0)) * {weight}), "
    yield f"{within}), 'Array(Tuple(Int64, Int64))')), toFloat64(0)) / toFloat64({weights}[{now} % {STEPS} + 1])"

"""Whether metrics can be measured: what each asks for is in the contract of its topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from schemas.allocation.definition import AnyDefinition, Metric
from schemas.catalogue import Catalogue

NUMBERS = ("int", "long", "float", "double", "boolean")
WHOLE = ("int", "long")


def unmeasurable(definitions: Iterable[AnyDefinition], catalogue: Catalogue) -> list[str]:
    """What metrics ask of topics that there is not; a line each."""
    return [words for one in definitions if isinstance(one, Metric) for words in _wrong(one, catalogue)]


def _wrong(metric: Metric, catalogue: Catalogue) -> Iterator[str]:
    where = f"metric {metric.key}"
    topic = catalogue.topics.get(metric.topic)
    if topic is None:
        yield f"{where}: there is no topic {metric.topic}"
        return
    types = {field["name"]: _plain(field["type"]) for field in topic.event.fields}
    wanted: list[tuple[str | None, tuple[str, ...]]] = [
        (metric.unit_field, ("string",)), (metric.measurement_id, ("string",)), (metric.version, WHOLE),
        (metric.field, NUMBERS), (metric.denominator, NUMBERS),
    ]  # fmt: skip
    for name, allowed in wanted:
        if name is None:
            continue
        if name not in types:
            yield f"{where}: {metric.topic} has no field {name}"
        elif types[name] not in allowed:
            yield f"{where}: {name} of {metric.topic} is a {types[name]}, not {' or '.join(allowed)}"
    for name, asked in metric.when.items():
        if name not in types:
            yield f"{where}: {metric.topic} has no field {name}, which it asks for"
        elif types[name] not in (*NUMBERS, "string"):
            yield f"{where}: {name} of {metric.topic} is a {types[name]}, which nothing is asked of"
        else:
            yield from _unlike(f"{where}: {name}", types[name], asked)


def _unlike(where: str, type_: str, asked: Any) -> Iterator[str]:
    """Constants that a field of `type_` is never."""
    kinds = {"string": str, "boolean": bool}.get(type_, (int, float))
    for operator, value in (asked if isinstance(asked, dict) else {"$eq": asked}).items():
        for one in value if isinstance(value, list) else [value]:
            if operator != "$exists" and (not isinstance(one, kinds) or (isinstance(one, bool) and type_ != "boolean")):
                yield f"{where} is a {type_}, which {one!r} is not"


def _plain(type_: Any) -> str:
    """Of a field's Avro type, what it holds where it is not null."""
    if isinstance(type_, list):
        (type_,) = (one for one in type_ if one != "null")
    if isinstance(type_, dict):
        return str(type_.get("logicalType") or type_["type"])
    return str(type_)

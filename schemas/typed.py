"""Contracts as Python types: one TypedDict an event, and the text of `records.pyi`, which editors and mypy read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

from schemas.catalogue import Event

Instant = datetime | int
"""A decoder gives an aware datetime; an encoder takes milliseconds since 1970 as well."""
WIDTH = 140
"""Longest line of generated source."""
PRIMITIVE: Mapping[str, type] = {
    "string": str, "int": int, "long": int, "float": float, "double": float, "boolean": bool, "bytes": bytes,
}  # fmt: skip
LOGICAL: Mapping[str, tuple[Any, str]] = {"timestamp-millis": (Instant, "Instant"), "date": (date, "date"), "decimal": (Decimal, "Decimal")}
ENVELOPE_OF_EMITTER = frozenset({"event_id", "event_time", "producer_id", "epoch", "seq"})
"""What `producers.emit` puts on an event, so that who writes one may leave it out."""
HEAD = '''"""Typed records of the contracts. Generated: `python -m schemas.typed` writes it anew, and a test says when that is needed."""

from datetime import {dates}
{decimal}from typing import Literal, NotRequired, TypedDict

Instant = datetime | int
'''


@dataclass(frozen=True)
class Typed:
    """A Python type, as an object and as source text."""

    type: Any
    text: str


def record_name(event: Event) -> str:
    """`playback.qoe_session` is `PlaybackQoeSession`."""
    return _camel(f"{event.domain}_{event.name}")


def record_types(events: Iterable[Event]) -> dict[str, Any]:
    """Name → TypedDict of every event and of the records within.

    Fields with a default, and what the emitter puts on, need not be written.
    """
    return {name: TypedDict(name, {k: t.type for k, t in fields.items()}) for name, fields in _records(events)}  # type: ignore[operator]


def stub(events: Iterable[Event]) -> str:
    """The same as source text."""
    text = ""
    for name, fields in _records(events):
        text += f"\nclass {name}(TypedDict):\n" + "".join(_line(k, t.text) for k, t in fields.items())
    dates = "date, datetime" if re.search(r"\bdate\b", text) else "datetime"
    return HEAD.format(dates=dates, decimal="from decimal import Decimal\n" if re.search(r"\bDecimal\b", text) else "") + text


def _line(name: str, text: str) -> str:
    """One field, as the formatter writes it: a long list of symbols one a line."""
    line = f"    {name}: {text}\n"
    if len(line) <= WIDTH or not text.startswith("Literal["):
        return line
    symbols = text.removeprefix("Literal[").removesuffix("]").split(", ")
    return f"    {name}: Literal[\n" + "".join(f"        {symbol},\n" for symbol in symbols) + "    ]\n"


def _records(events: Iterable[Event]) -> Iterator[tuple[str, dict[str, Typed]]]:
    for event in events:
        yield from _record(record_name(event), event.fields)


def _record(name: str, fields: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Typed]]]:
    """A record and, before it, those within it."""
    own: dict[str, Typed] = {}
    for item in fields:
        within = list(_within(item["type"], name + _camel(item["name"])))
        yield from within
        kind = _typed(item["type"], item.get("symbols"), dict(within))
        optional = "default" in item or item["name"] in ENVELOPE_OF_EMITTER
        own[item["name"]] = Typed(NotRequired[kind.type], f"NotRequired[{kind.text}]") if optional else kind
    yield name, own


def _within(kind: Any, name: str) -> Iterator[tuple[str, dict[str, Typed]]]:
    if isinstance(kind, Mapping):
        if kind["type"] == "record":
            yield from _record(name, kind["fields"])
        yield from _within(kind.get("items", kind.get("values")), name)


def _typed(kind: Any, symbols: list[str] | None, within: Mapping[str, Mapping[str, Typed]]) -> Typed:
    if isinstance(kind, list):
        inner = _typed(kind[1], symbols, within)
        return Typed(inner.type | None, f"{inner.text} | None")
    if symbols is not None:
        return Typed(Literal[tuple(symbols)], f"Literal[{', '.join(repr(s) for s in symbols)}]".replace("'", '"'))
    if isinstance(kind, str):
        return Typed(PRIMITIVE[kind], PRIMITIVE[kind].__name__)
    if "logicalType" in kind:
        return Typed(*LOGICAL[kind["logicalType"]])
    if kind["type"] == "array":
        inner = _typed(kind["items"], None, within)
        return Typed(list[inner.type], f"list[{inner.text}]")  # type: ignore[name-defined]
    if kind["type"] == "map":
        inner = _typed(kind["values"], None, within)
        return Typed(dict[str, inner.type], f"dict[str, {inner.text}]")  # type: ignore[name-defined]
    if kind["type"] == "record":
        name = list(within)[-1]
        return Typed(TypedDict(name, {k: t.type for k, t in within[name].items()}), name)  # type: ignore[operator]
    return _typed(kind["type"], None, within)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def main() -> None:
    """Write `records.pyi` beside this file."""
    from pathlib import Path

    from schemas.catalogue import catalogue

    Path(__file__).with_name("records.pyi").write_text(stub(catalogue().events.values()), encoding="utf-8")


if __name__ == "__main__":
    main()

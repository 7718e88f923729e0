"""What is different between two versions of a contract, in words: for people, beside the verdict of `schemas.evolve`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas import evolve
from schemas.evolve import type_words

SAID = ("unit", "symbols", "default", "low_cardinality", "pii", "deprecated", "doc")
"""What a field says beside its type, the gravest first."""


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line a difference, in the order of the new version's fields; empty where nothing differs."""
    found = [] if old.get("doc") == new.get("doc") else ["the event's doc has changed"]
    return [*found, *_fields("", old["fields"], new["fields"])]


def _fields(path: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    before = {item["name"]: item for item in old}
    after = {item["name"]: item for item in new}
    for name, item in after.items():
        if name in before:
            yield from _field(path + name, before[name], item)
        elif renamed := next((alias for alias in item.get("aliases", ()) if alias in before), None):
            yield f"{path}{name}: was {renamed}"
            yield from _field(path + name, before[renamed], item)
        else:
            default = f", default {item['default']!r}" if "default" in item else ", without a default"
            yield f"{path}{name}: added, {type_words(item['type'])}{default}"
    aliases = {alias for item in new for alias in item.get("aliases", ())}
    yield from (f"{path}{name}: removed, was {type_words(item['type'])}" for name, item in before.items() if name not in {*after, *aliases})


def _field(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    inner_old, inner_new = _record(old["type"]), _record(new["type"])
    if inner_old is not None and inner_new is not None:
        yield from _fields(f"{path}.", inner_old, inner_new)
    elif type_words(old["type"]) != type_words(new["type"]):
        yield f"{path}: was {type_words(old['type'])} and is {type_words(new['type'])}"
    for name in SAID:
        was, now = old.get(name), new.get(name)
        if was != now:
            yield f"{path}: its doc has changed" if name == "doc" else f"{path}: {name} was {_value(was)} and is {_value(now)}"


def _record(kind: Any) -> list[dict[str, Any]] | None:
    """The fields of a record, of an array of records or of a map of them."""
    while isinstance(kind, Mapping) and kind["type"] in ("array", "map"):
        kind = kind.get("items", kind.get("values"))
    return list(kind["fields"]) if isinstance(kind, Mapping) and kind["type"] == "record" else None


def _value(said: Any) -> str:
    if said is None:
        return "not said"
    if isinstance(said, Mapping):
        return ", ".join(f"{name} {value}" for name, value in said.items())
    return ", ".join(map(str, said)) if isinstance(said, list) else str(said)


def verdict(topic: str, level: str, old: tuple[str, Mapping[str, Any]], new: Mapping[str, Any], users: evolve.Users) -> str:
    """What the change from `old`, (its name, its schema), to `new` breaks at `level`, and whom; or that it breaks nothing."""
    broken = evolve.violations(new, [old], level)
    return evolve.explain_break(topic, level, broken, users) if broken else f"breaks nothing at level {level}"

"""The catalogue: every event and topic, read once from the files of this room.

    schemas/envelope.avsc            the first fields of every event
    schemas/<domain>/<event>.avsc    the event's own fields
    schemas/<domain>/topics.yaml     who owns, writes, reads, keys and keeps each topic of the domain
    schemas/<domain>/examples/       <event>.<case>.pass.json and <event>.<case>.fail.json

Nothing else reads these files. A mistake in them raises `ContractError`, which names the file, the field and the rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import fastavro
import yaml

LEVELS = (
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE",
)  # fmt: skip
NAME = re.compile(r"^[a-z][a-z0-9_]*$")
FORBIDDEN_TYPES = {
    "enum": "Flink's avro-confluent format cannot read Avro enums: use a string and list its symbols in `symbols`",
    "fixed": "use bytes",
}
FORBIDDEN_LOGICAL = {
    "timestamp-micros": "Flink accepts TIMESTAMP(3) only: use timestamp-millis",
    "local-timestamp-millis": "use timestamp-millis (UTC)",
    "local-timestamp-micros": "use timestamp-millis (UTC)",
    "time-micros": "use an int with a unit",
    "time-millis": "use an int with a unit",
}


class ContractError(Exception):
    """A contract breaks a rule; the message names the file, the field and the way out."""


@dataclass(frozen=True)
class Event:
    """One kind of event. `schema` is the whole Avro schema, envelope first: what the registry holds and the wire carries."""

    domain: str
    name: str
    schema: dict[str, Any]

    @property
    def full_name(self) -> str:
        """`<domain>.<name>`."""
        return f"{self.domain}.{self.name}"

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The fields, envelope first, in wire order."""
        return list(self.schema["fields"])

    @cached_property
    def parsed(self) -> Any:
        """The schema as fastavro wants it."""
        return fastavro.parse_schema(json.loads(json.dumps(self.schema)), _force=True)


@dataclass(frozen=True)
class Topic:
    """One topic: its event and everything about how it is kept and used."""

    domain: str
    short_name: str
    description: str
    event: Event
    owner: str
    key: str
    partitions: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    cleanup: str = "delete"
    retention_days: float = 7
    compatibility: str = "FULL_TRANSITIVE"
    watermark_s: float | None = None
    door: bool = False
    landing: bool = True
    order_by: tuple[str, ...] = ("event_time",)
    routes: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def name(self) -> str:
        """`<domain>.<noun>`, without namespace."""
        return f"{self.domain}.{self.short_name}"

    @property
    def door_name(self) -> str:
        """Topic that foreign producers write to and the guard reads."""
        return f"{self.name}.in"

    @property
    def subject(self) -> str:
        """Registry subject, without namespace (TopicNameStrategy)."""
        return f"{self.name}-value"

    @property
    def table(self) -> str:
        """Name of the landing table, without database."""
        return self.name.replace(".", "_")

    def config(self, replay: bool = False) -> dict[str, str]:
        """Kafka topic configuration. `replay`: a namespace of replayed or simulated time: nothing expires, no timestamp is refused."""
        config = {"cleanup.policy": self.cleanup, "message.timestamp.type": "CreateTime", "max.message.bytes": "10000000"}
        if self.cleanup == "compact":
            config |= {"segment.ms": "600000", "min.cleanable.dirty.ratio": "0.1"}
        else:
            config["retention.ms"] = "-1" if replay else str(int(self.retention_days * 86_400_000))
        if replay:
            config["message.timestamp.after.max.ms"] = str(2**63 - 1)
        return config


@dataclass(frozen=True)
class Catalogue:
    """All events and topics, by full name."""

    events: Mapping[str, Event]
    topics: Mapping[str, Topic]

    def topic(self, name: str) -> Topic:
        """The topic `name` (without namespace). Raises ContractError with the names that exist."""
        try:
            return self.topics[name]
        except KeyError:
            raise ContractError(f"no topic {name!r} is declared; declared are: {', '.join(sorted(self.topics))}") from None

    def landed(self) -> list[Topic]:
        """Topics that have a landing table."""
        return [t for t in self.topics.values() if t.landing]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue of this installation."""
    return load(files("schemas"))


def load(root: Traversable | Path) -> Catalogue:
    """Read a folder laid out like this room. Raises ContractError."""
    envelope = _json(root / "envelope.avsc")["fields"]
    events: dict[str, Event] = {}
    topics: dict[str, Topic] = {}
    for folder in sorted((f for f in root.iterdir() if f.is_dir() and (f / "topics.yaml").is_file()), key=lambda f: f.name):
        for file in sorted((f for f in folder.iterdir() if f.name.endswith(".avsc")), key=lambda f: f.name):
            event = _event(folder.name, file, envelope)
            events[event.full_name] = event
        for topic in _topics(folder, events):
            topics[topic.name] = topic
    return Catalogue(events, topics)


def _json(file: Traversable | Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(f"{file.name}: not JSON: {error}") from None


def _event(domain: str, file: Traversable, envelope: list[dict[str, Any]]) -> Event:
    own = _json(file)
    name = file.name.removesuffix(".avsc")
    where = f"{domain}/{file.name}"
    if own.get("type") != "record":
        raise ContractError(f"{where}: an event is a record")
    if not own.get("doc"):
        raise ContractError(f"{where}: say in `doc` what the event is")
    reserved = {f["name"] for f in envelope}
    for item in own["fields"]:
        check_field(where, item)
        if item["name"] in reserved:
            raise ContractError(f"{where}: field {item['name']!r} belongs to the envelope")
    event = Event(domain, name, {**own, "fields": [*envelope, *own["fields"]]})
    try:
        _ = event.parsed
    except Exception as error:  # fastavro raises several kinds
        raise ContractError(f"{where}: {error}") from None
    return event


def check_field(where: str, item: Mapping[str, Any]) -> None:
    """Refuse in words what one of the parts cannot carry. Raises ContractError."""
    name = item.get("name", "?")
    if not NAME.match(name):
        raise ContractError(f"{where}: field {name!r}: names are lower case with underscores")
    if not item.get("doc"):
        raise ContractError(f"{where}: field {name!r}: say in `doc` what it means")
    for kind in _types(item["type"]):
        if isinstance(kind, str) and kind in FORBIDDEN_TYPES:
            raise ContractError(f"{where}: field {name!r}: {FORBIDDEN_TYPES[kind]}")
        if isinstance(kind, Mapping) and kind.get("logicalType") in FORBIDDEN_LOGICAL:
            raise ContractError(f"{where}: field {name!r}: {kind['logicalType']}: {FORBIDDEN_LOGICAL[kind['logicalType']]}")
    if isinstance(item["type"], list):
        if len(item["type"]) != 2 or item["type"][0] != "null":
            raise ContractError(f'{where}: field {name!r}: the only union is ["null", T]')
        if "default" not in item or item["default"] is not None:
            raise ContractError(f'{where}: field {name!r}: an optional field has "default": null')
        inner = item["type"][1]
        if isinstance(inner, Mapping) and inner.get("type") in ("array", "map"):
            raise ContractError(f"{where}: field {name!r}: ClickHouse has no Nullable({inner['type']}): use an empty one as default")


def _types(kind: Any) -> Iterator[Any]:
    """Every type within a type: names and mappings."""
    if isinstance(kind, list):
        for member in kind:
            yield from _types(member)
    elif isinstance(kind, Mapping):
        yield kind
        inner = kind["type"]
        yield from _types(inner) if not isinstance(inner, str) else [inner]
        for part in ("items", "values"):
            if part in kind:
                yield from _types(kind[part])
        for member in kind.get("fields", []):
            yield from _types(member["type"])
    else:
        yield kind


def _topics(folder: Traversable, events: Mapping[str, Event]) -> Iterator[Topic]:
    declared = yaml.safe_load((folder / "topics.yaml").read_text(encoding="utf-8")) or {}
    for short_name, entry in declared.items():
        where = f"{folder.name}/topics.yaml: {short_name}"
        entry = dict(entry)
        event_name = f"{folder.name}.{entry.pop('event', short_name)}"
        if event_name not in events:
            raise ContractError(f"{where}: no contract {event_name.replace('.', '/')}.avsc")
        event = events[event_name]
        for name in ("producers", "consumers", "order_by", "routes"):
            if name in entry:
                entry[name] = tuple(entry[name])
        try:
            topic = Topic(domain=folder.name, short_name=short_name, event=event, **entry)
        except TypeError as error:
            raise ContractError(f"{where}: {error}") from None
        known = {f["name"] for f in event.fields}
        for name in (topic.key, *(topic.order_by if topic.landing else ())):
            if name not in known:
                raise ContractError(f"{where}: {event_name} has no field {name!r}")
        if topic.compatibility not in LEVELS:
            raise ContractError(f"{where}: compatibility is one of {', '.join(LEVELS)}")
        if topic.cleanup not in ("delete", "compact"):
            raise ContractError(f"{where}: cleanup is delete or compact")
        yield topic

"""The catalogue: every event and topic, read once from the files of this room.

    schemas/envelope.avsc            the first fields of every event
    schemas/<domain>/<event>.avsc    the event's own fields
    schemas/<domain>/topics.yaml     who owns, writes, reads, keys and keeps each topic of the domain
    schemas/<domain>/examples/       <event>.<case>.pass.json and <event>.<case>.fail.json

Nothing else reads these files. A mistake in them raises `ContractError`, which names the file, the field and the rule.

A team with a repository of its own lays its contracts out the same way, without an envelope, and `HEADRACE_CONTRACTS` names its
checkout. A domain belongs to one checkout: nobody declares a topic of somebody else's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from functools import cached_property, lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import fastavro
import yaml

from infra.base import rooms
from infra.base.settings import settings

LEVELS = (
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE",
)  # fmt: skip
NAME = re.compile(r"^[a-z][a-z0-9_]*$")
PRIMITIVES = ("string", "int", "long", "float", "double", "boolean", "bytes")
LOGICAL = {"date": "int", "timestamp-millis": "long", "decimal": "bytes"}
FORBIDDEN = {
    "enum": "Flink's avro-confluent format cannot read Avro enums: use a string and list its symbols in `symbols`",
    "fixed": "use bytes",
    "null": 'the only union is ["null", T]',
    "timestamp-micros": "Flink accepts TIMESTAMP(3) only: use timestamp-millis",
    "local-timestamp-millis": "use timestamp-millis (UTC)",
    "local-timestamp-micros": "use timestamp-millis (UTC)",
    "time-micros": "use an int with a unit",
    "time-millis": "use an int with a unit",
    "uuid": "use a plain string",
}
ATTRIBUTES = frozenset({"name", "type", "doc", "default", "aliases", "unit", "symbols", "low_cardinality", "pii", "deprecated"})
RESERVED = frozenset({"topic_partition", "topic_offset", "topic_time", "ingested_at", "arrived_at"})
"""Columns that landing tables and Flink tables have beside the contract's fields (see project.POSITION_COLUMNS and flink_table)."""


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
    """One topic: its event and everything about how it is kept and used.

    `table_days`: where its table need not keep rows as long as the settings say. `public`: whether readers of other teams may read its
    table. `deprecated`: {"by": date, "use": what to use instead}.
    """

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
    table_days: int | None = None
    door: bool = False
    landing: bool = True
    order_by: tuple[str, ...] = ("event_time",)
    routes: tuple[Mapping[str, Any], ...] = field(default=())
    public: bool = False
    deprecated: Mapping[str, Any] | None = None

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

    def door_config(self, replay: bool = False) -> dict[str, str]:
        """Kafka configuration of the door: the broker's own clock says when a message arrived, whatever its producer's clock says."""
        return self.config(replay) | {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Catalogue:
    """All events and topics, by full name, and the folder of each domain."""

    events: Mapping[str, Event]
    topics: Mapping[str, Topic]
    folders: Mapping[str, Traversable | Path] = field(default_factory=dict)

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
    """The catalogue of this installation and of the checkouts that settings name. Raises ContractError."""
    if absent := [checkout for checkout in settings().contracts if not checkout.is_dir()]:
        raise ContractError(f"HEADRACE_CONTRACTS names {absent[0]}, which is no folder: name checkouts, separated by `:`")
    return load(*rooms.everywhere("schemas"))


def load(root: Traversable | Path, *teams: Traversable | Path) -> Catalogue:
    """Read a folder laid out like this room, and those of teams. Raises ContractError."""
    envelope = _json(root / "envelope.avsc")["fields"]
    events: dict[str, Event] = {}
    topics: dict[str, Topic] = {}
    folders: dict[str, Traversable | Path] = {}
    for folder in (f for place in (root, *teams) for f in sorted((f for f in place.iterdir() if f.is_dir()), key=lambda f: f.name)):
        contracts = sorted((f for f in folder.iterdir() if f.name.endswith(".avsc")), key=lambda f: f.name)
        if not (folder / "topics.yaml").is_file():
            if contracts:
                raise ContractError(f"{folder.name}: contracts without topics.yaml, which says who owns, keys and keeps them")
            continue
        if folder.name in folders:
            raise ContractError(f"{folder.name}: is in {folders[folder.name]} and {folder}; a domain has one checkout: rename yours")
        folders[folder.name] = folder
        for file in contracts:
            event = _event(folder.name, file, envelope)
            events[event.full_name] = event
        for topic in _topics(folder, events):
            topics[topic.name] = topic
    by_table: dict[str, str] = {}
    for topic in topics.values():
        if (other := by_table.setdefault(topic.table, topic.name)) != topic.name:
            raise ContractError(f"{topic.name}: its table {topic.table} would be that of {other} too: rename it")
    return Catalogue(events, topics, folders)


def _json(file: Traversable | Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(f"{file.name}: not JSON: {error}") from None


def _event(domain: str, file: Traversable | Path, envelope: list[dict[str, Any]]) -> Event:
    own = _json(file)
    name = file.name.removesuffix(".avsc")
    where = f"{domain}/{file.name}"
    if not NAME.match(domain) or not NAME.match(name):
        raise ContractError(f"{where}: folders and files are named in lower case with underscores")
    if not isinstance(own, Mapping) or own.get("type") != "record" or not isinstance(own.get("fields"), list):
        raise ContractError(f"{where}: an event is a record with fields")
    if not own.get("doc"):
        raise ContractError(f"{where}: say in `doc` what the event is")
    expected = ("".join(part.capitalize() for part in name.split("_")), f"headrace.{domain}")
    if (own.get("name"), own.get("namespace")) != expected:
        raise ContractError(f'{where}: a record is named after its file: "name": "{expected[0]}", "namespace": "{expected[1]}"')
    check_fields(where, own["fields"])
    reserved = {f["name"] for f in envelope} | RESERVED
    for item in own["fields"]:
        if item["name"] in reserved:
            raise ContractError(f"{where}: field {item['name']!r} belongs to the {'tables' if item['name'] in RESERVED else 'envelope'}")
    event = Event(domain, name, {**own, "fields": [*envelope, *own["fields"]]})
    try:
        _ = event.parsed
    except Exception as error:  # fastavro raises several kinds
        raise ContractError(f"{where}: {error}") from None
    return event


def check_fields(where: str, fields: Sequence[Mapping[str, Any]], path: str = "") -> None:
    """Refuse in words what one of the parts cannot carry. Raises ContractError."""
    seen: set[str] = set()
    for item in fields:
        name = str(item.get("name", "?"))
        field_where = f"{where}: field {path + name!r}"
        if not NAME.match(name):
            raise ContractError(f"{field_where}: names are lower case with underscores")
        if name in seen:
            raise ContractError(f"{field_where}: is there twice")
        seen.add(name)
        if not item.get("doc"):
            raise ContractError(f"{field_where}: say in `doc` what it means")
        if "type" not in item:
            raise ContractError(f"{field_where}: has no type")
        if unknown := item.keys() - ATTRIBUTES:
            raise ContractError(f"{field_where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(ATTRIBUTES))}")
        _check_type(field_where, where, item["type"], f"{path}{name}.")
        if isinstance(item["type"], list) and ("default" not in item or item["default"] is not None):
            raise ContractError(f'{field_where}: an optional field has "default": null')
        _check_symbols(field_where, item, nested=bool(path))
        _check_deprecated(field_where, item.get("deprecated"))
        if isinstance(item["type"], Mapping) and "default" in item and not _fits(item["default"], item["type"]):
            raise ContractError(f"{field_where}: default {item['default']!r} does not fit its type")


def _fits(value: Any, kind: Mapping[str, Any]) -> bool:
    """Whether a default fits a container; of a simple type fastavro asks this itself when it parses the schema."""
    return kind["type"] not in ("array", "map") or bool(
        fastavro.validate(value, fastavro.parse_schema(dict(kind), _force=True), raise_errors=False)
    )


def _check_type(field_where: str, where: str, kind: Any, path: str) -> None:
    if isinstance(kind, list):
        if len(kind) != 2 or kind[0] != "null" or isinstance(kind[1], list):
            raise ContractError(f'{field_where}: the only union is ["null", T]')
        if isinstance(kind[1], Mapping) and kind[1].get("type") in ("array", "map"):
            raise ContractError(f"{field_where}: ClickHouse has no Nullable({kind[1]['type']}): use an empty one as default")
        if isinstance(kind[1], Mapping) and kind[1].get("type") == "record":
            raise ContractError(f"{field_where}: ClickHouse before 26 has no Nullable(Tuple): make the record's own fields optional")
        _check_type(field_where, where, kind[1], path)
    elif isinstance(kind, Mapping):
        base, logical = kind.get("type"), kind.get("logicalType")
        if logical is not None and LOGICAL.get(logical) != base:
            hint = FORBIDDEN.get(logical, f"known are {', '.join(f'{name} of {of}' for name, of in LOGICAL.items())}")
            raise ContractError(f"{field_where}: {logical} of {base}: {hint}")
        if base == "array":
            _check_type(field_where, where, kind.get("items"), path)
        elif base == "map":
            _check_type(field_where, where, kind.get("values"), path)
        elif base == "record":
            check_fields(where, kind.get("fields", ()), path)
        else:
            _check_type(field_where, where, base, path)
    elif kind not in PRIMITIVES:
        known = f"types are {', '.join(PRIMITIVES)}, array, map and record; a record is written out where it is used"
        raise ContractError(f"{field_where}: type {kind}: {FORBIDDEN.get(str(kind), known)}")


def _check_symbols(field_where: str, item: Mapping[str, Any], nested: bool) -> None:
    if "symbols" not in item:
        return
    symbols = item["symbols"]
    if item["type"] not in ("string", ["null", "string"]) or nested:
        raise ContractError(f"{field_where}: only a string at the top of an event has symbols")
    if not isinstance(symbols, list) or not symbols or len(set(symbols)) != len(symbols) or not all(isinstance(s, str) for s in symbols):
        raise ContractError(f"{field_where}: `symbols` is a list of different strings")
    if item.get("default") is not None and item["default"] not in symbols:
        raise ContractError(f"{field_where}: default {item['default']!r} is none of its symbols")


def _check_deprecated(where: str, said: Any) -> None:
    if said is None:
        return
    if not isinstance(said, Mapping) or said.keys() != {"by", "use"}:
        raise ContractError(f"{where}: `deprecated` says `by` which date it goes, and what to `use`")
    try:
        date.fromisoformat(str(said["by"]))
    except ValueError:
        raise ContractError(f"{where}: deprecated by {said['by']!r}: write a date as 2026-12-31") from None


def _topics(folder: Traversable | Path, events: Mapping[str, Event]) -> Iterator[Topic]:
    try:
        declared = yaml.safe_load((folder / "topics.yaml").read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ContractError(f"{folder.name}/topics.yaml: not YAML: {error}") from None
    for short_name, entry in declared.items():
        where = f"{folder.name}/topics.yaml: {short_name}"
        if not NAME.match(str(short_name)) or not isinstance(entry, Mapping):
            raise ContractError(f"{where}: an entry is a name in lower case, and its declaration below it")
        yield _topic(where, folder.name, str(short_name), dict(entry), events)


def _topic(where: str, domain: str, short_name: str, entry: dict[str, Any], events: Mapping[str, Event]) -> Topic:
    event_name = f"{domain}.{entry.pop('event', short_name)}"
    if event_name not in events:
        raise ContractError(f"{where}: no contract {event_name.replace('.', '/')}.avsc")
    declarable = {f.name for f in fields(Topic)} - {"domain", "short_name", "event"}
    if unknown := entry.keys() - declarable:
        raise ContractError(f"{where}: unknown {', '.join(sorted(unknown))}; known are event, {', '.join(sorted(declarable))}")
    required = {f.name for f in fields(Topic) if f.default is MISSING and f.default_factory is MISSING} & declarable
    if missing := required - entry.keys():
        raise ContractError(f"{where}: say its {', '.join(sorted(missing))}")
    for name in ("producers", "consumers", "order_by", "routes"):
        if name in entry:
            if not isinstance(entry[name], list):
                raise ContractError(f"{where}: {name} is a list")
            entry[name] = tuple(entry[name])
    _check_deprecated(where, entry.get("deprecated"))
    if not isinstance(entry.get("public", False), bool):
        raise ContractError(f"{where}: public is true or false")
    topic = Topic(domain=domain, short_name=short_name, event=events[event_name], **entry)
    types = {f["name"]: f["type"] for f in topic.event.fields}
    for name in (topic.key, *(topic.order_by if topic.landing else ())):
        if name not in types:
            raise ContractError(f"{where}: {event_name} has no field {name!r}")
        if isinstance(types[name], list) or (isinstance(types[name], Mapping) and "logicalType" not in types[name]):
            raise ContractError(f"{where}: {name!r} is optional or nested: it cannot be a key or order a table")
    if topic.table_days is not None and (not isinstance(topic.table_days, int) or topic.table_days < 1):
        raise ContractError(f"{where}: table_days is a whole number of days, 1 or more")
    if topic.compatibility not in LEVELS:
        raise ContractError(f"{where}: compatibility is one of {', '.join(LEVELS)}")
    if topic.cleanup not in ("delete", "compact"):
        raise ContractError(f"{where}: cleanup is delete or compact")
    if not isinstance(topic.partitions, int) or topic.partitions < 1 or topic.retention_days <= 0 or (topic.watermark_s or 0) < 0:
        raise ContractError(f"{where}: partitions and retention_days are positive, and watermark_s is not negative")
    return topic

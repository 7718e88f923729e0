"""Reports as bytes on the wire, good and bad, for what the loader's tests load."""

from __future__ import annotations

from typing import Any

from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import Event, Topic, catalogue
from schemas.codec import HEADER, Encoder
from schemas.envelope import marker

TOPIC = catalogue().topic("playback.report")
NOW_MS = 1_700_000_000_000


def register(topic: Topic = TOPIC, schema: dict[str, Any] | None = None) -> int:
    """The id of a topic's schema, or of another under its subject, in the registry of the settings."""
    with RegistryClient() as client:
        return client.register(settings().topic(topic.subject), schema or topic.event.schema)


def encoder(schema_id: int, topic: Topic = TOPIC, schema: dict[str, Any] | None = None) -> Encoder:
    """An encoder under `schema_id`."""
    return Encoder(Event(topic.domain, topic.short_name, schema or topic.event.schema), schema_id)


def report(encode: Encoder, seq: int, **fields: Any) -> bytes:
    """The framed report number `seq`."""
    envelope = {"event_id": f"collector-1-1-{seq}", "event_time": NOW_MS + seq, "producer_id": "collector-1", "epoch": 1, "seq": seq}
    return encode({**envelope, **marker(encode.event), "marker": False, **fields})


def newer(topic: Topic = TOPIC) -> dict[str, Any]:
    """The topic's schema with one optional field more."""
    added = {"name": "hdr", "type": ["null", "string"], "default": None, "low_cardinality": True, "doc": "Dynamic range."}
    return {**topic.event.schema, "fields": [*topic.event.schema["fields"], added]}


def poison(good: bytes) -> dict[str, tuple[bytes, str]]:
    """Ways in which a message can be bad → (bytes, the reason that its letter gives)."""
    return {
        "no bytes": (b"", "framing"),
        "two bytes": (good[:2], "framing"),
        "wrong magic byte": (b"\x01" + good[1:], "framing"),
        "text": (b'{"sid": "x"}', "framing"),
        "unknown schema": (HEADER.pack(0, 9_999_999) + good[5:], "unknown_schema"),
        "schema id beyond an int": (HEADER.pack(0, 2**32 - 1) + good[5:], "unknown_schema"),
        "garbage": (b"\xa9\xa9\xa9\xa9\xa9\xa9", "framing"),
        "schema of something else": (HEADER.pack(0, register(catalogue().topic("delivery.access"))) + good[5:], "schema_mismatch"),
        "cut off": (good[:-3], "decode"),
        "cut off after the frame": (good[:5], "decode"),
        "cut off early": (good[:9], "decode"),
        "one byte too many": (good + b"\x00", "decode"),
        "two in one": (good + good, "decode"),
        "huge string length": (good[:5] + b"\xfe\xff\xff\xff\x0f" + good[6:], "decode"),
    }

"""Tell the backbone what was encoded: encoding.source, rung, chunk and published of each cached title.

A title is told again at each start of a stack. Its events keep their `event_id`, which is derived from title, version and digest,
and their `event_time`, so a second telling is a duplicate and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from producers.emit import Emitter
from producers.encoders.cache import Encoded


def events(encoded: Encoded) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(topic, event_id, record) of each event of a title; `encoding.published` last, when all it speaks of has been told."""
    identity = f"{encoded.cid}-v{encoded.version}-{encoded.sha256[:16]}"
    shared = {"cid": encoded.cid, "version": encoded.version}
    below = f"{encoded.cid}/v{encoded.version}"
    yield "encoding.source", f"{identity}-source", shared | encoded.source
    for chunk in encoded.chunks:
        yield "encoding.chunk", f"{identity}-{chunk['rung']}-{chunk['chunk']}", shared | chunk | {"path": f"{below}/{chunk['path']}"}
    for rung in encoded.rungs:
        yield "encoding.rung", f"{identity}-{rung['rung']}", shared | rung
    yield (
        "encoding.published",
        f"{identity}-published",
        shared
        | {
            "title": encoded.name,
            "dash_path": f"{below}/manifest.mpd",
            "hls_path": f"{below}/master.m3u8",
            "duration_ms": encoded.duration_ms,
            "rungs": len(encoded.rungs),
            "bytes": encoded.bytes,
            "sha256": encoded.sha256,
        },
    )


def emit(titles: Iterable[Encoded], emitter: Emitter) -> int:
    """Send all events of `titles` and wait for Kafka; returns how many were sent. Raises RuntimeError when some are not acknowledged."""
    sent = 0
    for encoded in titles:
        for topic, event_id, record in events(encoded):
            emitter.send(topic, record, event_id=event_id, event_time_ms=encoded.encoded_at_ms)
            sent += 1
    if emitter.flush() or emitter.counts.failed:
        raise RuntimeError(f"{emitter.counts.in_flight + emitter.counts.failed} of {sent} encoding events were not acknowledged by Kafka")
    return sent

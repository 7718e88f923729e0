"""What a cache server tells of its content and of its fills. Nothing is lost while Kafka or the registry is away: it is told later.

What is held is told as a state: what the disk has is compared with what the backbone has been told, whoever told it, so a server that was
away, or has lost its disk, says what has become of it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from edge.oca.content import Change, Content
from edge.oca.filler import Step
from edge.oca.fills import Order
from infra.base import log
from infra.base.registry import RegistryError, RegistryUnavailable
from producers.emit import Backpressure, Emitter, ProducerBroken
from schemas.assets import AssetId
from schemas.codec import InvalidEvent
from streams.delivery.health import QUORUM
from streams.folded import Folded

CONTENT, FILL, PLAN, HEALTH = "delivery.content", "delivery.fill", "delivery.fill_plan", "delivery.oca_health"
TELL_EVERY_S = 0.25
KINDS = {"held": "FILLED", "pulled": "PULLED", "evicted": "EVICTED", "refused": "CORRUPT"}
STEPS_HELD = 10_000
"""Steps of fills that wait for Kafka; older ones are left out."""


class Told(Folded[dict[AssetId, int]]):
    """What the backbone has been told that one server holds: bytes by asset."""

    topic = CONTENT

    def __init__(self, oca_id: str) -> None:
        self._oca_id = oca_id
        super().__init__()

    def new(self) -> dict[AssetId, int]:
        """Nothing."""
        return {}

    def into(self, table: dict[AssetId, int], record: Mapping[str, Any]) -> None:
        """Take one `delivery.content`."""
        if record["oca_id"] != self._oca_id:
            return
        asset = AssetId(record["cid"], record["version"])
        if record["held"]:
            table[asset] = record["bytes"]
        else:
            table.pop(asset, None)


class Own(Folded[dict[str, Mapping[str, Any]]]):
    """The newest event of one server on a topic that is keyed by oca_id: its fill plan, or what is thought of it."""

    def __init__(self, topic: str, oca_id: str) -> None:
        self.topic, self._oca_id = topic, oca_id
        super().__init__()

    def new(self) -> dict[str, Mapping[str, Any]]:
        """None."""
        return {}

    def into(self, table: dict[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
        """Take one event."""
        if record["oca_id"] == self._oca_id:
            table[self._oca_id] = record

    def newest(self) -> Mapping[str, Any] | None:
        """The event, once the topic has been read to its end."""
        return self.table.get(self._oca_id) if self.caught_up else None


def blamed(verdict: Mapping[str, Any] | None) -> str:
    """The id of a verdict by which players find fault that a server's own reports do not show; empty where they do not."""
    is_blamed = verdict is not None and verdict["state"] == "DEGRADED" and verdict["failed_sessions"] >= QUORUM
    return str(verdict["event_id"]) if verdict is not None and is_blamed else ""


class Telling:
    """Tells on a thread of its own. `changed`, `ordered` and `stepped` may be called by any thread; none of them waits."""

    def __init__(self, oca_id: str, emitter: Emitter) -> None:
        self._oca_id, self._emitter = oca_id, emitter
        self.told = Told(oca_id)
        self._why: dict[AssetId, str] = {}
        self._steps: deque[tuple[Mapping[str, Any], int]] = deque(maxlen=STEPS_HELD)
        self._order = Order(AssetId("", 0), "")
        self._stopping = threading.Event()
        self._log = log.get(__name__)
        self._complaint = ""

    def changed(self, change: Change) -> None:
        """The store has learnt something."""
        self._why[change.asset] = KINDS[change.kind]
        told = self._log.error if change.kind == "refused" else self._log.info
        told(f"asset {change.kind}", asset=str(change.asset), bytes=change.bytes, reason=change.reason)

    def ordered(self, order: Order) -> None:
        """The steps that follow are of this order."""
        self._order = order

    def stepped(self, step: Step) -> None:
        """A fill goes on."""
        told = self._log.error if step.kind == "failed" else self._log.info
        told(
            f"fill {step.kind}", asset=str(step.asset), source=step.source_url, bytes=step.bytes, of=step.total_bytes,
            reason=step.reason, detail=step.detail,
        )  # fmt: skip
        record = {
            "oca_id": self._oca_id,
            "plan_id": self._order.plan_id,
            "cid": step.asset.cid,
            "version": step.asset.version,
            "kind": step.kind.upper(),
            "source": self._order.source or step.source_url,
            "bytes": step.bytes,
            "total_bytes": step.total_bytes,
            "fetched_bytes": step.fetched_bytes,
            "reason": step.reason,
            "detail": step.detail,
        }
        self._steps.append((record, step.at_ms))

    def start(self, content: Content) -> None:
        """Tell until `close`, beside whoever follows `told`."""
        self._thread = threading.Thread(target=self._work, args=(content,), name="telling", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell what there still is to tell, if that can be done now, and end."""
        self._stopping.set()
        self._thread.join()

    def _work(self, content: Content) -> None:
        told: dict[AssetId, int] | None = None
        ended = False
        while not ended:
            ended = self._stopping.wait(TELL_EVERY_S)
            if told is None and self.told.caught_up:
                told = dict(self.told.table)
                self.told.stop()  # from here on nobody else tells of this server
            self._tell(content, told)

    def _tell(self, content: Content, told: dict[AssetId, int] | None) -> None:
        """Tell what there is to tell, or else keep it; of content only where it is known what was told before."""
        try:
            while self._steps:
                record, at_ms = self._steps[0]
                self._emitter.send(FILL, record, event_time_ms=at_ms)
                self._steps.popleft()
            if told is not None:
                self._tell_content(content, told)
            self._complaint = ""
        except (Backpressure, ProducerBroken, RegistryError, RegistryUnavailable, InvalidEvent) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log.warning("content and fills are told later", reason=self._complaint)

    def _tell_content(self, content: Content, told: dict[AssetId, int]) -> None:
        """Tell what differs; `told` has it as soon as it is on its way. Raises like `Emitter.send`."""
        held = {asset: known.size_bytes for asset, known in content.held.items()}
        for asset in sorted(told.keys() | held.keys()):
            size = held.get(asset)
            if told.get(asset) == size:
                continue
            why = self._why.get(asset, "FOUND")
            if size is not None and why != "FILLED":
                why = "FOUND"
            record = {
                "item": f"{self._oca_id} {asset.cid} {asset.version}",
                "oca_id": self._oca_id,
                "cid": asset.cid,
                "version": asset.version,
                "bytes": told[asset] if size is None else size,
                "held": size is not None,
                "reason": why,
            }
            self._emitter.send(CONTENT, record)
            if size is None:
                del told[asset]
            else:
                told[asset] = size

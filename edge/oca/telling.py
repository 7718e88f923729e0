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


class Plans(Folded[dict[str, Mapping[str, Any]]]):
    """The newest fill plan of one server, by its oca_id."""

    topic = PLAN

    def __init__(self, oca_id: str) -> None:
        self._oca_id = oca_id
        super().__init__()

    def new(self) -> dict[str, Mapping[str, Any]]:
        """None."""
        return {}

    def into(self, table: dict[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
        """Take one `delivery.fill_plan`."""
        if record["oca_id"] == self._oca_id:
            table[self._oca_id] = record

    def newest(self) -> Mapping[str, Any] | None:
        """The plan, once the topic has been read to its end."""
        return self.table.get(self._oca_id) if self.caught_up else None


class Verdicts(Folded[dict[str, Mapping[str, Any]]]):
    """What is thought of one server, by its oca_id."""

    topic = HEALTH

    def __init__(self, oca_id: str) -> None:
        self._oca_id = oca_id
        super().__init__()

    def new(self) -> dict[str, Mapping[str, Any]]:
        """Nothing."""
        return {}

    def into(self, table: dict[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
        """Take one `delivery.oca_health`."""
        if record["oca_id"] == self._oca_id:
            table[self._oca_id] = record

    def blamed(self) -> str:
        """The newest verdict by which players found fault that this server's own reports do not show, by its id; empty where it is well."""
        verdict = self.table.get(self._oca_id, {})
        is_blamed = verdict.get("state") == "DEGRADED" and verdict.get("failed_sessions", 0) >= QUORUM
        return str(verdict["event_id"]) if is_blamed and self.caught_up else ""


class Telling:
    """Tells on a thread of its own. `changed`, `ordered` and `stepped` may be called by any thread; none of them waits."""

    def __init__(self, oca_id: str, emitter: Emitter) -> None:
        self._oca_id, self._emitter = oca_id, emitter
        self._told = Told(oca_id)
        self._why: dict[AssetId, str] = {}
        self._steps: deque[tuple[Mapping[str, Any], int]] = deque(maxlen=STEPS_HELD)
        self._order = Order(AssetId("", 0), "")
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
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

    def start(self, content: Content, schema_of: Any, *beside: Folded[Any]) -> None:
        """Tell until `close`; topics of `beside` are followed as well."""
        for table in (self._told, *beside):
            self._threads.append(threading.Thread(target=table.follow, args=(schema_of,), name=table.topic, daemon=True))
        self._threads.append(threading.Thread(target=self._work, args=(content, beside), name="telling", daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Tell what there still is to tell, if that can be done now, and end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, content: Content, beside: tuple[Folded[Any], ...]) -> None:
        told: dict[AssetId, int] | None = None
        while True:
            ended = self._stopping.wait(TELL_EVERY_S)
            if told is None and self._told.caught_up:
                told = dict(self._told.table)
                self._told.stop()  # from here on nobody else tells of this server
            self._tell(content, told)
            if ended:
                for table in (self._told, *beside):
                    table.stop()
                return

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

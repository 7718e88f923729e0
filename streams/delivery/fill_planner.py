"""What is each cache server to fetch and to let go next, and why? Facts are folded, plans made of them and told.

    reads     delivery.oca, delivery.content, delivery.demand, delivery.release, delivery.oca_health, delivery.fill, encoding.published
    writes    delivery.fill_plan      (key oca_id, compacted) a server's plan when it is another one, or a fill failed, or a title was lost
              delivery.fill_reason    (key item, compacted) why each unit is, or is not, on each server, when that has changed
    keeps     everything it has read, in memory; a new planner reads the topics again, and says nothing before it has
    answers   GET /healthz, GET /status

What follows from the facts: `streams.delivery.fill_facts`. Plans are made every `fill.plan_every_s`; one is told again only where it
differs, so that nobody's fills are turned over for nothing. At least once: a plan that is told again changes nothing. One planner:
`python -m streams.delivery.fill_planner`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer

from infra.base import kafka, log
from infra.base.clock import WallClock
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from infra.base.status import serving
from schemas.catalogue import catalogue
from schemas.codec import Encoder, InvalidEvent
from schemas.envelope import of_job
from schemas.publish import subject_of
from streams.delivery.fill_facts import Facts, Planned, Unbelievable, plan_for
from streams.delivery.plan import BadPlan, Explanation, Fill, explanations
from streams.folded import Folded, Unfit, followed

PLAN, REASON = "delivery.fill_plan", "delivery.fill_reason"
SOURCES = (
    "delivery.oca",
    "delivery.content",
    "delivery.demand",
    "delivery.release",
    "delivery.oca_health",
    "delivery.fill",
    "encoding.published",
)
PRODUCER = "streams.delivery.fill_planner"
BEYOND = 1_000
"""Of the units that a server's site has no place for, so many are explained, the best."""
OTHER = 0.2
"""A value that differs by so much is told again."""


class Source(Folded[Facts]):
    """One of the topics, folded into the facts that all of them share."""

    def __init__(self, topic: str, facts: Facts, lock: threading.Lock) -> None:
        self.topic, self._facts, self._facts_lock = topic, facts, lock
        super().__init__()

    def new(self) -> Facts:
        """The facts: what is read again says the same again."""
        return self._facts

    def into(self, table: Facts, record: Mapping[str, Any]) -> None:
        """Take one event. Raises Unfit."""
        with self._facts_lock:
            try:
                table.fold(self.topic, record)
            except Unbelievable as error:
                raise Unfit(str(error)) from None


class Teller:
    """Turns plans into events: those that are news. Pure but for what it remembers of what it has said."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}
        self._reasons: dict[str, Explanation] = {}

    def plans(self, planned: Planned, facts: Facts, now_ms: int) -> list[dict[str, Any]]:
        """`delivery.fill_plan` of each server whose plan is another one than it was told, or that has had a setback since."""
        found = []
        for oca_id in planned.plan.site_of:
            event = _plan(oca_id, planned, facts, now_ms)
            essence = (
                facts.setbacks.get(oca_id, 0),
                [(order["cid"], order["version"], order["source_url"]) for order in event["fills"]],
                [(gone["cid"], gone["version"]) for gone in event["evictions"]],
            )
            if self._told.get(oca_id) != essence:
                self._told[oca_id] = essence
                found.append(event)
        return found

    def reasons(self, planned: Planned, now_ms: int) -> list[dict[str, Any]]:
        """`delivery.fill_reason` of each unit on each server of which something else is to be said than was."""
        found = []
        for oca_id in planned.plan.site_of:
            for told in explanations(planned.plan, oca_id, BEYOND):
                item = f"{oca_id} {told.unit}"
                if _differs(told, self._reasons.get(item)):
                    self._reasons[item] = told
                    found.append(_reason(item, told, now_ms))
        return found


class Planner:
    """Folds, plans and tells until it is stopped."""

    def __init__(self) -> None:
        self.facts = Facts()
        self._lock = threading.Lock()
        self._sources = [Source(name, self.facts, self._lock) for name in SOURCES]
        self._registry = RegistryClient()
        self._teller = Teller()
        self._encoders: dict[str, Encoder] = {}
        self._stopping = threading.Event()
        self._log = log.get(__name__)
        self._complaint = ""
        self._made = self._told = 0

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def status(self) -> tuple[bool, dict[str, Any]]:
        """Whether everything has been read, and what was done since."""
        read = {source.topic: source.caught_up for source in self._sources}
        return all(read.values()), {"read": read, "plans_made": self._made, "events_told": self._told, "complaint": self._complaint}

    def run(self) -> None:
        """Plan every `fill.plan_every_s` until `stop`."""
        producer = kafka.producer()
        with followed(self._sources, self._registry.schema):
            while not self.status()[0]:
                if self._stopping.wait(0.2):
                    return
            while True:
                try:
                    self._plan(producer)
                    self._complain("")
                except (BadPlan, InvalidEvent, RegistryError, RegistryUnavailable, KafkaException, BufferError) as error:
                    self._complain(str(error))
                    self._teller = Teller()  # what was not told is told the next time
                if self._stopping.wait(settings().fill.plan_every_s):
                    return

    def _plan(self, producer: Producer) -> None:
        now_ms = WallClock().now_ms()
        with self._lock:
            planned = plan_for(self.facts, now_ms)
            plans, reasons = self._teller.plans(planned, self.facts, now_ms), self._teller.reasons(planned, now_ms)
        self._made += 1
        self._send(producer, PLAN, plans)
        self._send(producer, REASON, reasons)
        for told in plans:
            counts = {"fills": len(told["fills"]), "evictions": len(told["evictions"]), "bytes": told["fill_bytes"]}
            self._log.info("a plan", oca_id=told["oca_id"], **counts)

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            self._log.error("no plan can be made; the last one stands", reason=complaint)
        self._complaint = complaint

    def _send(self, producer: Producer, topic: str, events: list[dict[str, Any]]) -> None:
        """Send, and wait for Kafka. Raises KafkaException where it does not take them."""
        declared, name = catalogue().topic(topic), settings().topic(topic)
        if topic not in self._encoders:
            self._encoders[topic] = Encoder(declared.event, self._registry.lookup(subject_of(declared), declared.event.schema))
        failed: list[Any] = []
        for event in events:
            key = str(event[declared.key]).encode()
            producer.produce(name, self._encoders[topic](event), key=key, on_delivery=lambda error, _: failed.append(error))
            producer.poll(0)
        waiting = producer.flush(30)
        if refused := [error for error in failed if error is not None]:
            raise KafkaException(refused[0])
        if waiting:
            raise BufferError(f"{topic}: Kafka has not acknowledged {waiting} events in 30 s")
        self._told += len(events)


def _plan(oca_id: str, planned: Planned, facts: Facts, now_ms: int) -> dict[str, Any]:
    """A server's plan as an event."""
    oca, plan = planned.ocas[oca_id], planned.plan
    held = facts.content.get(oca_id, {})
    fills = [order for fill in plan.fills_of.get(oca_id, ()) for order in _orders(fill, planned, facts)]
    evictions = [
        {"cid": cid, "version": int(version), "bytes": held[cid, version], "at_ms": gone.at_ms, "why": gone.why.name}
        for gone in plan.evictions_of.get(oca_id, ())
        for cid, version in gone.assets
    ]
    return {
        "oca_id": oca_id,
        "plan_id": str(now_ms),
        "site_id": oca.site_id,
        "region": oca.region,
        "window_start": oca.window_start_ms,
        "window_end": oca.window_end_ms,
        "held_bytes": sum(held.values()),
        "disk_bytes": oca.disk_bytes,
        "fill_bytes": sum(order["bytes"] for order in fills),
        "cut": plan.sites[oca.site_id].cut,
        "fills": fills,
        "evictions": evictions,
        **of_job(PRODUCER, f"{PRODUCER}-{oca_id}-{now_ms}", now_ms),
    }


def _orders(fill: Fill, planned: Planned, facts: Facts) -> Iterator[dict[str, Any]]:
    """The assets of a fill, one after the other in its time."""
    start_ms = fill.start_ms
    source = facts.ocas.get(fill.source)
    for cid, version in fill.assets:
        size = planned.bytes_of[cid, version]
        end_ms = min(fill.end_ms, start_ms + planned.ocas[fill.oca_id].fill_ms(size))
        yield {
            "cid": cid,
            "version": int(version),
            "unit": fill.unit,
            "bytes": size,
            "source": fill.source,
            "source_url": source["url"] if source else "",
            "start_ms": start_ms,
            "end_ms": end_ms,
            "rank": fill.rank,
        }
        start_ms = end_ms


def _reason(item: str, told: Explanation, now_ms: int) -> dict[str, Any]:
    """An explanation as an event."""
    return {
        "item": item,
        "oca_id": told.oca_id,
        "unit": told.unit,
        "plan_id": str(now_ms),
        "why": told.why.name,
        "here": told.here,
        "rank": told.rank,
        "of": told.of,
        "value": told.value,
        "cut": told.cut,
        "expected_plays": told.expected_plays,
        "expected_bytes": told.expected_bytes,
        "bytes": told.bytes,
        "source": told.source,
        "ocas": list(told.ocas),
        **of_job(PRODUCER, f"{PRODUCER}-{item}-{now_ms}", now_ms),
    }


def _differs(told: Explanation, before: Explanation | None) -> bool:
    """Whether it is worth saying again: another reason, or another value by far."""
    if before is None or _gist(told) != _gist(before):
        return True
    return any(abs(now - then) > OTHER * max(now, then) for now, then in ((told.value, before.value), (told.cut, before.cut)))


def _gist(told: Explanation) -> tuple[object, ...]:
    return told.why, told.here, told.bytes, told.source, told.ocas


def main() -> None:
    """Plan until SIGTERM."""
    log.configure("fill-planner")
    planner = Planner()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: planner.stop())
    with serving(settings().fill.status_url, planner.status):
        planner.run()


if __name__ == "__main__":
    main()

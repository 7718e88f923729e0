"""Fetch the evidence and judge it, topic by topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from numpy.typing import NDArray

from infra.base import warehouse
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas.catalogue import ContractError, Topic, catalogue
from sinks.audit.judge import Evidence, TopicAudit, evidence, judge
from sinks.audit.ledgers import Ledgers
from sinks.audit.stored import Stored

FULL_CONTENT_ROWS = 5_000_000
"""Up to so many rows every body is looked at unless told otherwise; above, a sample of them."""
DEAD_LETTERS = "observability.dead_letter"

Progress = Callable[[str], None]
"""Called with the name of the topic that is looked at now."""


class CannotAudit(Exception):
    """The audit cannot begin; the message says why and what to do."""


def run(
    *,
    topics: Sequence[str] = (),
    from_ms: int | None = None,
    to_ms: int | None = None,
    content: str | None = None,
    settle_s: float = 15.0,
    window_s: float = 60.0,
    ledgers: Sequence[Path] = (),
    client: Client | None = None,
    clock: Clock | None = None,
    progress: Progress = lambda topic: None,
) -> list[TopicAudit]:
    """Audit `topics` (default: all that have a landing table) of this process's namespace.

    What the ledgers acknowledge at the start must be stored within `settle_s`, for which the audit waits; producers may go on. `from_ms`
    and `to_ms` bound the arrival time, to_ms exclusive. `content` is full, sample or none; by default full up to FULL_CONTENT_ROWS.
    `ledgers` are directories of ledger files; default: this state directory's. Blocks. Raises CannotAudit.
    """
    clock = clock or WallClock()
    roots = list(ledgers) or [settings().state_dir / "ledger" / (settings().namespace or "-")]
    if content not in (None, "full", "sample", "none"):
        raise CannotAudit(f"content {content!r}: full, sample or none")
    try:
        declared = [catalogue().topic(name) for name in topics] or catalogue().landed()
    except ContractError as error:
        raise CannotAudit(str(error)) from None
    if without := [topic.name for topic in declared if not topic.landing]:
        raise CannotAudit(f"{', '.join(without)}: has no landing table, so there is nothing to compare with")
    if absent := [root for root in roots if not root.is_dir()]:
        raise CannotAudit(
            f"{absent[0]}: no ledgers there; producers write them below their state directory, name another one with --ledgers"
        )
    try:
        audit = _Audit(client or warehouse.reader(), roots, clock, content, window_s)
        audit.wait(declared, settle_s)
        results = []
        for topic in declared:
            progress(topic.name)
            results.append(audit.topic(topic, from_ms, to_ms))
    except ClickHouseError as error:
        raise CannotAudit(f"the warehouse at {settings().warehouse.dsn}: {error}") from None
    return _with_unreadable(results, audit.ledgers)


def summary(settle_s: float = 15.0) -> list[dict[str, Any]]:
    """An audit of everything in short, for a run's summary: a line for each topic, with what is wrong in words. Raises CannotAudit."""
    return [
        {
            "topic": found.topic,
            "acknowledged": found.acknowledged,
            "stored": found.stored,
            "lost": found.lost,
            "duplicated": found.duplicated,
            "problems": found.problems,
        }
        for found in run(settle_s=settle_s)
    ]


class _Audit:
    """One audit under way."""

    def __init__(self, client: Client, roots: list[Path], clock: Clock, content: str | None, window_s: float) -> None:
        self._client, self._clock, self._content = client, clock, content
        self._window_ms = round(window_s * 1000)
        self._database = settings().database
        self.ledgers = Ledgers(roots)
        self.ledgers.read()

    def wait(self, topics: Sequence[Topic], settle_s: float) -> None:
        """Until the tables have reached the highest offsets that the ledgers acknowledge, or `settle_s` have passed."""
        deadline_ms = self._clock.now_ms() + settle_s * 1000
        for topic in topics:
            while self._clock.now_ms() < deadline_ms and not self._settled(topic):
                self._clock.sleep(0.5)

    def topic(self, topic: Topic, from_ms: int | None, to_ms: int | None) -> TopicAudit:
        """Look at one topic."""
        stored = self._stored(topic)
        ranges = {} if from_ms is None and to_ms is None else stored.ranges(from_ms, to_ms)
        content = self._content or ("full" if stored.count() <= FULL_CONTENT_ROWS else "sample")
        rows = stored.rows(content, ranges)
        producers = stored.producers()
        self.ledgers.read()  # after the rows: a send is announced before it is sent, so now every row's announcement is known
        sends = {who: of_it.within(ranges) for who, of_it in self.ledgers.sends.get(topic.name, {}).items()}
        case = evidence(sends, rows, producers)
        note = self._correct_older(stored, topic, case)
        writers_keep_ledgers = not topic.door and not any(p.startswith(("streams.", "sinks.")) for p in topic.producers)
        result = judge(
            topic.name, case, self._dead(topic), ledger_expected=writers_keep_ledgers, whole=not ranges, window_ms=self._window_ms
        )
        result.problems.extend(note)
        return result

    def _stored(self, topic: Topic) -> Stored:
        return Stored(self._client, self._database, topic)

    def _dead(self, topic: Topic) -> NDArray[Any]:
        table = f"`{self._database}`.`{catalogue().topic(DEAD_LETTERS).table}`"
        return self._stored(topic).dead_lettered(table, [topic.name, settings().topic(topic.name)])

    def _settled(self, topic: Topic) -> bool:
        """Whether rows or dead letters have reached the highest offset acknowledged in each partition."""
        reached = Counter(self._stored(topic).ends())
        for partition, offset in self._dead(topic).tolist():
            reached[partition] = max(reached[partition], offset)
        parts = [part for sends in self.ledgers.sends.get(topic.name, {}).values() for part in sends.parts]
        return all(
            (part["offset"][part["partition"] == partition] <= reached.get(partition, -1)).all()
            for part in parts
            for partition in np.unique(part["partition"]).tolist()
        )

    def _correct_older(self, stored: Stored, topic: Topic, case: Evidence) -> list[str]:
        """Fingerprint rows that differ again, as written by older versions of the contract: a later one gives them a longer body.

        Corrects `case`; returns, in words, what kept the audit from trying.
        """
        different = case.altered()
        if not len(different):
            return []
        try:
            with RegistryClient() as registry:
                history = registry.history(settings().topic(topic.subject))
        except (RegistryUnavailable, RegistryError) as error:
            return [f"altered: older versions of the contract could not be tried, for {error}"]
        for _, schema in reversed(history):
            fields = [item["name"] for item in schema["fields"]]
            if fields == [item["name"] for item in topic.event.fields] or not stored.holds(fields) or not len(different):
                continue
            again = stored.rows_as(fields, case.rows[different])
            digests = {(row["partition"], row["offset"]): row["digest"] for row in again}
            for index in different.tolist():
                row = case.rows[index]
                digest = digests.get((row["partition"], row["offset"]))
                if digest == case.acks["digest"][case.row_acks[index]]:
                    case.rows["digest"][index] = digest
            different = case.altered()
        return []


def _with_unreadable(results: list[TopicAudit], ledgers: Ledgers) -> list[TopicAudit]:
    """Lines that are no facts belong to no topic: they are named with the first."""
    if results:
        results[0].problems.extend(f"unreadable: {line}" for line in ledgers.unreadable)
    return results

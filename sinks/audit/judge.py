"""The verdict on one topic: acknowledged ⊆ stored ⊆ attempted, each (producer, epoch, seq) at most once, bodies unchanged. Pure.

Everything is arrays, sorted and searched by (incarnation, seq) and by (partition, offset); memory is some 150 bytes an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sinks.audit.ledgers import ACK, Incarnation, Sends

NAMED = 100
"""So many problems of a kind are named one by one; the rest are counted."""
UNKNOWN = -1
KEY_BITS = 40
OFFSET_BITS = 44
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Spreads epochs over 64 bits, so that one number stands for producer and epoch; sorting pairs takes ten times as long."""


@dataclass(frozen=True)
class Window:
    """One span of arrival time. Sums are of fingerprints modulo 2^64: equal sums mean the same bodies, in whatever order."""

    start_ms: int
    acknowledged: int
    stored: int
    acknowledged_sum: int
    stored_sum: int


@dataclass(frozen=True)
class TopicAudit:
    """What the audit found on one topic. `clean` means that nothing was lost, doubled, altered, forged or stored out of nowhere.

    `stored` counts rows of producers with a ledger; `unledgered` those of jobs and of foreign producers behind a door.
    `unacknowledged` are stored sends whose acknowledgement never reached the ledger: in flight when their producer was killed, or now.
    `unknown` are sends of killed producers that are neither acknowledged nor stored nor reported as failed. `dead_lettered` are
    acknowledged events that the loader set aside with a reason.
    """

    topic: str
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    forged: int = 0
    unattempted: int = 0
    unacknowledged: int = 0
    unknown: int = 0
    failed: int = 0
    dead_lettered: int = 0
    unledgered: int = 0
    content_checked: int = 0
    windows: list[Window] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing to report."""
        return not self.problems


@dataclass
class Evidence:
    """One topic's ledgers and rows, made comparable: `key` is incarnation and seq, `at` is partition and offset.

    `acks` and `rows` are the arrays of `ledgers.ACK` and `stored.ROW`. Rows of incarnations without a ledger have key UNKNOWN.
    """

    incarnations: list[Incarnation]
    sends: list[Sends]
    acks: NDArray[Any]
    ack_keys: NDArray[Any]
    rows: NDArray[Any]
    row_keys: NDArray[Any]
    producers: Mapping[int, str]
    row_acks: NDArray[Any] = field(init=False)
    """Index of each row's acknowledgement, UNKNOWN where there is none."""

    def __post_init__(self) -> None:
        order = np.argsort(self.ack_keys, kind="stable")
        self.acks, self.ack_keys = self.acks[order], self.ack_keys[order]
        found = np.searchsorted(self.ack_keys, self.row_keys)
        found[found == len(self.ack_keys)] = 0
        matched = self.ack_keys[found] == self.row_keys if len(self.ack_keys) else np.zeros(len(self.rows), bool)
        self.row_acks = np.where(matched & (self.row_keys != UNKNOWN), found, UNKNOWN)

    def altered(self) -> NDArray[Any]:
        """Indices of rows whose body is not the one acknowledged."""
        with_ack = np.flatnonzero((self.row_acks != UNKNOWN) & self.rows["checked"])
        differs: NDArray[Any] = self.rows["digest"][with_ack] != self.acks["digest"][self.row_acks[with_ack]]
        return np.compress(differs, with_ack)

    def name(self, key: int) -> str:
        """Producer, epoch and seq of a key, in words."""
        return f"{self.incarnations[key >> KEY_BITS]}, seq {key & ((1 << KEY_BITS) - 1)}"

    def who(self, row: int) -> str:
        """Producer, epoch and seq of a row, whether or not it has a ledger."""
        found = self.rows[row]
        return f"{Incarnation(self.producers.get(int(found['producer']), '?'), found['epoch'])}, seq {found['seq']}"


def evidence(sends: Mapping[Incarnation, Sends], rows: NDArray[Any], producers: Mapping[int, str]) -> Evidence:
    """Bring ledgers and rows together. `producers` maps cityHash64 to producer id."""
    incarnations = sorted(sends)
    numbers = {incarnation: number for number, incarnation in enumerate(incarnations)}
    parts = [sends[incarnation].acknowledged for incarnation in incarnations]
    ack_keys = np.concatenate([_keys(n, part["seq"]) for n, part in enumerate(parts)]) if parts else np.empty(0, np.int64)
    row_keys = np.full(len(rows), UNKNOWN, np.int64)
    who = rows["producer"] + rows["epoch"].astype(np.uint64) * GOLDEN
    _, first, member = np.unique(who, return_index=True, return_inverse=True)
    for code, (producer, epoch) in enumerate(rows[["producer", "epoch"]][first].tolist()):
        number = numbers.get(Incarnation(producers.get(producer, ""), epoch))
        if number is not None:
            of_it = (member == code) & (rows["seq"] >= 0)
            row_keys[of_it] = _keys(number, rows["seq"][of_it])
    return Evidence(
        incarnations,
        [sends[i] for i in incarnations],
        np.concatenate(parts) if parts else np.empty(0, ACK),
        ack_keys,
        rows,
        row_keys,
        producers,
    )


def judge(topic: str, case: Evidence, dead: NDArray[Any], *, ledger_expected: bool, whole: bool, window_ms: int) -> TopicAudit:
    """The verdict on a topic.

    `dead` holds (partition, offset) of dead letters. `ledger_expected`: every producer of this topic keeps a ledger. `whole`: all of the
    topic was looked at, so that seqs that are nowhere can be told from seqs outside the window.
    """
    return _Court(case).verdict(topic, dead, ledger_expected, whole, window_ms)


class _Court:
    """One topic's case. Each method charges what it finds; indices are those of `case.acks` or `case.rows`."""

    def __init__(self, case: Evidence) -> None:
        self.case, self.acks, self.rows = case, case.acks, case.rows
        self.row_at = _positions(self.rows["partition"], self.rows["offset"])
        self.ack_at = _positions(self.acks["partition"], self.acks["offset"])
        self.ledgered = case.row_keys != UNKNOWN
        self.stored_keys = np.unique(case.row_keys[self.ledgered])
        self.attempted = np.array([s.attempted for s in case.sends], np.int64)
        self.repeated = np.flatnonzero(case.ack_keys[1:] == case.ack_keys[:-1]) + 1
        self.never_announced = self._beyond(self.acks["seq"], case.ack_keys)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def verdict(self, topic: str, dead: NDArray[Any], ledger_expected: bool, whole: bool, window_ms: int) -> TopicAudit:
        """Hear everything and say what it comes to."""
        self._ledgers_agree_with_themselves()
        missing = np.flatnonzero(self.acks["first_read"] & ~np.isin(self.case.ack_keys, self.stored_keys))
        set_aside = np.isin(self.ack_at[missing], _positions(dead[:, 0], dead[:, 1]))
        self._nothing_is_lost(missing[~set_aside])
        self._nothing_is_stored_twice()
        self._nothing_has_changed()
        in_flight = self._everything_was_announced(ledger_expected)
        return TopicAudit(
            topic=topic,
            acknowledged=int(self.acks["first_read"].sum()),
            stored=int(self.ledgered.sum()),
            **{kind: self.counts[kind] for kind in ("lost", "duplicated", "altered", "forged", "unattempted")},
            unacknowledged=in_flight,
            unknown=_unknown(self.case, self.stored_keys) if whole else 0,
            failed=sum(len(s.failed) for s in self.case.sends),
            dead_lettered=int(set_aside.sum()),
            unledgered=int((~self.ledgered).sum()),
            content_checked=int(self.rows["checked"].sum()),
            windows=_windows(self.case, self.row_at, self.ack_at, window_ms),
            problems=self.problems,
        )

    def _charge(self, kind: str, found: NDArray[Any], words: Callable[[int], str]) -> None:
        self.counts[kind] += len(found)
        self.problems += [f"{kind}: {words(index)}" for index in found[:NAMED].tolist()]
        if len(found) > NAMED:
            self.problems.append(f"{kind}: and {len(found) - NAMED} more")

    def _ledgers_agree_with_themselves(self) -> None:
        """A ledger that contradicts itself was not written by its producer alone."""
        self._charge("forged", self.repeated, lambda i: f"{self._acked(i)} by the ledger, and at {_place(self.acks[i - 1])} too")
        self._charge("forged", self.never_announced, lambda i: f"{self._acked(i)} by the ledger, which never announced this seq")
        given_up = _in_failed(self.case, self.case.ack_keys)
        self._charge("forged", given_up, lambda i: f"{self._acked(i)} by the ledger, and given up by it")

    def _nothing_is_lost(self, missing: NDArray[Any]) -> None:
        """Acknowledged ⊆ stored. Where another event lies in the place of a missing one, no broker can have acknowledged it."""
        missing = np.setdiff1d(missing, np.concatenate([self.repeated, self.never_announced]))
        taken = np.isin(self.ack_at[missing], self.row_at)
        self._charge("forged", missing[taken], lambda i: f"{self._acked(i)} by the ledger, where {self._who_lies_at(self.ack_at[i])} lies")
        self._charge("lost", missing[~taken], lambda i: f"{self._acked(i)} and not stored")

    def _nothing_is_stored_twice(self) -> None:
        """At most once: by producer, epoch and seq, and rows without a ledger by their place."""
        for keys in (self.case.row_keys, np.where(self.ledgered, UNKNOWN, self.row_at)):
            order = np.argsort(keys, kind="stable")
            again = np.flatnonzero((keys[order][1:] == keys[order][:-1]) & (keys[order][1:] != UNKNOWN)) + 1
            before = dict(zip(order[again].tolist(), order[again - 1].tolist(), strict=True))
            self._charge("duplicated", order[again], partial(self._twice, before))

    def _nothing_has_changed(self) -> None:
        """Byte for byte, and where it was acknowledged. Doubled rows are charged already."""
        acks, rows, row_acks = self.acks, self.rows, self.case.row_acks
        self._charge("altered", self.case.altered(), lambda i: (
            f"{self.case.who(i)}: the row at {_place(rows[i])} has fingerprint {rows['digest'][i]:016x}, "
            f"the ledger {acks['digest'][row_acks[i]]:016x}"
        ))  # fmt: skip
        with_ack = np.flatnonzero(row_acks != UNKNOWN)
        moved = with_ack[self.row_at[with_ack] != self.ack_at[row_acks[with_ack]]]
        ambiguous = np.concatenate([_repeated(self.case.row_keys[self.ledgered]), self.case.ack_keys[self.repeated]])
        moved = moved[~np.isin(self.case.row_keys[moved], ambiguous)]
        self._charge("altered", moved, lambda i: f"{self._stored(i)}, acknowledged at {_place(acks[row_acks[i]])}")

    def _everything_was_announced(self, ledger_expected: bool) -> int:
        """Stored ⊆ attempted; returns how many sends are stored whose acknowledgement never reached their ledger."""
        without_ack = np.flatnonzero(self.ledgered & (self.case.row_acks == UNKNOWN))
        never = self._beyond(self.rows["seq"][without_ack], self.case.row_keys[without_ack])
        self._charge("unattempted", without_ack[never], lambda i: f"{self._stored(i)}, never announced by its ledger")
        strangers = np.flatnonzero(~self.ledgered & (self.rows["seq"] >= 0)) if ledger_expected else np.empty(0, np.int64)
        self._charge("unattempted", strangers, lambda i: f"{self._stored(i)}, and no ledger knows this producer and epoch")
        return len(np.unique(np.delete(self.case.row_keys[without_ack], never)))

    def _beyond(self, seqs: NDArray[Any], keys: NDArray[Any]) -> NDArray[Any]:
        """Indices of seqs above everything that their incarnation announced."""
        return np.flatnonzero(seqs >= self.attempted[keys >> KEY_BITS]) if len(seqs) else np.empty(0, np.int64)

    def _acked(self, ack: int) -> str:
        return f"{self.case.name(int(self.case.ack_keys[ack]))}: acknowledged at {_place(self.acks[ack])}"

    def _stored(self, row: int) -> str:
        return f"{self.case.who(row)}: stored at {_place(self.rows[row])}"

    def _twice(self, before: Mapping[int, int], row: int) -> str:
        return f"{self._stored(before[row])} and again at {_place(self.rows[row])}"

    def _who_lies_at(self, place: int) -> str:
        return self.case.who(int(np.flatnonzero(self.row_at == place)[0]))


def _windows(case: Evidence, row_at: NDArray[Any], ack_at: NDArray[Any], window_ms: int) -> list[Window]:
    """Counts and sums by arrival time. An acknowledgement arrived when its row did, or when the row stored before it did."""
    if not len(case.rows):
        return []
    order = np.argsort(row_at, kind="stable")
    nearest = np.clip(np.searchsorted(row_at[order], ack_at, side="right") - 1, 0, None)
    ack_window = case.rows["time_ms"][order][nearest] // window_ms
    row_window = case.rows["time_ms"] // window_ms
    judged = case.acks["first_read"]
    matched = (case.row_acks != UNKNOWN) & case.rows["checked"]
    matched[matched] &= judged[case.row_acks[matched]]
    windows = []
    for number in np.unique(np.concatenate([ack_window[judged], row_window])).tolist():
        acks, rows = judged & (ack_window == number), row_window == number
        sums = [int(column.sum(dtype=np.uint64)) for column in (case.acks["digest"][acks], case.rows["digest"][rows & matched])]
        windows.append(Window(number * window_ms, int(acks.sum()), int((rows & (case.row_keys != UNKNOWN)).sum()), *sums))
    return windows


def _unknown(case: Evidence, stored_keys: NDArray[Any]) -> int:
    """Seqs below the highest one seen of each incarnation that nobody has said anything about."""
    seen = np.unique(np.concatenate([case.ack_keys, stored_keys]))
    unknown = 0
    for number, sends in enumerate(case.sends):
        low, high = np.searchsorted(seen, [_key(number, 0), _key(number + 1, 0)])
        last = (
            sends.attempted
            if sends.closed
            else max((int(seen[high - 1]) & ((1 << KEY_BITS) - 1)) + 1 if high > low else 0, max(sends.failed, default=-1) + 1)
        )
        failed = np.array(sorted(sends.failed), np.int64)
        quiet = failed[~np.isin(_keys(number, failed), seen)]
        unknown += max(0, last - int(high - low) - len(quiet))
    return unknown


def _in_failed(case: Evidence, keys: NDArray[Any]) -> NDArray[Any]:
    """Indices of `keys` that their incarnation says it gave up."""
    failed = [_keys(number, np.array(sorted(sends.failed), np.int64)) for number, sends in enumerate(case.sends) if sends.failed]
    return np.flatnonzero(np.isin(keys, np.concatenate(failed))) if failed else np.empty(0, np.int64)


def _repeated(keys: NDArray[Any]) -> NDArray[Any]:
    """The keys that occur more than once."""
    ordered: NDArray[Any] = np.sort(keys)
    return np.compress(ordered[1:] == ordered[:-1], ordered[1:])


def _key(incarnation: int, seq: int) -> int:
    return (incarnation << KEY_BITS) | seq


def _keys(incarnation: int, seqs: NDArray[Any]) -> NDArray[Any]:
    return (np.int64(incarnation) << KEY_BITS) | seqs.astype(np.int64)


def _positions(partitions: NDArray[Any], offsets: NDArray[Any]) -> NDArray[Any]:
    return (partitions.astype(np.int64) << OFFSET_BITS) | offsets.astype(np.int64)


def _place(record: np.void) -> str:
    return f"partition {record['partition']}, offset {record['offset']}"

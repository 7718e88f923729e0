"""The verdict on one topic: acknowledged ⊆ stored ⊆ attempted, each (producer, epoch, seq) at most once, bodies unchanged. Pure.

Everything is arrays, sorted and searched by (incarnation, seq) and by (partition, offset); memory is some 150 bytes an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    """The verdict. `dead` holds (partition, offset) of dead letters; `ledger_expected`: every producer of this topic keeps a ledger;
    `whole`: all of the topic was looked at, so that seqs that are missing everywhere can be told from seqs outside the window."""
    acks, rows = case.acks, case.rows
    row_at, ack_at = _positions(rows["partition"], rows["offset"]), _positions(acks["partition"], acks["offset"])
    ledgered = case.row_keys != UNKNOWN
    problems: list[str] = []
    counts: Counter[str] = Counter()

    def report(kind: str, sentences: Iterator[str], total: int) -> None:
        counts[kind] += total
        problems.extend(f"{kind}: {sentence}" for sentence, _ in zip(sentences, range(NAMED), strict=False))
        if total > NAMED:
            problems.append(f"{kind}: and {total - NAMED} more")

    # A ledger that contradicts itself, or the table, was not written by its producer.
    repeated = np.flatnonzero(case.ack_keys[1:] == case.ack_keys[:-1]) + 1
    bounds = np.array([s.attempted for s in case.sends], np.int64)
    beyond = np.flatnonzero(acks["seq"] >= bounds[case.ack_keys >> KEY_BITS]) if len(acks) else np.empty(0, np.int64)
    given_up = _in_failed(case, case.ack_keys)
    report(
        "forged",
        (
            f"{case.name(case.ack_keys[i])}: acknowledged twice by the ledger, at {_place(acks[i - 1])} and {_place(acks[i])}"
            for i in repeated
        ),
        len(repeated),
    )
    report(
        "forged",
        (f"{case.name(case.ack_keys[i])}: acknowledged at {_place(acks[i])} by the ledger, which never announced this seq" for i in beyond),
        len(beyond),
    )
    report("forged", (f"{case.name(case.ack_keys[i])}: acknowledged and given up by the same ledger" for i in given_up), len(given_up))

    # Acknowledged ⊆ stored.
    stored_keys = np.unique(case.row_keys[ledgered])
    missing = np.flatnonzero(acks["first_read"] & ~np.isin(case.ack_keys, stored_keys, assume_unique=False))
    set_aside = np.isin(ack_at[missing], _positions(dead[:, 0], dead[:, 1]))
    lost = np.setdiff1d(missing[~set_aside], np.concatenate([repeated, beyond]))
    by_place = np.argsort(row_at, kind="stable")
    places = row_at[by_place]
    taken = np.searchsorted(places, ack_at[lost])
    held = (
        (taken < len(places)) & (places[np.minimum(taken, max(0, len(places) - 1))] == ack_at[lost])
        if len(places)
        else np.zeros(len(lost), bool)
    )
    report("forged", (
        f"{case.name(case.ack_keys[i])}: acknowledged at {_place(acks[i])} by the ledger, where {case.who(by_place[taken[n]])} lies"
        for n, i in enumerate(lost) if held[n]
    ), int(held.sum()))  # fmt: skip
    lost = lost[~held]
    report("lost", (f"{case.name(case.ack_keys[i])}: acknowledged at {_place(acks[i])} and not stored" for i in lost), len(lost))

    # At most once: by producer, epoch and seq; and by place for rows of whatever producer.
    for keys, words in ((np.where(ledgered, case.row_keys, UNKNOWN), case.name), (np.where(ledgered, UNKNOWN, row_at), _named_place)):
        order = np.argsort(keys, kind="stable")
        again = np.flatnonzero((keys[order][1:] == keys[order][:-1]) & (keys[order][1:] != UNKNOWN)) + 1
        report("duplicated", (
            f"{words(int(keys[order[i]]))}: stored at {_place(rows[order[i - 1]])} and again at {_place(rows[order[i]])}" for i in again
        ), len(again))  # fmt: skip
    doubled = _repeated(case.row_keys[ledgered])

    # Unchanged: where it was acknowledged, and byte for byte.
    altered = case.altered()
    report("altered", (
        f"{case.name(case.row_keys[i])}: the row at {_place(rows[i])} has fingerprint {rows['digest'][i]:016x}, "
        f"the ledger {acks['digest'][case.row_acks[i]]:016x}" for i in altered
    ), len(altered))  # fmt: skip
    with_ack = np.flatnonzero(case.row_acks != UNKNOWN)
    moved = with_ack[row_at[with_ack] != ack_at[case.row_acks[with_ack]]]
    moved = moved[
        ~np.isin(case.row_keys[moved], doubled) & ~np.isin(case.row_acks[moved], repeated) & ~np.isin(case.row_acks[moved], repeated - 1)
    ]
    report("altered", (
        f"{case.name(case.row_keys[i])}: stored as {_place(rows[i])}, acknowledged at {_place(acks[case.row_acks[i]])}" for i in moved
    ), len(moved))  # fmt: skip

    # Stored ⊆ attempted.
    without_ack = np.flatnonzero(ledgered & (case.row_acks == UNKNOWN))
    never = rows["seq"][without_ack] >= bounds[case.row_keys[without_ack] >> KEY_BITS] if len(without_ack) else np.zeros(0, bool)
    report(
        "unattempted",
        (f"{case.name(case.row_keys[i])}: stored at {_place(rows[i])}, never announced by its ledger" for i in without_ack[never]),
        int(never.sum()),
    )
    strangers = np.flatnonzero(~ledgered & (rows["seq"] >= 0)) if ledger_expected else np.empty(0, np.int64)
    report(
        "unattempted",
        (f"{case.who(i)}: stored at {_place(rows[i])}, and no ledger knows this producer and epoch" for i in strangers),
        len(strangers),
    )

    judged = acks["first_read"]
    return TopicAudit(
        topic=topic,
        acknowledged=int(judged.sum()),
        stored=int(ledgered.sum()),
        lost=counts["lost"],
        duplicated=counts["duplicated"],
        altered=counts["altered"],
        forged=counts["forged"],
        unattempted=counts["unattempted"],
        unacknowledged=len(np.unique(case.row_keys[without_ack[~never]])),
        unknown=_unknown(case, stored_keys) if whole else 0,
        failed=sum(len(s.failed) for s in case.sends),
        dead_lettered=int(set_aside.sum()),
        unledgered=int((~ledgered).sum()),
        content_checked=int(rows["checked"].sum()),
        windows=_windows(case, row_at, ack_at, window_ms),
        problems=problems,
    )


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


def _named_place(at: int) -> str:
    return f"partition {at >> OFFSET_BITS}, offset {at & ((1 << OFFSET_BITS) - 1)}"

"""Which answers are misses, and why, by what was done to a network; and how what was found compares with that. Pure.

Whoever changes the network writes down when each change began and when it was done (`Facts`): nothing here knows what any service thought.
Things only get worse, each once. What was asked while a change went on may have more than one right cause, and is not counted. Nor is what
was asked when a server could not do its work for lack of a core, as its own reports show (`strains`): it may have been ill then, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

CAUSES = ("CONTENT", "HEALTH", "ROUTE", "LOAD", "OTHER")
NO_MISS = "NONE"


class Change(NamedTuple):
    """From `done_ms` on something is so; between the two nobody can tell."""

    begun_ms: int
    done_ms: int


ALWAYS = Change(0, 0)


class Span(NamedTuple):
    """From a question to its answer, by the clock of who asked."""

    asked_ms: int
    answered_ms: int


class Told(NamedTuple):
    """What matters here of a server's report, and when it came."""

    oca_id: str
    came_ms: int
    ttfb_p99_us: int
    load: float


APART_MS, TTFB_US, TOO_MUCH = 1_000, 800_000, 1.2
"""Reports come twice a second. So long without one, so slow a first byte, or so much more than it can send, and a server is not itself."""
AFTER_MS = 4_000
"""How long that is felt: a server must be well for three seconds before it is an equal choice again."""


@dataclass
class Facts:
    """A network, and what was done to it."""

    best: Mapping[str, tuple[str, ...]]
    """The servers that are best for each network, while all have announced their prefixes."""
    lacks: dict[tuple[str, str], Change] = field(default_factory=dict)
    """Server and title that it has not got."""
    ill: dict[str, Change] = field(default_factory=dict)
    """Servers that are dead, or drain."""
    nearly_full: dict[str, Change] = field(default_factory=dict)
    """Servers near their egress: sessions may be sent elsewhere, those that are there need not leave."""
    full: dict[str, Change] = field(default_factory=dict)
    withdrawn: dict[str, Change] = field(default_factory=dict)
    """Networks whose best servers have withdrawn their announcements."""
    strained: dict[str, list[Span]] = field(default_factory=dict)
    """When servers were not themselves, though nothing was done to them."""


@dataclass(frozen=True)
class Answer:
    """An answer to a viewer, and what was decided for the session."""

    key: str
    network: str
    title: str
    by: str
    at: Span
    refused: bool
    first: str
    """The first server that steering named."""
    decided: Span


@dataclass(frozen=True)
class _View:
    """Facts as they were at one end of a span: all that may have been, or only what surely was."""

    facts: Facts
    span: Span
    surely: bool

    def so(self, change: Change | None) -> bool:
        if change is None:
            return False
        return change.done_ms <= self.span.asked_ms if self.surely else change.begun_ms <= self.span.answered_ms

    def unable(self, oca_id: str, loads: Mapping[str, Change]) -> str:
        """Why a server that has the title does not serve it; empty if it can."""
        if self.so(self.facts.ill.get(oca_id)):
            return "HEALTH"
        return "LOAD" if self.so(loads.get(oca_id)) else ""

    def why(self, network: str, title: str, first: str, loads: Mapping[str, Change]) -> set[str]:
        """Why none of the best serves a title; empty words where one can."""
        if self.so(self.facts.withdrawn.get(network)):
            return {"ROUTE"}
        holders = [oca_id for oca_id in self.facts.best[network] if not self.lacks(oca_id, title)]
        if not holders:
            return {"CONTENT"}
        words = {self.unable(oca_id, loads) for oca_id in holders}
        # Where one of several equals can, whoever was sent to another one had a reason to leave that, and none to leave them all.
        return {"", self.unable(first, loads)} if "" in words and first in holders else {""} if "" in words else words

    def lacks(self, oca_id: str, title: str) -> bool:
        return self.so(self.facts.lacks.get((oca_id, title)))


def strains(told: Iterable[Told]) -> dict[str, list[Span]]:
    """When servers were not themselves, by their reports in the order in which they came."""
    found: dict[str, list[Span]] = {}
    before_ms: dict[str, int] = {}
    for report in told:
        since_ms = before_ms.get(report.oca_id, report.came_ms)
        before_ms[report.oca_id] = report.came_ms
        if report.came_ms - since_ms > APART_MS or report.ttfb_p99_us > TTFB_US or report.load > TOO_MUCH:
            found.setdefault(report.oca_id, []).append(Span(since_ms - APART_MS, report.came_ms + AFTER_MS))
    return found


def _strained(facts: Facts, network: str, at: Span) -> bool:
    spans = (span for oca_id in facts.best[network] for span in facts.strained.get(oca_id, ()))
    return any(span.asked_ms <= at.answered_ms and at.asked_ms <= span.answered_ms for span in spans)


def causes(facts: Facts, answer: Answer) -> set[str]:
    """The causes that may be right; NO_MISS among them where it may be none."""
    if answer.refused:
        return {NO_MISS}
    views = [_View(facts, answer.at, surely) for surely in (True, False)]
    if answer.by in facts.best[answer.network]:
        return {"CONTENT" if view.lacks(answer.by, answer.title) else NO_MISS for view in views}
    found = {"HEALTH"} if any(_strained(facts, answer.network, span) for span in (answer.decided, answer.at)) else set()
    for surely in (True, False):
        decided = _View(facts, answer.decided, surely)
        elsewhere = answer.first not in facts.best[answer.network]
        loads = {**facts.full, **facts.nearly_full}
        found |= decided.why(answer.network, answer.title, "", loads) if elsewhere else {""}
    if "" in found:
        found.discard("")
        for view in views:
            found |= {words or "OTHER" for words in view.why(answer.network, answer.title, answer.first, facts.full)}
    return found


def compare(truths: Mapping[str, set[str]], told: Iterable[tuple[str, str]]) -> tuple[dict[str, float], Counter[tuple[str, str]]]:
    """Figures of what was told, as (key, cause), against the causes that may be right; and how often which cause was taken for which."""
    rows: dict[str, str] = {}
    twice = 0
    for key, cause in told:
        twice += key in rows
        rows[key] = cause
    pairs: Counter[tuple[str, str]] = Counter()
    sole = {key: next(iter(may_be)) for key, may_be in truths.items() if len(may_be) == 1}
    for key, cause in sole.items():
        pairs[cause, rows.get(key, NO_MISS)] += 1

    def count(true: Iterable[str], *, right: bool | None = None) -> int:
        """Answers of these true causes that were called misses; `right`: only those of the right cause."""
        return sum(n for (t, f), n in pairs.items() if t in true and f != NO_MISS and (right is None or right == (t == f)))

    def total(true: Iterable[str]) -> int:
        return sum(n for (t, _), n in pairs.items() if t in true)

    figures = {
        "right": count(CAUSES, right=True) / max(1, count(CAUSES)),
        "found": count(CAUSES) / max(1, total(CAUSES)),
        "invented": count((NO_MISS,)) / max(1, total((NO_MISS,))),
    }
    for cause in CAUSES:
        figures[f"right_{cause.lower()}"] = count((cause,), right=True) / max(1, count((cause,)))
        figures[f"{cause.lower()}_misses"] = float(total((cause,)))
    figures |= {"no_misses": float(total((NO_MISS,))), "unclear": float(len(truths) - len(sole)), "twice": float(twice)}
    return figures, pairs


def table(pairs: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """The counts as lines: a true cause each, and what was told of it."""
    for true in (*CAUSES, NO_MISS):
        told = {found: n for (t, found), n in sorted(pairs.items(), key=lambda pair: -pair[1]) if t == true}
        yield f"{true:8}" + (", ".join(f"{n:,} {found if found != NO_MISS else 'no miss'}" for found, n in told.items()) or "none")

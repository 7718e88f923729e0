"""How fast a client will get its bytes from a server: recent sessions of its prefix, shrunk to its ISP's, those to its region's. Pure.

Throughputs of sessions are log-normal, so means are of logarithms. A level with n sessions is believed by n / (n + `PRIOR_SESSIONS`), and
the level above it for the rest (empirical Bayes with a known ratio of variances: Efron and Morris, "Stein's Estimation Rule and Its
Competitors", 1973). What no level knows is unknown.

Evidence fades with event time, by half every `HALF_LIFE_MS`, so where nothing more is seen the level above is believed instead. Now is the
newest minute that was told of anybody: where the job stands still nothing fades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

PRIOR_SESSIONS = 8.0
"""Sessions of a prefix that count as much as all others of its ISP, and of an ISP as much as all others of its region."""


HALF_LIFE_MS = 600_000
KEPT_MS = 10 * HALF_LIFE_MS
"""Of older evidence less than a thousandth is left: it is let go."""
K = TypeVar("K")


class Evidence(NamedTuple):
    """What sessions have shown up to `at_ms`: how many there were, faded with age, and the mean of ln(bit/s)."""

    sessions: float
    mean_log_bps: float
    at_ms: int = 0

    def sessions_at(self, now_ms: int) -> float:
        """How many are left of them; before `at_ms`, as many as there were."""
        age_ms = now_ms - self.at_ms
        return self.sessions * 2.0 ** (-age_ms / HALF_LIFE_MS) if age_ms > 0 else self.sessions


def both(one: Evidence | None, other: Evidence) -> Evidence:
    """What two of them show together, at the later of their times."""
    if one is None:
        return other
    at_ms = max(one.at_ms, other.at_ms)
    of_one, of_other = one.sessions_at(at_ms), other.sessions_at(at_ms)
    if not of_one + of_other:
        return one
    return Evidence(of_one + of_other, one.mean_log_bps + of_other / (of_one + of_other) * (other.mean_log_bps - one.mean_log_bps), at_ms)


@dataclass
class Throughput:
    """Evidence by who asked and who served: (prefix, oca_id), (AS number of the ISP, oca_id), (region, oca_id).

    One thread adds; any thread predicts meanwhile, from what had been added to each level by then.
    """

    by_prefix: dict[tuple[str, str], Evidence] = field(default_factory=dict)
    by_isp: dict[tuple[int, str], Evidence] = field(default_factory=dict)
    by_region: dict[tuple[str, str], Evidence] = field(default_factory=dict)
    now_ms: int = 0
    """The newest minute of them all."""
    _minutes: dict[tuple[str, int | None, str, str], int] = field(default_factory=dict)
    """The last one that was added of each, for a minute may be told again, in order."""
    _swept_ms: int = 0

    def add(self, prefix: str, isp_asn: int | None, region: str, oca_id: str, minute: Evidence) -> None:
        """What sessions of a prefix have shown in a minute. It counts for ISP and region, too; without a prefix it counts there only."""
        told = (prefix, isp_asn, region, oca_id)
        if minute.at_ms <= max(self._minutes.get(told, 0), self.now_ms - KEPT_MS):
            return
        self._minutes[told] = minute.at_ms
        self.now_ms = max(self.now_ms, minute.at_ms)
        if prefix:
            self.by_prefix[prefix, oca_id] = both(self.by_prefix.get((prefix, oca_id)), minute)
        if isp_asn is not None:
            self.by_isp[isp_asn, oca_id] = both(self.by_isp.get((isp_asn, oca_id)), minute)
        if region:
            self.by_region[region, oca_id] = both(self.by_region.get((region, oca_id)), minute)
        if self.now_ms - self._swept_ms >= HALF_LIFE_MS:
            self._sweep()

    def _sweep(self) -> None:
        """Let go what is too old, by other dictionaries in the place of these."""
        self._swept_ms = self.now_ms
        since_ms = self.now_ms - KEPT_MS
        self.by_prefix, self.by_isp, self.by_region = (
            _since(self.by_prefix, since_ms),
            _since(self.by_isp, since_ms),
            _since(self.by_region, since_ms),
        )
        self._minutes = {told: at_ms for told, at_ms in self._minutes.items() if at_ms > since_ms}

    def __len__(self) -> int:
        return len(self.by_prefix) + len(self.by_isp) + len(self.by_region)

    def __bool__(self) -> bool:
        """Whether anything is known of anybody."""
        return bool(self.by_prefix or self.by_isp or self.by_region)

    def predict_bps(self, prefix: str, isp_asn: int | None, region: str, oca_id: str) -> float | None:
        """Bit/s that a session of that prefix can expect of that server; None if unknown."""
        isp = None if isp_asn is None else self.by_isp.get((isp_asn, oca_id))
        return shrunk_bps(self.by_prefix.get((prefix, oca_id)), isp, self.by_region.get((region, oca_id)), self.now_ms)


def _since(level: dict[K, Evidence], since_ms: int) -> dict[K, Evidence]:
    return {key: evidence for key, evidence in level.items() if evidence.at_ms > since_ms}


def shrunk_bps(prefix: Evidence | None, isp: Evidence | None, region: Evidence | None, now_ms: int = 0) -> float | None:
    """The expected throughput of three levels of evidence, bit/s; None where none has seen a session."""
    mean: float | None = None
    for level in (region, isp, prefix):
        if level is None or level.sessions <= 0:
            continue
        sessions = level.sessions_at(now_ms)
        trust = 1.0 if mean is None else sessions / (sessions + PRIOR_SESSIONS)
        mean = level.mean_log_bps if mean is None else mean + trust * (level.mean_log_bps - mean)
    return None if mean is None else math.exp(mean)

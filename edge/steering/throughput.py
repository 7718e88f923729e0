"""How fast a client will get its bytes from a server: recent sessions of its prefix, shrunk to its ISP's, those to its region's. Pure.

Throughputs of sessions are log-normal, so means are of logarithms. A level with n sessions is believed by n / (n + `PRIOR_SESSIONS`), and
the level above it for the rest (empirical Bayes with a known ratio of variances: Efron and Morris, "Stein's Estimation Rule and Its
Competitors", 1973). What no level knows is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

PRIOR_SESSIONS = 8.0
"""Sessions of a prefix that count as much as all others of its ISP, and of an ISP as much as all others of its region."""


class Evidence(NamedTuple):
    """What sessions have shown: how many there were, faded with age or not, and the mean of ln(bit/s)."""

    sessions: float
    mean_log_bps: float


@dataclass(frozen=True)
class Throughput:
    """Evidence by who asked and who served: (prefix, oca_id), (AS number of the ISP, oca_id), (region, oca_id)."""

    by_prefix: Mapping[tuple[str, str], Evidence] = field(default_factory=dict)
    by_isp: Mapping[tuple[int, str], Evidence] = field(default_factory=dict)
    by_region: Mapping[tuple[str, str], Evidence] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is known of anybody."""
        return bool(self.by_prefix or self.by_isp or self.by_region)

    def predict_bps(self, prefix: str, isp_asn: int | None, region: str, oca_id: str) -> float | None:
        """Bit/s that a session of that prefix can expect of that server; None if unknown."""
        isp = None if isp_asn is None else self.by_isp.get((isp_asn, oca_id))
        return shrunk_bps(self.by_prefix.get((prefix, oca_id)), isp, self.by_region.get((region, oca_id)))


def shrunk_bps(prefix: Evidence | None, isp: Evidence | None, region: Evidence | None) -> float | None:
    """The expected throughput of three levels of evidence, bit/s; None where none has seen a session."""
    mean: float | None = None
    for level in (region, isp, prefix):
        if level is None or level.sessions <= 0:
            continue
        trust = 1.0 if mean is None else level.sessions / (level.sessions + PRIOR_SESSIONS)
        mean = level.mean_log_bps if mean is None else mean + trust * (level.mean_log_bps - mean)
    return None if mean is None else math.exp(mean)

"""What past sessions tell of one that begins: `playback.abr_features` folded, and a prior of its throughput for each question. Pure.

A session's prefix is believed as far as it has been seen, its ISP for the rest, then its region, then everybody: a place with n sessions
counts n / (n + `PRIOR_SESSIONS`) (empirical Bayes with a known ratio of variances: Efron and Morris, "Stein's Estimation Rule and Its
Competitors", 1973). Each place adds to what the places around it say already

- a shift of its own, after their times of day have been allowed for,
- a shift for the time of day,
- a shift for the device and network (ISPs, regions and everybody; a prefix is too small to be told apart),

each shrunk as far as it has been seen (an additive model: Hastie and Tibshirani, "Generalized Additive Models", 1986, fitted in one pass).
So a prefix that is known from mornings takes the evening of its ISP, and a cold one is its ISP.

Evidence is of the start-up phase of sessions, fades by half in `HALF_LIFE_MS` of event time, and now is the newest row of any place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from producers.abr.prior import Prior

PRIOR_SESSIONS = 8.0
"""Sessions of a place that count as much as all that is known of the place around it."""
PRIOR_VAR = 0.25
"""Variance among sessions, until some have been seen."""
LEAST_SD = 0.1
"""Nobody's throughput is known to less than a tenth before it is measured."""
HALF_LIFE_MS = 604_800_000
HOURS = 3
LEVELS = {"PREFIX": "client_prefix", "ISP": "isp_asn", "REGION": "region", "GLOBAL": "level"}
"""Which field says where a place of a level is."""
LOG_KILO = math.log(1000)
MOST_REMEMBERED = 50_000
"""Answers that are kept until the next row."""
MAX_LOG = 40.0
"""Of ln(bit/s), to either side: beyond is no throughput."""

Place = tuple[Any, ...]
"""A level and where."""
Used = tuple[str, str]
"""Device and network."""
EVERYBODY: Place = ("GLOBAL", "GLOBAL")
UNSEEN = ""
"""Where a place is of which nothing has been told: all of those are alike."""
Question = tuple[tuple[Place, ...], int | None, str | None, str | None]
"""Places from the widest on, time of day, device, network."""


class BadFeatures(ValueError):
    """A row that cannot be true; the message says which field, and nothing has been folded."""


class Evidence(NamedTuple):
    """What sessions of a cell have shown up to `at_ms`: how many, mean and variance among them of ln(kbit/s), variance within one."""

    sessions: float
    mean: float
    var: float
    within: float | None
    at_ms: int


class Effect(NamedTuple):
    """How far a cell is from what was expected of it, and how many sessions say so."""

    residual: float
    sessions: float

    @property
    def shrunk(self) -> float:
        """As far as it is believed."""
        return self.residual * self.sessions / (self.sessions + PRIOR_SESSIONS)


class _Place(NamedTuple):
    """What a place adds to the places around it, and the variances that are believed of it."""

    shift: float
    hours: dict[int, Effect]
    used: dict[Used, Effect]
    var: float
    within: float | None
    doubt: float
    """Variance of what is believed of the shift, those of the places around included."""


class Features:
    """The newest row of each cell. One thread folds; any thread asks meanwhile."""

    def __init__(self) -> None:
        self.now_ms = 0
        """The newest event_time of them all."""
        self._hours: dict[Place, dict[int, Evidence]] = {}
        self._used: dict[Place, dict[Used, Evidence]] = {}
        self._known: dict[tuple[Place, ...], _Place] = {}
        self._told: dict[Question, Prior | None] = {}

    def __len__(self) -> int:
        """Cells."""
        return sum(len(cells) for cells in list(self._hours.values())) + sum(len(cells) for cells in list(self._used.values()))

    def fold(self, row: Mapping[str, Any], at_ms: int) -> None:
        """Take one `playback.abr_features`, in place of what its cell was before; `at_ms` is its event_time. Raises BadFeatures."""
        level, hour = row["level"], row["hour"]
        if level not in LEVELS or not row[LEVELS[level]]:
            raise BadFeatures(f"level {level!r} of nowhere: it has one of {', '.join(LEVELS)}, and the field that says where")
        if hour is not None and hour not in range(0, 24, HOURS):
            raise BadFeatures(f"hour {hour}: a time of day begins at 0, {HOURS}, … {24 - HOURS}")
        starts, mean, var, within = (
            row[name] for name in ("starts", "start_mean_log_throughput", "start_var_log_throughput", "within_log_throughput")
        )
        if not (math.isfinite(starts) and starts >= 0.0):
            raise BadFeatures(f"starts {starts}: a number from 0")
        self.now_ms = max(self.now_ms, at_ms)
        if starts == 0.0:
            return
        if mean is None or not abs(mean) <= MAX_LOG:
            raise BadFeatures(f"start_mean_log_throughput {mean} is no throughput")
        if var is None or not 0.0 <= var <= MAX_LOG**2 or not (within is None or 0.0 <= within <= MAX_LOG**2):
            raise BadFeatures(f"start_var_log_throughput {var}, within_log_throughput {within}: no variances")
        place, evidence = (level, row[LEVELS[level]]), Evidence(starts, mean - LOG_KILO, var, within, at_ms)
        if hour is None:
            self._used[place] = {**self._used.get(place, {}), (row["device_type"], row["network_type"]): evidence}
        else:
            self._hours[place] = {**self._hours.get(place, {}), hour: evidence}
        self._known, self._told = {}, {}

    def prior(
        self,
        prefix: str = "",
        isp_asn: int | None = None,
        region: str = "",
        hour: int | None = None,
        device_type: str | None = None,
        network_type: str | None = None,
    ) -> Prior | None:
        """What to expect of a session there, at that `hour` of the day (UTC), on that; None while nobody has been seen.

        What is not known of it is left out: an empty prefix or region, None for the rest.
        """
        if EVERYBODY not in self._hours:
            return None
        places = (("REGION", region), ("ISP", isp_asn), ("PREFIX", prefix))
        chain = (EVERYBODY, *(place if place in self._hours or place in self._used else (place[0], UNSEEN) for place in places if place[1]))
        question = chain, None if hour is None else hour % 24 // HOURS * HOURS, device_type, network_type
        remembered = self._told  # a row puts another dictionary in its place
        try:
            return remembered[question]
        except KeyError:
            prior = self._prior(*question)
        if len(remembered) < MOST_REMEMBERED:
            remembered[question] = prior
        return prior

    def _prior(self, chain: tuple[Place, ...], bucket: int | None, device_type: str | None, network_type: str | None) -> Prior | None:
        known = self._place(chain)
        if known.within is None:
            return None
        seen = known.hours.get(bucket, Effect(0.0, 0.0)).sessions if bucket is not None else math.inf
        var = known.var + known.doubt + known.var / (seen + PRIOR_SESSIONS)
        sd = max(math.sqrt(var), LEAST_SD)
        return Prior(self._expected(chain, bucket, device_type, network_type), sd, known.within / sd**2)

    def _expected(self, chain: tuple[Place, ...], hour: int | None, device_type: str | None, network_type: str | None) -> float:
        """ln(kbit/s) of the innermost of some places."""
        total = 0.0
        for n in range(1, len(chain) + 1):
            known = self._place(chain[:n])
            total += known.shift
            if hour in known.hours:
                total += known.hours[hour].shrunk
            if device_type is not None or network_type is not None:
                total += _pooled(known.used, device_type, network_type).shrunk
        return total

    def _place(self, chain: tuple[Place, ...]) -> _Place:
        """What the innermost place of some adds to those around it."""
        remembered = self._known  # a row puts another dictionary in its place
        known = remembered.get(chain)
        if known is None:
            known = remembered[chain] = self._look(chain)
        return known

    def _look(self, chain: tuple[Place, ...]) -> _Place:
        place, around = chain[-1], chain[:-1]
        hours = {hour: (evidence, self._left(evidence)) for hour, evidence in self._hours.get(place, {}).items()}
        used = {pair: (evidence, self._left(evidence)) for pair, evidence in self._used.get(place, {}).items()}
        sessions = sum(left for _, left in hours.values())
        off = {hour: evidence.mean - self._expected(around, hour, None, None) for hour, (evidence, _) in hours.items()}
        mean_off = sum(off[hour] * left for hour, (_, left) in hours.items()) / sessions if sessions else 0.0
        outer = self._place(around) if around else None
        shift = Effect(mean_off, sessions).shrunk if outer else mean_off
        by_hour = {hour: Effect(off[hour] - shift, left) for hour, (_, left) in hours.items()}
        by_use = {
            pair: Effect(evidence.mean - self._expected(around, None, *pair) - shift, left) for pair, (evidence, left) in used.items()
        }
        scatter = sum(evidence.var * left for evidence, left in hours.values())
        var = (scatter + PRIOR_SESSIONS * (outer.var if outer else PRIOR_VAR)) / (max(sessions - len(hours), 0.0) + PRIOR_SESSIONS)
        within = [(evidence.within, left) for evidence, left in hours.values() if evidence.within is not None]
        if outer and outer.within is not None:
            within.append((outer.within, PRIOR_SESSIONS))
        weight = sum(left for _, left in within)
        if outer:
            doubt = (PRIOR_SESSIONS / (sessions + PRIOR_SESSIONS)) ** 2 * outer.doubt + var / (sessions + PRIOR_SESSIONS)
        else:
            doubt = var / sessions
        return _Place(shift, by_hour, by_use, var, sum(value * left for value, left in within) / weight if weight else None, doubt)

    def _left(self, evidence: Evidence) -> float:
        """How many of its sessions are left now."""
        return evidence.sessions * math.pow(2.0, -max(self.now_ms - evidence.at_ms, 0) / HALF_LIFE_MS)


def _pooled(used: Mapping[Used, Effect], device_type: str | None, network_type: str | None) -> Effect:
    """The effects of a device, a network or both, together."""
    found = [e for (device, network), e in used.items() if device_type in (None, device) and network_type in (None, network)]
    sessions = sum(effect.sessions for effect in found)
    return Effect(sum(effect.residual * effect.sessions for effect in found) / sessions if sessions else 0.0, sessions)

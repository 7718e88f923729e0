"""Stochastic model-predictive control: the plan that is best on average over what the network may do.

Planning over a horizon follows X. Yin, A. Jindal, V. Sekar, B. Sinopoli, "A Control-Theoretic Approach for Dynamic Adaptive Video Streaming
over HTTP", ACM SIGCOMM 2015; theirs takes one throughput for granted, this one a distribution, as F. Y. Yan et al., "Learning in situ:
a randomized experiment in video streaming", USENIX NSDI 2020. The distribution is that of exponential smoothing in its innovations form
(R. J. Hyndman, A. B. Koehler, J. K. Ord, R. D. Snyder, "Forecasting with Exponential Smoothing", Springer 2008, model ETS(A,N,N)) of
ln(kbit/s): y = m + σ·e, m' = m + g·σ·e, with e of Student's t, and m drawn back to a slower average. Its σ hardly follows
calm weather: in 3G networks a calm minute tells little about the next outage.

A session that begins with a prior is told more: what its mean may be, and how much segments differ within a session. For its first
`STARTS` segments throughput is a first-order autoregression about a mean that is known as far as that (G. E. P. Box, G. M. Jenkins, "Time
Series Analysis", 1970; the mean is filtered as in R. E. Kalman, 1960): m is the last sample, drawn to the mean that is believed by now, and
errors are normal. A dip is over after a few segments then, and the next ones may dare more than the last ones alone would let them.

Dynamic programming is exact on its grid: errors take 2·SIDE + 1 values, so m moves on a lattice of steps g·σ·STEP; the value is linear in
the buffer between points; the sizes of the coming segments are the true ones. Beyond the horizon a second of buffer has a worth that
falls to 0 where `enough_s` of it are held; at the end of the video it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, log, sqrt

import numpy as np
from numpy.typing import NDArray

from producers.abr.prior import Prior
from producers.abr.rewards import switching
from producers.abr.state import State

SIDE, REACH, STEP = 2, 3, 1.2
"""Errors are −SIDE … SIDE steps of so many σ; the lattice of m ends REACH steps away on both sides."""
POINTS, SPAN_S = 18, 34.0
"""Points of the buffer, and how much the last one stands for: what is beyond counts as that."""
SIGMA_MAX = 3.0
STARTS = 10
"""So many segments are planned with what a prior says of the session's mean and of its segments."""
PERSISTENCE = 0.8
"""So much of how far a segment is from its session's mean is left at the next: the best of 0.5, 0.65, 0.8 and 0.85 where seconds of
throughput are correlated by 0.82 to 0.97.
"""
SEGMENTS = 20
"""Of the sessions of which priors tell how much their segments vary about their own mean: as many as that take part of it away."""
LEAST_WITHIN, LEAST_DOUBT = 0.04, 0.01
"""Variances of ln(kbit/s): no network is steadier than that, whatever a prior says, and no mean better known."""
OUTAGE, OUTAGE_S = 0.0025, 15.0
"""How often nothing comes for how long while a told session begins, whatever is fetched: averages over sessions do not tell of outages."""
FARTHEST = 5.0
"""Of a mean from the last sample, in ln(kbit/s): to a plan nothing beyond differs."""
TOLD_WEIGHT = 8.0
"""Segments that the told variance within a session counts as, against those that it has had."""
LEAST_WEIGHT = 0.5
"""After the start a prior counts as samples, and one that tells less than half a segment does not count."""
REMEMBERED = 48
"""Older samples are forgotten: a decision's time does not grow with the session."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tuning:
    """The numbers of the plan; what they were chosen on stands with the policy's data."""

    gain: float
    """g, of the level m."""
    slow_gain: float
    """Of the average that m is drawn back to."""
    pull: float
    """How far per segment, as a share of the distance."""
    sigma: float
    """σ before anything is known, in ln(kbit/s)."""
    sigma_weight: float
    """Samples that this weighs as much as, for ever."""
    sigma_gain: float
    """Gain of the average of squared errors."""
    horizon: int
    """Segments that are planned."""
    worth: float
    """Of the first second of buffer beyond the horizon, in seconds of rebuffering."""
    enough_s: float
    """Where more buffer is worth nothing more."""


@dataclass(frozen=True)
class Forecast:
    """ln(kbit/s) of the next download, and how it goes on."""

    level: float
    sigma: float
    """Of the next download's error."""
    slow: float
    """What the level is drawn to."""
    later: float
    """σ of the downloads after the next one."""
    gain: float
    pull: float
    told: bool = False
    """Whether a prior says how throughput varies: errors are normal then, else of Student's t."""


@dataclass(frozen=True)
class Aim:
    """What a segment is worth: weight · u − rebuffer · s − up · max(u − before, 0) − down · max(before − u, 0)."""

    rebuffer: float
    up: float
    down: float
    weight: float


def forecast(tuning: Tuning, throughputs_kbps: Sequence[float], prior: Prior | None = None) -> Forecast | None:
    """What the samples, oldest first, and the prior say; None where both say nothing. At the start a prior that says anything is believed
    as `_told` has it; later it counts as `weight` samples at its mean, and one of less than `LEAST_WEIGHT` not at all.
    """
    if prior is not None and prior.weight > 0 and len(throughputs_kbps) < STARTS:
        return _told(throughputs_kbps, prior)
    if prior is not None and prior.weight < LEAST_WEIGHT:
        prior = None
    known = 0.0 if prior is None else prior.weight
    level = slow = 0.0 if prior is None else bounded(prior.mean_log_kbps)
    squares, weight = tuning.sigma_weight * tuning.sigma * tuning.sigma, tuning.sigma_weight
    begun = False
    gain, kept = tuning.sigma_gain, tuning.sigma_gain * tuning.sigma_weight
    for kbps in throughputs_kbps[-REMEMBERED:]:
        x = bounded(log(kbps))
        error = x - level
        known += 1
        slow += max(tuning.slow_gain, 1 / known) * (x - slow)
        level += max(tuning.gain, 1 / known) * error
        if begun:  # how far a session is from what was expected of it says nothing of how much it varies
            squares += error * error - gain * squares + kept * tuning.sigma * tuning.sigma
            weight += 1 - gain * weight + kept
        begun = True
    if known <= 0:
        return None
    unknown = 0.0 if prior is None else prior.sd_log_kbps * prior.weight / known
    sigma = min(sqrt(squares / weight + unknown * unknown), SIGMA_MAX)
    return Forecast(level, sigma, slow, sigma, tuning.gain, tuning.pull)


def _averaged(segments: int) -> float:
    """Of the variance of a segment about its session's mean, the share that the mean over so many in a row has."""
    total, left = 1.0, 1.0
    for lag in range(1, segments):
        left *= PERSISTENCE
        total += 2 * (1 - lag / segments) * left
    return total / segments


def _told(throughputs_kbps: Sequence[float], prior: Prior) -> Forecast:
    """The autoregression x' = mean + φ · (x − mean) + error: φ is `PERSISTENCE`, the mean normal, as the prior and the samples say."""
    sd, most = min(prior.sd_log_kbps, SIGMA_MAX), SIGMA_MAX * SIGMA_MAX
    within = min(max(prior.weight * sd * sd / (1 - _averaged(SEGMENTS)), LEAST_WITHIN), most)
    doubt = max(sd * sd - within * _averaged(STARTS), LEAST_DOUBT)
    mean = level = bounded(prior.mean_log_kbps)
    fresh = 1 - PERSISTENCE * PERSISTENCE
    squares = weight = TOLD_WEIGHT
    for at, kbps in enumerate(throughputs_kbps):
        x = bounded(log(kbps))
        share = 1 - PERSISTENCE if at else 1.0
        var = share * share * doubt + within * (fresh if at else 1.0)
        error = x - mean if not at else x - level - share * (mean - level)
        if at:  # as above
            squares += error * error / var
            weight += 1
        gain = doubt * share / var
        mean += gain * error
        doubt *= 1 - gain * share
        level = x
    within = min(within * squares / weight, most)
    pull = 1 - PERSISTENCE
    later = sqrt(within * fresh + pull * pull * doubt)
    mean = min(max(mean, level - FARTHEST), level + FARTHEST)
    return Forecast(level, later if throughputs_kbps else sqrt(within + doubt), mean, later, 1.0, pull, told=True)


def bounded(log_kbps: float) -> float:
    """Between 1 kbit/s and 485 Gbit/s: beyond, nothing that a plan could do differs."""
    return min(max(log_kbps, 0.0), 20.0)


def plan(tuning: Tuning, aim: Aim, state: State, expected: Forecast, penalty_s: float = 0.0) -> list[float]:
    """[level] what the next segment and the best plan after it are worth on average. `penalty_s` is added to the next download. Pure."""
    horizon = min(tuning.horizon, len(state.sizes))
    worth = np.array([state.worth(ahead) for ahead in range(horizon)])
    sizes = np.array([state.sizes[ahead] for ahead in range(horizon)])
    levels, width = sizes.shape[1], 2 * REACH + 1
    point = min(SPAN_S, state.buffer_max_s) / (POINTS - 1)
    later = odds, slowness, held_s, then = _lattice(expected, expected.later)

    buffers = point * np.arange(POINTS)
    if horizon == state.left:
        value = np.zeros((levels, width, POINTS))
    else:
        lack = np.maximum(1 - buffers / tuning.enough_s, 0.0)
        value = np.broadcast_to(aim.rebuffer * tuning.worth * tuning.enough_s / 2 * (1 - lack * lack), (levels, width, POINTS))
    every = np.arange(levels)[:, None, None] * width
    bases = (every + then) * POINTS
    for ahead in range(horizon - 1, 0, -1):
        delays = (sizes[ahead] * 8 / 1000)[:, None, None] * slowness + held_s
        after = _expected(value, bases, odds, delays, buffers, state.segment_s, point, aim.rebuffer)
        after += (aim.weight * worth[ahead])[:, None, None]
        cost = switching(aim.up, aim.down, worth[ahead] - worth[ahead - 1][:, None])
        value = (after - cost[:, :, None, None]).max(1)
    now = slice(REACH, REACH + 1)
    odds, slowness, held_s, then = later if expected.sigma == expected.later else _lattice(expected, expected.sigma)
    delays = (sizes[0] * 8 / 1000)[:, None, None] * slowness[now] + held_s + penalty_s
    buffer = np.array([state.buffer_s])
    after = _expected(value, (every + then[now]) * POINTS, odds[now], delays, buffer, state.segment_s, point, aim.rebuffer)
    before = state.worth_before()
    cost = switching(aim.up, aim.down, worth[0] - (worth[0] if before is None else before))
    return [float(one) for one in after[:, 0, 0] + aim.weight * worth[0] - cost]


def _lattice(expected: Forecast, sigma: float) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """(m, error) of each m of the lattice: the odds of each error of such a σ, seconds per kilobit with it; (error,) seconds that a
    download is held up besides; (m, error) where it leads. Told sessions have one error more: an outage.
    """
    width, sides, density = 2 * REACH + 1, range(-SIDE, SIDE + 1), _normal if expected.told else _student
    steps = [(at - REACH) * expected.gain * expected.later * STEP for at in range(width)]
    outages = [0] if expected.told else []
    errors = [side * STEP for side in (*sides, *outages)]
    odds = np.empty((width, len(errors)))
    for at, step in enumerate(steps):
        centre = expected.pull * (expected.slow - expected.level - step) / sigma
        densities = [density(side * STEP - centre) for side in sides]
        total = 0.0
        for one in densities:
            total += one
        share = 1 - OUTAGE if expected.told else 1.0
        odds[at] = [one / total * share for one in densities] + [OUTAGE for _ in outages]
    slowness = np.array([[exp(-(expected.level + step + sigma * error)) for error in errors] for step in steps])
    held_s = np.array([0.0 for _ in sides] + [OUTAGE_S for _ in outages])
    moves = np.array([floor(side * (sigma / expected.later) + 0.5) for side in (*sides, *outages)])
    return odds, slowness, held_s, np.clip(np.arange(width)[:, None] + moves, 0, width - 1)


def _student(error: float) -> float:
    """Student's t of 3 degrees of freedom, times a constant."""
    one = 1 + error * error / 3
    return 1 / (one * one)


def _normal(error: float) -> float:
    """The normal density, times a constant."""
    return exp(-error * error / 2)


def _expected(
    value: Floats, bases: NDArray[np.int64], odds: Floats, delays: Floats, buffers: Floats, segment_s: float, point: float, rebuffer: float
) -> Floats:
    """(level, m, buffer) the mean over errors of `value` after a download less its rebuffering. `delays` are (level, m, error) seconds."""
    left = buffers - delays[..., None]
    at = np.minimum((np.maximum(left, 0.0) + segment_s) / point, POINTS - 1.0)
    below = np.minimum(at.astype(np.int64), POINTS - 2)
    at -= below
    below += bases[..., None]
    flat = value.reshape(-1)
    low = flat[below]
    worth = low + at * (flat[below + 1] - low) + rebuffer * np.minimum(left, 0.0)
    worth *= odds[:, :, None]
    total: Floats = worth[:, :, 0]
    for error in range(1, worth.shape[2]):
        total = total + worth[:, :, error]
    return total

"""Stochastic model-predictive control: the plan that is best on average over what the network may do.

Planning over a horizon follows X. Yin, A. Jindal, V. Sekar, B. Sinopoli, "A Control-Theoretic Approach for Dynamic Adaptive Video Streaming
over HTTP", ACM SIGCOMM 2015; theirs takes one throughput for granted, this one a distribution, as F. Y. Yan et al., "Learning in situ:
a randomized experiment in video streaming", USENIX NSDI 2020. The distribution is that of exponential smoothing in its innovations form
(R. J. Hyndman, A. B. Koehler, J. K. Ord, R. D. Snyder, "Forecasting with Exponential Smoothing", Springer 2008, model ETS(A,N,N)) of
ln(kbit/s): y = m + σ·e, m' = m + g·σ·e, with e of Student's t, and m drawn back to a slower average. Its σ hardly follows
calm weather: in 3G networks a calm minute tells little about the next outage.

Dynamic programming is exact on its grid: errors take 2·SIDE + 1 values, so m moves on a lattice of steps g·σ·STEP; the value is linear in
the buffer between points; the sizes of the coming segments are the true ones. Beyond the horizon a second of buffer has a worth that
falls to 0 where `enough_s` of it are held; at the end of the video it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

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
LEAST_WEIGHT = 0.5
"""A prior that tells less than half a segment does is for the first choice: once one has come, a plan does better without."""
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
    """ln(kbit/s) of the next download: level and spread; and the slow average that the level is drawn to."""

    level: float
    sigma: float
    slow: float


@dataclass(frozen=True)
class Aim:
    """What a segment is worth: weight · u − rebuffer · s − up · max(u − before, 0) − down · max(before − u, 0)."""

    rebuffer: float
    up: float
    down: float
    weight: float


def forecast(tuning: Tuning, throughputs_kbps: Sequence[float], prior: Prior | None = None) -> Forecast | None:
    """What the samples, oldest first, and the prior say; None where both say nothing. A prior counts as `weight` samples at its mean, but
    one of less than `LEAST_WEIGHT` only while there is no sample.
    """
    if prior is not None and throughputs_kbps and prior.weight < LEAST_WEIGHT:
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
    return Forecast(level, min(sqrt(squares / weight + unknown * unknown), SIGMA_MAX), slow)


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
    errors = [(side - SIDE) * STEP for side in range(2 * SIDE + 1)]
    odds, slowness, then = _lattice(tuning, expected, errors)

    buffers = point * np.arange(POINTS)
    if horizon == state.left:
        value = np.zeros((levels, width, POINTS))
    else:
        lack = np.maximum(1 - buffers / tuning.enough_s, 0.0)
        value = np.broadcast_to(aim.rebuffer * tuning.worth * tuning.enough_s / 2 * (1 - lack * lack), (levels, width, POINTS))
    bases = (np.arange(levels)[:, None, None] * width + then) * POINTS
    for ahead in range(horizon - 1, 0, -1):
        delays = (sizes[ahead] * 8 / 1000)[:, None, None] * slowness
        after = _expected(value, bases, odds, delays, buffers, state.segment_s, point, aim.rebuffer)
        after += (aim.weight * worth[ahead])[:, None, None]
        cost = switching(aim.up, aim.down, worth[ahead] - worth[ahead - 1][:, None])
        value = (after - cost[:, :, None, None]).max(1)
    now = slice(REACH, REACH + 1)
    delays = (sizes[0] * 8 / 1000)[:, None, None] * slowness[now] + penalty_s
    buffer = np.array([state.buffer_s])
    after = _expected(value, bases[:, now], odds[now], delays, buffer, state.segment_s, point, aim.rebuffer)
    before = state.worth_before()
    cost = switching(aim.up, aim.down, worth[0] - (worth[0] if before is None else before))
    return [float(one) for one in after[:, 0, 0] + aim.weight * worth[0] - cost]


def _lattice(tuning: Tuning, expected: Forecast, errors: Sequence[float]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """(m, error) of each m of the lattice: the odds of each error, seconds per kilobit with it, and where it leads on the lattice."""
    width, sigma = 2 * REACH + 1, expected.sigma
    steps = [(at - REACH) * tuning.gain * sigma * STEP for at in range(width)]
    odds = np.empty((width, len(errors)))
    for at, step in enumerate(steps):
        centre = tuning.pull * (expected.slow - expected.level - step) / sigma
        density = [_density(error - centre) for error in errors]
        total = 0.0
        for one in density:
            total += one
        odds[at] = [one / total for one in density]
    slowness = np.array([[exp(-(expected.level + step + sigma * error)) for error in errors] for step in steps])
    then = np.clip(np.arange(width)[:, None] + np.arange(-SIDE, SIDE + 1), 0, width - 1)
    return odds, slowness, then


def _density(error: float) -> float:
    """Student's t of 3 degrees of freedom, times a constant."""
    one = 1 + error * error / 3
    return 1 / (one * one)


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

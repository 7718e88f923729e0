"""Is a known effect found as often as was planned, and does a covariate save as many units as theory says? On the simulator's members.

The members of `--world` (default: worlds/power.json) watch for some days, and for as many again: once without the first effect on watching
that the world knows, and once with it, on the same networks. So it is known of each member how long it watched before, how long it would
watch, and how long with the effect. `--sessions` experiments (default 10,000) then draw members and give each of the two by chance.

The covariate is the time watched before. Over experiments without an effect the variance of the estimate with it, over that without, is
held against 1 - ρ², with the members' own ρ. With the effect, experiments of as many units as were planned are counted that find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.bench.harness import Figure, Options, say
from producers.simulator.audience import Audience
from producers.simulator.timeline import NEVER, Traits, play
from producers.simulator.truth import truth
from producers.simulator.world import Effect, Own, World, load
from streams.experiments.statistics import effects, group_sequential, planning
from streams.experiments.statistics.always_valid import confidence_sequence
from streams.experiments.statistics.effects import effect
from streams.experiments.statistics.fixed import fixed_horizon
from streams.experiments.statistics.planning import Design
from streams.experiments.statistics.sufficient import Cuped, Mean

ALPHA = 0.05
EXPERIMENTS = 10_000
OWN, EFFECT = Own(watching=0.6, session_watching=0.7, activity=0.5, bandwidth=0.4), Effect(watching=1.15)
"""Of a world whose members have nothing of their own, or that knows of no effect on how long they watch."""
MOST_MEMBERS = 10_000
SESSIONS_EACH, DAYS = 4, 4
"""Of a member, on average, in each of the two times, which last so long."""
COHORT = 2_000
AA_UNITS, AA_TIMES = 1_000, 4
"""Units of a variation where there is no effect, and how many times as many experiments: a ratio of variances is known badly."""
FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]
LOOKS = 30
START_MS = 1_767_225_600_000

FIGURES = {
    "covariate_variance_off": Figure("share", 0.02, 0.02, higher=False),
    "covariate_variance_left": Figure("share"),
    "worst_power_off": Figure("share", 0.02, 0.02, higher=False),
    "power_fixed": Figure("share"),
    "power_fixed_with_covariate": Figure("share"),
    "power_group_sequential": Figure("share"),
    "power_always_valid": Figure("share"),
    "covariate_units_of_fixed": Figure("×"),
    "always_valid_units_of_fixed": Figure("×"),
    "always_valid_stops_at_of_fixed": Figure("×"),
    "bias": Figure("standard errors", 0.05, 0.05, higher=False),
}

Floats = NDArray[np.float64]
Chance = np.random.Generator


@dataclass(frozen=True)
class Members:
    """(members,) each, s: watched before, watched without the effect, watched with it."""

    before: Floats
    without: Floats
    given: Floats


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures: the experiments are the repetition."""
    experiments, chance = options.sessions or EXPERIMENTS, np.random.default_rng([options.seed, 1])
    with as_file(files("infra.bench") / "worlds" / "power.json") as own:
        members = watched(load(options.world or own), options.seed)
    x, y0, y1 = members.before, members.without, members.given
    rho = float(np.corrcoef(x, y0)[0, 1])
    say(f"{len(x):,} members watch {y0.mean():.0f} s, {y1.mean() - y0.mean():+.1f} s with the effect; ρ with the time before {rho:.3f}")
    left = covariate(members, AA_TIMES * experiments, chance)
    found = power(members, experiments, chance)
    return [
        {
            "covariate_variance_off": abs(left / (1 - rho**2) - 1),
            "covariate_variance_left": left,
            **found,
            "rho": rho,
            "members": len(x),
            "experiments": experiments,
        }
    ]


def watched(world: World, seed: int) -> Members:
    """Let the members of a world watch; MOST_MEMBERS of them at most."""
    known = (effect for arms in world.effects.values() for effect in arms.values() if effect.watching != 1)
    treatment = next(known, EFFECT)
    world = world.model_copy(update={"own": world.own or OWN, "members": min(world.members, MOST_MEMBERS)})
    audience = Audience(world, seed, START_MS)
    sums = np.zeros((3, world.members))
    rng, count = np.random.default_rng([seed, 0]), SESSIONS_EACH * world.members
    for period in range(2):
        for first in range(0, count, COHORT):
            began_ms = START_MS + period * DAYS * 86_400_000 + DAYS * 86_400_000 * first // count
            sessions = audience.sessions(period * count + first, np.sort(began_ms + rng.integers(0, 3_600_000, COHORT)), rng)
            plain, seeds = audience.traits(sessions, rng) or Traits.plain(COHORT), rng.integers(1 << 62)
            for column in (0,) if period == 0 else (1, 2):
                traits = plain.under(treatment) if column == 2 else plain
                lines = play(world, sessions, START_MS, np.random.default_rng(seeds), traits)
                told = sessions["pressed_ms"] + np.where(lines.silent_ms < NEVER, lines.silent_ms, 0)
                playing_s = truth(world, lines, told)["playing_ms"].to_numpy() / 1000
                np.add.at(sums[column], sessions["member"], playing_s)
    return Members(*sums)


def _both(members: Members, given: Floats, units: int, chance: Chance) -> list[Floats]:
    """(3, 2 variations, units): y, x and their product, of members drawn again and again; the second has what is `given`."""
    who = chance.integers(len(members.before), size=(2, units))
    x, y = members.before[who], np.array([members.without[who[0]], given[who[1]]])
    return [y, x, x * y]


def _cuped(y: Floats, x: Floats, xy: Floats) -> list[Cuped]:
    sums = np.array([y.sum(1), (y * y).sum(1), x.sum(1), (x * x).sum(1), xy.sum(1)]).T.tolist()
    return [Cuped(y.shape[1], *one) for one in sums]


def covariate(members: Members, experiments: int, chance: Chance) -> float:
    """Variance of the estimate with the covariate over that without, among experiments without an effect."""
    estimates = np.empty((experiments, 2))
    for number in range(experiments):
        a, b = _cuped(*_both(members, members.without, AA_UNITS, chance))
        estimates[number] = effect(a, b).estimate, effect(a.unadjusted(), b.unadjusted()).estimate
    with_it, without = (estimates**2).mean(0)  # about the truth, which is 0
    return float(with_it / without)


def power(members: Members, experiments: int, chance: Chance) -> dict[str, float]:
    """Shares of experiments that find the effect, at the units planned for 80 %, and what that costs."""
    x, y0, y1 = members.before, members.without, members.given
    truth_, both = float(y1.mean() - y0.mean()), np.concatenate([y0, y1])
    theta = float(np.cov(both, np.tile(x, 2))[0, 1] / x.var())
    plain = Design(truth_, float(y0.var()), float(y1.var()))
    adjusted = Design(truth_, float((y0 - theta * x).var()), float((y1 - theta * x).var()))
    shares = [(look + 1) / LOOKS for look in range(LOOKS)]
    plans = {
        "fixed": (planning.fixed_units(plain), [1.0]),
        "fixed_with_covariate": (planning.fixed_units(adjusted), [1.0]),
        "group_sequential": (planning.group_sequential_units(adjusted, FIVE), FIVE),
        "always_valid": (planning.always_valid_units(adjusted, LOOKS), shares),
    }
    upper = group_sequential.bounds(FIVE, ALPHA)
    found, stopped, away = dict.fromkeys(plans, 0), [], []
    for name, (units, information) in plans.items():
        for _ in range(experiments):
            looks = _looks(members, units, information, chance, name != "fixed")
            if name == "group_sequential":
                hit = any(one.estimate / one.standard_error > edge for one, edge in zip(looks, upper, strict=True))
            elif name == "always_valid":
                at = next((one.n for one in looks if confidence_sequence(one, ALPHA, planned_units=units).low > 0), 0)
                stopped.append(at or units)
                hit = at > 0
            else:
                hit = fixed_horizon(looks[-1], ALPHA).low > 0
                away.append((looks[-1].estimate - truth_) / looks[-1].standard_error)
            found[name] += hit
        say(f"power {name} {found[name] / experiments:.4f} with {units:,} units")
    fixed, with_covariate, always = (plans[name][0] for name in ("fixed", "fixed_with_covariate", "always_valid"))
    return {
        "worst_power_off": max(abs(count / experiments - plain.power) for count in found.values()),
        **{f"power_{name}": count / experiments for name, count in found.items()},
        "covariate_units_of_fixed": with_covariate / fixed,
        "always_valid_units_of_fixed": always / with_covariate,
        "always_valid_stops_at_of_fixed": float(np.mean(stopped)) / with_covariate,
        "bias": abs(float(np.mean(away))),
    }


def _looks(members: Members, units: int, information: Sequence[float], chance: Chance, adjusted: bool) -> list[effects.Effect]:
    """The effect at each look of an experiment of so many units at the end."""
    ends = np.array([round(units / 2 * share) for share in information])
    y, x, xy = _both(members, members.given, int(ends[-1]), chance)
    begins = np.array([0, *ends[:-1]])
    sums = [np.add.reduceat(one, begins, axis=1).cumsum(axis=1) for one in (y, y * y, x, x * x, xy)]
    of_a, of_b = (np.array([one[side] for one in sums]).T.tolist() for side in (0, 1))
    kept = slice(None) if adjusted else slice(2)
    kind: Any = Cuped if adjusted else Mean
    return [effect(kind(n, *a[kept]), kind(n, *b[kept])) for n, a, b in zip(ends.tolist(), of_a, of_b, strict=True)]

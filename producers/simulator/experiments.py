"""What experiments do to simulated members: who is dealt what, what is told of it, and what is truly the effect.

Members are allocated by the table that everybody allocates by, and told of as the gateway tells. What a variation does is the world's
`effects`. The true effect on a figure is what the same sessions would have had of it under each variation: they are played again, with the
same members, networks and habits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from producers.simulator.timeline import Traits
from producers.simulator.world import BadWorld, Effect, World
from schemas.allocation.definition import AnyDefinition, Experiment
from schemas.allocation.engine import Context
from schemas.allocation.play import Allocation

TOPIC = "experiments.exposure"
FIGURES = ("startup_ms", "playing_ms", "rebuffer_ms")
"""Of truth, those that effects are known of."""


class Exposed(NamedTuple):
    """An exposure that arrives at `at_ms`, or another event that is told one by one."""

    at_ms: int
    event_id: str
    event_time: int
    correlation_id: str
    event: Mapping[str, Any]
    topic: str = TOPIC


class Dealt(NamedTuple):
    """Of some sessions: variation's number by experiment, -1 where a session is not in it; and what is told."""

    variations: dict[str, NDArray[np.int64]]
    exposures: list[Exposed]


class Dealer:
    """Allocates members at their presses of play."""

    def __init__(self, world: World, definitions: Sequence[AnyDefinition]) -> None:
        """Raises BadWorld where the world knows effects of what is not defined, DefinitionError."""
        self._allocation = Allocation.of(definitions)
        self._arms = {one.key: [arm.key for arm in one.variations] for one in definitions if isinstance(one, Experiment)}
        for experiment, effects in world.effects.items():
            if experiment not in self._arms:
                raise BadWorld(f"effects: no experiment is called {experiment}; there are {', '.join(sorted(self._arms))}")
            for arm in effects:
                if arm not in self._arms[experiment]:
                    raise BadWorld(f"effects.{experiment}: no variation is called {arm}; there are {', '.join(self._arms[experiment])}")
        self._effects = {
            key: [world.effects[key].get(arm, Effect()) for arm in arms] for key, arms in self._arms.items() if key in world.effects
        }
        self._kinds, self._regions = [rig.kind for rig in world.rigs], list(world.regions)

    def deal(self, sessions: NDArray[Any]) -> Dealt:
        """What each of these sessions (audience.SESSION) is given when play is pressed."""
        count = len(sessions)
        found = {key: np.full(count, -1) for key in self._effects}
        exposures = []
        names = [np.ascontiguousarray(sessions[name]).view("S32").ravel().tolist() for name in ("member_id", "sid", "correlation_id")]
        about = [sessions[name].tolist() for name in ("pressed_ms", "rig", "region")]
        for at, (member, sid, correlation_id, pressed_ms, rig, region) in enumerate(zip(*names, *about, strict=True)):
            of = {"member_id": member.decode(), "device_type": self._kinds[rig], "region": self._regions[region]}
            decided = self._allocation.table.decide_all(Context(of, pressed_ms), self._allocation.flags)
            for one in (exposure for decision in decided.values() for exposure in decision.exposures):
                if one.inside and one.experiment in found:
                    found[one.experiment][at] = one.variation
            for number, event in enumerate(self._allocation.exposures(decided.values(), of)):
                named = f"{sid.decode()}-exposed-{number}"
                exposures.append(Exposed(pressed_ms, named, pressed_ms, correlation_id.decode(), {**event, "sid": sid.decode()}))
        return Dealt(found, exposures)

    def affected(self, traits: Traits, variations: Mapping[str, NDArray[np.int64]]) -> Traits:
        """`traits` as they are under these variations."""
        for key, effects in self._effects.items():
            for number, effect in enumerate(effects):
                traits = traits.under(effect, variations[key] == number)
        return traits

    def alternatives(self, variations: Mapping[str, NDArray[np.int64]]) -> list[tuple[str, str, dict[str, NDArray[np.int64]]]]:
        """(experiment, variation, variations of all experiments if everybody in that one had this variation)."""
        return [
            (key, arm, {**variations, key: np.where(variations[key] >= 0, number, -1)})
            for key in self._effects
            for number, arm in enumerate(self._arms[key])
        ]


class Effects:
    """Sums of what sessions would have had under each variation, against the experiment's first."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str, str], NDArray[np.float64]] = {}
        """(experiment, variation, figure) → sessions, Σ under the first variation, Σ under this one, Σ of squared differences."""

    def add(self, inside: Mapping[str, NDArray[np.bool_]], played: Mapping[tuple[str, str], pa.Table]) -> None:
        """Take the truth of the same sessions under each variation; those `inside` an experiment count for it."""
        first: dict[str, pa.Table] = {}
        for (experiment, variation), true in played.items():
            control = first.setdefault(experiment, true)
            if control is true:
                continue
            for figure in FIGURES:
                a, b = (np.asarray(one[figure].to_numpy(), float)[inside[experiment]] for one in (control, true))
                known = ~np.isnan(a) & ~np.isnan(b)
                a, b = a[known], b[known]
                self.merge({(experiment, variation, figure): np.array([len(a), a.sum(), b.sum(), ((b - a) ** 2).sum()])})

    def merge(self, sums: Mapping[tuple[str, str, str], NDArray[np.float64]]) -> None:
        """Add the sums of other sessions."""
        for key, one in sums.items():
            self.sums[key] = self.sums.get(key, 0) + one

    def told(self) -> list[dict[str, Any]]:
        """One object for each experiment, variation but the first, and figure: means, their difference and its standard error."""
        found = []
        for (experiment, variation, figure), (n, a, b, square) in self.sums.items():
            off = (b - a) / n if n else 0.0
            found.append({
                "experiment": experiment, "variation": variation, "figure": figure, "sessions": int(n),
                "first": a / n if n else None, "this": b / n if n else None, "effect": off if n else None,
                "standard_error": (max(0.0, square / n - off**2) / n) ** 0.5 if n else None,
            })  # fmt: skip
        return found

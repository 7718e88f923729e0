"""Who watches what, when, on what and over which network: drawn from a world and a seed, many sessions at once. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.simulator.timeline import Traits
from producers.simulator.world import World

SESSION = np.dtype([
    ("sid", "u1", 32), ("correlation_id", "u1", 32), ("member_id", "u1", 32), ("pressed_ms", "<i8"),
    ("title", "<i4"), ("rig", "<i4"), ("isp", "<i4"), ("region", "<i4"), ("member", "<i4"),
])  # fmt: skip
"""A session before it begins: names as the hexadecimal digits they are written with, when play is pressed (ms since 1970), and the
numbers of title, rig, ISP, region and member in the world."""
LEVELS = ("watching", "activity", "bandwidth")


class Audience:
    """Draws sessions. `start_ms` is when the world's faults and drift count from."""

    def __init__(self, world: World, seed: int, start_ms: int) -> None:
        self._world, self._seed, self._start_ms = world, seed, start_ms
        self._titles, self._rigs = world.all_titles, world.rigs
        self._regions = list(world.regions.values())
        self._levels: dict[str, NDArray[np.float64]] = {}
        self._places: dict[str, NDArray[np.float64]] = {}
        """Of each member: levels, and where device, network and region lie among all weights, from 0 to 1."""
        if world.own is not None:
            rng = np.random.default_rng([seed, 3])
            self._levels = {name: np.exp(getattr(world.own, name) * rng.standard_normal(world.members)) for name in LEVELS}
            self._places = {name: rng.random(world.members) for name in ("rig", "isp", "region")}
            self._coming = np.cumsum(self._levels["activity"])

    def load(self, at_ms: int) -> float:
        """The load of all regions at a time, as a share of what it is on average over a day without drift."""
        return sum(self._region_weights(at_ms)) / sum(region.weight for region in self._regions)

    def sessions(self, first: int, pressed_ms: NDArray[np.int64], rng: np.random.Generator) -> NDArray[Any]:
        """Sessions (SESSION) that begin at these times and are numbered from `first` on. Weights are those in the middle of them."""
        count = len(pressed_ms)
        at_ms = int(pressed_ms[count // 2])
        found = np.zeros(count, SESSION)
        found["pressed_ms"] = pressed_ms
        titles, rigs, isps = self._titles, self._rigs, self._world.isps
        if self._world.own is not None:
            found["member"] = np.searchsorted(self._coming, rng.random(count) * self._coming[-1], side="right")
        for name, weights in (
            ("title", self._weights("title", [t.cid for t in titles], [t.weight for t in titles], at_ms)),
            ("rig", self._weights("player", [r.player for r in rigs], [r.weight for r in rigs], at_ms)),
            ("isp", self._weights("isp", [i.asn for i in isps], [i.weight for i in isps], at_ms)),
            ("region", self._region_weights(at_ms)),
        ):
            shares = np.cumsum(weights)
            place = self._places[name][found["member"]] if name in self._places else rng.random(count)
            found[name] = np.searchsorted(shares, place * shares[-1], side="right").clip(max=len(weights) - 1)
        names = [b"%d/%d" % (self._seed, number) for number in range(first, first + count)]
        found["sid"], found["correlation_id"] = np.split(hashed(names, 32), 2, axis=1)
        # As the collector's pseudonyms look; whose they are is not to be found out here either.
        if self._world.own is None:
            found["member"] = rng.integers(self._world.members, size=count)
        found["member_id"] = hashed([b"member %d" % n for n in found["member"].tolist()], 16)
        return found

    def traits(self, sessions: NDArray[Any], rng: np.random.Generator) -> Traits | None:
        """What these sessions owe to their members; None where members have nothing of their own."""
        own = self._world.own
        if own is None:
            return None
        watching, bandwidth = (self._levels[name][sessions["member"]] for name in ("watching", "bandwidth"))
        of_session = np.exp(own.session_watching * rng.standard_normal(len(sessions)))
        plain = Traits.plain(len(sessions))
        return plain._replace(watch_ms=1000 * own.watch_s * watching * of_session, bandwidth=bandwidth)

    def _region_weights(self, at_ms: int) -> list[float]:
        hour = at_ms / 3_600_000
        load = [
            region.weight * (1 + region.swing * math.cos(math.tau * (hour + region.utc_offset_h - region.peak_h) / 24))
            for region in self._regions
        ]
        return self._weights("region", list(self._world.regions), load, at_ms)

    def _weights(self, of: str, names: Sequence[str | int], weights: Sequence[float], at_ms: int) -> list[float]:
        """Weights as they have drifted."""
        second = (at_ms - self._start_ms) / 1000
        factors: dict[str | int, float] = {}
        for drift in self._world.drift:
            if drift.of == of:
                factors[drift.name] = factors.get(drift.name, 1.0) * drift.at(second)
        return [weight * factors.get(name, 1.0) for name, weight in zip(names, weights, strict=True)]


def hashed(names: Sequence[bytes], size: int) -> NDArray[np.uint8]:
    """Hashes of `size` bytes, as hexadecimal digits: one row a name."""
    digests = b"".join([hashlib.blake2b(name, digest_size=size).digest() for name in names])
    return np.frombuffer(digests.hex().encode(), np.uint8).reshape(len(names), 2 * size)

"""Who watches what, when, on what and over which network: drawn from a world and a seed, many sessions at once. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.simulator.world import World

SESSION = np.dtype([
    ("sid", "u1", 32), ("correlation_id", "u1", 32), ("member_id", "u1", 32), ("pressed_ms", "<i8"),
    ("title", "<i4"), ("rig", "<i4"), ("isp", "<i4"), ("region", "<i4"),
])  # fmt: skip
"""A session before it begins: names as the hexadecimal digits they are written with, when play is pressed (ms since 1970), and the
numbers of title, rig, ISP and region in the world."""


class Audience:
    """Draws sessions. `start_ms` is when the world's faults and drift count from."""

    def __init__(self, world: World, seed: int, start_ms: int) -> None:
        self._world, self._seed, self._start_ms = world, seed, start_ms
        self._titles, self._rigs = world.all_titles, world.rigs
        self._regions = list(world.regions.values())

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
        for name, weights in (
            ("title", self._weights("title", [t.cid for t in titles], [t.weight for t in titles], at_ms)),
            ("rig", self._weights("player", [r.player for r in rigs], [r.weight for r in rigs], at_ms)),
            ("isp", self._weights("isp", [i.asn for i in isps], [i.weight for i in isps], at_ms)),
            ("region", self._region_weights(at_ms)),
        ):
            shares = np.cumsum(weights)
            found[name] = np.searchsorted(shares, rng.random(count) * shares[-1], side="right").clip(max=len(weights) - 1)
        names = [b"%d/%d" % (self._seed, number) for number in range(first, first + count)]
        found["sid"], found["correlation_id"] = np.split(_hexadecimal(names, 32), 2, axis=1)
        # As the collector's pseudonyms look; whose they are is not to be found out here either.
        found["member_id"] = _hexadecimal([b"member %d" % n for n in rng.integers(self._world.members, size=count).tolist()], 16)
        return found

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


def _hexadecimal(names: Sequence[bytes], size: int) -> NDArray[np.uint8]:
    """Hashes of `size` bytes, as hexadecimal digits: one row a name."""
    digests = b"".join([hashlib.blake2b(name, digest_size=size).digest() for name in names])
    return np.frombuffer(digests.hex().encode(), np.uint8).reshape(len(names), 2 * size)

"""Do our eviction policies miss what the reference misses, object for object?

A recorded trace (CloudPhysics, 113,872 requests of 48,974 objects) through LRU, FIFO, SIEVE and LFU of `edge.eviction` and of libCacheSim,
at eight capacities. On this trace SIEVE and LFU miss equally many, which is real: it says that ours are theirs, and nothing about which
policy is better.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from edge.eviction import POLICIES
from infra.bench import cachesim
from infra.bench.harness import Figure, Options, say

FIGURES = {
    "differences": Figure("misses", 0, 0, higher=False),
    "requests_per_s": Figure("requests/s"),
}
TRACE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cache" / "cloudPhysicsIO.oracleGeneral.bin"
CAPACITIES = [mib << 20 for mib in range(128, 1025, 128)]
THEIRS = {"LRU": "LRU", "FIFO": "FIFO", "SIEVE": "Sieve", "LFU": "LFU"}


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures: nothing in it is chance. Raises FileNotFoundError where the trace is not beside the checkout, NoPeer."""
    trace = np.fromfile(TRACE, cachesim.TRACE)
    requests = list(zip(trace["object"].tolist(), trace["bytes"].tolist(), strict=True))
    asked = [(name, capacity) for name in THEIRS for capacity in CAPACITIES]
    reference = cachesim.simulate(TRACE, [(THEIRS[name], capacity) for name, capacity in asked])
    began, differences, raw = time.perf_counter(), 0, {}
    for (name, capacity), theirs in zip(asked, reference, strict=True):
        cache = POLICIES[name](capacity)
        missed = sum(not cache.request(key, size) for key, size in requests)
        differences += abs(missed - theirs.requests)
        raw[f"{name.lower()}_{capacity >> 20}_mib"] = float(missed)
    rate = len(asked) * len(requests) / (time.perf_counter() - began)
    say(f"{len(asked)} runs of {len(requests):,} requests: {differences} misses of difference")
    return [{"differences": differences, "requests_per_s": rate, **raw}]

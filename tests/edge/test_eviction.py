"""Eviction: the reference's misses on a recorded trace, and what must hold on any."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.eviction import POLICIES, Fifo, Lfu, Lru, Policy, Sieve
from infra.bench.cachesim import TRACE, next_requests
from tests.kit import vectors

REFERENCE = {"LRU": (93_374, 71_704), "FIFO": (93_403, 72_140), "SIEVE": (91_699, 64_376), "LFU": (91_699, 64_376)}
"""Misses of libCacheSim at 128 MiB and at 1 GiB, as its own tests have them."""


def recorded() -> Path:
    return vectors("cache") / "cloudPhysicsIO.oracleGeneral.bin"


@pytest.mark.parametrize("name", REFERENCE)
def test_misses_are_the_references(name: str) -> None:
    trace = np.fromfile(recorded(), TRACE)
    requests = list(zip(trace["object"].tolist(), trace["bytes"].tolist(), strict=True))
    for mib, expected in zip((128, 1024), REFERENCE[name], strict=True):
        cache = POLICIES[name](mib << 20)
        assert sum(not cache.request(key, size) for key, size in requests) == expected


def test_the_next_request_is_found() -> None:
    trace = np.fromfile(recorded(), TRACE)
    assert (next_requests(trace["object"]) == trace["next"]).all()


def ask(cache: Policy, *keys: str) -> str:
    """Ask for objects of one byte: h for a hit, m for a miss."""
    return "".join("mh"[cache.request(key, 1)] for key in keys)


def test_fifo_forgets_what_came_first_though_it_was_asked_for() -> None:
    cache = Fifo(2)
    assert ask(cache, *"abaca") == "mmhmm"
    assert cache.evicted == ["a", "b"]


def test_lru_keeps_what_was_asked_for() -> None:
    cache = Lru(2)
    assert ask(cache, *"abaca") == "mmhmh"
    assert cache.evicted == ["b"]


def test_lfu_keeps_what_is_asked_for_often_and_of_equals_the_younger() -> None:
    cache = Lfu(3)
    assert ask(cache, *"aabcd") == "mhmmm"
    assert cache.evicted == ["b"]


def test_sieve_spares_the_marked_once() -> None:
    cache = Sieve(3)
    assert ask(cache, *"abcad") == "mmmhm"
    assert cache.evicted == ["b"], "a is marked and spared"
    assert ask(cache, "e") == "m"
    assert cache.evicted == ["b", "c"], "the hand goes on from where it was"
    assert ask(cache, *"af") == "hm"
    assert cache.evicted == ["b", "c", "d"]


@pytest.mark.parametrize("policy", POLICIES.values())
def test_what_cannot_be_is_refused(policy: type[Policy]) -> None:
    with pytest.raises(ValueError, match="positive"):
        policy(0)
    with pytest.raises(ValueError, match="-1 bytes"):
        policy(1).request("a", -1)


REQUESTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), max_size=200)


@pytest.mark.parametrize("policy", POLICIES.values())
@given(requests=REQUESTS, capacity=st.integers(1, 100))
def test_on_any_trace(policy: type[Policy], requests: list[tuple[int, int]], capacity: int) -> None:
    cache, held = policy(capacity), Counter[int]()
    for key, size in requests:
        there = key in held
        assert (key in cache) == there
        assert cache.request(key, size) == there, "a hit is an object that came and has not left"
        for victim in cache.evicted:
            del held[victim]  # type: ignore[arg-type]
        cache.evicted.clear()
        if not there and size <= capacity:
            held[key] = size
        assert cache.used_bytes == held.total() <= capacity

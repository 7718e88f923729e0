"""Links and network models."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice, pairwise, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.players.network import BadTrace, Link, Markov, recorded
from producers.players.population import NETWORKS, viewer
from tests.kit import vectors

BANDWIDTHS = st.lists(st.tuples(st.floats(1, 5_000), st.floats(0, 10_000)), min_size=1, max_size=8).filter(
    lambda s: any(k > 1 for _, k in s)
)


def endless(steps: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    while True:
        yield from steps


@given(BANDWIDTHS, st.integers(1, 200_000), st.lists(st.floats(0, 1), max_size=6))
def test_when_bytes_have_passed_does_not_depend_on_how_they_were_cut(
    steps: list[tuple[float, float]], size: int, cuts: list[float]
) -> None:
    whole = Link(endless(steps)).pass_bytes(0, size)
    link = Link(endless(steps))
    marks = sorted({0, size, *(round(size * cut) for cut in cuts)})
    last = 0.0
    for a, b in pairwise(marks):
        last = link.pass_bytes(0, b - a)
    assert last == pytest.approx(whole, rel=1e-6, abs=1e-3)


def test_bytes_take_as_long_as_the_bandwidth_says() -> None:
    link = Link(iter([(1_000.0, 800.0), (500.0, 0.0), (10_000.0, 1_600.0)]), start_ms=100)
    assert link.pass_bytes(100, 50_000) == 600
    assert link.pass_bytes(600, 60_000) == pytest.approx(100 + 1_500 + 50)
    assert link.pass_bytes(5_000, 200) == pytest.approx(5_001)


def test_the_same_seed_draws_the_same_network() -> None:
    model = NETWORKS[64499]
    first, second = (list(islice(model.steps(random.Random(7)), 200)) for _ in range(2))
    assert first == second != list(islice(model.steps(random.Random(8)), 200))
    for _, kbps in first:
        assert 0.6 * min(model.states_kbps) <= kbps <= 1.4 * max(model.states_kbps)


def test_a_markov_network_moves_to_neighbours_only() -> None:
    model = Markov((100, 1_000, 10_000), stay=0.5, rtt_ms=1, jitter=0)
    drawn = [kbps for _, kbps in islice(model.steps(random.Random(1)), 2_000)]
    assert {(100, 10_000), (10_000, 100)}.isdisjoint(pairwise(drawn))
    assert {100, 1_000, 10_000} == set(drawn)


def test_viewers_are_drawn_from_the_seed_and_differ() -> None:
    assert [viewer(n, 1) for n in range(50)] == [viewer(n, 1) for n in range(50)]
    drawn = [viewer(n, 1) for n in range(200)]
    assert {v.device.kind for v in drawn} == {"tv", "tablet", "web", "phone"}
    assert {v.device.asn for v in drawn} == set(NETWORKS)


def test_a_trace_is_read_and_a_bad_one_names_its_line(tmp_path: Path) -> None:
    (file := tmp_path / "t").write_text("0.0 9\n1.0 2.5\n3.0 0.5\n")
    assert recorded(file) == [(1000.0, 2500.0), (2000.0, 500.0)]
    for text, words in (("0 1\nx\n", ":2: expected"), ("0 1\n0 2\n", ":2: time must ascend"), ("0 1\n1 0\n", "no bandwidth")):
        file.write_text(text)
        with pytest.raises(BadTrace, match=words):
            recorded(file)


def test_every_recorded_trace_can_be_played() -> None:
    for path in sorted(vectors("abr/hsdpa_test").iterdir()):
        assert Link(cycle(recorded(path))).pass_bytes(0, 1_000_000) > 0


def test_a_constant_link_is_a_constant() -> None:
    link = Link(repeat((1000.0, 8.0)))
    assert [link.pass_bytes(0, 1) for _ in range(3)] == [1, 2, 3]

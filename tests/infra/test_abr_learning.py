"""The benchmark of what a prior is worth at a session's start: its world, its null world, its regret."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.bench.abr_learning import (
    DECISIONS,
    WORLD,
    BadWorld,
    World,
    bandwidth,
    begun,
    draw,
    judge,
    learned,
    load,
    null,
    prior_of,
    title,
    worths,
)
from producers.abr.environment import FIRST_LEVEL, Trace, play
from producers.abr.state import State

VIDEO = title(1)


def small() -> World:
    return load(WORLD).model_copy(update={"learned_days": 2, "sessions_a_day": 400, "judged": 6})


def trace(seed: int) -> Trace:
    mbps = bandwidth(small(), 7.5, np.random.default_rng(seed)) / 1000
    return Trace("t", tuple(float(second) for second in range(len(mbps) + 1)), (float(mbps[0]), *map(float, mbps)))


def cautious(state: State) -> int:
    """The level of half the last throughput; the environment's own at first."""
    kbps = state.throughputs_kbps[-1] / 2 if state.throughputs_kbps else state.bitrates_kbps[FIRST_LEVEL]
    return max([level for level, rate in enumerate(state.bitrates_kbps) if rate <= kbps], default=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_policy_begins_as_it_does_in_the_environment(seed: int) -> None:
    assert begun(cautious, trace(seed), VIDEO) == play(cautious, trace(seed), VIDEO).levels[:DECISIONS]


@pytest.mark.parametrize("seed", range(3))
def test_nobody_begins_better_than_the_clairvoyant(seed: int) -> None:
    link = trace(seed)
    free = max(worths([link], VIDEO, [level])[0] for level in range(6))
    lost = [free - worths([link], VIDEO, first)[0] for first in (begun(cautious, link, VIDEO), (0,) * DECISIONS, (5,) * DECISIONS)]
    assert min(lost) > -0.05  # the plans are found by a search on a grid
    assert lost[2] > 20 > lost[0]


def test_a_bound_plan_begins_as_it_must() -> None:
    """What one is bound to costs exactly what playing it costs, if nothing comes after it."""
    link, first = trace(1), (FIRST_LEVEL, 2, 0, 5, *[1] * 20)
    rewards = play(lambda state: first[len(first) - state.left], link, VIDEO).rewards
    delay_s = link_delay(link, VIDEO.sizes[0][FIRST_LEVEL])
    assert worths([link], VIDEO, first)[0] == pytest.approx(0.75 - 4.3 * delay_s + sum(rewards))


def link_delay(link: Trace, size: float) -> float:
    left, seconds = size, 0
    while left > (rate := link.mbps[seconds + 1] * 1e6 / 8 * 0.95):
        left -= rate
        seconds += 1
    return seconds + left / rate + 0.08


def test_the_null_world_has_the_same_sessions_elsewhere() -> None:
    days = draw(small(), 3)
    dealt = null(days, 3)
    for day, other in zip(days, dealt, strict=True):
        assert sorted(s.mean for s in day) == sorted(s.mean for s in other)
        assert [(s.prefix, s.began_ms) for s in day] == [(s.prefix, s.began_ms) for s in other]
    spread = [
        np.std([prior.mean_log_kbps for s in world[-1] if (prior := prior_of(learned(small(), world[:-1], 3), s))] or [0.0])
        for world in (days, dealt)
    ]
    assert spread[0] > 0.5 > 0.2 > spread[1]


def test_evenings_and_places_are_learned() -> None:
    days = draw(small(), 4)
    table = learned(small(), days[:-1], 4)
    off = [prior.mean_log_kbps - s.mean for s in days[1] if (prior := prior_of(table, s))]
    assert len(off) > 300
    assert np.sqrt(np.mean(np.square(off))) < 0.5 * np.std([s.mean for s in days[1]])


def test_sessions_without_a_prior_lose_the_same_either_way() -> None:
    world = small().model_copy(update={"second_sd": 0.0})  # a session's first segment tells all: nothing is worth telling before it
    found = judge(world, draw(world, 5), 5)
    assert found.told == 0
    assert found.without.tolist() == found.with_prior.tolist()


def test_a_world_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    file.write_text(WORLD.read_text().replace('"second_correlation": 0.9', '"second_correlation": 1.0'))
    with pytest.raises(BadWorld, match=r"world.json: second_correlation: Input should be less than 1"):
        load(file)

"""The benchmark of what a prior is worth at a session's start: its world, its null world, its regret."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.bench.abr_learning import (
    DECISIONS,
    WORLDS,
    BadWorld,
    Change,
    Drawn,
    Evening,
    Step,
    Wave,
    World,
    bandwidth,
    begun,
    best,
    draw,
    load,
    null,
    title,
    worths,
)
from producers.abr import policy
from producers.abr.environment import FIRST_LEVEL, Trace, play
from producers.abr.state import State

VIDEO = title(1)


EVENINGS = WORLDS / "evenings.json"


def small(world: str = "evenings", judged: int = 6) -> World:
    return load(WORLDS / f"{world}.json").model_copy(update={"learned_days": 2, "sessions_a_day": 400, "judged": judged})


def means(days: list[list[Drawn]]) -> list[float]:
    return [session.mean for session in days[-1]]


def trace(seed: int) -> Trace:
    session = replace(draw(small(), 1)[-1][0], mean=7.5)
    (mbps,) = bandwidth(small(), [session], np.random.default_rng(seed)) / 1000
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
    firsts = (begun(cautious, link, VIDEO), (0,) * DECISIONS, (5,) * DECISIONS)
    lost = best([link] * 3, VIDEO) - worths([link] * 3, VIDEO, firsts)
    assert min(lost) > -0.1  # the plans are found by a search on a grid
    assert lost[2] > 20 > lost[0]


def test_a_begun_session_is_worth_what_playing_it_is() -> None:
    """What one has begun with costs exactly what playing it costs, if nothing comes after it."""
    link, first = trace(1), (FIRST_LEVEL, 2, 0, 5, *[1] * 20)
    rewards = play(lambda state: first[len(first) - state.left], link, VIDEO).rewards
    delay_s = link_delay(link, VIDEO.sizes[0][FIRST_LEVEL])
    assert worths([link], VIDEO, [first[:-1]])[0] >= worths([link, link], VIDEO, [first, first])[1] - 1e-9
    assert worths([link], VIDEO, [first])[0] == pytest.approx(0.75 - 4.3 * delay_s + sum(rewards))


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


def told_spread(days: list[list[Drawn]]) -> float:
    """By how much what is told differs from session to session."""
    return float(np.std([prior.mean_log_kbps for prior in Evening(small(), days, 3).priors() if prior]))


def test_places_that_carry_nothing_tell_nothing_apart() -> None:
    days = draw(small(judged=40), 3)
    assert told_spread(days) > 0.8 > 0.4 > told_spread(null(days, 3))
    (prior,) = set(Evening(small(judged=40), days, 3).priors(apart=False))
    assert prior is not None
    assert abs(prior.mean_log_kbps - np.mean(means(days))) < 0.3
    assert prior.sd_log_kbps > 0.8


@pytest.mark.parametrize("world", ["evenings", "mobile"])
def test_evenings_and_places_are_learned(world: str) -> None:
    days = draw(small(world, 40), 4)
    evening = Evening(small(world), days, 4)
    assert all(evening.priors())
    assert evening.error(evening.priors()) < (0.5 if world == "evenings" else 0.75) * np.std(means(days))


def test_an_evening_is_a_step_or_a_wave() -> None:
    step, wave = Step(shape="step", from_h=18, until_h=24), Wave(shape="wave", peak_h=21)
    assert [step.weight(hour) for hour in (17.9, 18, 23.9, 0)] == [0, 1, 1, 0]
    assert [round(wave.weight(hour), 9) for hour in (21, 9, 15, 3)] == [1, 0, 0.5, 0.5]


def test_a_region_has_days_of_its_own() -> None:
    """Sessions of one region share what a day is like, those of others do not."""
    still = {"session_sd": 0.0, "prefix_sd": 0.0, "devices": {"tv": 1.0}, "popularity": 0.0}
    world = small("mobile", 300).model_copy(update=still)
    plain = [isp.model_copy(update={"session_sd": 0.0, "evening": 1.0, "devices": {}}) for isp in world.isps]
    found: dict[str, set[float]] = {}
    for session in draw(world.model_copy(update={"isps": tuple(plain)}), 5)[-1]:
        found.setdefault(session.isp.region, set()).add(round(session.mean - np.log(session.isp.kbps), 9))
    assert sorted(len(shifts) for shifts in found.values()) == [1, 1, 1]
    assert len(set.union(*found.values())) == 3


def test_sessions_without_a_prior_lose_the_same_either_way() -> None:
    evening = Evening(small(), draw(small(), 5), 5)
    lost = evening.lost(policy.load("untrained"), [None] * 6)
    assert lost.tolist() == evening.lost(policy.load("untrained"), [None] * 6).tolist()
    assert lost.tolist() != evening.lost(policy.load("untrained"), evening.knowing(evening.priors())).tolist()


def test_a_change_is_the_share_of_all_regret_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    without = rng.uniform(1, 3, (5, 200))
    change = Change(without, without * 0.7 + rng.normal(0, 0.1, without.shape))
    low, high = change.interval(1)
    assert low < change.cut < high
    assert change.cut == pytest.approx(0.3, abs=0.01)
    assert high - low < 0.02


def test_a_world_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    file.write_text(EVENINGS.read_text().replace('"second_correlation": 0.9', '"second_correlation": 1.0'))
    with pytest.raises(BadWorld, match=r"world.json: second_correlation: Input should be less than 1"):
        load(file)

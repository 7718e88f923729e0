"""The player that seeks, waits and abandons, and BOLA-E, which was made for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log

import numpy as np
import pytest

from producers.abr import bola, rb
from producers.abr.bola_e import BolaE, Choice, Progress, expected_kbps
from producers.abr.environment import Trace
from producers.abr.sabre import Plain, Seek, watch
from producers.abr.state import State
from tests.producers.abr.examples import CHUNK_S, state, steady, video

COLLAPSE = Trace("collapse", (0.0, 28.0, 90.0, 400.0), (6.0, 6.0, 0.25, 6.0))
"""6 Mb/s, but a minute of 0.25 Mb/s that begins while a segment is on its way."""


@dataclass
class Listening:
    """A chooser that always takes one level, and remembers what the player told it."""

    level: int
    pause_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    seeks: int = 0
    states: list[State] = field(default_factory=list)

    def choose(self, now: State) -> Choice:
        self.states.append(now)
        return Choice(self.level, self.pause_s)

    def waited(self, seconds: float) -> None:
        self.waits_s.append(seconds)

    def sought(self) -> None:
        self.seeks += 1

    def abandon(self, now: State, progress: Progress) -> int | None:
        return None


def test_a_steady_session_by_hand() -> None:
    watched = watch(Plain(lambda _: 1), steady(3.0), video(5))
    assert watched.played == (1,) * 5
    assert watched.startup_s == pytest.approx(0.75 * 4 / 3 + 0.08)
    assert watched.played_s == pytest.approx(5 * CHUNK_S)
    assert (watched.rebuffer_s, watched.rebuffers, watched.abandoned, watched.wasted_bytes) == (0, 0, 0, 0)
    assert watched.score == pytest.approx(log(2.5) * 20 / (20 + watched.startup_s))


def test_a_chunk_that_comes_late_is_rebuffering() -> None:
    watched = watch(Plain(lambda _: 0), steady(0.2), video(3), round_trip_s=0.0)
    assert watched.startup_s == pytest.approx(6)
    assert watched.rebuffer_s == pytest.approx(2 * (6 - CHUNK_S))
    assert watched.rebuffers == 2
    assert watched.score == pytest.approx(-5 * watched.rebuffer_s / (6 + 12 + 4))


def test_the_buffer_stays_below_its_target_and_the_chooser_is_told_of_waiting() -> None:
    chooser = Listening(0)
    watch(chooser, steady(20.0), video(30), buffer_target_s=14.0)
    assert max(now.buffer_s for now in chooser.states) <= 14.0 - CHUNK_S + 1e-9
    assert sum(chooser.waits_s) > 60
    assert all(now.buffer_max_s == 14.0 for now in chooser.states)


def test_a_pause_that_is_asked_for_is_made() -> None:
    hasty, patient = (watch(Listening(0, pause_s), steady(3.0), video(5), round_trip_s=0.0) for pause_s in (0.0, 6.0))
    assert hasty.rebuffer_s == 0
    assert patient.rebuffer_s == pytest.approx(4 * (6.0 + 0.4 - CHUNK_S))


def test_a_seek_leaves_the_buffer_and_goes_on_elsewhere() -> None:
    chooser = Listening(2)
    title = video(30)
    watched = watch(chooser, steady(20.0), title, buffer_target_s=20.0, seeks=[Seek(40.0, 80.0)])
    assert chooser.seeks == 1
    assert [now.left for now in chooser.states] == [*range(30, 20, -1), *range(10, 0, -1)]
    assert watched.wasted_bytes == pytest.approx(sum(title.sizes[0][2:3]) * (40 + 40 - watched.played_s) / CHUNK_S)
    assert 40 < watched.played_s < 80
    back = watch(Listening(2), steady(20.0), title, seeks=[Seek(40.0, 0.0)])
    assert len(back.played) > 30


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no chunk"):
        watch(Plain(lambda _: 0), steady(1.0), video(), buffer_target_s=3.0)
    with pytest.raises(ValueError, match="a seek leads to 192"):
        watch(Plain(lambda _: 0), steady(1.0), video(), seeks=[Seek(1.0, 192.0)])
    with pytest.raises(ValueError, match="level 6 of a ladder of 6"):
        watch(Plain(lambda _: 6), steady(1.0), video())


def test_bola_e_gives_up_a_download_that_a_collapsing_network_will_not_finish() -> None:
    watched = watch(BolaE(), COLLAPSE, video())

    class Stubborn(BolaE):
        def abandon(self, now: State, progress: Progress) -> int | None:
            return None

    stubborn = watch(Stubborn(), COLLAPSE, video())
    assert watched.abandoned > 0 == stubborn.abandoned
    assert watched.wasted_bytes > 0
    assert watched.rebuffer_s < stubborn.rebuffer_s / 4


def test_bola_e_starts_at_what_the_network_sustains_and_bola_at_the_bottom() -> None:
    enhanced, basic = watch(BolaE(), steady(3.5), video()), watch(Plain(bola.choose), steady(3.5), video())
    assert min(enhanced.played[1:5]) >= 3
    assert max(basic.played[:3]) == 0
    assert enhanced.score > basic.score


def test_bola_e_pauses_where_more_buffer_is_worth_nothing_to_the_level() -> None:
    chooser = BolaE()
    chooser.choose(state(buffer_max_s=25.0, buffer_s=8.0, throughputs_kbps=(800.0,), delays_s=(3.0,)))
    full = state(buffer_max_s=25.0, buffer_s=60.0, previous=1, throughputs_kbps=(400.0,) * 4, delays_s=(3.0,) * 4)
    assert chooser.choose(full).level <= 1 + 1
    assert chooser.choose(full).pause_s > 20


def test_bola_e_after_a_seek_trusts_throughput_again() -> None:
    chooser = BolaE()
    for _ in range(3):
        chooser.choose(state(buffer_s=20.0))
    chooser.sought()
    empty = state(buffer_s=0.0, throughputs_kbps=(6_000.0,) * 4, delays_s=(2.0,) * 4)
    assert chooser.choose(empty).level == 5


def test_throughput_is_the_more_careful_of_two_averages() -> None:
    assert expected_kbps(state(throughputs_kbps=(), delays_s=())) is None
    assert expected_kbps(state(throughputs_kbps=(800.0,) * 3, delays_s=(1.0, 2.0, 3.0))) == pytest.approx(800)
    rose = state(throughputs_kbps=(500.0, 2000.0), delays_s=(8.0, 8.0))
    assert expected_kbps(rose) == pytest.approx((500 * 0.5 * 0.5 + 2000 * 0.5) / 0.75)
    assert expected_kbps(replace(rose, throughputs_kbps=(2000.0, 500.0))) < 1000  # type: ignore[operator]


def test_over_many_networks_bola_e_is_worth_more_than_throughput_alone() -> None:
    rng = np.random.default_rng(1)
    enhanced, plain = [], []
    for number in range(20):
        mbps = np.exp(np.cumsum(rng.normal(0, 0.15, 400)) * 0.5 + rng.normal(0, 0.4, 400)) * 1.5
        trace = Trace(str(number), tuple(np.arange(400.0).tolist()), tuple(np.clip(mbps, 0.05, 50).tolist()))
        enhanced.append(watch(BolaE(), trace, video()).score)
        plain.append(watch(Plain(rb.choose), trace, video()).score)
    assert np.mean(enhanced) > np.mean(plain)

"""A rolling update: who is next, who must not be touched, and where it stops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.base.clock import FakeClock
from streams.delivery.rollout import LOOK_EVERY_S, ROOM, STEADY_S, Failed, Rollout, Standing, following, obstacle

OLD, NEW = "0.1.0", "0.2.0"


def server(oca_id: str, site: str = "", region: str = "eu", tier: str = "EMBEDDED_FLASH", load: float = 0.2, state: str = "UP") -> Standing:
    return Standing(oca_id, site or f"site of {oca_id}", region, tier, 1_000_000_000, state, load, 1, OLD)


A, B, C = server("a"), server("b", load=0.1), server("c", load=0.3)
STORAGE, ORIGIN = server("ix", tier="IX_STORAGE", load=0.0), server("origin", region="us", tier="ORIGIN", load=0.0)


def test_the_one_with_the_least_to_do_is_next_and_storage_is_last() -> None:
    fleet, left, order = [ORIGIN, STORAGE, A, B, C], {"a", "b", "c", "ix", "origin"}, []
    while left:
        oca_id, _ = following(left, fleet)
        assert oca_id is not None
        order.append(oca_id)
        left.remove(oca_id)
    assert order == ["b", "a", "c", "ix", "origin"]


@pytest.mark.parametrize(
    ("one", "others", "words"),
    [
        (replace(A, state="DEGRADED"), [B, C], "a is DEGRADED, not UP"),
        (replace(A, epoch=-1), [B, C], "a is silent, not UP"),
        (replace(A, state=""), [B, C], "a is of unknown health"),
        (A, [], "nobody else could serve the viewers of a in eu"),
        (A, [server("far", region="us")], "nobody else could serve"),
        (A, [replace(B, state="DOWN")], "nobody else could serve"),
        (server("a", "x"), [server("b", "x", state="DRAINING"), C, ORIGIN], "b of the same site x is DRAINING"),
        (replace(A, load=0.9), [replace(B, load=0.5), replace(C, load=0.9)], "a sends 900 Mbit/s .* no room for \\(300\\)"),
    ],
)
def test_who_cannot_be_done_without_is_left_alone_and_why_is_said(one: Standing, others: list[Standing], words: str) -> None:
    assert re.search(words, obstacle(one, [one, *others]))


@pytest.mark.parametrize("others", [[B], [STORAGE], [ORIGIN], [replace(B, state="DOWN"), STORAGE]])
def test_viewers_of_one_that_is_drained_go_to_its_region_or_to_storage(others: list[Standing]) -> None:
    assert not obstacle(A, [A, *others])


TIERS = st.sampled_from(["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"])
STATES = st.sampled_from(["UP", "DEGRADED", "DRAINING", "DOWN", ""])
WHERE = (st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.sampled_from(["eu", "us"]), TIERS)
SERVERS = st.lists(
    st.builds(Standing, *WHERE, st.integers(0, 10**10), STATES, st.floats(0, 1.5), st.integers(-1, 2), st.just(OLD)),
    unique_by=lambda one: one.oca_id,
)


@given(SERVERS)
def test_whoever_is_next_can_be_done_without(servers: list[Standing]) -> None:
    oca_id, obstacles = following({one.oca_id for one in servers}, servers)
    if oca_id is None:
        assert len(obstacles) == len(servers)
        return
    (one,) = (found for found in servers if found.oca_id == oca_id)
    others = [other for other in servers if other.oca_id != oca_id and other.is_up]
    assert one.is_up
    assert all(other.is_up for other in servers if other.site_id == one.site_id)
    assert sum(max(0.0, ROOM - other.load) * other.egress_bps for other in others) >= one.load * one.egress_bps


class Fleet:
    """Servers that come back as a test has it; time goes on as the update waits."""

    def __init__(self, *servers: Standing) -> None:
        self.clock = FakeClock()
        self.known = {one.oca_id: one for one in servers}
        self.drained: list[str] = []
        self.comes_back: Callable[[Standing, float], Standing] = back
        """How a server is so many seconds after it was drained."""
        self._since: dict[str, tuple[Standing, int]] = {}

    def servers(self) -> Mapping[str, Standing]:
        for oca_id, (before, at_ms) in self._since.items():
            self.known[oca_id] = self.comes_back(before, (self.clock.now_ms() - at_ms) / 1000)
        assert sum(not one.is_up for one in self.known.values()) <= 1, "two were away at once"
        return self.known

    def drain(self, oca_id: str) -> None:
        self.drained.append(oca_id)
        self._since[oca_id] = (self.known[oca_id], self.clock.now_ms())

    def listens(self, oca_id: str) -> bool:
        _, at_ms = self._since[oca_id]
        return self.clock.now_ms() - at_ms < 5_000


def back(before: Standing, after_s: float) -> Standing:
    """Five seconds to drain, four to start, three to be believed."""
    state = "DRAINING" if after_s < 5 else "DOWN" if after_s < 9 else "DEGRADED" if after_s < 12 else "UP"
    return replace(before, state=state) if after_s < 5 else replace(before, state=state, epoch=-1 if after_s < 9 else 2, software=NEW)


def rollout(fleet: Fleet, steps: list[tuple[str, ...]]) -> Rollout:
    return Rollout(fleet, NEW, fleet.clock, lambda words: None, lambda *step: steps.append(step))


def test_one_after_the_other_is_drained_and_comes_back() -> None:
    fleet, steps = Fleet(A, B, STORAGE), list[tuple[str, ...]]()
    rollout(fleet, steps).run({"a", "b", "ix"})
    assert fleet.drained == ["b", "a", "ix"]
    assert steps == [(oca_id, OLD, result, "") for oca_id in fleet.drained for result in ("STARTED", "DONE")]
    assert {one.software for one in fleet.servers().values()} == {NEW}


@pytest.mark.parametrize(
    ("comes_back", "words"),
    [
        (lambda before, after_s: replace(back(before, after_s), epoch=-1) if after_s >= 5 else before, "no new process has reported"),
        (lambda before, after_s: replace(back(before, after_s), software=OLD), "it came back with 0.1.0, not with 0.2.0"),
        (lambda before, after_s: back(before, min(after_s, 11)), "it is DEGRADED, not UP"),
        (
            lambda before, after_s: replace(back(before, after_s), epoch=3 if after_s > 13 else back(before, after_s).epoch),
            "it came back and ended again",
        ),
        (lambda before, after_s: back(before, 10 if after_s > 12 and not int(after_s) % int(STEADY_S) else after_s), "not UP"),
    ],
    ids=["stays away", "old version", "stays ill", "ends again", "flaps"],
)
def test_the_first_that_does_not_come_back_is_the_last_that_was_touched(
    comes_back: Callable[[Standing, float], Standing], words: str
) -> None:
    fleet, steps = Fleet(A, B, C), list[tuple[str, ...]]()
    fleet.comes_back = comes_back
    with pytest.raises(Failed, match=f"b: .*{words}.*Nothing was done to a, c.*headrace logs b"):
        rollout(fleet, steps).run({"a", "b", "c"})
    assert fleet.drained == ["b"]
    assert [step[2] for step in steps] == ["STARTED", "FAILED"]
    assert words in steps[-1][3]


def test_where_nobody_may_be_drained_nobody_is_and_why_is_said() -> None:
    fleet, steps = Fleet(A), list[tuple[str, ...]]()
    with pytest.raises(Failed, match=r"after 300 s no server may be drained: nobody else could serve the viewers of a in eu"):
        rollout(fleet, steps).run({"a"})
    assert (fleet.drained, steps, LOOK_EVERY_S > 0) == ([], [], True)

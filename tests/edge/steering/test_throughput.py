"""How fast a client will get its bytes: minutes of sessions that add up, fade, and are counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.steering.tables import Throughputs
from edge.steering.throughput import HALF_LIFE_MS, KEPT_MS, PRIOR_SESSIONS, Evidence, Throughput, both
from streams.folded import Unfit

MINUTE_MS = 60_000
NOW_MS = 1_800_000_000_000 // MINUTE_MS * MINUTE_MS
HOME, ISP, EU = "198.51.100.0/24", 64501, "eu"


def told(mean_bps: float = 8e6, sessions: float = 1, minutes_ago: float = 0) -> Evidence:
    return Evidence(sessions, math.log(mean_bps), NOW_MS - round(minutes_ago * MINUTE_MS))


def known(*minutes: tuple[str, Evidence], oca_id: str = "a") -> Throughput:
    """Of prefixes of one ISP and region."""
    table = Throughput()
    for prefix, minute in minutes:
        table.add(prefix, ISP, EU, oca_id, minute)
    return table


def record(**changes: Any) -> dict[str, Any]:
    about = {"marker": False, "client_prefix": HOME, "isp_asn": ISP, "region": EU, "oca_id": "a", "var_log_throughput": 0.0}
    return {
        **about,
        "event_time": datetime.fromtimestamp(NOW_MS / 1000, UTC),
        "sessions": 2,
        "mean_log_throughput": math.log(8e6),
        **changes,
    }


def test_what_is_told_is_predicted_for_prefix_isp_and_region() -> None:
    table = Throughputs()
    table.fold(record())
    assert table.table.by_prefix == {(HOME, "a"): Evidence(2, math.log(8e6), NOW_MS)}
    for asked in ((HOME, ISP, EU), ("192.0.2.0/24", ISP, EU), ("192.0.2.0/24", None, EU)):
        assert table.table.predict_bps(*asked, "a") == pytest.approx(8e6)
    assert table.table.predict_bps(HOME, ISP, EU, "b") is None
    assert len(table.table) == 3


@pytest.mark.parametrize(
    "change",
    [{"sessions": 0}, {"sessions": -3}, *({"mean_log_throughput": mean} for mean in (math.nan, math.inf, -math.inf, -0.1, 800.0))],
)
def test_what_cannot_be_is_refused_in_words_and_changes_nothing(change: dict[str, Any]) -> None:
    table = Throughputs()
    with pytest.raises(Unfit, match=r"delivery.throughput '198.51.100.0/24' of 'a': .* cannot be"):
        table.fold(record(**change))
    assert (len(table.table), table.table.now_ms) == (0, 0)


def test_a_minute_that_is_told_again_counts_once() -> None:
    table = known((HOME, told(minutes_ago=1)), (HOME, told()), (HOME, told(minutes_ago=1)), (HOME, told()))
    assert table.by_prefix[HOME, "a"].sessions == pytest.approx(1 + 2 ** (-MINUTE_MS / HALF_LIFE_MS))


def test_who_has_no_prefix_counts_for_isp_and_region_only() -> None:
    table = known(("", told()))
    assert (table.by_prefix, len(table)) == ({}, 2)
    table = Throughput()
    table.add("", None, "", "a", told())
    assert len(table) == 0


def test_what_a_prefix_showed_long_ago_gives_way_to_what_its_isp_shows_now() -> None:
    table = known((HOME, told(1e6, PRIOR_SESSIONS)))
    at_first = table.predict_bps(HOME, ISP, EU, "a")
    for minute in range(1, 61):
        table.add("192.0.2.0/24", ISP, EU, "a", told(16e6, 100, -minute))
    assert at_first == pytest.approx(1e6)
    assert table.predict_bps(HOME, ISP, EU, "a") == pytest.approx(16e6, rel=0.1)


def test_what_is_too_old_is_let_go_and_does_not_come_back() -> None:
    table = known((HOME, told()))
    later = NOW_MS + KEPT_MS + HALF_LIFE_MS
    table.add("192.0.2.0/24", ISP, EU, "b", Evidence(1, 15.0, later))
    assert {oca_id for level in (table.by_prefix, table.by_isp, table.by_region) for _, oca_id in level} == {"b"}
    table.add(HOME, ISP, EU, "a", told(minutes_ago=-1))
    assert table.predict_bps(HOME, ISP, EU, "a") is None


def test_a_minute_that_was_looked_at_meanwhile_is_whole() -> None:
    """The request path looks without a lock: what it has looked up stays what it was."""
    table = known((HOME, told()))
    before, level = table.by_prefix[HOME, "a"], table.by_prefix
    for minute in range(1, 200):
        table.add(HOME, ISP, EU, "a", told(4e6, 5, -minute))
    assert before == told()
    assert table.by_prefix is not level, "old evidence is swept into another dictionary"


MINUTES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10**6), st.floats(0, 30)).map(
    lambda parts: Evidence(parts[1], parts[2], NOW_MS - parts[0] * MINUTE_MS)
), min_size=1, max_size=20)  # fmt: skip


def added(minutes: Sequence[Evidence]) -> Evidence:
    found = None
    for minute in minutes:
        found = both(found, minute)
    assert found is not None
    return found


@given(MINUTES, st.randoms())
def test_evidence_adds_up_in_any_order_to_a_mean_that_fades(minutes: list[Evidence], chance: Any) -> None:
    shuffled = chance.sample(minutes, len(minutes))
    newest = max(minute.at_ms for minute in minutes)
    weights = [minute.sessions * 0.5 ** ((newest - minute.at_ms) / HALF_LIFE_MS) for minute in minutes]
    mean = sum(w * minute.mean_log_bps for w, minute in zip(weights, minutes, strict=True)) / sum(weights)
    for found in (added(minutes), added(shuffled)):
        assert found.at_ms == newest
        assert found.sessions == pytest.approx(sum(weights))
        assert found.mean_log_bps == pytest.approx(mean, abs=1e-9)


@given(
    st.lists(
        st.tuples(st.sampled_from([HOME, "192.0.2.0/24", ""]), st.integers(0, 200), st.integers(1, 1000), st.floats(0, 30)), max_size=30
    )
)
def test_a_prediction_is_a_number_within_what_was_told(minutes: list[tuple[str, int, int, float]]) -> None:
    table = Throughput()
    for prefix, minute, sessions, mean in minutes:
        table.add(prefix, ISP, EU, "a", Evidence(sessions, mean, NOW_MS + minute * MINUTE_MS))
    bps = table.predict_bps(HOME, ISP, EU, "a")
    means = [mean for *_, mean in minutes]
    assert (bps is None) == (not minutes)
    assert bps is None or min(means) - 1e-6 <= math.log(bps) <= max(means) + 1e-6

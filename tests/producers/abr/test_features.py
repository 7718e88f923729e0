"""What past sessions tell of one that begins."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from producers.abr import features
from producers.abr.features import BadFeatures, Features
from producers.abr.plan import LEAST_WEIGHT
from producers.abr.prior import Prior
from streams.playback import features as job
from streams.playback.features import PER_LOG, Session, rows

DAY_MS = 86_400_000
NOON_MS = 1_772_366_400_000  # 2026-03-01 12:00
EVENING_MS = NOON_MS + 8 * 3_600_000
HALF_HOUR_MS = 1_800_000
COLD = "203.0.113.0/24"


def session(kbps: float, at_ms: int = NOON_MS, **told: Any) -> Session:
    mean = round(PER_LOG * math.log(1000 * kbps))
    where = {"prefix": "192.0.2.0/24", "isp_asn": 64500, "region": "eu-1", "device_type": "tv", "network_type": "fibre"}
    return Session(
        **{"began_ms": at_ms, "over_ms": at_ms + HALF_HOUR_MS, "freedom": 9, "scatter": 9 * PER_LOG**2, "stalled": False}
        | where
        | {"mean": mean, "start_mean": mean}
        | told
    )


def folded(sessions: list[Session]) -> Features:
    table = Features()
    for row in rows(sessions):
        table.fold(row, row["event_time"])
    return table


def kbps(prior: Prior | None) -> float:
    assert prior is not None
    return math.exp(prior.mean_log_kbps)


def test_what_the_job_and_the_fold_both_say() -> None:
    assert (features.HALF_LIFE_MS, features.HOURS) == (1000 * job.HALF_LIFE_S, job.HOURS)


def test_before_anybody_was_seen_nothing_is_known() -> None:
    assert Features().prior("192.0.2.0/24", 64500, "eu-1", 12) is None


def test_a_prefix_is_believed_as_far_as_it_was_seen() -> None:
    fast = [session(8_000, prefix="198.51.100.0/24") for _ in range(400)]
    few, many = (folded([*fast, *(session(1_000) for _ in range(n))]) for n in (4, 100))
    known = [kbps(table.prior("192.0.2.0/24", 64500, "eu-1", 12)) for table in (few, many)]
    assert 1_000 < known[1] < 1_300 < 2_000 < known[0] < 8_000
    assert kbps(few.prior("198.51.100.0/24", 64500, "eu-1", 12)) == pytest.approx(8_000, rel=0.05)


def test_a_cold_prefix_is_its_isp_and_a_cold_isp_its_region() -> None:
    table = folded(
        [session(1_000) for _ in range(300)]
        + [session(4_000, isp_asn=64501, prefix="198.51.100.0/24") for _ in range(300)]
        + [session(16_000, isp_asn=64502, prefix="198.18.0.0/24", region="us-1") for _ in range(300)]
    )
    assert kbps(table.prior(COLD, 64500, "eu-1", 12)) == pytest.approx(1_000, rel=0.1)
    assert kbps(table.prior(COLD, 64501, "eu-1", 12)) == pytest.approx(4_000, rel=0.1)
    assert kbps(table.prior(COLD, 65000, "eu-1", 12)) == pytest.approx(2_000, rel=0.1)
    assert kbps(table.prior(COLD, 65000, "af-1", 12)) == pytest.approx(4_000, rel=0.1)
    assert kbps(table.prior()) == pytest.approx(4_000, rel=0.1)


def test_a_prefix_known_from_noon_takes_the_evening_of_its_isp() -> None:
    """The ISP halves in the evening; this prefix is twice as fast as its others and was never seen then."""
    others = [
        session(speed, at_ms, prefix=f"10.0.{n}.0/24")
        for n in range(50)
        for at_ms, speed in ((NOON_MS, 4_000), (EVENING_MS, 2_000))
        for _ in range(40)
    ]
    table = folded([*others, *(session(8_000) for _ in range(200))])
    assert kbps(table.prior("192.0.2.0/24", 64500, "eu-1", 12)) == pytest.approx(8_000, rel=0.1)
    assert kbps(table.prior("192.0.2.0/24", 64500, "eu-1", 20)) == pytest.approx(4_000, rel=0.15)
    assert kbps(table.prior(COLD, 64500, "eu-1", 19)) < kbps(table.prior(COLD, 64500, "eu-1", 13)) / 1.7


def test_device_and_network_count_where_they_are_told() -> None:
    table = folded(
        [session(8_000) for _ in range(200)] + [session(2_000, device_type="phone", network_type="cellular") for _ in range(200)]
    )
    asked = {
        told: kbps(table.prior(COLD, 64500, "eu-1", 12, *told))
        for told in [("tv", "fibre"), ("phone", "cellular"), ("phone", None), (None, "fibre"), (None, None), ("web", "wifi")]
    }
    assert asked["tv", "fibre"] == asked[None, "fibre"] == pytest.approx(8_000, rel=0.1)
    assert asked["phone", "cellular"] == asked["phone", None] == pytest.approx(2_000, rel=0.1)
    assert asked[None, None] == asked["web", "wifi"] == pytest.approx(4_000, rel=0.05)


def test_old_evidence_gives_way() -> None:
    """A place that has not been seen for weeks goes back to what is around it."""
    old = [session(1_000) for _ in range(16)]
    around = [session(8_000, prefix="198.51.100.0/24", isp_asn=64501) for _ in range(100)]
    fresh = folded([*old, *around])
    later = folded([*old, *(session(8_000, NOON_MS + 42 * DAY_MS, prefix="198.51.100.0/24", isp_asn=64501) for _ in range(100))])
    assert kbps(fresh.prior("192.0.2.0/24", 64500, "eu-1", 12)) < 2_000 < 6_000 < kbps(later.prior("192.0.2.0/24", 64500, "eu-1", 12))


def test_the_spread_is_that_of_sessions_and_more_where_little_is_known() -> None:
    random = Random(3)
    table = folded([session(math.exp(random.gauss(8.0, 0.4)), prefix=f"10.0.{n % 20}.0/24") for n in range(2_000)])
    warm, cold = (table.prior(prefix, 64500, "eu-1", 12) for prefix in ("10.0.3.0/24", COLD))
    assert warm is not None
    assert cold is not None
    assert warm.sd_log_kbps == pytest.approx(0.4, rel=0.15)
    assert warm.sd_log_kbps < cold.sd_log_kbps < 0.6
    assert warm.weight == pytest.approx(1.0 / warm.sd_log_kbps**2, rel=0.05)


def test_priors_are_calibrated() -> None:
    """Of sessions of prefixes that differ, the prior's 90 % band holds nine of ten, seen prefixes and cold ones alike."""
    random = Random(5)
    speeds = {f"10.0.{n}.0/24": random.gauss(8.0, 0.5) for n in range(120)}
    seen = list(speeds)[:60]
    table = folded([session(math.exp(random.gauss(speeds[p], 0.4)), prefix=p) for p in seen for _ in range(random.randrange(1, 40))])
    inside = []
    for prefix, speed in speeds.items():
        prior = table.prior(prefix, 64500, "eu-1", 12)
        assert prior is not None
        inside += [abs(random.gauss(speed, 0.4) - prior.mean_log_kbps) < 1.645 * prior.sd_log_kbps for _ in range(50)]
    assert 0.85 < sum(inside) / len(inside) < 0.96


def test_where_any_session_may_be_anything_little_is_told() -> None:
    """Segments of the session itself then tell more than all sessions before it; it is told all the same, for the start."""
    random = Random(7)
    found = [
        folded([session(math.exp(random.gauss(8.0, sd))) for _ in range(300)]).prior("192.0.2.0/24", 64500, "eu-1", 12) for sd in (1.6, 0.8)
    ]
    weights = [prior.weight for prior in found if prior is not None]
    assert weights[0] < LEAST_WEIGHT < weights[1]


def test_a_later_row_of_a_cell_stands_in_place_of_the_one_before() -> None:
    table, again = Features(), Features()
    found = list(rows([session(1_000), session(4_000, NOON_MS + HALF_HOUR_MS)]))
    for row in found:
        table.fold(row, row["event_time"])
    for row in found[len(found) // 2 :]:
        again.fold(row, row["event_time"])
    assert table.prior("192.0.2.0/24", 64500, "eu-1", 12) == again.prior("192.0.2.0/24", 64500, "eu-1", 12)
    assert len(table) == len(again) == 7


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"level": "CITY"}, "CITY"),
        ({"client_prefix": ""}, "says where"),
        ({"hour": 4}, "hour 4"),
        ({"starts": math.nan}, "starts nan"),
        ({"starts": -1.0}, "starts -1"),
        ({"start_mean_log_throughput": math.inf}, "inf is no throughput"),
        ({"start_mean_log_throughput": None}, "None is no throughput"),
        ({"start_var_log_throughput": -0.1}, "no variances"),
        ({"within_log_throughput": math.nan}, "no variances"),
    ],
    ids=str,
)
def test_what_cannot_be_true_is_refused_and_changes_nothing(wrong: dict[str, Any], words: str) -> None:
    table = folded([session(4_000) for _ in range(20)])
    before = table.prior("192.0.2.0/24", 64500, "eu-1", 12)
    row = next(row for row in rows([session(100)]) if row["level"] == "PREFIX")
    with pytest.raises(BadFeatures, match=words):
        table.fold({**row, **wrong}, NOON_MS)
    assert table.prior("192.0.2.0/24", 64500, "eu-1", 12) == before


@pytest.mark.parametrize("wrong", [(math.nan, 1.0, 1.0), (8.0, -1.0, 1.0), (8.0, 1.0, math.inf)], ids=str)
def test_a_prior_that_cannot_be_is_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="finite number"):
        Prior(*wrong)

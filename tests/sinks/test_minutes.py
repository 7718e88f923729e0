"""What is asked of the minutes: rows that add up, quantiles from buckets, and who stands out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.base import warehouse
from schemas.catalogue import catalogue
from sinks import migrate
from streams.playback.minute import RELATIVE_ERROR, bucket

FROM = datetime(2026, 1, 1, 20, tzinfo=UTC)
PLAYERS = ("tv/1.0", "tv/2.0", "phone/7.0")
ISPS = (64500, 64501, 64502)
SESSIONS = 300
DIMENSIONS = ("minute", "cid", "device_type", "player", "region", "isp_asn", "oca_id")


@pytest.fixture
def client(place: str) -> Any:
    """A warehouse with the minutes' table and views."""
    made = warehouse.writer("default")
    migrate.migrate(made, catalogue().landed(), migrate.objects())
    return made


def row(minute: int, **more: Any) -> dict[str, Any]:
    """What a minute adds, `minute` minutes after FROM."""
    at = FROM + timedelta(minutes=minute)
    told = {"cid": "t", "device_type": "tv", "player": PLAYERS[0], "region": "eu", "isp_asn": ISPS[0], "oca_id": "oca-1"}
    return {"event_id": "x", "event_time": at, "minute": at, "marker": False, **told, **more}


def store(client: Any, rows: list[dict[str, Any]]) -> None:
    for number, one in enumerate(rows):
        one["topic_offset"] = number
    names = sorted({name for one in rows for name in one})
    empty = {name: {} if name in ("startup_ms", "ttfb_ms", "throughput_kbps") else 0 for name in names}
    client.insert("playback_qoe_minute", [[one.get(name, empty[name]) for name in names] for one in rows], column_names=names)


def test_a_minute_is_the_sum_of_its_rows(client: Any) -> None:
    store(client, [
        row(0, sessions=2, playing_ms=90_000, ttfb_ms={"18": 3, "20": 1}),
        row(0, sessions=-1, playing_ms=-30_000, ttfb_ms={"18": 1}),
        row(1, sessions=1, playing_ms=60_000, ttfb_ms={"18": 2}),
        row(2, sessions=1, ttfb_ms={"18": 1}),
        row(2, sessions=-1, ttfb_ms={"18": -1}),
        {**row(1), "marker": True, "playing_ms": 7},
    ])  # fmt: skip
    asked = client.query("SELECT sessions, playing_ms, ttfb_ms FROM qoe_minute ORDER BY minute").result_rows
    assert asked == [(1, 60_000, {"18": 4, "20": 1}), (1, 60_000, {"18": 2})]


def test_quantiles_of_any_roll_up_are_within_the_stated_error(client: Any) -> None:
    values = [7 * n % 40_000 + 1 for n in range(4_000)]
    rows = [row(n % 5, player=PLAYERS[n % 3], startup_ms={str(bucket(value)): 1}) for n, value in enumerate(values)]
    store(client, [*rows, row(2, startup_ms={"5": 1}), row(2, startup_ms={"5": -1})])
    asked = "SELECT sum(observations), quantilesExactWeighted(0.5, 0.95, 0.99)(value, observations) FROM qoe_minute_values"
    ((observations, found),) = client.query(f"{asked} WHERE metric = 'startup_ms'").result_rows
    exact = [sorted(values)[int(share * len(values))] for share in (0.5, 0.95, 0.99)]
    assert observations == len(values)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR + 0.001)  # neighbouring values are 1 apart


def evening(bad_from: int, minutes: int) -> list[dict[str, Any]]:
    """Minutes in which one ISP is slow as ever, and from one minute on one player fails a twentieth of its sessions."""
    rows = []
    for minute in range(minutes):
        for player in PLAYERS:
            for isp in ISPS:
                failed = 15 if player == PLAYERS[1] and minute >= bad_from else 3
                rebuffer_ms = 1_200_000 if isp == ISPS[2] else 180_000
                rows.append(row(
                    minute, player=player, isp_asn=isp, device_type=player.partition("/")[0], sessions=SESSIONS, failed_starts=failed,
                    playing_ms=60_000 * SESSIONS - rebuffer_ms, rebuffer_ms=rebuffer_ms, requests=9_000, failed_requests=27,
                ))  # fmt: skip
    return rows


def ranked(client: Any, minute: int) -> list[tuple[Any, ...]]:
    """(dimension, member, metric) of a minute's anomalies, the worst first."""
    found = client.query(
        "SELECT dimension, member, metric FROM qoe_anomalies WHERE minute = {at:DateTime64(3, 'UTC')} ORDER BY rank",
        parameters={"at": FROM.replace(tzinfo=None) + timedelta(minutes=minute)},
    )
    return [tuple(one) for one in found.result_rows]


def test_a_player_that_goes_bad_is_the_top_anomaly_at_once_and_what_was_ever_slow_is_none(client: Any) -> None:
    store(client, evening(bad_from=20, minutes=23))
    for minute in (20, 21, 22):
        assert ranked(client, minute)[0] == ("player", PLAYERS[1], "failed")
        assert "64502" not in {member for _, member, _ in ranked(client, minute)}
    assert ranked(client, 19) == []


def test_who_has_no_past_is_held_against_the_others(client: Any) -> None:
    store(client, evening(bad_from=0, minutes=3))
    assert ("player", PLAYERS[1], "failed") in ranked(client, 0)


def test_few_sessions_are_no_anomaly(client: Any) -> None:
    store(client, [*evening(bad_from=99, minutes=1), row(0, player="rare/0.1", sessions=3, failed_starts=3)])
    assert "rare/0.1" not in {member for _, member, _ in ranked(client, 0)}

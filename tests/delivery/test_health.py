"""What is thought of cache servers: silence by event time, agreement of witnesses, a quorum, recovery, lies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Encoder
from streams.delivery.health import LATELY_MS, PROBATION_MS, QUORUM, RELAPSE_MS, SILENT_MS, WELL_MS, Servers, Verdict, incredible, load_of
from streams.delivery.oca_health import Teller

START_MS = 1_700_000_000_000
EVERY_MS = 500
GOOD: dict[str, Any] = {
    "oca_id": "a", "epoch": 1, "state": "SERVING", "interval_ms": EVERY_MS,
    "requests": 20, "errors": 0, "bytes": 1_000_000, "connections": 2,
    "ttfb_p99_us": 900, "probe_us": 700, "egress_bps": 100_000_000, "disk_bytes": 10**12, "held_bytes": 10**9, "throttle": 0.0,
}  # fmt: skip


class Stage:
    """Servers that report every half second on one partition each, and a clock."""

    def __init__(self, *names: str) -> None:
        self.servers = Servers()
        self.now_ms = START_MS
        self.says = {name: {**GOOD, "oca_id": name} for name in names}
        self.partition = dict.fromkeys(names, 0)
        self.go_on(EVERY_MS)

    def go_on(self, for_ms: int) -> None:
        """All that have something to say say it, until so much later."""
        for _ in range(for_ms // EVERY_MS):
            self.now_ms += EVERY_MS
            for name, report in self.says.items():
                if report:
                    self.servers.report(report, self.partition[name], self.now_ms, self.now_ms)
            list(self.servers.verdicts())  # the agent looks more often than this

    def fail(self, name: str, *sids: str) -> None:
        for sid in sids:
            self.servers.failed({"oca_id": name, "sid": sid, "switched_from": None}, self.now_ms)

    def of(self, name: str) -> Verdict:
        return {verdict.oca_id: verdict for verdict in self.servers.verdicts()}[name]

    def state(self, name: str = "a") -> str:
        return self.of(name).state


def test_a_server_that_reports_is_up() -> None:
    assert (Stage("a").state(), Stage("a").of("a").load) == ("UP", pytest.approx(0.16))


def test_silence_is_down_within_two_seconds_and_nobody_else_is() -> None:
    stage = Stage("a", "b")
    stage.says["a"] = {}
    stage.go_on(2_000)
    assert (stage.state("a"), stage.state("b")) == ("DOWN", "UP")
    assert stage.of("a").reason == "silent for 2.0 s"


def test_a_partition_that_stands_still_kills_nobody() -> None:
    stage = Stage("a", "b")
    stage.partition["b"] = 1
    stage.go_on(EVERY_MS)
    stage.says["a"] = {}
    stage.go_on(20_000)
    assert stage.state("a") == "UP", "nothing came on its partition: the reader may be behind"
    stage.servers.pass_time(0, stage.now_ms, stage.now_ms)  # a marker of b's
    assert stage.state("a") == "DOWN"


def test_a_clock_that_runs_ahead_silences_nobody_else() -> None:
    stage = Stage("a", "b")
    for _ in range(3):
        stage.servers.report({**GOOD, "oca_id": "b"}, 0, stage.now_ms + 3_600_000, stage.now_ms)
        assert stage.state("a") == "UP"


def test_down_only_if_reports_and_players_agree() -> None:
    stage = Stage("a")
    stage.says["a"] |= {"errors": 5}
    stage.go_on(1_000)
    assert stage.state() == "DEGRADED", "its own word alone"
    stage.fail("a", *(f"s{n}" for n in range(40)))
    verdict = stage.of("a")
    assert (verdict.state, verdict.failed_sessions) == ("DOWN", 40)
    assert verdict.reason == "10 of 60 requests failed, and 40 sessions agree"


@pytest.mark.parametrize(("sessions", "state"), [(QUORUM - 1, "UP"), (QUORUM, "DEGRADED")])
def test_players_alone_need_a_quorum_and_do_not_take_it_out(sessions: int, state: str) -> None:
    stage = Stage("a")
    stage.fail("a", *(f"s{n}" for n in range(sessions)))
    assert stage.state() == state


def test_one_session_that_complains_without_end_takes_nothing_out() -> None:
    stage = Stage("a")
    stage.fail("a", *["the same"] * 1_000)
    assert stage.state() == "UP"


def test_of_many_requests_a_few_may_fail() -> None:
    stage = Stage("a")
    stage.says["a"] |= {"requests": 1_000}
    stage.go_on(4_000)
    stage.fail("a", *(f"s{n}" for n in range(100)))
    assert stage.state() == "UP"


def test_a_server_that_does_not_answer_itself_and_players() -> None:
    stage = Stage("a")
    stage.says["a"] |= {"requests": 0, "probe_us": None}
    stage.go_on(500)
    assert stage.state() == "DEGRADED"
    stage.go_on(LATELY_MS)
    stage.fail("a", "one")
    assert stage.state() == "DOWN"


def test_it_is_the_last_choice_until_it_has_been_well_for_a_while() -> None:
    stage = Stage("a", "b")
    stage.says["a"] = {}
    stage.go_on(3_000)
    stage.says["a"] = {**GOOD, "oca_id": "a"}
    stage.go_on(500)
    assert (stage.state(), stage.of("a").reason) == ("DEGRADED", "well for 0.5 s of 3")
    stage.go_on(WELL_MS)
    assert stage.state() == "UP"


def test_one_that_drains_comes_back_at_once() -> None:
    stage = Stage("a")
    stage.says["a"] |= {"state": "DRAINING"}
    stage.go_on(500)
    assert stage.state() == "DRAINING"
    stage.says["a"] |= {"state": "SERVING"}
    stage.go_on(500)
    assert stage.state() == "UP"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bytes": -1}, "bytes is -1"),
        ({"egress_bps": 0}, "egress_bps is 0"),
        ({"interval_ms": 0}, "interval_ms is 0"),
        ({"errors": 30}, "30 errors in 20 requests"),
        ({"throttle": 1.5}, "throttle is 1.5"),
        ({"bytes": 10**9}, "can send 100000000"),
        ({"held_bytes": 10**13}, "on a disk of"),
    ],
)
def test_a_report_that_cannot_be_true_makes_it_the_last_choice(change: dict[str, Any], words: str) -> None:
    stage = Stage("a")
    stage.says["a"] |= change
    stage.go_on(LATELY_MS + 500)
    assert words in incredible(stage.says["a"])
    assert stage.state() == "DEGRADED"


def test_two_servers_under_one_name() -> None:
    stage = Stage("a")
    stage.servers.report({**GOOD, "epoch": 0}, 0, stage.now_ms, stage.now_ms)
    assert (stage.state(), stage.of("a").reason) == ("DEGRADED", "two servers report under this name")
    stage.go_on(LATELY_MS + WELL_MS + 500)
    assert stage.state() == "UP"


@pytest.mark.parametrize("change", [{"bytes": 6_100_000}, {"ttfb_p99_us": 1_200_000}, {"bytes": 3_100_000, "throttle": 0.5}])
def test_full_slow_and_throttled_servers_are_the_last_choice(change: dict[str, Any]) -> None:
    stage = Stage("a")
    stage.says["a"] |= change
    stage.go_on(500)
    assert stage.state() == "DEGRADED"


def test_only_news_is_told() -> None:
    told = Verdict("a", "DEGRADED", "slow", "HEALTH", 0.50, 0, 100, START_MS)
    assert told.differs(None)
    assert not told.differs(replace(told, reason="slower", load=0.52, failed_sessions=1, at_ms=START_MS + 1))
    for other in ({"state": "DOWN"}, {"cause": "LOAD"}, {"load": 0.60}):
        assert told.differs(replace(told, **other))  # type: ignore[arg-type]


def test_a_verdict_is_of_the_time_since_when_it_holds() -> None:
    stage = Stage("a", "b")
    heard_ms = stage.now_ms
    stage.says["a"] = {}
    stage.go_on(2_000)
    assert (stage.state("a"), stage.of("a").at_ms) == ("DOWN", heard_ms), "it died after its last report"
    stage.says["b"] |= {"state": "DRAINING"}
    heard_ms = stage.now_ms
    stage.go_on(EVERY_MS)
    assert (stage.state("b"), stage.of("b").at_ms) == ("DRAINING", heard_ms), "it began after the report before"


def test_what_was_told_of_a_time_stays_told() -> None:
    stage, teller = Stage("a", "b"), Teller(cast("Encoder", lambda event: f"{event['event_time']} {event['state']}".encode()))
    last_ms = stage.now_ms

    def told() -> list[str]:
        return [framed.decode() for key, framed in teller.news(stage.servers) if key == "a"]

    assert told() == [f"{last_ms} UP"]
    stage.says["a"] = {}
    stage.fail("a", "x", "y", "z")
    stage.go_on(1_000)
    assert told() == [f"{last_ms + 1} DEGRADED"]
    stage.go_on(1_000)
    assert told() == [f"{last_ms + 2} DOWN"]
    assert told() == []


def test_full_is_told_apart_from_ill_until_it_has_been_well_for_a_while() -> None:
    stage = Stage("a")
    assert stage.of("a").cause == "NONE"
    for change, cause in (({"bytes": 6_100_000}, "LOAD"), ({"ttfb_p99_us": 1_200_000}, "HEALTH")):
        stage.says["a"] = {**GOOD, **change}
        stage.go_on(500)
        assert stage.of("a").cause == cause
        stage.says["a"] = dict(GOOD)
        stage.go_on(1_000)
        assert (stage.state(), stage.of("a").cause) == ("DEGRADED", cause)
        stage.go_on(WELL_MS)
        assert (stage.state(), stage.of("a").cause) == ("UP", "NONE")


NUMBERS = {name: st.integers(-(10**6), 10**15) for name in GOOD if type(GOOD[name]) is int and name != "epoch"}
REPORTED = st.tuples(st.sampled_from("ab"), st.integers(0, 5_000), st.fixed_dictionaries(NUMBERS), st.floats(-1, 2))
FAILED = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(-5_000, 5_000))


@given(reports=st.lists(REPORTED, max_size=20), failures=st.lists(FAILED, max_size=20))
def test_whatever_is_said_only_silence_or_agreement_is_down(
    reports: list[tuple[str, int, dict[str, int], float]], failures: list[tuple[str, str, int]]
) -> None:
    servers, now_ms = Servers(), START_MS
    heard: dict[str, int] = {}
    for name, later_ms, numbers, throttle in reports:
        now_ms += later_ms
        servers.report({**GOOD, **numbers, "oca_id": name, "throttle": throttle}, 0, now_ms, now_ms)
        heard[name] = now_ms
    for name, sid, off_ms in failures:
        servers.failed({"oca_id": name, "sid": sid, "switched_from": None}, now_ms + off_ms)
    verdicts = {verdict.oca_id: verdict for verdict in servers.verdicts()}
    assert verdicts.keys() == heard.keys()
    for name, verdict in verdicts.items():
        assert verdict.load >= 0
        assert verdict.state != "DOWN" or now_ms - heard[name] >= SILENT_MS or "agree" in verdict.reason


@given(st.fixed_dictionaries(NUMBERS), st.floats(-10, 10))
def test_load_is_never_negative(numbers: dict[str, int], throttle: float) -> None:
    assert load_of({**GOOD, **numbers, "throttle": throttle}) >= 0


def test_a_server_that_players_alone_found_fault_with_is_on_probation_and_twice_as_long_after_a_relapse() -> None:
    stage = Stage("a")
    sids = [f"s{n}" for n in range(QUORUM)]
    stage.says["a"]["requests"] = 2
    stage.go_on(LATELY_MS)
    for probation_ms in (PROBATION_MS, 2 * PROBATION_MS, 4 * PROBATION_MS):
        stage.fail("a", *sids)
        assert stage.of("a").reason == f"{QUORUM} sessions say that it fails, its reports do not"
        stage.go_on(probation_ms)
        assert stage.of("a").reason.startswith("players found fault with it")
        stage.go_on(LATELY_MS + WELL_MS)
        assert stage.state("a") == "UP"
    stage.go_on(RELAPSE_MS)
    stage.fail("a", *sids)
    stage.go_on(LATELY_MS + PROBATION_MS + WELL_MS)
    assert stage.state("a") == "UP"


def test_a_server_whose_own_reports_agreed_is_believed_when_they_say_that_it_is_well() -> None:
    stage = Stage("a")
    stage.says["a"]["errors"] = 10
    stage.go_on(EVERY_MS)
    stage.fail("a", "s1", "s2", "s3")
    assert stage.state("a") == "DOWN"
    stage.says["a"]["errors"] = 0
    stage.go_on(2 * LATELY_MS + WELL_MS)
    assert stage.state("a") == "UP"


def test_a_session_that_left_a_server_counts_as_one_that_it_failed() -> None:
    stage = Stage("a", "b")
    for n in range(QUORUM):
        stage.servers.failed({"oca_id": "b", "sid": f"s{n}", "switched_from": "a"}, stage.now_ms)
    assert (stage.state("a"), stage.state("b")) == ("DEGRADED", "UP")


def test_a_server_that_was_killed_and_is_back_is_not_blamed_for_the_time_before() -> None:
    stage = Stage("a", "b")
    said, stage.says["a"] = stage.says["a"], {}
    stage.go_on(SILENT_MS + EVERY_MS)
    stage.fail("a", "s1", "s2", "s3")
    assert stage.state("a") == "DOWN"
    died_ms = stage.now_ms
    stage.says["a"] = {**said, "epoch": 2}
    stage.go_on(EVERY_MS)
    for sid in ("s4", "s5", "s6"):  # told late
        stage.servers.failed({"oca_id": "a", "sid": sid, "switched_from": None}, died_ms)
    stage.go_on(LATELY_MS)
    assert stage.state("a") == "UP"
    stage.fail("a", *(f"t{n}" for n in range(30)))
    assert stage.state("a") == "DEGRADED"

"""Models from recorded sessions: what they are trained on, and which are refused, with the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from producers.abr.environment import LADDER_KBPS, Policy, Trace, play
from producers.abr.models import Origin, Refused, in_force, judge, model, nominal
from producers.abr.recorded import LEAST_SEGMENTS, traces
from producers.abr.state import State
from schemas.catalogue import catalogue
from schemas.codec import Encoder

BEGAN_MS = 1_772_366_400_000


def rate_based(document: Mapping[str, Any]) -> Policy:
    """The level below a share of the last throughput: stands in for the evaluator."""
    share = float(document["share"])
    if not 0 < share <= 2:
        raise ValueError(f"share {share} is not within 0 to 2")

    def choose(state: State) -> int:
        kbps = state.throughputs_kbps[-1] * share if state.throughputs_kbps else 0.0
        return max([level for level, rate in enumerate(state.bitrates_kbps) if rate <= kbps], default=0)

    return choose


def uneven(number: int, lowest: float = 0.4, highest: float = 3.0) -> Trace:
    random = Random(number)
    rates = [random.uniform(lowest, highest) for _ in range(120)]
    return Trace(f"t{number}", tuple(float(second) for second in range(0, 240, 2)), tuple(rates))


HOLDOUT = [uneven(number) for number in range(24)]
INSTALLED = rate_based({"share": 0.8})
PRESENT = {"item": "ours/4", "name": "ours", "version": 4, "ladder_kbps": list(LADDER_KBPS), "policy": '{"share": 0.8}'}


def made(
    text: str, present: Mapping[str, Any] | None = None, evaluator: Any = rate_based, holdout: list[Trace] = HOLDOUT
) -> dict[str, Any]:
    return model("ours", text, LADDER_KBPS, evaluator, present, INSTALLED, holdout, Origin("log", BEGAN_MS, BEGAN_MS + 1, 7))


def test_a_model_is_an_event_and_the_next_version() -> None:
    first, next_ = made('{"share": 0.82}'), made('{"share": 0.82}', PRESENT)
    assert (first["item"], first["before"]) == ("ours/1", None)
    assert (next_["item"], next_["version"], next_["before"]) == ("ours/5", 5, 4)
    assert (next_["trained_on"], next_["sessions"], next_["holdout_sessions"]) == ("log", 7, len(HOLDOUT))
    assert next_["gain_low"] <= next_["reward"] - next_["before_reward"] <= next_["gain_high"]
    event = catalogue().events["playback.abr_model"]
    envelope = {"event_id": "abr-1-0", "event_time": BEGAN_MS, "producer_id": "abr", "epoch": 1, "seq": 0}
    assert Encoder(event, 1)({**envelope, **next_})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"share": NaN}', "NaN is no number"),
        ("[1]", "not a JSON object"),
        ("{}", "share"),
        ('{"share": 3}', "not within 0 to 2"),
        ('{"share": 0.8, "more": "' + "x" * 500_000 + '"}', "an event holds"),
        ('{"share": 1.9}', "its reward is lower"),
        ('{"share": 0.1}', "its reward is lower"),
    ],
    ids=lambda text: text[:30],
)
def test_a_bad_model_is_refused_with_its_reason(text: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        made(text, PRESENT)


def test_decisions_that_cannot_be_are_refused_all_at_once() -> None:
    def odd(document: Mapping[str, Any]) -> Policy:
        return lambda state: int(state.throughputs_kbps[-1])

    with pytest.raises(Refused) as refusal:
        made('{"share": 1}', evaluator=odd)
    assert {reason.partition(":")[0] for reason in refusal.value.reasons} >= {"decision before the first segment", "decision after a leap"}
    assert any("IndexError" in reason for reason in refusal.value.reasons)
    assert any("is no level of a ladder of 6" in reason for reason in refusal.value.reasons)


def test_a_model_of_another_ladder_is_refused() -> None:
    with pytest.raises(Refused, match=r"ladder: .* version 4 of ours is for \[235"):
        made('{"share": 0.8}', {**PRESENT, "ladder_kbps": [235.0, 560.0]})


def test_a_holdout_too_small_to_tell_is_refused() -> None:
    with pytest.raises(Refused, match="19 sessions; 20 are needed"):
        made('{"share": 0.8}', holdout=HOLDOUT[:19])
    with pytest.raises(Refused, match="no session"):
        made('{"share": 0.8}', holdout=[])


def test_more_rebuffering_is_refused_whatever_the_reward() -> None:
    """On links that mostly carry everything and collapse now and then, a bold policy may gain more than it loses."""
    judged = judge(rate_based({"share": 1.9}), INSTALLED, HOLDOUT, nominal())
    assert any("it rebuffers" in reason for reason in judged.reasons)


def test_the_highest_version_is_in_force() -> None:
    told = {f"ours/{n}": {"name": "ours", "version": n} for n in (9, 10, 2)} | {"other/30": {"name": "other", "version": 30}}
    assert in_force(told, "ours") == {"name": "ours", "version": 10}
    assert in_force(told, "nobody's") is None


def reported(sid: str, at_s: float, kbps: float, size: int = 1_000_000, **told: Any) -> dict[str, Any]:
    plain = {
        "e": "rr",
        "ot": "v",
        "rc": 200,
        "target": "event:default",
        "marker": False,
        "sid": sid,
        "event_time": BEGAN_MS + round(1000 * at_s),
    }
    return plain | {"bytes": size, "ttlb_ms": round(size * 8 / kbps)} | told


def test_a_session_played_again_over_its_trace_sees_what_it_saw() -> None:
    rates = [Random(1).uniform(800, 6_000) for _ in range(20)]
    at_s, reports = 0.0, []
    for kbps in rates:
        reports.append(reported("one", at_s, kbps))
        at_s += 8_000 / kbps
    (found,) = traces(reports)
    assert found.began_ms == BEGAN_MS
    assert found.trace.times_s[-1] == pytest.approx(at_s, abs=0.05)
    seen: list[tuple[float, ...]] = []

    def lowest(state: State) -> int:
        seen.append(state.throughputs_kbps)
        return 0

    play(lowest, found.trace, nominal(chunks=8))
    assert all(0.5 * min(rates) < kbps <= max(rates) for kbps in seen[-1])


def test_what_says_nothing_of_bandwidth_is_left_out() -> None:
    steady = [reported("one", 4 * n, 2_000) for n in range(LEAST_SEGMENTS)]
    beside = [
        reported("one", 1, 9e9, ttlb_ms=0), reported("one", 1, 2_000, bytes=None), reported("one", 1, 90_000, target="request:oca-1"),
        reported("one", 1, 90_000, rc=404), reported("one", 1, 90_000, ot="a"), reported("one", 1, 90_000, e="t"),
        reported("one", 1, 90_000, size=100), reported("one", 1, 90_000, marker=True), reported("one", 1, 2e10), steady[0],
    ]  # fmt: skip
    (found,) = traces([*beside, *reversed(steady), *(reported("short", 4 * n, 2_000) for n in range(LEAST_SEGMENTS - 1))])
    assert found.trace.name == "one"
    assert all(mbps == pytest.approx(2 / 0.95) for mbps in found.trace.mbps)
    assert found.trace.times_s == pytest.approx([*range(0, 4 * LEAST_SEGMENTS, 4), 4 * (LEAST_SEGMENTS - 1) + 4])


def test_a_pause_is_not_the_network() -> None:
    (found,) = traces([reported("one", 4 * n + 3_600 * (n > 4), 2_000) for n in range(LEAST_SEGMENTS)])
    assert found.trace.times_s[-1] < 120
    assert math.isfinite(sum(found.trace.mbps))


def test_sessions_come_by_their_beginning() -> None:
    found = traces([reported(sid, 4 * n + late, 2_000) for sid, late in (("b", 10), ("a", 20), ("c", 10)) for n in range(LEAST_SEGMENTS)])
    assert [session.trace.name for session in found] == ["b", "c", "a"]


def test_the_published_policy_is_the_one_that_was_judged() -> None:
    assert json.loads(made('{"share":   0.82}')["policy"]) == {"share": 0.82}

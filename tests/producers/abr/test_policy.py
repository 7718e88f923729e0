"""Our own policy: what it decides where that is plain, what it refuses, and what it is worth on traces that it never saw."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import exp, inf, log, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.abr import policy, train
from producers.abr.environment import Links, play, read_traces, read_video
from producers.abr.network import Network, count, features
from producers.abr.plan import FARTHEST, LEAST_DOUBT, PERSISTENCE, SEGMENTS, STARTS, Aim, Tuning, forecast, plan
from producers.abr.policy import BadPolicy, Policy
from producers.abr.prior import Prior
from producers.abr.rewards import LOG, MBPS, VMAF
from producers.abr.state import BadState, State
from producers.abr.train import Batch
from tests.kit import vectors
from tests.producers.abr.examples import state, steady, video

BOTH = pytest.mark.parametrize("ours", [policy.load("trained"), policy.load("untrained")], ids=["trained", "untrained"])


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any session, on ladders of 1 to 10 levels and segments of 1 to 10 s; sometimes on the one that was trained for."""
    levels, segment_s = draw(st.integers(1, 10)), draw(st.sampled_from([1.0, 2.0, 4.0, 10.0]))
    ladder = tuple(sorted(draw(st.sets(st.integers(50, 50_000), min_size=levels, max_size=levels))))
    if draw(st.booleans()):
        ladder, segment_s = policy.load().trained.ladder_kbps, 4.0  # type: ignore[union-attr, assignment]
    left = draw(st.integers(1, 40))
    spread = draw(st.lists(st.floats(0.2, 3), min_size=min(left, 12), max_size=min(left, 12)))
    samples = draw(st.lists(st.tuples(st.floats(1e-300, 1e300), st.floats(1e-3, 600)), max_size=60))
    return State(
        buffer_s=draw(st.floats(0, 300)), buffer_max_s=draw(st.sampled_from([8.0, 30.0, 60.0, 240.0])), segment_s=segment_s,
        bitrates_kbps=tuple(map(float, ladder)), sizes=[[kbps * 125 * segment_s * share for kbps in ladder] for share in spread],
        left=left, previous=draw(st.integers(-1, len(ladder) - 1)), throughputs_kbps=tuple(kbps for kbps, _ in samples),
        delays_s=tuple(delay_s for _, delay_s in samples),
    )  # fmt: skip


@BOTH
@settings(max_examples=60, deadline=None)
@given(
    one=states(), prior=st.none() | st.builds(Prior, st.floats(-1e9, 1e9), st.floats(0, 1e9), st.floats(0, 1e9)), penalty_s=st.floats(0, 60)
)
def test_whatever_the_state_the_level_is_on_the_ladder_and_worth_most(
    ours: Policy, one: State, prior: Prior | None, penalty_s: float
) -> None:
    said = ours.explain(one, prior, penalty_s)
    assert said.level == ours.choose(one, prior, penalty_s)
    assert 0 <= said.level < len(one.bitrates_kbps)
    assert np.isfinite(said.worth).all()
    assert said.worth[said.level] >= max(said.worth) - len(said.worth) * policy.TIE
    low, middle, high = said.throughput_kbps
    assert low <= middle <= high


@BOTH
def test_plain_cases(ours: Policy) -> None:
    fast, slow = (
        {"throughputs_kbps": (60_000.0,) * 12, "delays_s": (0.3,) * 12},
        {"throughputs_kbps": (150.0,) * 12, "delays_s": (9.0,) * 12},
    )
    assert ours.choose(state(buffer_s=60.0, previous=5, **fast)) == 5
    assert ours.choose(state(buffer_s=60.0, previous=3, **fast)) == 5
    assert ours.choose(state(buffer_s=0.0, previous=0, **slow)) == 0
    assert ours.choose(state(buffer_s=0.0, previous=3, **slow)) == 0
    chosen = [ours.choose(state(throughputs_kbps=(kbps,) * 5)) for kbps in (200.0, 800.0, 1500.0, 3000.0, 6000.0, 20_000.0)]
    assert all(a <= b for a, b in pairwise(chosen))
    assert chosen[-1] > chosen[0]


@BOTH
def test_nothing_known_starts_at_the_lowest_and_a_prior_is_believed_as_far_as_it_says(ours: Policy) -> None:
    begin = state(previous=-1, throughputs_kbps=(), delays_s=(), buffer_s=0.0, left=48)
    assert (ours.choose(begin), ours.explain(begin).by) == (0, "start")
    assert ours.choose(begin, Prior(log(20_000), 0.1, 10.0)) > 0
    assert ours.choose(begin, Prior(log(20_000), 0.1, 0.0)) == 0
    assert ours.choose(begin, Prior(log(200), 0.1, 10.0)) == 0
    one = state(throughputs_kbps=(3000.0,), delays_s=(1.5,), previous=1, buffer_s=8.0)
    alone, sure = ours.explain(one), ours.explain(one, Prior(log(6000), 0.3, 1.0))
    assert alone.throughput_kbps[1] < sure.throughput_kbps[1]
    assert alone.level <= sure.level
    assert sure.level > ours.explain(one, Prior(log(600), 0.3, 1.0)).level


@BOTH
def test_a_suspected_server_makes_it_careful(ours: Policy) -> None:
    one = state(buffer_s=9.0, previous=4, throughputs_kbps=(3500.0,) * 8, delays_s=(3.0,) * 8)
    levels = [ours.choose(one, penalty_s=penalty_s) for penalty_s in (0.0, 4.0, 8.0)]
    assert levels[-1] < levels[0]
    with pytest.raises(ValueError, match="penalty"):
        ours.choose(one, penalty_s=nan)


@BOTH
def test_samples_that_cannot_be_are_left_out_and_states_that_cannot_be_refused(ours: Policy) -> None:
    clean = state()
    for bad in (0.0, inf, nan, -1.0):
        odd = replace(clean, throughputs_kbps=(bad, *clean.throughputs_kbps), delays_s=(1.0, *clean.delays_s))
        assert ours.explain(odd) == ours.explain(clean)
    assert ours.explain(state(buffer_s=1e9)) == ours.explain(state(buffer_s=60.0))
    with pytest.raises(BadState, match="size"):
        ours.choose(state(sizes=[[1e5, 2e5, nan, 4e5, 5e5, 6e5]]))
    assert ours.choose(state(bitrates_kbps=(800.0,), sizes=[[4e5]] * 5, left=5, previous=0)) == 0


def test_a_network_decides_only_on_the_ladder_and_segments_it_was_trained_for() -> None:
    ours = policy.load("trained")
    assert ours.explain(state()).by == "network and plan"
    title = video(ladder=(400.0, 900.0, 2000.0))
    other = state(bitrates_kbps=title.bitrates_kbps, sizes=title.sizes[10:])
    for one in (other, state(segment_s=2.0)):
        assert ours.explain(one) == policy.load("untrained").explain(one)
        assert ours.explain(one).by == "plan"
    data = policy.document(ours)
    with pytest.raises(BadPolicy, match="another ladder"):
        policy.read(data, (400.0, 900.0, 2000.0))
    assert policy.read(data, state().bitrates_kbps).trained is not None
    assert policy.load("trained", LOG).trained is None
    assert policy.load("trained", VMAF).aim.rebuffer == VMAF.rebuffer


def test_data_come_back_as_they_went() -> None:
    ours = policy.load("trained")
    again = policy.read(json.loads(policy.dumps(ours)))
    assert policy.document(again) == policy.document(ours)
    assert again.explain(state()) == ours.explain(state())
    assert policy.dumps(ours) == policy.FILE.read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"plan": None}, "plan: a mapping"),
        ({"plan": {"gain": nan}}, "plan.gain: nan is no finite"),
        ({"plan": {"gain": 7.0}}, "plan.gain: 7.0 is not between"),
        ({"plan": {"horizon": True}}, "plan.horizon: True"),
        ({"plan": {"sigma": "1"}}, "plan.sigma: '1'"),
        ({"reward": {"rebuffer": inf}}, "reward.rebuffer: inf"),
        ({"network": {"layers": []}}, "network.layers: there is none"),
        ({"network": {"ladder_kbps": [750, 300, 1200, 1850, 2850, 4300]}}, "does not ascend"),
        ({"network": {"ladder_kbps": [300, 750]}}, "rows of weights"),
        ({"network": {"cut": -1}}, "network.cut: -1"),
        ({"network": {"segment_s": 0}}, "network.segment_s: 0"),
    ],
)
def test_what_is_no_policy_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    data = json.loads(policy.dumps(policy.load("trained")))
    for key, value in change.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    with pytest.raises(BadPolicy, match=words):
        policy.read(data)


def test_weights_that_are_no_numbers_or_too_few_are_refused() -> None:
    data = json.loads(policy.dumps(policy.load("trained")))
    data["network"]["layers"][1]["weights"][3][5] = nan
    with pytest.raises(BadPolicy, match="nan is no finite"):
        policy.read(data)
    data["network"]["layers"][1]["weights"].pop()
    data["network"]["layers"][1]["weights"][3][5] = 0.0
    with pytest.raises(BadPolicy, match="rows of weights"):
        policy.read(data)
    with pytest.raises(BadPolicy, match="no policy is named"):
        policy.load("best")


TUNING = Tuning(
    gain=0.5, slow_gain=0.15, pull=0.0, sigma=0.01, sigma_weight=1000.0, sigma_gain=0.0, horizon=4, worth=0.0, enough_s=20.0
)  # fmt: skip


def test_with_next_to_no_doubt_the_plan_is_worth_what_the_best_of_all_plans_is() -> None:
    """On a network that hardly varies, against every plan tried one by one; all downloads last multiples of the buffer's grid, 2 s."""
    title = video(4, ladder=(600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3600.0))
    one = state(
        buffer_s=6.0, left=4, sizes=title.sizes, bitrates_kbps=title.bitrates_kbps, throughputs_kbps=(1200.0,) * 8, delays_s=(4.0,) * 8
    )
    expected = forecast(replace(TUNING, sigma=1e-7), one.throughputs_kbps)
    assert expected is not None
    assert expected.level == pytest.approx(log(1200.0))
    found = plan(TUNING, Aim(4.3, 1.0, 1.0, 1.0), one, expected)

    def best(ahead: int, buffer_s: float, before: float) -> float:
        return 0.0 if ahead == 4 else max(worth(ahead, buffer_s, before, level) for level in range(6))

    def worth(ahead: int, buffer_s: float, before: float, level: int) -> float:
        delay_s, mbps = one.sizes[ahead][level] * 8 / 1000 / 1200.0, one.bitrates_kbps[level] / 1000
        then = max(buffer_s - delay_s, 0.0) + one.segment_s
        return mbps - 4.3 * max(delay_s - buffer_s, 0.0) - abs(mbps - before) + best(ahead + 1, then, mbps)

    assert found == pytest.approx([worth(0, 6.0, 1.8, level) for level in range(6)], abs=1e-4)


def test_more_doubt_takes_no_higher_level() -> None:
    tuning, aim = policy.load("untrained").tuning, Aim(4.3, 1.0, 1.0, 1.0)
    one = state(buffer_s=8.0, previous=3, throughputs_kbps=(2500.0,) * 8, delays_s=(3.0,) * 8)
    expected = forecast(tuning, one.throughputs_kbps)
    assert expected is not None
    chosen = [policy.best(plan(tuning, aim, one, replace(expected, sigma=sigma, later=sigma))) for sigma in (0.05, 0.3, 0.6, 1.2)]
    assert all(a >= b for a, b in pairwise(chosen))
    assert chosen[0] > chosen[-1]


def test_after_the_start_a_prior_is_worth_as_many_samples_as_it_says() -> None:
    tuning = replace(policy.load("untrained").tuning, gain=0.01, slow_gain=0.0)
    found = forecast(tuning, (exp(8.0),) * STARTS, Prior(6.0, 0.5, float(STARTS)))
    assert found is not None
    assert found.level == pytest.approx(7.0)
    assert forecast(tuning, (), Prior(6.0, 0.5, 0.0)) is None


def test_after_the_start_a_prior_of_less_than_half_a_segment_does_not_count() -> None:
    weak, seen = Prior(6.0, 0.5, 0.49), (3000.0,) * STARTS
    assert forecast(TUNING, seen, weak) == forecast(TUNING, seen) != forecast(TUNING, seen, replace(weak, weight=0.5))
    assert forecast(TUNING, seen[1:], weak) != forecast(TUNING, seen[1:])


@given(
    logs=st.lists(st.floats(5, 10), max_size=STARTS - 1), mean=st.floats(5, 10), sd=st.floats(0.5, 1.2), weight=st.floats(0.2, 3),
)  # fmt: skip
def test_a_told_session_is_an_autoregression_about_a_mean_that_is_known_so_far(
    logs: list[float], mean: float, sd: float, weight: float
) -> None:
    """Against the normal distribution of all segments and the mean together, conditioned at once."""
    found = forecast(TUNING, [exp(x) for x in logs], Prior(mean, sd, weight))
    assert found is not None
    lags = np.abs(np.subtract.outer(np.arange(STARTS), np.arange(STARTS)))
    keeps = PERSISTENCE**lags
    within = weight * sd**2 / (1 - np.mean(PERSISTENCE ** np.abs(np.subtract.outer(np.arange(SEGMENTS), np.arange(SEGMENTS)))))
    doubt = max(sd**2 - within * keeps.mean(), LEAST_DOUBT)
    n = len(logs)
    seen = within * keeps[:n, :n] + doubt
    gain = np.linalg.solve(seen, np.full(n, doubt)) if n else np.zeros(0)
    believed = mean + gain @ (np.array(logs) - mean)
    assert found.slow == pytest.approx(np.clip(believed, found.level - FARTHEST, found.level + FARTHEST))
    assert found.level == pytest.approx(logs[-1] if logs else mean)
    if not logs:
        assert found.sigma**2 == pytest.approx(within + doubt)
    if n == 1:  # nothing has been seen yet of how much it varies
        joint = within * keeps[:2, :2] + doubt
        assert found.sigma**2 == pytest.approx(joint[1, 1] - joint[0, 1] ** 2 / joint[0, 0])


def test_a_told_session_that_varies_more_than_was_told_is_doubted_more() -> None:
    told = Prior(8.0, 0.3, 2.0)
    calm, wild = (forecast(TUNING, [exp(x) for x in logs], told) for logs in ((8.0, 8.1, 7.9, 8.0), (8.0, 9.5, 6.5, 8.0)))
    assert calm is not None
    assert wild is not None
    assert wild.sigma > 1.3 * calm.sigma


def test_a_dip_is_over_sooner_where_the_mean_is_told() -> None:
    """The plan alone decides then, and dares more than the last sample would let it."""
    ours = policy.load("trained")
    dipped = state(throughputs_kbps=(3000.0,), delays_s=(1.0,), previous=0, buffer_s=4.0, left=48)
    told, later = Prior(log(6000), 0.3, 2.0), replace(dipped, throughputs_kbps=(3000.0,) * STARTS, delays_s=(1.0,) * STARTS)
    assert ours.choose(dipped, told) > ours.choose(dipped)
    assert (ours.explain(dipped, told).by, ours.explain(dipped).by) == ("plan", "network and plan")
    assert ours.explain(later, told).by == "network and plan"
    low, middle, _ = ours.explain(dipped, told).throughput_kbps
    assert low < 3000 < middle < 6000


def test_the_network_is_its_layers() -> None:
    rng = np.random.default_rng(1)
    network = Network((rng.normal(size=(5, 4)), rng.normal(size=(4, 3))), (rng.normal(size=4), rng.normal(size=3)))
    inputs = rng.normal(size=5)
    hidden = np.maximum(inputs @ network.weights[0] + network.biases[0], 0)
    assert network(inputs.tolist()) == pytest.approx((hidden @ network.weights[1] + network.biases[1]).tolist())


def test_training_sees_what_the_policy_sees() -> None:
    traces, title = [steady(3.0), steady(0.7)], video(12)
    rng = np.random.default_rng(0)
    links = Links(traces)
    batch = Batch.begin(links, title, MBPS, np.arange(2), links.first_s.copy(), np.zeros(2, bool), rng)
    levels = rng.integers(0, 6, (12, 2))
    levels[0] = 1
    seen: list[list[State]] = []
    for at, trace in enumerate(traces):
        kept: list[State] = []

        def decide(one: State, at: int = at, kept: list[State] = kept) -> int:
            kept.append(one)
            return int(levels[12 - one.left][at])

        play(decide, trace, title)
        seen.append(kept)
    batch.step(levels[0])
    for chunk in range(1, 12):
        rows = batch.features()
        for at in range(2):
            one = seen[at][chunk - 1]
            assert rows[at].tolist() == pytest.approx(features(one, one.buffer_s), abs=2e-3)
        batch.step(levels[chunk])
    assert rows.shape == (2, count(6))


def test_training_learns_and_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SESSIONS", 128)
    traces, title = [steady(mbps) for mbps in (0.4, 1.0, 2.5, 6.0)], video(12)
    regrets: list[float] = []
    first = train.fit(traces, title, seed=3, iterations=30, say=lambda _, regret: regrets.append(regret))
    again = train.fit(traces, title, seed=3, iterations=30)
    assert all((a == b).all() for a, b in zip(first.parameters, again.parameters, strict=True))
    assert np.mean(regrets[-3:]) < np.mean(regrets[:3]) / 2
    model = replace(policy.load("untrained"), trained=train.trained(first, title, {"command": "a test"}))
    assert policy.read(json.loads(policy.dumps(model))).explain(state()).by == "network and plan"
    with pytest.raises(ValueError, match="chunks"):
        train.fit(traces, video(5), iterations=1)


@pytest.mark.parametrize(("name", "floor"), [("trained", 0.986), ("untrained", 0.94)])
def test_on_traces_it_never_saw_it_is_worth_what_the_issue_asks(name: str, floor: float) -> None:
    folder = vectors("abr")
    title, ours = read_video(folder), policy.load(name)
    sessions = [play(ours.choose, trace, title) for trace in read_traces(folder / "hsdpa_test")]
    assert np.mean([session.reward for session in sessions]) >= floor

"""BOLA-FINITE: the properties that its paper states, and what it is worth on recorded networks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.bench import abr_logs
from producers.abr.bola_finite import choose
from producers.abr.environment import CHUNKS, play, read_traces, read_video
from producers.abr.state import State
from tests.kit import vectors

LADDER = (300, 750, 1200, 1850, 2850, 4300)
SEGMENT_MS, BUFFER_MS = 4_000, 60_000


def index(buffer_ms: int, previous: int | None = None, throughput_kbps: float | None = None) -> int:
    return choose(LADDER, SEGMENT_MS, buffer_ms, 12_000, 25_000, 300_000, 300_000, previous, throughput_kbps).index


@given(st.integers(0, 25_000), st.integers(0, 25_000))
def test_more_buffer_never_means_less_bitrate(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert index(low) <= index(high)


def test_an_empty_buffer_takes_the_lowest_and_a_full_one_the_highest() -> None:
    assert index(0) == 0
    assert index(24_000) == len(LADDER) - 1
    assert {index(ms) for ms in range(0, 25_000, 50)} == set(range(len(LADDER)))


@given(st.integers(0, 30_000), st.integers(0, 5), st.floats(1, 10_000))
def test_a_step_up_goes_one_beyond_what_the_network_sustains_at_most(buffer_ms: int, previous: int, kbps: float) -> None:
    free, damped = index(buffer_ms), index(buffer_ms, previous, kbps)
    if free <= previous:
        assert damped == free
    else:
        sustained = sum(rung <= max(kbps, LADDER[0]) for rung in LADDER) - 1
        assert previous <= damped <= free
        assert damped <= max(previous, sustained + 1)


def test_a_full_buffer_waits_until_one_segment_fits() -> None:
    assert choose(LADDER, SEGMENT_MS, 24_000, 12_000, 24_000, 300_000, 300_000).pause_ms == SEGMENT_MS
    assert choose(LADDER, SEGMENT_MS, 20_000, 12_000, 24_000, 300_000, 300_000).pause_ms == 0


def test_near_the_begin_and_the_end_a_smaller_buffer_is_aimed_at() -> None:
    full = choose(LADDER, SEGMENT_MS, 14_000, 12_000, 60_000, 300_000, 300_000)
    begin = choose(LADDER, SEGMENT_MS, 14_000, 12_000, 60_000, 10_000, 590_000)
    assert begin == choose(LADDER, SEGMENT_MS, 14_000, 12_000, 60_000, 590_000, 10_000)
    assert begin.index > full.index


def bola(now: State) -> int:
    buffer_ms, begun_ms = round(now.buffer_s * 1000), (CHUNKS - now.left) * SEGMENT_MS
    played_ms, left_ms = max(0, begun_ms - buffer_ms), now.left * SEGMENT_MS + buffer_ms
    measured = now.throughputs_kbps[-1]
    return choose(LADDER, SEGMENT_MS, buffer_ms, BUFFER_MS // 2, BUFFER_MS, played_ms, left_ms, now.previous, measured).index


def test_on_recorded_networks_it_is_worth_more_than_buffer_or_throughput_alone() -> None:
    folder = vectors("abr")
    title, traces = read_video(folder), read_traces(folder / "hsdpa_test")
    ours = np.mean([play(bola, trace, title).reward for trace in traces])
    for name in ("bb", "rb"):
        log = abr_logs.read(folder / "baseline_decisions", name)
        assert ours > np.mean([logged.reward for logged in log.values()])

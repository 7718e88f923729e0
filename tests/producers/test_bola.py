"""BOLA: the properties that its paper states, and what it is worth on recorded networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.players.bola import choose
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


Decide = Callable[[int, int, int, float | None], int]
"""(chunk, buffer_ms, previous level, throughput_kbps) → level."""


def bola(chunk: int, buffer_ms: int, previous: int, throughput_kbps: float | None) -> int:
    played_ms, left_ms = max(0, chunk * SEGMENT_MS - buffer_ms), (48 - chunk) * SEGMENT_MS + buffer_ms
    return choose(LADDER, SEGMENT_MS, buffer_ms, BUFFER_MS // 2, BUFFER_MS, played_ms, left_ms, previous, throughput_kbps).index


def replay(times_s: list[float], mbps: list[float], sizes: list[list[int]], decide: Decide) -> float:
    """Mean reward per chunk in the environment that ../shared/vectors/README.md describes."""
    at, clock_s = 1, times_s[0]
    buffer_ms, last, rewards = 0.0, 1, []
    throughput_kbps: float | None = None
    for chunk in range(48):
        level = decide(chunk, round(buffer_ms), last, throughput_kbps) if chunk else 1
        left, delay_s = float(sizes[level][chunk]), 0.0
        while True:
            rate = mbps[at] * 1e6 / 8 * 0.95
            lasts_s = times_s[at] - clock_s
            if rate * lasts_s > left:
                clock_s += left / rate
                delay_s += left / rate
                break
            left -= rate * lasts_s
            delay_s += lasts_s
            clock_s = times_s[at]
            at += 1
            if at == len(times_s):
                at, clock_s = 1, 0.0
        delay_ms = delay_s * 1000 + 80
        throughput_kbps = sizes[level][chunk] * 8 / delay_ms
        rebuffer_ms = max(delay_ms - buffer_ms, 0)
        buffer_ms = max(buffer_ms - delay_ms, 0) + SEGMENT_MS
        if buffer_ms > BUFFER_MS:
            sleep_ms = ceil((buffer_ms - BUFFER_MS) / 500) * 500
            buffer_ms -= sleep_ms
            while sleep_ms > 0:
                lasts_ms = (times_s[at] - clock_s) * 1000
                if lasts_ms > sleep_ms:
                    clock_s += sleep_ms / 1000
                    break
                sleep_ms -= lasts_ms
                clock_s = times_s[at]
                at += 1
                if at == len(times_s):
                    at, clock_s = 1, 0.0
        if chunk:
            rewards.append(LADDER[level] / 1000 - 4.3 * rebuffer_ms / 1000 - abs(LADDER[level] - LADDER[last]) / 1000)
        last = level
    return sum(rewards) / len(rewards)


def read(path: Path) -> tuple[list[float], list[float]]:
    rows = [tuple(float(word) for word in line.split()) for line in path.read_text().splitlines() if line.strip()]
    return [row[0] for row in rows], [row[1] for row in rows]


def test_on_recorded_networks_it_is_worth_more_than_buffer_or_throughput_alone() -> None:
    folder = vectors("abr")
    sizes = [[int(line) for line in (folder / "video_sizes" / f"video_size_{level}").read_text().split()] for level in range(6)]
    traces = sorted((folder / "hsdpa_test").iterdir())
    logged = {name: json.loads((folder / "baseline_decisions" / f"{name}.json").read_text()) for name in ("bb", "rb", "bola")}
    for path in traces:  # the environment is the one in which they were logged
        levels: list[int] = logged["bola"][path.name]["levels"]
        again = replay(*read(path), sizes, lambda chunk, *_, levels=levels: levels[chunk])  # type: ignore[misc]
        assert again == pytest.approx(logged["bola"][path.name]["mean_reward"], abs=1e-6)
    mean = {name: sum(rewards[path.name]["mean_reward"] for path in traces) / len(traces) for name, rewards in logged.items()}
    ours = sum(replay(*read(path), sizes, bola) for path in traces) / len(traces)
    assert ours > max(mean["bb"], mean["rb"]), (ours, mean)

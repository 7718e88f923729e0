"""The benchmark of real sessions: a title served, sessions played to their ends, figures that tell them apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from infra.bench import abr_real
from infra.bench.abr_real import ALGORITHMS, Real, Steady, figures_of, rank_correlation, reward, sessions, spread, steps
from infra.bench.harness import served
from producers.abr.environment import LADDER_KBPS, Trace, Video, play, read_video
from producers.players.mpd import parse
from schemas.assets import read_checksums

CHUNKS, SEGMENT_S = 5, 1.0
FAST = Trace("fast", (0.0, 1.0, 2.0), (9.0, 9.0, 9.0))
SLOW = Trace("slow", (0.0, 0.5, 2.0), (1.0, 1.2, 0.6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sizes of a short title, as the vectors have theirs."""
    path = tmp_path_factory.mktemp("video")
    (path / "video_sizes").mkdir()
    for level, kbps in enumerate(LADDER_KBPS):
        sizes = [round(kbps * 125 * SEGMENT_S * (0.9, 1.1)[number % 2]) for number in range(CHUNKS + 1)]
        (path / "video_sizes" / f"video_size_{level}").write_text("".join(f"{size}\n" for size in sizes))
    return path


@pytest.fixture(scope="module")
def video(folder: Path) -> Video:
    return replace(read_video(folder, chunks=CHUNKS), chunk_s=SEGMENT_S)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    options = ("--video", str(folder), "--chunks", str(CHUNKS), "--segment-s", str(SEGMENT_S))
    with served("infra.bench.abr_segments", *options) as (address, _):
        yield address


def test_the_server_has_a_title_whose_files_are_as_large_as_stated(url: str, video: Video) -> None:
    base = f"{url}{abr_real.TITLE}"
    manifest = parse(httpx.get(f"{base}manifest.mpd").text, f"{base}manifest.mpd")
    assert [encoding.bandwidth_kbps for encoding in manifest.video] == list(LADDER_KBPS)
    assert manifest.duration_ms == CHUNKS * SEGMENT_S * 1000
    sums = read_checksums(httpx.get(f"{base}checksums.json").content).files
    for level, encoding in enumerate(manifest.video):
        for number, segment in enumerate(encoding.segments):
            body = httpx.get(segment.url).content
            assert len(body) == video.sizes[number][level] == sums[segment.url.removeprefix(base)].bytes
    assert httpx.get(f"{base}9/000.m4s").status_code == 404
    assert httpx.post(f"{url}/reports", content=b"anything").status_code == 202


def test_real_sessions_are_played_to_their_ends_over_links_that_follow_the_traces(url: str, video: Video) -> None:
    real, late_ms = asyncio.run(sessions(url, [FAST, SLOW], video))
    assert 0 <= late_ms < 1_000
    assert [(one.algorithm, one.trace) for one in real] == [(name, trace.name) for trace in (FAST, SLOW) for name in ALGORITHMS]
    found = figures_of(real, [FAST, SLOW], video)
    assert found["sessions"] == 6
    of = {(one.algorithm, one.trace): one for one in real}
    for name in ALGORITHMS:
        assert sum(of[name, "slow"].levels) < sum(of[name, "fast"].levels) or name == "bola", (
            "it adapts; BOLA by a buffer that is short here"
        )
        assert of[name, "fast"].rebuffer_s == 0
        assert len(of[name, "slow"].levels) == CHUNKS
        assert np.isfinite([found[f"{name}_predicted"], found[f"{name}_measured"]]).all()
    assert found["mean_difference"] < 1.0
    json.dumps(found)


def test_a_session_that_plays_as_predicted_is_worth_what_was_predicted(video: Video) -> None:
    predicted = {(name, trace.name): play(ALGORITHMS[name], trace, video) for name in ALGORITHMS for trace in (FAST, SLOW)}
    real = [
        Real(name, trace, session.levels, session.rebuffer_s, reward(list(session.levels), session.rebuffer_s, video))
        for (name, trace), session in predicted.items()
    ]
    found = figures_of(real, [FAST, SLOW], video)
    assert found["mean_difference"] < 1e-12
    assert (found["ranking_agrees"], found["rank_correlation"]) == (1.0, pytest.approx(1.0))
    best = max(ALGORITHMS, key=lambda name: found[f"{name}_predicted"])
    other = [replace(one, reward=-9.0) if one.algorithm == best else one for one in real]
    assert figures_of(other, [FAST, SLOW], video)["ranking_agrees"] == 0.0


def test_traces_are_taken_evenly_and_lose_their_headers() -> None:
    many = [replace(FAST, name=str(number)) for number in range(127)]
    assert [trace.name for trace in spread(many, 4)] == ["0", "31", "63", "95"]
    with pytest.raises(ValueError, match="128 traces are wanted, there are 127"):
        spread(many, 128)
    assert steps(SLOW) == [(500.0, pytest.approx(1_140.0)), (1_500.0, pytest.approx(570.0))]


def test_a_body_that_is_read_late_has_not_come_late() -> None:
    link = Steady(repeat((1_000.0, 800.0)))
    link.begin()
    assert link.pass_bytes(100, 10_000) == 200
    assert link.pass_bytes(270, 10_000) == 300, "it was waiting from 200 on"
    link.begin()
    assert link.pass_bytes(500, 10_000) == 600, "it was asked for later"


def test_rank_correlation_is_spearmans() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, np.array([2.0, 1.0, 4.0, 3.0, 5.0])) == pytest.approx(0.8)
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])) == pytest.approx(1.0)

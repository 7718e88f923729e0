"""The benchmarks of caches: what counts as a hit, what the oracle may do, and a small world from end to end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from infra.bench import cachesim, fill
from infra.bench.fill import WORLD, Server, Stream, cells, fleet, stream, until_next_window
from infra.bench.harness import Options
from producers.simulator.viewing import Catalogue, Viewing, load
from streams.delivery.plan import Tier


def test_a_hit_is_a_play_while_the_title_is_there() -> None:
    server = Server(3)
    server.since[:2] = 0, 5
    server.until[0] = 8
    titles, hours = np.array([0, 0, 1, 1, 2]), np.array([7.9, 8.0, 4.9, 5.0, 12.0])
    assert server.serves(titles, hours).tolist() == [True, False, False, True, False]
    server.next_day()
    assert server.serves(titles, hours).tolist() == [False, False, True, True, False]


def test_a_stream_is_the_counts_in_the_order_of_time() -> None:
    counts = np.array([[1, 0, 2], [0, 3, 0]], np.int32)
    found = stream(counts, lambda count: np.random.default_rng(1).uniform(0, 24, count))
    assert [np.bincount(found.titles[found.day(day)], minlength=3).tolist() for day in (0, 1)] == counts.tolist()
    assert all((np.diff(found.hours[found.day(day)]) >= 0).all() for day in (0, 1))


def test_what_the_oracle_knows_reaches_from_window_to_window() -> None:
    one = Stream(np.array([0, 1, 1, 0, 1]), np.array([1.0, 3.0, 9.0, 1.5, 2.0]), np.array([3, 5]))
    assert until_next_window(one, 2, 2.0).tolist() == [[1, 2], [0, 1]]


def toy(size_mb: int, titles: int) -> Catalogue:
    there = np.zeros(titles, np.int64)
    return Catalogue(np.full(titles, size_mb * 10**6), there + 1, there, there + 9, there, there > 0, np.full((1, titles), np.nan))


def small(**more: object) -> Viewing:
    change = {"titles": 300, "days": 4, "history_days": 5, "new_a_day": 3.0, "exponents": (0.8,), "flash_shares": (0.1, 0.6), **more}
    known = load(WORLD).model_copy(update=change)
    return known.model_copy(update={"regions": {"north": known.regions["north"].model_copy(update={"plays_a_day": 4_000, "sites": 2})}})


def test_the_oracle_fills_what_will_be_played_as_fast_as_it_may() -> None:
    world = small(days=1, history_days=1, completion=1.0)
    one = Stream(np.array([0, 0, 1, 1, 1, 0]), np.array([1.0, 12, 13, 14, 1, 20]), np.array([4, 6]))
    known = until_next_window(one, 3, world.fleet.window_start_h)
    of_day_1 = fill._oracle(world, toy(1_000, 3), 10**9, one, known)
    assert of_day_1 == 2 * 10**9  # title 1 is still there at 1 h, and title 0 has replaced it at 20 h
    slow = world.model_copy(update={"fleet": world.fleet.model_copy(update={"flash_fill_mbps": 0.001})})
    assert fill._oracle(slow, toy(1_000, 3), 10**9, one, known) == 0


def test_a_trace_says_when_a_title_comes_again(tmp_path: Path) -> None:
    fill._write(tmp_path / "t.bin", toy(7, 3), Stream(np.array([0, 1, 0, 0]), np.array([1.0, 2, 3, 1]), np.array([3, 4])))
    found = np.fromfile(tmp_path / "t.bin", cachesim.TRACE)
    assert found["object"].tolist() == [0, 1, 0, 0]
    assert found["next"].tolist() == [3, -1, 4, -1]
    assert found["time_s"].tolist() == [3_600, 7_200, 10_800, 90_000]
    assert set(found["bytes"]) == {7}


def test_a_fleet_has_the_disk_it_is_said_to_have() -> None:
    found = fleet(load(WORLD).fleet, "north", 2, 4_000, 10_000)
    flash = [oca for oca in found if oca.tier is Tier.EMBEDDED_FLASH]
    assert {oca.site_id for oca in flash} == {"north-0", "north-1"}
    assert sum(oca.disk_bytes for oca in flash if oca.site_id == "north-0") == 4_000


def test_a_small_world_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "REACTIVE", {})
    little, much = cells(small(), 0.8, 1)
    assert 0.2 < little["ours"] < much["ours"] <= much["edge"] <= 1
    for cell in (little, much):
        assert 0.8 < cell["ours"] / cell["oracle"] < 1.03
        assert cell["oracle_of_rates"] <= 1.01 * cell["oracle"]
        assert cell["bytes_outside_window"] == 0
        assert cell["origin_of_new_content"] <= 1.05


def test_without_its_peer_a_benchmark_fails_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cachesim, "LOCK", tmp_path / "another.lock")
    cachesim.LOCK.write_text("nothing that is installed already")
    monkeypatch.setattr(cachesim.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no network"))
    with pytest.raises(cachesim.NoPeer, match="could not be installed: no network"):
        fill.run(Options())

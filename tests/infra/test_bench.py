"""Benchmarks: verdicts, reports that miss a figure, and the arithmetic between what is sampled and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.bench import harness
from infra.bench.harness import Figure, Options
from infra.bench.jobs import steady_rate
from infra.bench.live import Sight, quantile


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (Figure("×", 8, 5), 8.0, "target"),
        (Figure("×", 8, 5), 7.9, "floor"),
        (Figure("×", 8, 5), 4.9, "below"),
        (Figure("s", 1.5, 3, higher=False), 1.5, "target"),
        (Figure("s", 1.5, 3, higher=False), 2.0, "floor"),
        (Figure("s", 1.5, 3, higher=False), 3.1, "below"),
        (Figure("s", 1.5, 3, higher=False), float("nan"), "below"),
        (Figure("events/s"), 1.0, "printed"),
    ],
)
def test_a_value_is_judged_by_the_side_that_is_better(figure: Figure, value: float, verdict: str) -> None:
    assert figure.verdict(value) == verdict


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "OUT", tmp_path)
    return tmp_path


def test_a_report_holds_medians_raw_runs_and_how_to_get_them_again(out: Path) -> None:
    options = Options(seed=7, events=1_000)
    harness.report("toy", {"rate": Figure("1/s", 3, 2)}, [{"rate": 1.0}, {"rate": 9.0, "why": "luck"}, {"rate": 2.0}], options)
    found = json.loads((out / "toy.json").read_text())
    assert found["figures"] == {"rate": {"value": 2.0, "unit": "1/s", "target": 3, "floor": 2}}
    assert found["runs"][1] == {"rate": 9.0, "why": "luck"}
    assert (found["seed"], found["command"]) == (7, ".venv/bin/python -m infra.bench --only toy --seed 7 --events 1000")


def test_the_defaults_need_no_options() -> None:
    assert Options().command("toy") == "make bench ONLY=toy"


@pytest.mark.parametrize("runs", [[], [{"rate": 1.0}, {}]])
def test_a_figure_that_a_run_lacks_is_a_failure(out: Path, runs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="toy: no value for"):
        harness.report("toy", {"rate": Figure("1/s")}, runs, Options())
    assert not (out / "toy.json").exists()


def test_a_steady_rate_knows_neither_start_nor_end() -> None:
    events = 1_000
    slow_start = [(t / 10, t) for t in range(240)]  # 10 a second
    steady = [(24 + t / 10, 240 + 10 * t) for t in range(70)]  # 100 a second
    slow_end = [(31 + t / 10, 940 + t) for t in range(61)]
    assert steady_rate([*slow_start, *steady, *slow_end], events) == pytest.approx(100)


def test_what_passed_too_quickly_is_no_rate() -> None:
    with pytest.raises(ValueError, match="too quickly to be measured: 1 samples"):
        steady_rate([(0.0, 0), (0.5, 500), (1.0, 1_000)], 1_000)


def test_a_row_is_visible_when_a_question_sees_it_or_a_later_one_of_its_partition() -> None:
    sight = Sight()
    for at, partition, offset in ((10.0, 0, 4), (11.0, 0, 4), (12.0, 0, 9), (11.5, 1, 2)):
        sight.see(at, partition, offset, time_ms=int(at) * 1_000 - 500)
    partitions, offsets = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 4, 5, 10, 2, 3, 0])
    assert sight.visible_at(partitions, offsets).tolist() == [10.0, 10.0, 12.0, np.inf, 11.5, np.inf, np.inf]


def test_a_table_is_complete_as_far_as_its_slowest_partition() -> None:
    sight = Sight()
    assert sight.complete_to_ms == 0
    sight.see(10.0, 0, 4, time_ms=9_000)
    sight.see(11.0, 1, 7, time_ms=8_000)
    sight.see(12.0, 0, 4, time_ms=9_999)  # the same row again
    assert sight.complete_to_ms == 8_000
    assert sight.reached() == 11


def test_a_quantile_is_a_value_that_was_measured_and_counts_what_never_came() -> None:
    assert quantile(np.array([1.0, 2.0, 3.0, 4.0]), 0.5) == 2.0
    assert quantile(np.array([1.0] * 98 + [np.inf] * 2), 0.99) == np.inf

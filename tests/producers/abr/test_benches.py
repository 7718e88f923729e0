"""The benchmarks' own arithmetic: intervals of paired differences, and what is owed on which traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.bench import abr, abr_bound
from infra.bench.abr_play import paired
from infra.bench.harness import Options
from tests.kit import vectors


def test_an_interval_of_paired_differences_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for number in range(200):
        common = rng.normal(0, 5, 100)
        found = paired((common + rng.normal(0.1, 0.5, 100)).tolist(), common.tolist(), number)
        assert found.low < found.mean < found.high
        covered += found.low <= 0.1 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_differences_of_other_traces_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0], 1)


def test_another_set_of_traces_owes_other_figures_and_gives_them(tmp_path: Path) -> None:
    vectors("abr")
    rng = np.random.default_rng(1)
    for number in range(3):
        rows = "\n".join(f"{second} {mbps:.3f}" for second, mbps in enumerate(rng.lognormal(0, 0.5, 60)))
        (tmp_path / str(number)).write_text(rows)
    options = Options(traces=tmp_path)
    assert "replay_difference" in abr.figures(Options())
    assert "replay_difference" not in abr.figures(options)
    for bench in (abr, abr_bound):
        (run,) = bench.run(options)
        assert set(bench.figures(options)) <= set(run)
        assert all(np.isfinite(run[figure]) for figure in bench.figures(options))
    assert "--traces" in options.command("abr")

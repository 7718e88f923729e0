"""Several policies as one: its network is the mean of theirs, and what is not alike is refused."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from producers.abr import policy
from producers.abr.__main__ import app
from producers.abr.ensemble import DIGITS, joined, mean
from producers.abr.network import Network, count
from producers.abr.policy import Policy, Trained
from producers.abr.rewards import LOG
from tests.producers.abr.examples import state


def network(seed: int, *widths: int) -> Network:
    rng = np.random.default_rng(seed)
    weights = tuple(rng.normal(0, 0.4, (a, b)) for a, b in pairwise(widths))
    return Network(weights, tuple(rng.normal(0, 0.2, width) for width in widths[1:]))


def made(seed: int) -> Policy:
    ladder = state().bitrates_kbps
    known = Trained(network(seed, count(6), 9, 7, 6), ladder, 4.0, 0.1, 10.0, 1.0, {"seed": seed})
    return replace(policy.load("untrained"), trained=known)


@pytest.mark.parametrize("widths", [((25, 8, 6), (25, 5, 6), (25, 3, 6)), ((25, 9, 8, 7, 6), (25, 4, 5, 6, 6)), ((25, 7, 6),)])
def test_its_outputs_are_the_mean_of_the_parts(widths: tuple[tuple[int, ...], ...]) -> None:
    parts = [network(seed, *each) for seed, each in enumerate(widths)]
    one = mean(parts)
    for inputs in np.random.default_rng(9).normal(size=(50, 25)).tolist():
        assert one(inputs) == pytest.approx(np.mean([part(inputs) for part in parts], 0).tolist(), abs=1e-9, rel=0)


def test_what_is_not_alike_is_refused() -> None:
    for parts in ([], [network(0, 5, 6)], [network(0, 5, 4, 6), network(1, 6, 4, 6)], [network(0, 5, 4, 6), network(1, 5, 4, 4, 6)]):
        with pytest.raises(ValueError, match="alike"):
            mean(parts)
    other = made(1)
    assert other.trained is not None
    for part in (
        policy.load("untrained"),
        replace(other, reward=LOG.name),
        replace(other, tuning=replace(other.tuning, horizon=3)),
        replace(other, trained=replace(other.trained, segment_s=2.0)),
    ):
        with pytest.raises(ValueError, match="are wanted"):
            joined([made(0), part], 0.1, 10.0, 1.0, {})


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    parts = [made(seed) for seed in range(3)]
    files = [tmp_path / f"{seed}.json" for seed in range(3)]
    for part, file in zip(parts, files, strict=True):
        file.write_text(policy.dumps(part))
    out = tmp_path / "all.json"
    arguments = ["join", *map(str, files), "--out", str(out), "--share", "0.2", "--cut", "7", "--caution", "1.5"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    found = policy.read(out)
    assert found.trained is not None
    assert (found.trained.share, found.trained.cut, found.trained.caution) == (0.2, 7.0, 1.5)
    assert [part["seed"] for part in found.trained.provenance["parts"]] == [0, 1, 2]
    said = shlex.split(found.trained.provenance["command"])
    assert said[3:] == ["join", "0.json", "1.json", "2.json", "--share", "0.2", "--cut", "7", "--caution", "1.5"]
    inputs = np.random.default_rng(9).normal(size=count(6)).tolist()
    wanted = np.mean([part.trained.network(inputs) for part in parts if part.trained], 0)
    assert found.trained.network(inputs) == pytest.approx(wanted.tolist(), abs=10.0 ** (1 - DIGITS))
    files[1].write_text(json.dumps({"schema_version": 1}))
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "nothing to join: plan" in str(refused.exception) + refused.output

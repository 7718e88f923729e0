"""Known effects: the demo's members in every variation, in virtual time."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.cli.experiment_effects import Effect, known
from producers.encoders.titles import LADDER, Title
from producers.experiments.publish import written
from producers.players.memory import made_up, title_files, watched
from producers.players.population import viewer

TITLES = (Title("long", "", "", 24, LADDER), Title("short", "", "", 12, LADDER))
FILES = {path: content for title in TITLES for path, content in made_up(title).items()}
MEMBERS, AT_MS = 10, 1_780_000_000_000


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Effect]:
    shares: list[float] = []
    effects = {(one.experiment, one.metric): one for one in known(written(), TITLES, FILES, MEMBERS, 1, 1, shares.append)}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return effects


def test_what_nobody_obeys_has_no_effect(found: dict[tuple[str, str], Effect]) -> None:
    same = [one for (experiment, _), one in found.items() if experiment == "same_or_same"]
    assert len(same) == 8
    for one in same:
        assert one.values[0] == one.values[1]
        assert one.absolute == one.absolute_error == 0.0


def test_what_players_obey_has_one(found: dict[tuple[str, str], Effect]) -> None:
    startup = found["fast_start", "startup_ms"]
    control, modest = startup.values
    assert control
    assert modest != control
    assert startup.relative == pytest.approx((modest or 0) / control - 1)
    assert startup.relative_error
    assert startup.absolute_error
    rule = found["policy_or_bola", "bitrate_kbps"]
    assert (rule.control, rule.variation) == ("bola", "policy")
    assert rule.relative
    assert rule.relative_error


def test_a_seed_draws_everything() -> None:
    only = [one for one in written() if one.key not in ("policy_or_bola", "same_or_same")]
    first, again, other = (list(known(only, TITLES, FILES, 4, 1, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_same_draws_are_the_same_session() -> None:
    def session(draw: int, flags: dict[str, str]) -> list[tuple[int, str]]:
        told = watched(viewer(3, 1), TITLES, FILES, Random(draw), "s", AT_MS, flags)
        return [(one.event_time_ms, one.event_id) for one in told]

    assert session(1, {}) == session(1, {"nothing": "at all"})
    assert len({tuple(session(draw, {})) for draw in range(4)}) > 1


def test_a_title_that_is_not_in_the_cache_is_as_large_as_its_bitrate_says(tmp_path: Path) -> None:
    files = title_files(TITLES[1], tmp_path)
    assert len(files["/short/v1/720p/005.m4s"]) == 2800 * 1000 * 2 // 8
    assert "/short/v1/720p/006.m4s" not in files


def test_the_command_prints_tables_that_fit_a_terminal() -> None:
    lines = CliRunner().invoke(app, ["experiment", "effects", "--members", "2", "--sessions", "1"]).stdout.splitlines()
    assert {"fast_start", "policy_or_bola", "same_or_same"} <= {line.strip() for line in lines}
    assert [line.split()[-2:] for line in lines if line.startswith("played_ms")][-1] == ["+0.00%", "0.00%"]
    assert max(map(len, lines)) <= 80

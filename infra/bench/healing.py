"""When a cache server dies, stalls, slows down, falls silent, loses its prefixes or rots: how soon is it left alone, and who notices?

The whole local stack with real players, on a network of 12 Mbit/s each so that nobody waits for his own access line. Each fault is done to
the real process or its data plane (`infra.chaos.scenarios`) while players watch from it and plays are pressed ten times a second beside
them. All figures are read from ClickHouse: `steered_s` is how long after the fault the last new session was sent to the server,
`rebuffer_s` the longest wait of any session that was playing, in the time that the fault lasts. A segment is two seconds long.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from infra.base import warehouse
from infra.base.children import die_with_parent
from infra.bench.harness import Figure, Options, ground, say
from infra.chaos import scenarios
from infra.chaos.fleet import Fleet
from infra.chaos.waiting import until
from producers.emit import Emitter
from producers.encoders.titles import SEGMENT_S

FAULTS = {
    "kill": ("oca-death", "oca-1"),
    "freeze": ("oca-freeze", "oca-2"),
    "mute": ("oca-mute", "oca-1"),
    "withdraw": ("withdrawn-prefix", "oca-2"),
    "slow": ("oca-slow", "oca-1"),
    "corrupt": ("silent-corruption", "oca-2"),
}
"""The scenario of each fault, and the server that it happens to: not the same one twice in a row, so that each has time to recover."""
FIGURES = {
    **{
        f"{name}_steered_s": Figure("s", most, most, higher=False)
        for name, (scenario, _) in FAULTS.items()
        if (most := scenarios.SCENARIOS[scenario].leave_alone_s)
    },
    **{f"{name}_rebuffer_s": Figure("s", SEGMENT_S, SEGMENT_S, higher=False) for name in FAULTS},
    "decisions": Figure("1"),
    "switches": Figure("1"),
}
PLAYERS = 20
MBPS = 12
FILLED_WITHIN_S, WELL_WITHIN_S = 300.0, 240.0
HELD = """
SELECT min(titles)
FROM (
  SELECT oca_id, countIf(is_held) AS titles
  FROM (
    SELECT oca_id, item, argMax(held, (event_time, topic_offset)) AS is_held FROM delivery_content WHERE NOT marker GROUP BY oca_id, item
  )
  GROUP BY oca_id
)
HAVING count() = {servers:UInt32}
"""


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; the stack and its viewers are there throughout."""
    runs = []
    with ground(""):
        say("encoding what is not in the cache")
        subprocess.run(
            [sys.executable, "-m", "producers.encoders", "--emit"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with watching(PLAYERS, options.seed), Emitter("healing") as emitter:
            say("waiting until every server has been filled with two titles")
            until(lambda: (filled() or 0) >= 2, FILLED_WITHIN_S, lambda: f"the emptiest server holds {filled()} titles")
            for number in range(options.runs):
                figures = _faults(Fleet(emitter), options.seconds)
                say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
                runs.append(figures)
    return runs


def _faults(fleet: Fleet, seconds: float | None) -> dict[str, float]:
    figures: dict[str, float] = {"decisions": 0, "switches": 0}
    for name, (called, victim) in FAULTS.items():
        until(lambda victim=victim: scenarios.states().get(victim) == "UP", WELL_WITHIN_S, lambda victim=victim: f"{victim} is not UP")  # type: ignore[misc]
        scenario = scenarios.SCENARIOS[called]
        result = scenarios.run(replace(scenario, for_s=seconds or scenario.for_s), fleet, (victim,), say)
        during = result.during
        if not result.calm.to_victims:
            raise AssertionError(f"{name}: nobody was sent to {victim} before: there is nothing to see")
        figures |= {
            f"{name}_steered_s": result.left_alone_after_s,
            f"{name}_rebuffer_s": during.longest_rebuffer_ms / 1000,
            f"{name}_calm_rebuffer_s": result.calm.longest_rebuffer_ms / 1000,
            f"{name}_to_victim_before": float(result.calm.to_victims),
            f"{name}_decisions": float(during.decisions),
            f"{name}_failed_sessions": float(during.failed),
            f"{name}_startup_p95_ms": during.startup_p95_ms or 0.0,
        }
        figures |= {f"{name}_switches_{cause}": float(count) for cause, count in during.switches.items()}
        figures["decisions"] += during.decisions
        figures["switches"] += sum(during.switches.values())
    return figures


@contextmanager
def watching(count: int, seed: int) -> Iterator[None]:
    """Players on networks of `MBPS` each."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "steady"
        trace.write_text(f"0 {MBPS}\n60 {MBPS}\n")
        command = [sys.executable, "-m", "producers.players", "--count", str(count), "--seed", str(seed), "--trace", str(trace)]
        players = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            yield
        finally:
            players.terminate()
            players.wait(60)


def filled() -> int | None:
    """Titles on the emptiest of the three servers that hold any; None while one has none."""
    rows = warehouse.reader().query(HELD, {"servers": 3}).result_rows
    return int(rows[0][0]) if rows else None

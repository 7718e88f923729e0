"""`python -m infra.bench [--only NAME] [--seed N] [--runs N] [--events N] [--sessions N] [--seconds S] [--world FILE]
[--traces DIR]`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from infra.base import log
from infra.bench import harness

ALL = (
    "loader", "replay", "jobs", "minute", "latency", "collector", "cmcd_recovery", "simulator", "population", "cache_exact", "oca",
    "steering", "fill", "miss_causes", "healing", "abr", "abr_bound", "abr_rewards", "abr_learning", "abr_real", "allocation",
    "honesty", "power", "scale", "features", "feature_exact", "feature_fresh", "feature_cost", "feature_skew",
)  # fmt: skip


def main() -> int:
    """Run benchmarks one after the other; 1 when one has failed or a figure is below its floor."""
    log.configure("bench")
    words = argparse.ArgumentParser(prog="make bench", description=__doc__)
    words.add_argument("--only", default="", help="comma-separated names; default: all")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--events", type=int, default=None)
    words.add_argument("--sessions", type=int, default=None)
    words.add_argument("--seconds", type=float, default=None)
    words.add_argument("--world", type=Path, default=None)
    words.add_argument("--traces", type=Path, default=None)
    given = words.parse_args()
    names = [name for name in given.only.split(",") if name] or list(ALL)
    if unknown := set(names) - set(ALL):
        words.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    options = harness.Options(given.seed, given.runs, given.events, given.sessions, given.seconds, given.world, given.traces)
    results, figures, failed = [], {}, []
    for name in names:
        module = importlib.import_module(f"infra.bench.{name}")
        figures[name] = module.figures(options) if hasattr(module, "figures") else module.FIGURES
        harness.say(f"[bold]{name}[/bold] {(module.__doc__ or '').splitlines()[0]}")
        try:
            results.append(harness.report(name, figures[name], module.run(options), options))
        except Exception as error:  # one benchmark's failure must not hide the others' figures
            harness.console.print_exception()
            failed.append(f"{name}: {error}")
    fine = harness.show(results, figures)
    for line in failed:
        sys.stdout.write(f"FAILED {line}\n")
    return 0 if fine and not failed else 1


if __name__ == "__main__":
    sys.exit(main())

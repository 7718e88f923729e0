"""What does a measurement cost Unit.java, in few experiments and in many? `python -m tests.experiments.cost`, beside no other work.

Without Flink, its state and the making of rows: microseconds of one thread's CPU. Members are exposed once, to all their experiments, and
measured in turn on fourteen days, all metrics each time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from streams.experiments.batch import DAY_MS, Counted, Kind, argument
from tests import jvm

VALUES: Sequence[Kind] = ("sum", "count", "mean", "proportion", "ratio")
WITH_QUANTILES: Sequence[Kind] = (*VALUES, "quantile", "time_to_event")
METRICS, MEMBERS, ROUNDS = 20, 20_000, 12
CASES = ((20, 0.2, VALUES), (20, 20, VALUES), (2_000, 20, VALUES), (2_000, 20, WITH_QUANTILES))
"""Experiments, those of a member on average, kinds of metrics in turn."""


def main() -> None:
    with TemporaryDirectory() as scratch:
        run = jvm.command(Path(scratch), "experiments", "Cost", "2g")
        for experiments, of_a_member, kinds in CASES:
            metrics = [Counted(f"metric_{n}", kinds[n % len(kinds)], 14 * DAY_MS, 14 * DAY_MS) for n in range(METRICS)]
            told = map(str, (argument(metrics), experiments, of_a_member, MEMBERS, ROUNDS))
            done = subprocess.run([*run, *told], stdout=subprocess.PIPE, text=True, check=True)
            sys.stdout.write(f"{experiments} experiments, {of_a_member} a member, {len(kinds)} kinds: {done.stdout.strip()} µs\n")


if __name__ == "__main__":
    main()

"""Waits for the supervisor to end, however it ends, and then kills what is left of its run.

The kernel kills the supervisor's own children with it (`die_with_parent`); grandchildren, such as Flink's Python workers,
are found by the mark in their environment. Started by the supervisor with the reading end of a pipe as standard input:
the pipe closes when the last writer, the supervisor, is gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from infra.stack.processes import RUN_MARK, kill_run


def main(run: str, leftovers: list[str]) -> None:
    """Block until standard input ends; then kill run `run` and delete `leftovers`."""
    sys.stdin.buffer.read()
    kill_run(run)
    for leftover in leftovers:
        Path(leftover).unlink(missing_ok=True)


if __name__ == "__main__":
    main(os.environ.pop(RUN_MARK), sys.argv[1:])

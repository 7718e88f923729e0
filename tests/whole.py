"""The whole suite as two processes side by side, `python -m tests.whole`: tests with the stack or a browser mostly wait, the rest computes.

What both say comes as it is said, each line with whose it is before it; the last lines say how each ended.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from infra.base.children import die_with_parent

HALVES = {"stack": "stack", "rest": "not stack"}
"""What pytest is told to select, by what the half is called. The rest comes last: it has the outside vectors, whose count ends a run."""
OUTCOME = re.compile(r"(\d+) (\w+?)s?\b")


class Half:
    """One run of pytest. The cache of the last failures would be written by both, so neither does."""

    def __init__(self, name: str, marked: str) -> None:
        self.name = name
        self.last = self.counted = ""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=25", "-m", marked]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=die_with_parent
        )
        self._telling = threading.Thread(target=self._tell)
        self._telling.start()

    def code(self) -> int:
        """Wait for its end; pytest's exit code."""
        while True:
            with suppress(KeyboardInterrupt):  # Ctrl-C reaches pytest too, which ends what it has started
                code = self._process.wait()
                self._telling.join()
                return code

    def _tell(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last = line.strip()
            self.counted = self.last if self.last.startswith("outside vectors") else self.counted
            sys.stdout.write(f"{self.name:5} | {line}")
            sys.stdout.flush()


def together(lasts: Iterable[str], seconds: float) -> str:
    """pytest's last lines as one, as pytest would say it: "5700 passed, 1 failed in 1200.00s"."""
    counts: Counter[str] = Counter()
    for last in lasts:
        counts.update({outcome: int(many) for many, outcome in OUTCOME.findall(last.rpartition(" in ")[0])})
    return f"{', '.join(f'{counts[outcome]} {outcome}' for outcome in sorted(counts))} in {seconds:.2f}s"


def main() -> int:
    """0 when both have passed."""
    began = time.monotonic()
    halves = [Half(name, marked) for name, marked in HALVES.items()]
    codes = [half.code() for half in halves]
    for half in halves:
        sys.stdout.write(f"{half.name:5}   {half.last}\n        {half.counted}\n")
    sys.stdout.write(together([half.last for half in halves], time.monotonic() - began) + "\n")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

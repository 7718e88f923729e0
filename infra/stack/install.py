"""Installs the locked packages, with one line of progress: `python infra/stack/install.py requirements.lock`.

Run by `make` with the Python of a fresh virtual environment, before any package is there: standard library only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

ARRIVED = re.compile(r"(?:Downloading|Using cached) \S+ \(([\d.]+) (kB|MB)\)")


def megabytes(line: str) -> float:
    """The size that a line of pip's output announces; 0 for lines about something else."""
    found = ARRIVED.search(line)
    return float(found[1]) / (1000 if found[2] == "kB" else 1) if found else 0.0


def total_megabytes(lock: Path) -> float:
    """What the lock's first line says all its files weigh."""
    found = re.match(r"# downloads (\d+) MB", lock.read_text())
    if found is None:
        raise SystemExit(f"{lock} does not begin with `# downloads <n> MB`")
    return float(found[1])


def main(lock: Path) -> int:
    """Install; returns pip's exit code, after its last words where it failed."""
    total, began, done, shown = total_megabytes(lock), time.monotonic(), 0.0, 0.0
    begin, end = ("\r", "  ") if sys.stderr.isatty() else ("", "\n")  # a terminal shows one line that changes
    step = total / (100 if begin else 10)
    quiet = ["--disable-pip-version-check", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--require-hashes", "-r", str(lock)]
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            last.append(line)
            done += megabytes(line)
            if "Installing collected packages" in line:
                print(f"{begin}Python packages: unpacking {line.count(',') + 1}, about half a minute", file=sys.stderr)
            elif done - shown >= step:
                shown = done
                left_s = (time.monotonic() - began) * max(0.0, total - done) / done
                words = f"{begin}Python packages: {done:.0f} of {total:.0f} MB, {left_s:.0f} s left"
                print(words, end=end, file=sys.stderr, flush=True)
    if pip.returncode:
        print(
            "".join(last), "\nThe packages could not be installed (above): check the network, then run `make setup` again.", file=sys.stderr
        )
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""`python -m tests.halves`: the whole suite in two processes beside each other, one of which has the stack.

What the stack's half prints is shown as it comes; what the other half printed is shown when it has ended. Ends with 0 if both are green.
Arguments go to both, as in `python -m tests.halves --durations 20`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

NO_TEST = 5
"""pytest's code where arguments leave a half without a test."""


def main() -> int:
    """Run both; the exit code is that of the first that failed."""
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with said.open("wb") as out:
            rest = subprocess.Popen([*pytest, "-p", "no:cacheprovider", "-m", "not stack"], stdout=out, stderr=subprocess.STDOUT)
            ended = threading.Thread(target=lambda: (rest.wait(), show("the half without the stack", said)))
            ended.start()
            try:
                stack = subprocess.run([*pytest, "-m", "stack"], check=False).returncode
            except KeyboardInterrupt:  # both have it, too, and end in order
                stack = 2
            ended.join()
    return next((code for code in (rest.returncode, stack) if code not in (0, NO_TEST)), 0)


def show(title: str, said: Path) -> None:
    """Print what a half said, in one piece."""
    text = f"\n{f' {title} ':=^100}\n{said.read_text(errors='replace')}{' ends ':=^100}\n"
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

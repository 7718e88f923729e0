"""Refuses a machine that the packages have no wheels for, before anything is installed.

`make` runs this file with the system's Python, so it uses nothing but the standard library, and syntax that Python 3.6 reads.
"""

import platform
import sys

PYTHONS = ((3, 11), (3, 12))


def python_problem(version: "tuple[int, ...]") -> "str | None":
    """What is wrong with this Python version; None where nothing is."""
    if version[:2] in PYTHONS:
        return None
    return f"Python {version[0]}.{version[1]}: Flink's and Beam's wheels need 3.11 or 3.12"


def machine_problem(system: str, architecture: str) -> "str | None":
    """What is wrong with this kind of machine; None where nothing is."""
    if (system, architecture) == ("Linux", "x86_64"):
        return None
    return f"{system} on {architecture}: apache-flink has no wheel for Linux aarch64, apache-beam none for macOS arm64"


def main() -> int:
    """Print every problem with what to do about it; 1 if there is one."""
    problems = [
        (python_problem(sys.version_info[:2]), "install Python 3.11 and run `make PYTHON=python3.11 ...`"),
        (machine_problem(platform.system(), platform.machine()), "use a Linux x86_64 machine, virtual machine or container"),
    ]
    found = [(problem, mend) for problem, mend in problems if problem]
    for problem, mend in found:
        sys.stderr.write(f"Headrace cannot run here: {problem}.\nDo: {mend}.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

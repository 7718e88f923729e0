"""The installer's progress line reads pip's own words, and the lock says how much is to come."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.stack.install import megabytes, total_megabytes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("  Downloading zstandard-0.25.0-cp311-cp311-manylinux2014_x86_64.whl (5.6 MB)", 5.6),
        ("  Using cached starlette-1.10.0-py3-none-any.whl (80 kB)", 0.08),
        ("Collecting starlette==1.10.0 (from -r requirements.lock (line 3329))", 0),
        ("Installing collected packages: sortedcontainers, pytz", 0),
    ],
)
def test_sizes_are_read_from_pip_s_lines(line: str, size: float) -> None:
    assert megabytes(line) == pytest.approx(size)


def test_the_lock_says_what_it_weighs_and_holds_no_address() -> None:
    lock = ROOT / "requirements.lock"
    assert total_megabytes(lock) > 500
    assert "://" not in lock.read_text()


def test_a_lock_without_its_weight_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("six==1.17.0\n")
    with pytest.raises(SystemExit, match="does not begin with"):
        total_megabytes(tmp_path / "requirements.lock")

"""The pictures in the documents: all there, none left over, together no burden on a clone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 2_600_000


def test_each_picture_that_is_shown_exists_and_each_one_that_exists_is_shown() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {page.parent / name for page in pages for name in re.findall(r'(?:src|srcset)="([^"]+)"', page.read_text())}
    assert shown == set(PICTURES.iterdir())


def test_they_are_small() -> None:
    assert sum(picture.stat().st_size for picture in PICTURES.iterdir()) < MOST_BYTES

"""Waiting for what a disturbed system takes a while to come to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(probe: Callable[[], Any], within_s: float, words: Callable[[], str], every_s: float = 0.25) -> None:
    """Return when `probe` is true. Blocks; raises TimeoutError, which says what is the matter in these words."""
    deadline = time.monotonic() + within_s
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {within_s:.0f} s: {words()}")
        time.sleep(every_s)

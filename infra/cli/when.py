"""Times and progress on the command line."""

from __future__ import annotations

import datetime as dt
import time

import typer

from infra.cli.words import err


def instant_ms(given: str | None) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time (UTC where it names no zone). Raises BadParameter."""
    if given is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not a time: write 2026-01-31, 2026-01-31T18:00 or 2026-01-31T18:00:00+01:00") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)


class Progress:
    """Prints how far a long step is, how fast it goes and what time is left: once a second on a terminal, rarely elsewhere."""

    def __init__(self, what: str, unit: str = "events") -> None:
        self._what = what
        self._unit = unit
        self._began = self._printed = time.monotonic()
        self._first: int | None = None
        self._every_s = 1.0 if err.is_terminal else 10.0

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` units; a total of 0 is unknown."""
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        if now - self._printed < self._every_s:
            return
        self._printed = now
        rate = (done - self._first) / (now - self._began)
        fast = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        left = (
            f" of {total:,} {self._unit}, {fast} {self._unit}/s, {(total - done) / rate:,.0f} s left"
            if total and rate
            else f" {self._unit}, {fast} {self._unit}/s"
        )
        err.print(f"{self._what}: {done:,}{left}", end="\r" if err.is_terminal else "\n")

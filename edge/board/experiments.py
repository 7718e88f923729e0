"""Read-outs for the board: asked on threads, one at a time, and kept a few seconds, so that viewers of one experiment share an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from edge import read_outs, readout_page
from edge.board.panels import in_words
from edge.read_outs import Known, Queries, Told
from schemas.allocation.definition import Experiment
from streams.experiments.read_outs import DAY_S, Report

KEPT_S = 3.0
"""So old an answer may be, or as old as it took to get."""
ANSWERS_KEPT = 64


class Unanswered(Exception):
    """The warehouse cannot answer; the message says why and what to do."""


class Experiments:
    """The list of experiments, and one read-out as JSON or as a page. `reader` makes a read-only warehouse client."""

    def __init__(self, reader: Callable[[], Queries]) -> None:
        self._reader = reader
        self._client: Queries | None = None
        self._turn = asyncio.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    async def listed(self) -> list[dict[str, Any]]:
        """A line for each experiment, by state and key. Raises Unanswered."""
        found: list[dict[str, Any]] = await self._answer("", self._list)
        return found

    async def one(self, key: str) -> dict[str, Any]:
        """A read-out, see `read_outs.as_json`. Raises Unanswered, Unknown."""
        report, known, step_s = await self._read(key)
        return read_outs.as_json(report, known, step_s)

    async def page(self, key: str) -> str:
        """The same, drawn. Raises Unanswered, Unknown."""
        report, known, step_s = await self._read(key)
        return readout_page.body(report, known, step_s)

    async def _read(self, key: str) -> tuple[Report, Known, int]:
        found: tuple[Report, Known, int] = await self._answer(key, lambda client: self._one(client, key))
        return found

    def _one(self, client: Queries, key: str) -> tuple[Report, Known, int]:
        known = read_outs.known(client, key)
        report, step_s = read_outs.one(client, key, known)
        return report, known, step_s

    def _list(self, client: Queries) -> list[dict[str, Any]]:
        known = read_outs.known(client)
        now_ms = datetime.now(UTC).timestamp() * 1000
        lines = [
            {
                "experiment": report.experiment,
                "owner": (experiment := known.experiment(report.experiment)).owner,
                "flag": experiment.flag,
                "state": experiment.state,
                "days": days(experiment, known.told.get(report.experiment), now_ms),
                "units": sum(one.units for one in report.exposed),
                "split_p": report.split_p,
                "verdict": report.verdict,
                "words": report.words,
            }
            for report in read_outs.every(client, known, brief=True)
        ]
        return sorted(lines, key=lambda one: (one["state"] != "running", str(one["experiment"])))

    async def _answer(self, name: str, ask: Callable[[Queries], Any]) -> Any:
        async with self._turn:
            until, found = self._kept.get(name, (0.0, None))
            began = time.monotonic()
            if began < until:
                return found
            try:
                found = await asyncio.to_thread(self._ask, ask)
            except ClickHouseError as error:
                self._client = None
                raise Unanswered(in_words(error)) from None
            while len(self._kept) >= ANSWERS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            took_s = time.monotonic() - began
            self._kept[name] = (began + took_s + max(KEPT_S, took_s), found)
            return found

    def _ask(self, ask: Callable[[Queries], Any]) -> Any:
        if self._client is None:
            self._client = self._reader()
        return ask(self._client)


def days(experiment: Experiment, told: Told | None, now_ms: float) -> int | None:
    """On how many days it has run, the first counted; None before it was started."""
    if told is None or not told.started_ms:
        return None
    until_ms = now_ms if experiment.state == "running" else told.at_ms
    return max(1, ceil((until_ms - told.started_ms) / (1000 * DAY_S)))

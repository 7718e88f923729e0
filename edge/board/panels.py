"""Panels over HTTP: bounded requests in, rows or an error in words out. Two viewers of the same panel share one query."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from infra.base import log
from infra.base.settings import settings
from sinks import dashboards
from sinks.dashboards import Panel, PanelError, Queries

LONGEST = timedelta(days=31)
SHORTEST = timedelta(seconds=10)
MAX_FILTER_CHARS = 200
QUERIES_AT_ONCE = 2
"""The board asks for no more than this at a time, so that viewers never crowd out the loader."""
ANSWERS_KEPT = 512

logger = log.get(__name__)


class BadRequest(Exception):
    """A request that cannot be served as it is; the message says what to change."""


@dataclass(frozen=True)
class Window:
    """What a panel is asked about: [from, to), and each of the filters, '' meaning all."""

    from_: datetime
    to: datetime
    filters: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Window:
        """From a URL's query: `from` and `to` in ms since 1970, filters. Raises BadRequest."""
        return cls(_time(query, "from"), _time(query, "to"), _filters(query)).checked()

    @classmethod
    def last(cls, span_s: int, query: Mapping[str, str], now: datetime, every_s: float) -> Window:
        """The last `span_s` seconds, aligned so that buckets stay where they are from one update to the next. Raises BadRequest."""
        to_s = now.timestamp() // every_s * every_s
        to = datetime.fromtimestamp(to_s, UTC)
        step = dashboards.step_s(to - timedelta(seconds=span_s), to)
        return cls(datetime.fromtimestamp((to_s - span_s) // step * step, UTC), to, _filters(query)).checked()

    def checked(self) -> Window:
        """Itself, if it is of a length that may be asked for. Raises BadRequest."""
        if not SHORTEST <= self.to - self.from_ <= LONGEST:
            raise BadRequest(f"a range is between {SHORTEST.seconds} s and {LONGEST.days} days long, and `from` is before `to`")
        return self

    def params(self) -> dict[str, Any]:
        """As the panels' parameters."""
        return {"from": self.from_, "to": self.to, **self.filters}


def _time(query: Mapping[str, str], name: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(query[name]) / 1000, UTC)
    except KeyError:
        raise BadRequest(f"`{name}` is missing: milliseconds since 1970") from None
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"`{name}` is milliseconds since 1970, not {query[name][:40]!r}") from None


def _filters(query: Mapping[str, str]) -> dict[str, str]:
    found = {name: query.get(name, "") for name in dashboards.FILTERS}
    for name, value in found.items():
        if len(value) > MAX_FILTER_CHARS:
            raise BadRequest(f"`{name}` is at most {MAX_FILTER_CHARS} characters long")
    return found


class PanelRunner:
    """Runs panels on threads, a few at a time, and keeps the newest answers so that equal requests cost one query."""

    def __init__(self, reader: Callable[[], Queries]) -> None:
        self._reader = reader
        self._client: Queries | None = None
        self._turns = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._complaint = ""
        self._answers: dict[Any, asyncio.Future[dict[str, Any]]] = {}

    async def answer(self, chosen: Panel, params: Mapping[str, Any]) -> dict[str, Any]:
        """`{"columns", "values", "rows", "step_s", "took_ms"}`, or `{"error": words}` where the warehouse cannot answer."""
        key = (chosen.board, chosen.name, tuple(sorted(params.items())))
        if key not in self._answers:
            while len(self._answers) >= ANSWERS_KEPT:
                self._answers.pop(next(iter(self._answers)))
            self._answers[key] = asyncio.ensure_future(self._run(chosen, params))
        answer = await asyncio.shield(self._answers[key])
        if "error" in answer:
            self._answers.pop(key, None)
        return answer

    async def _run(self, chosen: Panel, params: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turns:
            began = time.perf_counter()
            try:
                result = await asyncio.to_thread(partial(self._query, chosen, params))
            except PanelError as error:
                return {"error": str(error)}
            except ClickHouseError as error:
                self._client = None
                words = in_words(error)
                if words != self._complaint:  # once, not for every panel every two seconds
                    self._complaint = words
                    logger.warning("a panel was not answered", board=chosen.board, panel=chosen.name, words=words, error=str(error)[:500])
                return {"error": words}
        self._complaint = ""
        step = dashboards.step_s(params["from"], params["to"]) if "step_s" in chosen.params else None
        took_ms = round((time.perf_counter() - began) * 1000)
        return {"columns": result.columns, "values": result.values, "rows": result.rows, "step_s": step, "took_ms": took_ms}

    def _query(self, chosen: Panel, params: Mapping[str, Any]) -> dashboards.Result:
        if self._client is None:
            self._client = self._reader()
        return dashboards.run(chosen, self._client, params)


def in_words(error: ClickHouseError) -> str:
    """What a warehouse's refusal means for whoever looks at the panel, and what to do."""
    text = str(error)
    if "UNKNOWN_TABLE" in text or "UNKNOWN_DATABASE" in text:
        return "no tables yet: the stack is starting, or `headrace status` says what holds it up"
    if "TIMEOUT_EXCEEDED" in text or "MEMORY_LIMIT_EXCEEDED" in text:
        return "this range is too much for one panel: choose a shorter one, or a filter"
    if isinstance(error, OperationalError):
        return f"the warehouse at {settings().warehouse.dsn} does not answer: `headrace status` says why"
    return f"the warehouse refused the query: {text.splitlines()[0][:300]}"

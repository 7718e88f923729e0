"""The page that a member opens, and the features behind it. `python -m edge.home`.

    GET  /home?member=…         rows of titles for a member; may have region, country (ISO 3166-1), maturity (ratings that his profile
                                allows, by commas) and device_type. Rows, and why a title is in them: `edge.home.rows`
    GET  /search?query=…        titles in whose name, genres or people each word begins a word; may have what /home may have
    GET  /features/names        every value that can be asked for: name, feature, key, window, doc
    POST /features {"features": [value, …], "member": …, "title": [cid, …], …}
    GET  /features?features=value,…&member=…&title=cid,…
                                values as of now, or of `at_ms`; members by their own id as `member` or by their pseudonym as `member_id`,
                                any entity by a name or, in a list, by up to 2,000 of them; how they are answered: `edge.home.lookup`
    GET  /healthz               200 when catalogue and features have been read; counts, and how long answers took

It answers from memory and waits for nothing. Before the features have been read a page has the rows that need none, and its answer says
so; a lookup gets 503. Of a share of requests (`edge.features_told_share`) it tells what it served on recommendations.feature_served, which
the consistency watch computes again from the log; what each value is like over all keys, and what it costs, on
recommendations.feature_profile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.asked import Refusal, short_json
from edge.home import lookup, profile
from edge.home.rows import MOST, Page, Rankings, Row
from edge.home.search import MOST_QUERY, found
from edge.home.titles import Title, Titles, Viewer
from edge.outbox import Outbox, meanwhile
from edge.pseudonym import pseudonym
from edge.serve import CORS, Json, serve
from infra.base import log
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter
from schemas.recommendations.definition import ENTITIES
from streams.folded import Folded, followed
from streams.recommendations.online import Definitions, Online
from streams.recommendations.table import Table

SERVED, PROFILE = "recommendations.feature_served", "recommendations.feature_profile"
PROFILE_EVERY_S = 60.0
NOW_MS = 1_000
"""What is asked as of a time that is farther from now is no matter for the watch: a row holds what is known now."""
MOST_BODY = 256 << 10
MOST_CHARACTERS = 200
TIMED = 1_000
"""Answers whose times are known."""
TITLES_TOLD = 3
"""Titles of a page whose rows are told of, where a page is."""
Handler = Callable[[Request], Awaitable[Response]]


class _Numbers(Response):
    """An answer with arrays of numbers in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body; what is not a number is null."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


@dataclass
class Home:
    """Answers from memory; nothing here waits for Kafka."""

    values: Folded[Table]
    titles: Titles
    served: Outbox
    now_ms: Callable[[], int]
    told_share: float = 0.0
    profiles: Outbox | None = None
    random: Random = field(default_factory=Random)
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))
    rankings: Rankings = field(default_factory=Rankings)
    counts: Counter[str] = field(default_factory=Counter)
    took_ms: dict[str, deque[float]] = field(default_factory=dict)

    async def home(self, request: Request) -> Response:
        """A member's page."""
        viewer, at_ms = _viewer(request), self.now_ms()
        table = self.values.table if self.values.caught_up else None
        page_id, rows = self.new_id(), Page(table, self.titles.table, viewer, at_ms, self.random, self.rankings).rows()
        if not rows and not self.titles.caught_up:
            raise Refusal(503, "what there is to watch is not known yet: recommendations.title has not been read")
        if table is not None and self.random.random() < self.told_share:
            self._tell(table, lookup.Asked(*_of_page(table, viewer, rows), at_ms), page_id)
        told = {"page_id": page_id, "member_id": viewer.member_id, "rows": [self._row(n, row) for n, row in enumerate(rows)]}
        features = {"ready": table is not None, "age_ms": self.values.age_ms}
        return Json({**told, "features": features})

    async def search(self, request: Request) -> Response:
        """Titles by what was typed."""
        query = request.query_params.get("query", "")
        if len(query) > MOST_QUERY:
            raise Refusal(400, f"query: what was typed, {MOST_QUERY} characters at most")
        if not self.titles.caught_up:
            raise Refusal(503, "what there is to watch is not known yet: recommendations.title has not been read")
        some = found(self.titles.table.values(), query, _viewer(request, "query"))
        return Json({"results": len(some), "items": [{**_title(title), "position": n} for n, title in enumerate(some[:MOST])]})

    async def features(self, request: Request) -> Response:
        """Values of features."""
        told = await short_json(request, "a lookup", MOST_BODY) if request.method == "POST" else _in_query(request)
        asked = lookup.Asked.of(told, self.now_ms())
        if not self.values.caught_up:
            raise Refusal(503, "features are not known yet: recommendations.feature_value has not been read")
        table = self.values.table
        found = lookup.answer(table, asked)
        if self.random.random() < self.told_share:
            self._tell(table, asked, request.headers.get("x-correlation-id", "")[:128])
        return _Numbers({**found, "age_ms": self.values.age_ms})

    async def names(self, request: Request) -> Response:
        """What can be asked for."""
        values = self.values.table.plan.values.values()
        told = [
            {
                "name": value.name, "feature": value.feature.name, "key": value.feature.key, "aggregation": value.feature.aggregation,
                "window_s": value.window.length_ms // 1000, "default": value.feature.default, "owner": value.feature.owner,
                "doc": value.feature.doc,
            }
            for value in values
        ]  # fmt: skip
        return Json({"values": told})

    async def nowhere(self, request: Request) -> Response:
        """No such route."""
        known = "GET /home, GET /search, POST /features, GET /features/names"
        raise Refusal(404, f"{request.method} {request.url.path} is nothing here: {known} are")

    async def health(self, request: Request) -> Response:
        """GET /healthz."""
        read = {"features": self.values.caught_up, "titles": self.titles.caught_up}
        table = self.values.table
        took = {name: _quantiles(some) for name, some in self.took_ms.items()}
        told = {
            "ready": all(read.values()), "read": read, "refused": self.values.refused + self.titles.refused, "age_ms": self.values.age_ms,
            "rows": len(table), "values": len(table.plan.values), "titles": len(self.titles.table), "answered": self.counts,
            "took_ms": took, "served_held": self.served.held, "served_lost": self.served.lost,
        }  # fmt: skip
        return Json(told, 200 if all(read.values()) else 503)

    async def profile(self) -> None:
        """Tell what features are like every PROFILE_EVERY_S, until it is cancelled."""
        while self.profiles is not None:
            table = self.values.table if self.values.caught_up else None
            for group in table.plan.layouts if table is not None else ():
                assert table is not None
                at_ms = self.now_ms()
                for record in profile.profiles(table, group, at_ms, self.random):
                    self.profiles.put(record, at_ms, "")
                await asyncio.sleep(0)  # requests come between
            await asyncio.sleep(PROFILE_EVERY_S if table is not None else 1.0)

    def timed(self, name: str, handler: Handler) -> Handler:
        """`handler`, counted and timed, with refusals answered in words."""

        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            try:
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.answer()
            self.counts[f"{name} {response.status_code}"] += 1
            self.took_ms.setdefault(name, deque(maxlen=TIMED)).append(1000 * (time.perf_counter() - began))
            return response

        return endpoint

    def _row(self, number: int, row: Row) -> dict[str, Any]:
        items = [{**_title(self.titles.table[item.cid]), **asdict(item), "position": position} for position, item in enumerate(row.items)]
        about = {"row": number, "row_kind": row.kind, "title": row.title, "because": row.because, "model_version": row.model_version}
        return {**about, "items": items}

    def _tell(self, table: Table, asked: lookup.Asked, correlation_id: str) -> None:
        if abs(asked.at_ms - self.now_ms()) > NOW_MS:
            return
        for record in lookup.said(table, asked, self.random):
            self.served.put(record, asked.at_ms, correlation_id)


def _title(title: Title) -> dict[str, Any]:
    return {"cid": title.cid, "title": title.name, "genres": title.genres, "maturity": title.maturity, "released_ms": title.released_ms}


def _of_page(table: Table, viewer: Viewer, rows: list[Row]) -> tuple[tuple[str, ...], dict[str, str | list[str]]]:
    """Values that a page rests on, and whom about: the member, and some of its titles."""
    about: dict[str, str | list[str]] = {"title": [item.cid for row in rows for item in row.items[:TITLES_TOLD]][:MOST]}
    about |= {name: one for name, one in (("member", viewer.member_id), ("region", viewer.region)) if one is not None}
    told = (value.name for value in table.plan.values.values() if all(about.get(entity) for entity in value.feature.key))
    return tuple(told), about


def _viewer(request: Request, *beside: str) -> Viewer:
    """Who looks; `beside` that, what else may be asked. Raises Refusal."""
    told = {name: one for name, one in request.query_params.items() if one and name not in beside}
    known = ("member", "region", "country", "maturity", "device_type")
    for name, value in told.items():
        if name not in known or len(value) > MOST_CHARACTERS:
            raise Refusal(400, f"{name[:40]}: {', '.join(known)} are known, each of at most {MOST_CHARACTERS} characters")
    maturities = frozenset(told["maturity"].split(",")) if "maturity" in told else None
    member = pseudonym(told["member"]) if "member" in told else None
    return Viewer(member, told.get("region"), told["country"].upper() if "country" in told else None, maturities)


def _in_query(request: Request) -> dict[str, Any]:
    """A lookup as a GET tells it. Raises Refusal."""
    told: dict[str, Any] = dict(request.query_params)
    for name in ("features", *ENTITIES):
        if name in told and (name == "features" or "," in told[name]):
            told[name] = told[name].split(",")
    if "at_ms" in told:
        try:
            told["at_ms"] = int(told["at_ms"])
        except ValueError:
            raise Refusal(400, f"at_ms: milliseconds since 1970, not {told['at_ms'][:40]!r}") from None
    return told


def _quantiles(took: deque[float]) -> dict[str, float]:
    return {f"p{round(100 * q)}": round(float(np.quantile(list(took), q)), 3) for q in (0.5, 0.99)}


def app(home: Home) -> Starlette:
    """The ASGI application around a home; its lifespan sends the events."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        outboxes = [home.served, *([home.profiles] if home.profiles is not None else [])]
        async with meanwhile(*(outbox.drain() for outbox in outboxes), home.profile()):
            yield

    routes = [
        Route("/healthz", home.health),
        Route("/home", home.timed("home", home.home)),
        Route("/search", home.timed("search", home.search)),
        Route("/features", home.timed("features", home.features), methods=["GET", "POST"]),
        Route("/features/names", home.timed("names", home.names)),
        Route("/{anything:path}", home.timed("none", home.nowhere), methods=["GET", "HEAD", "POST", "PUT", "DELETE"]),
    ]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def main() -> None:
    """Serve until asked to end."""
    edge = settings().edge
    parser = argparse.ArgumentParser(prog="python -m edge.home", description="Answer with pages of titles, and with features.")
    parser.add_argument("--url", default=edge.home_url, help="address to serve at")
    arguments = parser.parse_args()
    log.configure("home")
    values, titles = Online(), Titles()
    with followed([values, Definitions(values), titles], RegistryClient().schema), Emitter("home") as emitter:
        outboxes = Outbox(emitter, SERVED), Outbox(emitter, PROFILE)
        home = Home(values, titles, outboxes[0], emitter.clock.now_ms, edge.features_told_share, outboxes[1])
        serve(app(home), arguments.url)

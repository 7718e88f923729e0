"""The board's HTTP side.

    GET  /                        the page              GET /watch          the web player
    GET  /catalogue               the catalogue of topics
    GET  /experiments             experiments and their read-outs
    GET  /abr/policy.json         the policy that players adapt by, as producers/abr has it
    GET  /api/boards              every panel with title, question, unit, thresholds and SQL
    GET  /api/panel/<board>/<name>?from&to&<filters>               one panel's rows
    GET  /api/live/<board>?span_s&<filters>                        server-sent events: each panel again whenever it changes
    GET  /api/session/<sid>       everything known of one session
    GET  /api/playing             the sessions playing now, by the Faust worker that follows them
    GET  /api/status              services and loader, by their own word
    GET  /api/audit               the newest audit
    GET  /api/catalogue           every topic in a line; with /<topic> everything about one, lineage and versions included
    GET  /features                features, what they cost, and what made a member's
    GET  /api/features            every feature with what it costs; with /member/<id> what is known of a member, and by which events
    GET  /api/experiments         every experiment in a line; with /<key> its read-out, with /<key>/page that as HTML
    POST /api/tour/<step>?sid     do a step of the tour; one JSON object a line says what happens
    GET  /healthz

Filters are title, device, oca, isp, region and player. Every answer is JSON; an error is `{"error": words}`. Nothing that a browser
sends becomes SQL: panels are files, values are bound.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.board.audits import Auditor
from edge.board.experiments import Experiments
from edge.board.features import Features
from edge.board.panels import BadRequest, PanelRunner, Window
from edge.board.sharing import Unanswered
from edge.board.tour import Tour
from edge.read_outs import Queries, Unknown
from edge.serve import Json
from infra.base import warehouse
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from producers.abr.policy import FILE as POLICY
from schemas import describe, lineage
from schemas.catalogue import ContractError, Topic, catalogue
from schemas.changes import changes
from schemas.publish import subject_of
from sinks import dashboards

HERE = Path(__file__).parent
STATIC = HERE / "static"
PAGES = {
    "/": "index.html",
    "/browse": "browse.html",
    "/watch": "watch.html",
    "/catalogue": "catalogue.html",
    "/experiments": "experiments.html",
    "/features": "features.html",
}
VENDOR = {
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "dash.js": "dashjs/dist/modern/esm/dash.all.min.js",
}
"""The npm files that pages may load, each by its exact path below node_modules."""

EVERY_S = (2.0, 30.0)
"""How often live panels are asked again: the first over short ranges, up to the second over long ones, where little changes."""
UPDATES = 1800
"""A panel is asked again about this many times before its whole range has passed."""
SESSIONS = 500
"""So many sessions that play now are asked for, newest first."""
HISTORY = timedelta(days=7)
"""How far back a session is looked for."""


def create_app(reader: Callable[[], Queries] = warehouse.reader) -> Starlette:
    """The application. `reader` makes a read-only warehouse client; it is called when the first panel is asked for.

    Live updates end when `app.state.ending` is set: a server that stops would wait for them for ever.
    """
    ending = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.panels = PanelRunner(reader)
        app.state.auditor = Auditor()
        app.state.experiments = Experiments(reader)
        app.state.features = Features(reader)
        async with httpx.AsyncClient(timeout=5.0) as http:
            app.state.http = http
            app.state.tour = Tour(app.state.panels, app.state.auditor, http, ending)
            yield

    app = Starlette(
        routes=[
            *(Route(path, page) for path in PAGES),
            Route("/static/{name}", static),
            Route("/vendor/{name}", vendor),
            Route("/abr/policy.json", policy),
            Route("/api/boards", boards),
            Route("/api/panel/{board}/{name}", panel),
            Route("/api/live/{board}", live),
            Route("/api/session/{sid}", session),
            Route("/api/playing", playing),
            Route("/api/status", status),
            Route("/api/audit", audit),
            Route("/api/catalogue", topics),
            Route("/api/catalogue/{topic}", topic),
            Route("/api/experiments", experiments),
            Route("/api/experiments/{key}", experiment),
            Route("/api/experiments/{key}/page", experiment_page),
            Route("/api/features", features),
            Route("/api/features/member/{member}", member_features),
            Route("/api/tour/{step}", tour, methods=["POST"]),
            Route("/healthz", healthz),
        ],
        middleware=[Middleware(ContentPolicy), Middleware(GZipMiddleware, minimum_size=1024)],
        exception_handlers={BadRequest: refuse, HTTPException: not_found, Unanswered: unanswered, Unknown: unknown},
        lifespan=lifespan,
    )
    app.state.ending = ending
    return app


async def page(request: Request) -> Response:
    """One of the pages."""
    return FileResponse(STATIC / PAGES[request.url.path], headers={"Cache-Control": "no-cache"})


async def static(request: Request) -> Response:
    """A file of ours, by its name alone."""
    name = request.path_params["name"]
    if name not in {f.name for f in STATIC.iterdir()}:
        raise HTTPException(404, f"there is no {name}")
    return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})


async def vendor(request: Request) -> Response:
    """A file of an npm package, from the list above."""
    name = request.path_params["name"]
    if name not in VENDOR:
        raise HTTPException(404, f"there is no {name}")
    file = HERE / "node_modules" / VENDOR[name]
    if not file.exists():
        raise HTTPException(503, f"{name} is not installed: run `headrace setup`, which fetches the page's libraries")
    return FileResponse(file, headers={"Cache-Control": "public, max-age=3600"})


async def policy(request: Request) -> Response:
    """The policy of the web player's adaptation: the file that Python's evaluator reads."""
    return FileResponse(POLICY, headers={"Cache-Control": "no-cache"})


async def boards(request: Request) -> Response:
    """The boards and their panels."""
    shown = [
        {"name": name, "title": dashboards.board_title(name), "panels": [described(p) for p in dashboards.panels() if p.board == name]}
        for name in dashboards.boards()
    ]
    edge = settings().edge
    urls = {"gateway_url": edge.gateway_url, "home_url": edge.home_url, "interactions_url": f"{edge.collector_url}/interactions"}
    return JSONResponse({"boards": shown, "namespace": settings().namespace, **urls})


def described(panel: dashboards.Panel) -> dict[str, Any]:
    """A panel with the tables that it reads, each with the topic that it comes from, '' where it comes from many."""
    words = lineage.WORD.findall(lineage.SQL_COMMENT.sub(" ", panel.sql))
    return {**asdict(panel), "reads": {name: topic for name, topic in origins().items() if name in words}}


@lru_cache(maxsize=1)
def origins() -> dict[str, str]:
    """The topic that each table comes from, '' where it comes from many."""
    graph = lineage.installed()
    found: dict[str, set[str]] = {table.name: set() for table in graph.tables}
    for topic in catalogue().landed():
        todo = [topic.table]
        while todo:
            found.setdefault(name := todo.pop(), set()).add(topic.name)
            todo += [reader.name for reader in graph.readers_of_table(name) if reader.kind is lineage.Kind.TABLE]
    return {name: " ".join(topics) if len(topics) == 1 else "" for name, topics in found.items()}


async def panel(request: Request) -> Response:
    """One panel over one range."""
    chosen = _panel(request)
    answer = await request.app.state.panels.answer(chosen, Window.of(request.query_params).params())
    return JSONResponse(answer, 503 if "error" in answer else 200)


async def live(request: Request) -> Response:
    """The panels of a board over the last `span_s` seconds, each sent when it first is known and whenever it changes."""
    name = request.path_params["board"]
    chosen = [p for p in dashboards.panels() if p.board == name]
    if name not in dashboards.boards():
        raise HTTPException(404, f"there is no board {name}; there are {', '.join(dashboards.boards())}")
    try:
        span_s = int(request.query_params.get("span_s", "900"))
    except ValueError:
        raise BadRequest("`span_s` is a whole number of seconds") from None
    every_s = min(max(EVERY_S[0], span_s / UPDATES), EVERY_S[1])
    Window.last(span_s, request.query_params, datetime.now(UTC), every_s)  # refuse before the stream begins
    runner: PanelRunner = request.app.state.panels
    ending: asyncio.Event = request.app.state.ending

    async def events() -> AsyncIterator[str]:
        sent: dict[str, bytes] = {}
        while not ending.is_set():
            window = Window.last(span_s, request.query_params, datetime.now(UTC), every_s)
            for one in chosen:
                answer = await runner.answer(one, window.params())
                content = {k: v for k, v in answer.items() if k != "took_ms"}
                digest = blake2b(json.dumps(content).encode()).digest()
                if sent.get(one.name) != digest:
                    sent[one.name] = digest
                    yield _event("panel", {"name": one.name, **answer})
            yield _event("tick", {"from": _ms(window.from_), "to": _ms(window.to)})
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), every_s)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def session(request: Request) -> Response:
    """One session: quality, play states, segments, errors, what gateway and cache servers said."""
    now = datetime.now(UTC)
    params = {"from": now - HISTORY, "to": now, "sid": request.path_params["sid"][:200]}
    runner: PanelRunner = request.app.state.panels
    found: dict[str, Any] = {}
    for one in (p for p in dashboards.panels() if p.board == "session"):
        answer = await runner.answer(one, {name: params[name] for name in one.params})
        found[one.name] = {"title": one.title, "question": one.question, "empty": one.empty, **answer}
    return JSONResponse({"sid": params["sid"], "parts": found})


async def playing(request: Request) -> Response:
    """`{"playing", "sessions"}` out of the worker's memory, newest first; where it cannot say, why, in words."""
    url = settings().edge.live_sessions_url
    return JSONResponse(await _ask(request.app.state.http, "live-sessions worker", f"{url}/sessions?limit={SESSIONS}"))


async def status(request: Request) -> Response:
    """What the supervisor and the loader say of themselves; where one is silent, that, in words."""
    asked = {"supervisor": settings().edge.supervisor_url, "loader": settings().loader.status_url}
    answers = await asyncio.gather(*(_ask(request.app.state.http, name, url and f"{url}/status") for name, url in asked.items()))
    return JSONResponse(dict(zip(asked, answers, strict=True)))


async def audit(request: Request) -> Response:
    """The newest audit."""
    return JSONResponse(await request.app.state.auditor.newest())


async def topics(request: Request) -> Response:
    """Every topic in a line, by name."""
    graph = lineage.installed()
    return JSONResponse({"topics": [describe.summary(one, graph) for _, one in sorted(catalogue().topics.items())]})


async def topic(request: Request) -> Response:
    """One topic: all that its files say, and its versions by the registry's word; where that is silent, that, in words."""
    try:
        one = catalogue().topic(request.path_params["topic"])
    except ContractError:
        raise HTTPException(404, f"there is no topic {request.path_params['topic']}") from None
    card = describe.card(one, catalogue(), lineage.installed())
    return JSONResponse({**card, "versions": await asyncio.to_thread(_versions, one)})


async def experiments(request: Request) -> Response:
    """Every experiment in a line."""
    it: Experiments = request.app.state.experiments
    return JSONResponse({"experiments": await it.listed()})


async def experiment(request: Request) -> Response:
    """One read-out."""
    it: Experiments = request.app.state.experiments
    return JSONResponse(await it.one(request.path_params["key"]))


async def experiment_page(request: Request) -> Response:
    """One read-out as the inside of an article."""
    it: Experiments = request.app.state.experiments
    return HTMLResponse(await it.page(request.path_params["key"]))


async def features(request: Request) -> Response:
    """Every feature with what it costs."""
    it: Features = request.app.state.features
    return JSONResponse({"features": await it.listed()})


async def member_features(request: Request) -> Response:
    """One member's features through time."""
    it: Features = request.app.state.features
    return Json(await it.member(request.path_params["member"][:200]))


async def tour(request: Request) -> Response:
    """One step of the tour. Only our own page may ask for it: a step kills a service."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise HTTPException(403, "a step of the tour is asked for by the board's own page")
    step, sid = request.path_params["step"], request.query_params.get("sid", "")[:200]
    it: Tour = request.app.state.tour
    steps = {
        "play": lambda: it.play(sid),
        "throttle": lambda: it.throttle(sid),
        "loader": it.loader,
        "schema": it.schema,
        "replay": it.replay,
    }
    if step not in steps:
        raise HTTPException(404, f"the tour has no step {step}; it has {', '.join(steps)}")

    async def lines() -> AsyncIterator[str]:
        async for said in steps[step]():
            yield json.dumps(asdict(said)) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


async def healthz(request: Request) -> Response:
    """Ready when the page can be served whole."""
    missing = [name for name, path in VENDOR.items() if not (HERE / "node_modules" / path).exists()]
    if missing:
        return PlainTextResponse(f"{', '.join(missing)} not installed: run `headrace setup`\n", 503)
    return PlainTextResponse("ok\n")


async def refuse(request: Request, error: Exception) -> Response:
    """400 with the reason."""
    return JSONResponse({"error": str(error)}, 400)


async def unanswered(request: Request, error: Exception) -> Response:
    """503 with the reason."""
    return JSONResponse({"error": str(error)}, 503)


async def unknown(request: Request, error: Exception) -> Response:
    """404 with what there is."""
    return JSONResponse({"error": str(error)}, 404)


async def not_found(request: Request, error: Exception) -> Response:
    """The status with the reason."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    words = error.detail if isinstance(error, HTTPException) else "the board failed; its log says how"
    return JSONResponse({"error": words}, code)


async def _ask(http: httpx.AsyncClient, name: str, url: str) -> dict[str, Any]:
    if not url:
        return {"error": f"no {name} is part of this stack"}
    try:
        answer = await http.get(url)
        found = dict(answer.json())
        if "error" not in found:
            answer.raise_for_status()
        return found
    except (httpx.HTTPError, ValueError) as error:
        return {"error": f"the {name} does not answer at {url}: {error or type(error).__name__}; `headrace status` says why"}


def _versions(one: Topic) -> dict[str, Any]:
    """`{"versions": [{"number", "changes"}]}`, oldest first; what changed is told against the version before."""
    try:
        with RegistryClient(timeout_s=3.0) as registry:
            history = registry.history(subject_of(one))
    except (RegistryUnavailable, RegistryError) as error:
        return {"error": str(error)}
    told = [{"number": number, "changes": changes(before, schema)} for (_, before), (number, schema) in pairwise(history)]
    return {"versions": [*({"number": number, "changes": []} for number, _ in history[:1]), *told]}


def _panel(request: Request) -> dashboards.Panel:
    try:
        return dashboards.panel(request.path_params["board"], request.path_params["name"])
    except dashboards.PanelError as error:
        raise HTTPException(404, str(error)) from None


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class ContentPolicy:
    """Sends the content security policy: our own scripts only, and connections to the parts of the request path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        edge = settings().edge
        path = " ".join([edge.gateway_url, edge.collector_url, edge.home_url, *edge.oca_urls])
        self.policy = (
            f"default-src 'self'; connect-src 'self' {path}; media-src 'self' blob: {path}; img-src 'self' data:; frame-ancestors 'self'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy.encode())]
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)

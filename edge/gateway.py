"""The gateway: every press of play passes it. `python -m edge.gateway`.

    POST /play {"title", "member"}     who may play what from where: sid, correlation_id, cid, title, duration_ms, manifest_urls and
    GET  /play?title=…&member=…        hls_urls (best first, one for each cache server), collector_url, flags, and, once anything is known,
                                       the prior of its throughput; may have device_type and network_type, which that is then of, and
                                       region: flags may depend on all three. `"experiments": false` keeps the member out of them this time
    GET  /titles                       what can be played
    GET  /manifest/<cid>[.m3u8]        307 to the manifest on the best cache server; .m3u8 for HLS
    POST /cmcd                         307 to the collector
    …    /experiments/…                what flags give, and what is done to experiments, as `edge.experiments` says
    GET  /healthz                      200 when the table of titles has been read

Each request leaves one event on control.request and gets an `x-correlation-id`, its own or a new one. The table of titles is folded
from encoding.published; while it has not been read, titles that it does not show are answered with 503 rather than 404. Where a play goes
is decided as `edge.steering` decides, from tables of its own in this process, and each decision leaves one event on delivery.steering.
What experiments give the member, `edge.flags`, leaves one on experiments.exposure.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge.asked import Refusal, client, short_json
from edge.experiments import Experiments
from edge.flags import TOPIC as EXPOSURE
from edge.flags import Definitions, Flags
from edge.outbox import Outbox, meanwhile
from edge.pseudonym import pseudonym
from edge.serve import CORS, Json, serve
from edge.steering.rank import Ask
from edge.steering.steer import TOPIC as STEERING
from edge.steering.steer import Decision, Steering
from edge.steering.tables import Tables
from edge.titles import Title, Titles
from infra.base import log
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter
from streams.folded import followed

TOPIC = "control.request"
MAX_ID = 200
"""Characters of a title or member id."""
ABOUT = ("device_type", "network_type", "region")
"""What a player may say of where it plays."""


@dataclass
class Asked:
    """What the control.request event tells of a request beyond its line."""

    correlation_id: str
    route: str
    member_id: str | None = None
    sid: str | None = None
    cid: str | None = None
    upstream: str | None = None


Handler = Callable[[Request, Asked], Awaitable[Response]]


def rank(oca_urls: Sequence[str], sid: str) -> list[str]:
    """The cache servers for a session while steering knows none, best first: each session its own order, the same whenever it asks, and
    evenly spread (rendezvous hashing); when one goes, only its own sessions move.
    """
    return sorted(oca_urls, key=lambda url: hashlib.blake2b(f"{sid} {url}".encode(), digest_size=8).digest(), reverse=True)


@dataclass
class Gateway:
    """Answers from memory; nothing here waits for Kafka."""

    titles: Titles
    outbox: Outbox
    now_ms: Callable[[], int]
    oca_urls: Sequence[str]
    collector_url: str
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))
    steering: Steering | None = None
    """Ranks the servers by what it knows of them; None: sessions are spread over `oca_urls`."""
    flags: Flags | None = None
    """Decides what experiments give; None: nothing is an experiment."""
    experiments: Experiments | None = None
    """What experiments give and what is done to them, for other tools; None: not by HTTP."""

    async def play(self, request: Request, asked: Asked) -> Response:
        """A press of play."""
        event_time_ms, pressed = self.now_ms(), await _pressed(request)
        asked.member_id = pseudonym(pressed["member"])
        title = self._title(pressed["title"])
        asked.cid, asked.sid = title.cid, self.new_id()
        manifest_urls, hls_urls, decision = self._ranked(request, title, asked.sid, asked)
        about = {name: pressed[name] for name in ABOUT if pressed.get(name) is not None}
        steering, device_type, network_type = self.steering, about.get("device_type"), about.get("network_type")
        prior = steering.prior(decision, device_type, network_type) if steering and decision else None
        of = {"member_id": asked.member_id, **about}
        experiments = pressed.get("experiments", True)
        flags = self.flags.give(of, asked.sid, event_time_ms, asked.correlation_id, experiments) if self.flags else {}
        return Json(
            {
                "sid": asked.sid,
                "correlation_id": asked.correlation_id,
                "cid": title.cid,
                "title": title.name,
                "duration_ms": title.duration_ms,
                "manifest_urls": manifest_urls,
                "hls_urls": hls_urls,
                "collector_url": f"{self.collector_url}/cmcd",
                "flags": flags,
                **({"prior": prior} if prior else {}),
            }
        )

    async def list_titles(self, request: Request, asked: Asked) -> Response:
        """What can be played."""
        found = [{"cid": t.cid, "title": t.name, "version": t.version, "duration_ms": t.duration_ms} for t in self.titles.all()]
        return Json({"titles": found, "complete": self.titles.caught_up})

    async def manifest(self, request: Request, asked: Asked) -> Response:
        """To the manifest on a cache server."""
        wanted = request.path_params["title"]
        hls = wanted.endswith(".m3u8")
        title = self._title(wanted.removesuffix(".m3u8").removesuffix(".mpd"))
        asked.cid, asked.upstream = title.cid, "oca"
        manifest_urls, hls_urls, _ = self._ranked(request, title, None, asked)
        return RedirectResponse((hls_urls if hls else manifest_urls)[0], 307)

    async def cmcd(self, request: Request, asked: Asked) -> Response:
        """To the collector."""
        asked.upstream = "collector"
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{self.collector_url}/cmcd{query}", 307)

    async def nowhere(self, request: Request, asked: Asked) -> Response:
        """No such route."""
        raise Refusal(
            404, f"{request.method} {request.url.path} is nothing here: POST /play, GET /titles, GET /manifest/<cid>, POST /cmcd are"
        )

    def health(self, request: Request) -> Response:
        """GET /healthz."""
        ready = self.titles.caught_up
        told: dict[str, Any] = {
            "ready": ready,
            "titles": len(self.titles),
            "events_held": self.outbox.held,
            "events_lost": self.outbox.lost,
        }
        if self.flags is not None:
            defined, outbox = self.flags.definitions, self.flags.outbox
            told["definitions"] = {"accepted": len(defined.table), "complete": defined.caught_up, "refused": defined.refused}
            told |= {"exposures_held": outbox.held, "exposures_lost": outbox.lost}
        return Json(told, 200 if ready else 503)

    def told(self, route: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """`handler`, with refusals answered in words, the correlation id on the answer, and the request told on control.request."""

        async def endpoint(request: Request) -> Response:
            started, event_time_ms = time.perf_counter(), self.now_ms()
            asked = Asked(request.headers.get("x-correlation-id", "")[:128] or self.new_id(), route)
            try:
                response = await handler(request, asked)
            except Refusal as refusal:
                response = refusal.answer()
            response.headers["x-correlation-id"] = asked.correlation_id
            record: dict[str, Any] = {
                "route": asked.route,
                "method": request.method,
                "path": request.url.path,
                "rc": response.status_code,
                "latency_us": round((time.perf_counter() - started) * 1e6),
                "upstream": asked.upstream,
                "member_id": asked.member_id,
                "sid": asked.sid,
                "cid": asked.cid,
            }
            self.outbox.put(record, event_time_ms, asked.correlation_id)
            return response

        return endpoint

    def _ranked(self, request: Request, title: Title, sid: str | None, asked: Asked) -> tuple[list[str], list[str], Decision | None]:
        """The title's DASH and HLS manifests on the servers for a session, best first, and steering's decision, if any. Raises Refusal.

        Where steering knows no server, or none that may take the play, any server is better than no answer.
        """
        started, event_time_ms = time.perf_counter(), self.now_ms()
        spread = sid or asked.correlation_id
        steering = self.steering
        if steering is not None and steering.tables.ocas.table.servers:
            decision = steering.decide(title.cid, title.version, client(request, steering.proxies), Ask(spread))
            dash, hls = (steering.urls(decision, sid or "", _below("", path)) for path in (title.dash_path, title.hls_path))
            steering.tell(decision, "PLAY", sid, event_time_ms, round((time.perf_counter() - started) * 1e6), asked.correlation_id)
            if decision.candidates:
                return dash, hls, decision
        if not self.oca_urls:
            raise Refusal(503, "no cache server is known: delivery.oca names none for this play, and edge.oca_urls is empty")
        ranked = rank(self.oca_urls, spread)
        paths = [_below("", path) for path in (title.dash_path, title.hls_path)]
        dash_path, hls_path = paths if steering is None else [steering.signed(path, sid or "") for path in paths]
        return [_below(url, dash_path) for url in ranked], [_below(url, hls_path) for url in ranked], None

    def _title(self, wanted: str) -> Title:
        title = self.titles.find(wanted)
        if title is not None:
            return title
        if not self.titles.caught_up:
            raise Refusal(503, f"whether there is a title {wanted!r} is not known yet: encoding.published has not been read")
        raise Refusal(404, f"no title {wanted!r}; GET /titles lists {len(self.titles)}")


async def _pressed(request: Request) -> dict[str, Any]:
    """Title and member of a press of play, and what is told of device, network and region. Raises Refusal."""
    told: Any = dict(request.query_params) if request.method == "GET" else await short_json(request, "a press of play")
    for name in ("title", "member"):
        value = told.get(name) if isinstance(told, dict) else None
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
            raise Refusal(400, f'{name} is missing: {{"title": "<cid>", "member": "<id>"}}, each a string of 1 to {MAX_ID} characters')
    if told.get("experiments", True) not in (True, False):
        raise Refusal(400, "experiments: true or false, or left out")
    for name in ABOUT:
        value = told.get(name)
        if value is not None and not (isinstance(value, str) and len(value) <= MAX_ID):
            raise Refusal(400, f"{name}: a string of at most {MAX_ID} characters, or left out")
    pressed: dict[str, Any] = told
    return pressed


def _below(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path.lstrip('/')}"


def app(gateway: Gateway) -> Starlette:
    """The ASGI application around a gateway; its lifespan sends the events."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        outboxes = [gateway.outbox, *(more.outbox for more in (gateway.steering, gateway.flags) if more is not None)]
        async with meanwhile(*(outbox.drain() for outbox in outboxes)):
            yield

    routes = [
        Route("/healthz", gateway.health),
        Route("/play", gateway.told("play", gateway.play), methods=["GET", "POST"]),
        Route("/titles", gateway.told("titles", gateway.list_titles)),
        Route("/manifest/{title:path}", gateway.told("manifest", gateway.manifest), methods=["GET", "HEAD"]),
        Route("/cmcd", gateway.told("cmcd", gateway.cmcd), methods=["POST"]),
        *_experiments(gateway),
        Route("/{anything:path}", gateway.told("none", gateway.nowhere), methods=["GET", "HEAD", "POST", "PUT", "DELETE"]),
    ]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def _experiments(gateway: Gateway) -> list[Route]:
    if gateway.experiments is None:
        return []
    return [
        Route("/experiments/flags", gateway.told("experiments", gateway.experiments.flags)),
        Route("/experiments/{key}/{action}", gateway.told("experiments", gateway.experiments.act), methods=["POST"]),
    ]


def main() -> None:
    """Serve until asked to end."""
    edge = settings().edge
    parser = argparse.ArgumentParser(prog="python -m edge.gateway", description="Answer presses of play.")
    parser.add_argument("--url", default=edge.gateway_url, help="address to serve at")
    arguments = parser.parse_args()
    log.configure("gateway")
    tables, definitions, schema_of = Tables(), Definitions(), RegistryClient().schema
    with tables.followed(schema_of), followed([definitions], schema_of), Emitter("gateway") as emitter:
        now_ms = emitter.clock.now_ms
        steering = Steering.of(edge, tables, Outbox(emitter, STEERING, marks=True), now_ms)
        flags = Flags(definitions, Outbox(emitter, EXPOSURE, marks=True))
        experiments = Experiments(definitions, now_ms, edge.experiments_token.get_secret_value())
        gateway = Gateway(
            tables.titles, Outbox(emitter, TOPIC), now_ms, edge.oca_urls, edge.collector_url,
            steering=steering, flags=flags, experiments=experiments,
        )  # fmt: skip
        serve(app(gateway), arguments.url)


if __name__ == "__main__":
    main()

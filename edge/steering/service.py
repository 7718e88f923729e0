"""The steering service: every play asks it where to go.

    POST /steer {"cid"}         the ranked cache servers, each with its reason and URLs, why others are not among them, and what throughput
                                the session may expect (`prior`, as producers/abr/prior.py), where anything is known;
                                may have "version", "sid", "latitude_deg" and "longitude_deg", and "device_type" and "network_type", which
                                the prior is then of
    GET  /steering.hls?cid=…    the same decision as a steering manifest (draft-pantos-content-steering); may have version, sid,
    GET  /steering.dash?cid=…   and pathways, those of the player's own manifest (ETSI TS 103 998)
    POST /admin/reload          from loopback only: read every table again, beside those that answer
    GET  /healthz               how much each table holds and how old it is; 200 once titles, servers and routes have been read

The client is the peer, or where that is one of `edge.trusted_proxies` whom X-Forwarded-For names. Answers come from memory; while a table
is stale they go on, and say so (`stale_ms`). Each decision leaves one event on delivery.steering.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.asked import CORRELATION, Refusal, client, header, short_json
from edge.outbox import meanwhile
from edge.serve import CORS, Json, from_here
from edge.steering import manifest
from edge.steering.manifest import BadQuery
from edge.steering.rank import Ask
from edge.steering.steer import REJECTED_TOLD, Decision, Steering
from edge.titles import Title

MAX_ID = 200
"""Characters of a title or a session."""
NAMES = ("cid", "version", "sid", "latitude_deg", "longitude_deg", "device_type", "network_type")
MAX_VERSION = 2**31 - 1
DIGITS = re.compile(r"[0-9]{1,10}")
LAG_EVERY_S, BUSY_LAG_S = 0.1, 0.05
"""How often the event loop's lag is looked at, and from which on steering manifests ask players to come back later than usual."""


@dataclass
class Service:
    """Questions in, decisions out."""

    steering: Steering
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))
    lag_s: float = 0.0
    """How late the event loop was the last time that it was looked at."""

    async def steer(self, request: Request) -> Response:
        """POST /steer."""
        started, event_time_ms = time.perf_counter(), self.steering.now_ms()
        cid, version, sid, where, device_type, network_type = _asked(await short_json(request, "a question"))
        found_from = client(request, self.steering.proxies)
        title = self._title(cid)
        if version is not None and version != title.version:
            raise Refusal(404, f"version {version} of {cid!r} is not the one that is played: {title.version} is")
        correlation_id = (header(request, CORRELATION) or "")[:128]
        decision = self.steering.decide(cid, title.version, found_from, Ask(sid or correlation_id or self.new_id(), where))
        told = self._answer(decision, title, sid or "", self.steering.prior(decision, device_type, network_type))
        self._tell(decision, "PLAY", sid, started, event_time_ms, correlation_id)
        if not decision.candidates:
            return Json({"error": _nobody(decision), **told}, 503, {"Retry-After": "2"})
        return Json(told)

    async def hls(self, request: Request) -> Response:
        """GET /steering.hls."""
        return self._manifest(request, "HLS", manifest.hls)

    async def dash(self, request: Request) -> Response:
        """GET /steering.dash."""
        return self._manifest(request, "DASH", manifest.dash)

    async def reload(self, request: Request) -> Response:
        """POST /admin/reload."""
        if not from_here(request.headers, request.client.host if request.client else ""):
            raise Refusal(403, "only from this machine, and from no web page")
        for table in self.steering.tables.all:
            table.read_again()
        return Json({"reading": [table.topic for table in self.steering.tables.all]}, 202)

    def health(self, request: Request) -> Response:
        """GET /healthz."""
        tables, outbox = self.steering.tables, self.steering.outbox
        ready = tables.titles.caught_up and tables.ocas.caught_up and tables.routes.caught_up
        counts = {"events_held": outbox.held, "events_lost": outbox.lost, "lag_ms": round(self.lag_s * 1000)}
        return Json({"ready": ready, "stale_ms": tables.stale_ms, "tables": tables.told(), **counts}, 200 if ready else 503)

    async def watch(self) -> None:
        """Look how late the event loop is, for ever."""
        while True:
            due = time.perf_counter() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lag_s = max(0.0, time.perf_counter() - due)

    def _manifest(self, request: Request, protocol: str, read: Callable[[Sequence[tuple[str, str]]], manifest.Asked]) -> Response:
        started, event_time_ms = time.perf_counter(), self.steering.now_ms()
        query = request.query_params
        try:
            asked, known = read(query.multi_items()), manifest.pathways(query.get("pathways"))
        except BadQuery as error:
            raise Refusal(400, str(error)) from None
        told: dict[str, Any] = {name: query[name] for name in ("cid", "version", "sid") if name in query}
        if DIGITS.fullmatch(told.get("version", "")):
            told["version"] = int(told["version"])
        cid, version, sid, *_ = _asked(told)
        title = self._title(cid)
        version = title.version if version is None else version
        if version > title.version:
            raise Refusal(404, f"there is no version {version} of {cid!r} yet: {title.version} is the newest")
        sid = sid or self.new_id()
        ask = Ask(sid, current=asked.used[-1] if asked.used else None, measured_bps=asked.measured_bps)
        decision = self.steering.decide(cid, version, client(request, self.steering.proxies), ask)
        self._tell(decision, protocol, sid, started, event_time_ms, (header(request, CORRELATION) or "")[:128])
        if not decision.candidates:
            raise Refusal(503, _nobody(decision))
        again = {"cid": cid, "version": version, "sid": sid, **({"pathways": query["pathways"]} if "pathways" in query else {})}
        ranked = [(candidate.server.oca_id, candidate.server.url) for candidate in decision.candidates]
        ttl_s = manifest.BUSY_TTL_S if self.lag_s > BUSY_LAG_S else manifest.TTL_S
        reload_uri = f"{request.url.path.rpartition('/')[2]}?{urlencode(again)}"
        return Json(manifest.manifest(ranked, known, reload_uri, ttl_s), headers={"Cache-Control": "no-store"})

    def _answer(self, decision: Decision, title: Title, sid: str, prior: dict[str, float] | None) -> dict[str, Any]:
        dash_urls = self.steering.urls(decision, sid, "/" + title.dash_path.lstrip("/"))
        hls_urls = self.steering.urls(decision, sid, "/" + title.hls_path.lstrip("/"))
        return {
            "cid": decision.cid,
            "version": decision.version,
            "client_prefix": decision.prefix,
            "isp_asn": decision.isp_asn,
            "stale_ms": decision.stale_ms,
            "contents_known": decision.contents_known,
            **({"prior": prior} if prior else {}),
            "candidates": [
                {
                    "oca_id": server.oca_id,
                    "site_id": server.site_id,
                    "tier": server.tier,
                    "reason": reason,
                    "manifest_url": dash,
                    "hls_url": hls,
                }
                for (server, _, reason), dash, hls in zip(decision.candidates, dash_urls, hls_urls, strict=True)
            ],
            "rejected": [{"oca_id": oca_id, "reason": reason} for oca_id, _, reason in decision.rejected[:REJECTED_TOLD]],
            "rejected_count": len(decision.rejected),
        }

    def _tell(self, decision: Decision, protocol: str, sid: str | None, started: float, event_time_ms: int, correlation_id: str) -> None:
        took_us = round((time.perf_counter() - started) * 1e6)
        self.steering.tell(decision, protocol, sid, event_time_ms, took_us, correlation_id)

    def _title(self, cid: str) -> Title:
        titles = self.steering.tables.titles
        title = titles.get(cid)
        if title is None:
            if not titles.caught_up:
                raise Refusal(503, f"whether there is a title {cid!r} is not known yet: encoding.published has not been read")
            raise Refusal(404, f"no title {cid!r} is published; there are {len(titles)}")
        return title


class Question(NamedTuple):
    """What /steer was asked."""

    cid: str
    version: int | None
    sid: str | None
    where: tuple[float, float] | None
    device_type: str | None
    network_type: str | None


def _asked(told: Any) -> Question:
    """Raises Refusal."""
    if not isinstance(told, Mapping):
        raise Refusal(400, 'a question is a JSON object: {"cid": "…"}')
    if not told.keys() <= set(NAMES):
        raise Refusal(400, f"{', '.join(sorted(told.keys() - set(NAMES)))[:200]}: a question has {', '.join(NAMES)} and nothing else")
    cid, version, sid = told.get("cid"), told.get("version"), told.get("sid")
    if not _is_id(cid):
        raise Refusal(400, f"cid is missing: a string of 1 to {MAX_ID} printable characters")
    if sid is not None and not _is_id(sid):
        raise Refusal(400, f"sid: a string of 1 to {MAX_ID} printable characters")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_VERSION):
        raise Refusal(400, "version: a whole number from 1")
    used = told.get("device_type"), told.get("network_type")
    for name, kind in zip(("device_type", "network_type"), used, strict=True):
        if kind is not None and not _is_id(kind):
            raise Refusal(400, f"{name}: a string of 1 to {MAX_ID} printable characters")
    if "latitude_deg" not in told and "longitude_deg" not in told:
        return Question(cid, version, sid, None, *used)
    return Question(cid, version, sid, (_degrees(told, "latitude_deg", 90), _degrees(told, "longitude_deg", 180)), *used)


def _degrees(told: Mapping[str, Any], name: str, limit: int) -> float:
    value = told.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not -limit <= value <= limit:
        raise Refusal(400, f"{name}: a number from {-limit} to {limit}; latitude and longitude go together")
    return value


def _is_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()


def _nobody(decision: Decision) -> str:
    """Why there is nobody to go to."""
    if decision.rejected:
        first = "; ".join(f"{oca_id}: {reason}" for oca_id, _, reason in decision.rejected[:3])
        return f"no cache server can take this play, of {len(decision.rejected)} that announced its prefix ({first})"
    return "no cache server has announced a prefix of this address, and there is no origin"


def app(service: Service) -> Starlette:
    """The ASGI application around a service; its lifespan sends the events."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with meanwhile(service.steering.outbox.drain(), service.watch()):
            yield

    routes = [
        Route("/steer", _in_words(service.steer), methods=["POST"]),
        Route("/steering.hls", _in_words(service.hls)),
        Route("/steering.dash", _in_words(service.dash)),
        Route("/admin/reload", _in_words(service.reload), methods=["POST"]),
        Route("/healthz", service.health),
    ]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def _in_words(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refusal.answer()

    return endpoint

"""Gateway, cache server, collector and home in one small process, for the player's tests: `python -m tests.board.edge_double PORT FOLDER`.

It judges reports by the collector's own rules (`schemas.cmcd`) and keeps them; GET /sessions/<sid> answers with the quality that the jobs
would compute of them, GET /heard with every request as it came, GET /done with what members did, by the door's own rules. Its home has a
row of every title, ROWS times, each with a picture that was drawn.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edge.body import json_reports
from edge.interactions import Interactions
from edge.judge import Judge, Rejected
from edge.oca.access import TOPICS, Asked, Teller
from edge.oca.answers import Oca, Section
from edge.oca.wire import SLICE_S
from edge.outbox import Outbox
from edge.serve import CORS, serve
from edge.store import Store
from infra.base.settings import settings
from schemas import cmcd
from streams.playback import qoe

ROWS = 12
"""So many that some are below the screen."""


class NoEvents:
    """Takes the place of the cache server's outbox, which would need Kafka."""

    held = lost = 0

    def put(self, *event: object) -> None:
        """Forget it."""


async def paced(section: Section) -> AsyncIterator[bytes]:
    """A section's bytes at its rate. Closes the file."""
    with io.FileIO(section.found.fd) as file:
        file.seek(section.first)
        left, due = section.last + 1 - section.first, time.monotonic()
        while left and (piece := file.read(min(left, round(section.bytes_per_s * SLICE_S) or left))):
            left -= len(piece)
            if section.bytes_per_s:
                due += len(piece) / section.bytes_per_s
                await asyncio.sleep(due - time.monotonic())
            yield piece


def double(url: str, folder: Path) -> Starlette:
    """The application; it serves the titles below `folder`."""
    reports: dict[str, list[dict[str, Any]]] = defaultdict(list)
    refused: list[str] = []
    heard: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    door = Interactions(settings())
    nowhere = {topic: cast(Outbox, NoEvents()) for topic in TOPICS}
    oca = Oca(Store(folder), Teller("oca-1", "test", "ORIGIN", Judge(settings()), nowhere, lambda line: None), lambda: 0)

    def note(request: Request, body: bytes = b"") -> None:
        heard.append({"query": request.url.query, "headers": dict(request.headers), "body": body.decode()})

    def items() -> list[dict[str, Any]]:
        titles = sorted(f.name for f in folder.iterdir() if (f / "v1").exists())
        drawn = {"genres": ["family"], "artwork_variant": "plain", "propensity": 0.5}
        return [{"cid": cid, "title": cid, "position": n, **drawn} for n, cid in enumerate(titles)]

    async def home(request: Request) -> Response:
        rows = [{"row": n, "row_kind": f"kind_{n}", "title": f"Row {n}", "model_version": "test", "items": items()} for n in range(ROWS)]
        return JSONResponse({"page_id": str(uuid.uuid4()), "rows": rows})

    async def search(request: Request) -> Response:
        some = [item for item in items() if request.query_params["query"] in item["cid"]]
        return JSONResponse({"results": len(some), "items": some})

    async def interactions(request: Request) -> Response:
        for _, raw in json_reports(await request.body()):
            try:
                told = door.event(raw, time.time_ns() // 1_000_000, int(request.query_params["sent"]))
                done.append({"topic": told.topic, "event_id": told.event_id, **told.fields})
            except Rejected as refusal:
                refused.append(f"{refusal}: {raw.decode()}")
        return JSONResponse({}, 202)

    async def titles(request: Request) -> Response:
        return JSONResponse({"titles": [{"cid": f.name, "title": f.name} for f in sorted(folder.iterdir()) if (f / "v1").exists()]})

    async def play(request: Request) -> Response:
        cid = (await request.json())["title"]
        sid = str(uuid.uuid4())
        manifests = [f"{url}/{cid}/v1/manifest.mpd"]
        return JSONResponse(
            {"sid": sid, "correlation_id": f"c-{sid}", "cid": cid, "manifest_urls": manifests, "collector_url": f"{url}/cmcd"}
        )

    async def collect(request: Request) -> Response:
        note(request, await request.body())
        for line in (await request.body()).decode().splitlines():
            try:
                report = cmcd.to_report(cmcd.parse(line))
            except cmcd.InvalidCmcd as error:
                refused.append(f"{error}: {line}")
                continue
            known = {name: value for name, value in report.fields.items() if value is not None}
            reports[known["sid"]].append({**known, "event_id": report.event_id, "event_time": report.event_time_ms})
        return JSONResponse({}, 202)

    async def session(request: Request) -> Response:
        known = reports[request.path_params["sid"]]
        return JSONResponse({"quality": qoe.session(map(qoe.Report.of, known)), "reports": known, "refused": refused})

    async def content(request: Request) -> Response:
        note(request)
        asked = Asked(request.method, request.url.path, request.url.query, request.headers, str(request.url.replace(query="")), "127.0.0.1")
        access = oca.begin(asked)
        answer = await oca.content(asked, access)
        oca.end(access)
        if answer.section is None:
            return Response(answer.body, answer.rc, answer.headers)
        length = str(answer.section.last + 1 - answer.section.first)
        return StreamingResponse(paced(answer.section), answer.rc, {**answer.headers, "Content-Length": length})

    return Starlette(
        routes=[
            Route("/healthz", lambda request: Response("ok")),
            Route("/titles", titles),
            Route("/play", play, methods=["POST"]),
            Route("/cmcd", collect, methods=["POST"]),
            Route("/home", home),
            Route("/search", search),
            Route("/interactions", interactions, methods=["POST"]),
            Route("/done", lambda request: JSONResponse({"done": done, "refused": refused})),
            Route("/sessions/{sid}", session),
            Route("/heard", lambda request: JSONResponse(heard)),
            Route("/{path:path}", content),
        ],
        middleware=[CORS],
    )


if __name__ == "__main__":
    address = f"http://127.0.0.1:{sys.argv[1]}"
    serve(double(address, Path(sys.argv[2])), address)

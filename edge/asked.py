"""Requests from strangers: who they come from, bodies that are short JSON, and refusals in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edge.serve import Json
from edge.steering.routes import Address, BadRoute, Prefix, address, around

MAX_BODY = 16 << 10
FORWARDED, CORRELATION = b"x-forwarded-for", b"x-correlation-id"


class Refusal(Exception):
    """A request that gets no: the HTTP status, and why in words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def answer(self) -> Response:
        """It in JSON; 503 is for now, so it says when to come again."""
        return Json({"error": str(self)}, self.status, {"Retry-After": "2"} if self.status == 503 else None)


async def short_json(request: Request, what: str, most: int = MAX_BODY) -> Any:
    """The JSON of a body of at most `most` bytes. Raises Refusal: 413, 400."""
    body, more = b"", True
    while more:  # what `request.stream()` does, without a generator: a body comes in one piece nearly always
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise Refusal(413, f"{what} has {most} bytes at most")
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None


def header(request: Request, name: bytes) -> str | None:
    """The first header of that name, which is in lower case: a look at what the server has read, without an object for it."""
    return next((value.decode("latin-1") for known, value in request.scope["headers"] if known == name), None)


def client(request: Request, proxies: Sequence[Prefix]) -> Address:
    """The address that a request comes from: the peer's, or where that is one of our `proxies` the last of X-Forwarded-For that is none.

    What stands before that in the header was written by the client, or by whom it came through, and is not believed. Raises Refusal.
    """
    peer = request.client.host if request.client else ""
    forwarded = header(request, FORWARDED)
    chain = [*(part.strip() for part in forwarded.split(",")), peer] if forwarded else [peer]
    try:
        found = address(chain.pop())
        while chain and any(found.bits == proxy.bits and around(found, proxy.length) == proxy for proxy in proxies):
            found = address(chain.pop())
    except BadRoute as error:
        raise Refusal(400, f"the client's address: {error}") from None
    return found

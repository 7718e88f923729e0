"""HTTP as players use it: get a body in pieces, post a body. A protocol, so that tests can bring a network of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import httpx2 as httpx


class NoAnswer(Exception):
    """No answer came, or it broke off: refused, reset, or silent for longer than the time-out. The message says which."""


class Incoming(Protocol):
    """An answer whose body is still on its way."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def body(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises NoAnswer when it breaks off."""
        ...


@dataclass(frozen=True)
class Answer:
    """An answer in full. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class Transport(Protocol):
    """What a player needs of a network. Both raise NoAnswer."""

    def get(self, url: str) -> AbstractAsyncContextManager[Incoming]: ...

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer: ...


class _HttpIncoming:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def body(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.aiter_raw():  # as they come: to wait for full ones would hide when the first byte did
                yield piece
        except httpx.HTTPError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None


class HttpTransport:
    """The real network. `stall_s` without a byte counts as no answer."""

    def __init__(self, stall_s: float = 4.0, connections: int = 200) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(stall_s), limits=limits)

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Incoming]:
        """GET with the body in pieces."""
        try:
            async with self._client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
                yield _HttpIncoming(response)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        """POST and read the whole answer; with an `address`, as a proxy would pass it on for that one."""
        headers = {"content-type": content_type, **({"x-forwarded-for": address} if address else {})}
        try:
            response = await self._client.post(url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

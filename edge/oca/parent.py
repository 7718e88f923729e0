"""The parent tier: where a cache server gets what it does not hold, while somebody waits for it.

A miss is fetched once, however many ask for it (single flight), and passed on while it arrives. It is not kept: what a server holds is
decided by its fills, not by who happens to ask.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx

from edge.sign import Lend
from edge.store import Found
from schemas.assets import asset_of

MAX_BYTES = 256 << 20
"""Of a file that is passed on."""
TIMEOUT_S = 5.0
"""For a connection, and for the next byte."""


class ParentFailed(ConnectionError):
    """The parent does not answer, or not as it should: what it did."""


class Parent:
    """Fetches from `url`. One event loop uses it; files on their way are in `spool`, without a name."""

    def __init__(self, url: str, spool: Path, lend: Lend = lambda below: {}) -> None:
        """`lend` gives what a request shows to a parent that is a cache server."""
        self._lend = lend
        self._url = url.rstrip("/")
        self._spool = spool
        self._flights: dict[str, _Flight] = {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"})

    async def close(self) -> None:
        """End what is under way."""
        for flight in list(self._flights.values()):
            flight.task.cancel()
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)
        await self._client.aclose()

    async def fetch(self, path: str) -> Found | None:
        """The file that a request path means, as far as it has come; None where the parent has none either. Raises ParentFailed."""
        flight = self._flights.get(path)
        if flight is None:
            flight = self._flights[path] = _Flight(self._spool)
            flight.task = asyncio.create_task(self._fly(path, flight))
        fd = flight.share()
        try:
            await flight.until(0)
            if flight.found is not None:
                fd, shared = -1, replace(flight.found, fd=fd, until=flight.until)
                return shared
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    async def _fly(self, path: str, flight: _Flight) -> None:
        try:
            headers = self._lend(f"/{known[0].path}/") if (known := asset_of(path)) else {}
            async with self._client.stream("GET", f"{self._url}{quote(path)}", headers=headers) as answer:
                if answer.status_code == 404:
                    return
                flight.begin(path, answer)
                async for block in answer.aiter_raw():
                    flight.write(block)
            if flight.found is not None and flight.here < flight.found.size:
                raise ParentFailed(f"{path} ended after {flight.here} of {flight.found.size} bytes")
        except (httpx.HTTPError, ParentFailed, OSError, ValueError) as error:
            flight.failure = ParentFailed(f"{self._url}: {error or type(error).__name__}")
        finally:
            del self._flights[path]
            flight.end()


class _Flight:
    """A file that is on its way, for all who wait for it."""

    task: asyncio.Task[None]

    def __init__(self, spool: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=spool, buffering=0)  # noqa: SIM115 (closed by `end`)
        self._progress = asyncio.Event()
        self._began = self._ended = False
        self.found: Found | None = None
        self.here = 0
        self.failure: ParentFailed | None = None

    def begin(self, path: str, answer: httpx.Response) -> None:
        """The headers have come. Raises ParentFailed."""
        size = answer.headers.get("content-length", "")
        if answer.status_code != 200 or not size.isdigit() or int(size) > MAX_BYTES:
            raise ParentFailed(f"{path} is answered with {answer.status_code} and {size or 'no'} bytes")
        said = answer.headers.get("last-modified")
        modified_s = parsedate_to_datetime(said).timestamp() if said else 0.0
        self.found = Found(
            -1,
            int(size),
            answer.headers.get("etag") or f'"{int(modified_s):x}-{int(size):x}"',
            modified_s,
            answer.headers.get("content-type", "application/octet-stream"),
            answer.headers.get("cache-control", "no-cache"),
        )
        self._began = True
        self._pass_on()

    def write(self, block: bytes) -> None:
        """Take the next bytes. Raises ParentFailed."""
        assert self.found
        if self.here + len(block) > self.found.size:
            raise ParentFailed(f"more than the {self.found.size} bytes that were announced")
        self._file.write(block)
        self.here += len(block)
        self._pass_on()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._file.close()
        self._pass_on()

    def share(self) -> int:
        """Its file, for one more who reads it."""
        return os.dup(self._file.fileno())

    async def until(self, count: int) -> None:
        """Wait until `count` bytes are here, and the headers before them. Raises ParentFailed where they never will be."""
        while not self._ended and not (self._began and self.here >= count):
            await self._progress.wait()
        if self.failure is not None and (not self._began or self.here < count):
            raise self.failure

    def _pass_on(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

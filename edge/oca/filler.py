"""The fill client: brings an asset from a source, an IX peer or the origin, into the store, off peak and before anybody asks for it.

Bytes come file by file over HTTP, no faster than the rate cap, inside the fill window only. A transfer that breaks, or that the window's
end or this process's end cuts off, goes on where it was (Range with If-Range). Nothing is held before every byte of the asset was verified.
It runs in a thread of its own; every step is told.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx2 as httpx

from edge.oca.content import Content, NoRoom
from edge.sign import Lend
from infra.base.clock import Clock
from schemas.assets import CHECKSUMS, Altered, Asset, AssetId, InvalidChecksums, Sum, read_checksums

BURST_BYTES = 256 << 10
MAX_CHECKSUMS_BYTES = 32 << 20
TIMEOUT_S = 10.0
"""For a connection, and for the next byte of a body."""
ATTEMPTS = 5
"""Breaks in a row, without a byte between them, after which a source is given up."""
BACKOFF_S = 1.0
SLOW_BYTES_PER_S, SLOW_AFTER_S = 16 << 10, 30.0
"""A source that gives less, over so long, is given up: another one is better."""
PROGRESS_BYTES = 64 << 20
LOOK_EVERY_S = 5.0
"""How soon a fill that waits for its window notices that it is to end."""
DAY_MIN = 24 * 60

Reason = Literal["", "no_room", "unreachable", "broke", "slow", "lies", "checksum", "disk", "window", "stopped"]


@dataclass(frozen=True)
class Window:
    """Local minutes of the day in which a server may fill: from `first_min` up to `end_min`, past midnight where that is less."""

    first_min: int
    end_min: int
    zone: tzinfo = UTC

    def __post_init__(self) -> None:
        if not (0 <= self.first_min < DAY_MIN and 0 < self.end_min <= DAY_MIN and self.first_min != self.end_min):
            raise ValueError(f"a fill window of minutes {self.first_min} to {self.end_min}: 0 to {DAY_MIN}, and not empty")

    def is_open(self, now_ms: int) -> bool:
        """Whether it is open."""
        minute = self._minute(now_ms)
        if self.first_min < self.end_min:
            return self.first_min <= minute < self.end_min
        return minute >= self.first_min or minute < self.end_min

    def opens_in_s(self, now_ms: int) -> float:
        """0 where it is open; on a day that a clock change makes longer or shorter, at most an hour too early."""
        if self.is_open(now_ms):
            return 0.0
        return (self.first_min - self._minute(now_ms)) % DAY_MIN * 60 - now_ms % 60_000 / 1000

    def _minute(self, now_ms: int) -> int:
        local = datetime.fromtimestamp(now_ms / 1000, self.zone)
        return local.hour * 60 + local.minute


@dataclass
class TokenBucket:
    """A rate cap: bytes may go as their tokens come, `rate_bytes_per_s` of them, and `burst_bytes` at once after a pause."""

    rate_bytes_per_s: float
    burst_bytes: int = BURST_BYTES
    _tokens: float = 0.0
    _at_ms: int | None = None

    def wait_s(self, count: int, now_ms: int) -> float:
        """Take `count` tokens; returns how long to wait before the bytes may go."""
        if self._at_ms is not None:
            self._tokens = min(self.burst_bytes, self._tokens + max(0, now_ms - self._at_ms) * self.rate_bytes_per_s / 1000)
        self._at_ms = now_ms if self._at_ms is None else max(now_ms, self._at_ms)
        self._tokens -= count
        return max(0.0, -self._tokens / self.rate_bytes_per_s)


@dataclass(frozen=True)
class Step:
    """What happened to a fill."""

    kind: Literal["started", "progress", "completed", "failed"]
    asset: AssetId
    source_url: str
    at_ms: int
    bytes: int
    """Of the asset that are here."""
    total_bytes: int
    """Of the asset; 0 before that is known."""
    fetched_bytes: int
    """What came from the source since the step before."""
    reason: Reason = ""
    """Why it failed; of progress, `window`: it goes on when that opens again."""
    detail: str = ""


class Failed(Exception):
    """A fill that does not go on."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Broke(Exception):
    """A transfer that ended early; it may go on."""


class _WindowEnded(Exception):
    """The window closed in the middle of a file."""


class Filler:
    """Fills one store. `fill` blocks; it is to be called by one thread at a time."""

    def __init__(
        self,
        content: Content,
        window: Window,
        bucket: TokenBucket,
        clock: Clock,
        on_step: Callable[[Step], None],
        lend: Lend = lambda below: {},
    ) -> None:
        """`lend` gives what a request shows to a source that is a cache server."""
        self._content, self._window, self._bucket, self._clock, self._on_step = content, window, bucket, clock, on_step
        self._lend = lend
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let a fill under way end soon; what is here of it stays, and the next `fill` goes on with it."""
        self._stopped.set()

    def fill(self, wanted: AssetId, source_url: str) -> bool:
        """Bring `wanted` from `<source_url>/<cid>/v<version>/…`; whether it is held now. Waits for the window, and for the next one."""
        if wanted in self._content.held:
            return True
        with httpx.Client(timeout=TIMEOUT_S) as client:
            return self._fill(wanted, source_url, client)

    def _fill(self, wanted: AssetId, source_url: str, client: httpx.Client) -> bool:
        here, total, fetched = 0, 0, 0

        def tell(kind: Literal["started", "progress", "completed", "failed"], reason: Reason = "", detail: str = "") -> None:
            nonlocal fetched
            self._on_step(Step(kind, wanted, source_url, self._clock.now_ms(), here, total, fetched, reason, detail))
            fetched = 0

        tell("started")
        try:
            self._until_open()
            asset = self._checksums(wanted, source_url, client)
            total = asset.size_bytes
            self._content.promise(wanted, total)
            folder = self._content.filling(wanted)
            told = here = sum(_size(folder / name) for name in asset.files)
            for name, is_to_be in asset.files.items():
                file, breaks = folder / name, 0
                file.parent.mkdir(parents=True, exist_ok=True)
                while _size(file) < is_to_be.bytes or not file.exists():
                    before = _size(file)
                    try:
                        shown = self._lend(f"/{wanted.path}/")  # anew for each request: a fill outlasts what was lent at its beginning
                        self._transfer(f"{source_url}/{asset.id.path}/{quote(name)}", file, is_to_be, client, shown)
                    except _WindowEnded:
                        here, fetched = here + _size(file) - before, fetched + _size(file) - before
                        tell("progress", "window", f"goes on in {self._window.opens_in_s(self._clock.now_ms()):.0f} s")
                        self._until_open()
                        continue
                    except _Broke as error:
                        breaks = 1 if _size(file) > before else breaks + 1
                        here, fetched = here + _size(file) - before, fetched + _size(file) - before
                        before = _size(file)
                        if breaks == ATTEMPTS:
                            raise Failed("broke" if here else "unreachable", str(error)) from None
                        self._wait(BACKOFF_S * 2**breaks)
                    here, fetched = here + _size(file) - before, fetched + _size(file) - before
                    if here - told >= PROGRESS_BYTES:
                        told = here
                        tell("progress")
            self._content.admit(asset)
        except Failed as error:
            tell("failed", error.reason, str(error))
            if error.reason not in ("stopped", "broke", "slow", "unreachable"):
                self._content.abandon(wanted)
            return False
        except NoRoom as error:
            tell("failed", "no_room", str(error))
            return False
        except Altered as error:
            tell("failed", "checksum", str(error))
            return False
        except OSError as error:
            tell("failed", "no_room" if error.errno == errno.ENOSPC else "disk", str(error))
            return False
        tell("completed")
        return True

    def _checksums(self, wanted: AssetId, source_url: str, client: httpx.Client) -> Asset:
        """What the asset is to be, from the source. Raises Failed."""
        url = f"{source_url}/{wanted.path}/{CHECKSUMS}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with client.stream("GET", url, headers=self._lend(f"/{wanted.path}/")) as answer:
                    if answer.status_code != 200:
                        raise _Broke(f"{url} answers {answer.status_code}")
                    raw = b""
                    for block in answer.iter_raw():
                        raw += block
                        if len(raw) > MAX_CHECKSUMS_BYTES:
                            raise Failed("lies", f"{url} has more than {MAX_CHECKSUMS_BYTES} bytes")
                return read_checksums(raw, wanted)
            except InvalidChecksums as error:
                raise Failed("lies", f"{url}: {error}") from None
            except (_Broke, httpx.HTTPError) as error:
                if attempt == ATTEMPTS:
                    raise Failed("unreachable", f"{url}: {error}") from None
                self._wait(BACKOFF_S * 2**attempt)
        raise AssertionError

    def _transfer(self, url: str, file: Path, wanted: Sum, client: httpx.Client, shown: dict[str, str]) -> None:
        """Bring the rest of a file. Raises _Broke and _WindowEnded, after which `file` has what came until then, and Failed."""
        tag = file.with_name(f".{file.name}.etag")
        have, etag = _size(file), tag.read_text() if tag.exists() else ""
        resume = {"Range": f"bytes={have}-", "If-Range": etag} if have and etag else {}
        try:
            with client.stream("GET", url, headers={"Accept-Encoding": "identity", **shown, **resume}) as answer:
                if answer.status_code == 206 and answer.headers.get("content-range") == f"bytes {have}-{wanted.bytes - 1}/{wanted.bytes}":
                    mode, expected = "ab", wanted.bytes - have
                elif answer.status_code == 200:
                    mode, expected, have = "wb", wanted.bytes, 0
                elif answer.status_code in (206, 416):
                    told = f"{answer.status_code}, {answer.headers.get('content-range')}"
                    raise Failed("lies", f"{url} answers {told} to bytes {have} to {wanted.bytes - 1} of {wanted.bytes}")
                else:
                    raise _Broke(f"{url} answers {answer.status_code}")
                said = answer.headers.get("content-length")
                if said is not None and said != str(expected):
                    raise Failed("lies", f"{url} has {said} bytes to send; {expected} were expected")
                tag.write_text(answer.headers.get("etag", ""))
                with file.open(mode) as out:
                    self._receive(url, answer, out.write, expected)
        except httpx.HTTPError as error:
            raise _Broke(f"{url}: {type(error).__name__}: {error}") from None
        tag.unlink()

    def _receive(self, url: str, answer: httpx.Response, write: Callable[[bytes], object], expected: int) -> None:
        came, waited_s, began_ms = 0, 0.0, self._clock.now_ms()
        for block in answer.iter_raw():
            came += len(block)
            if came > expected:
                raise Failed("lies", f"{url} sends more than the {expected} bytes that were expected")
            write(block)
            if came == expected:
                continue  # whether there is more is still to be seen
            if not self._window.is_open(self._clock.now_ms()):
                raise _WindowEnded
            waited_s += self._wait(self._bucket.wait_s(len(block), self._clock.now_ms()))
            took_s = (self._clock.now_ms() - began_ms) / 1000
            if took_s >= SLOW_AFTER_S and came < SLOW_BYTES_PER_S * (took_s - waited_s):
                raise Failed("slow", f"{url} gave {came} bytes in {took_s - waited_s:.0f} s")
        if came < expected:
            raise _Broke(f"{url} ended after {came} of {expected} bytes")

    def _until_open(self) -> None:
        while wait_s := self._window.opens_in_s(self._clock.now_ms()):
            self._wait(min(wait_s, LOOK_EVERY_S))

    def _wait(self, seconds: float) -> float:
        """Sleep; returns for how long. Raises Failed where the fill is to end."""
        if self._stopped.is_set():
            raise Failed("stopped", "this server ends")
        self._clock.sleep(seconds)
        return seconds


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

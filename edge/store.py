"""The files of a cache server: which one a path means, which bytes a range means, what to say about it. No HTTP server in here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

CONTENT_TYPES = {
    ".mpd": "application/dash+xml",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".vtt": "text/vtt",
    ".jpg": "image/jpeg",
    ".json": "application/json",
}
MANIFESTS = frozenset({".mpd", ".m3u8"})
IMMUTABLE = "public, max-age=31536000, immutable"
"""A title's version never changes: its segments may be kept for ever."""
SHORT_LIVED = "public, max-age=30"

RECOUNT_S = 30.0

_range = re.compile(r"bytes=(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<suffix>[0-9]{1,18}))")


class Unsatisfiable(Exception):
    """A range of which the file has no byte."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) of a `Range` header; None where the whole file is to be sent: no header, another unit, several ranges, nonsense
    (RFC 9110 lets a server ignore those). Raises Unsatisfiable.
    """
    match = _range.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    if match["suffix"] is not None:
        length = int(match["suffix"])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - length), size - 1
    first, last = int(match["first"]), int(match["last"]) if match["last"] else size - 1
    if match["last"] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, min(last, size - 1)


@dataclass(frozen=True)
class Found:
    """An open file: whoever gets it closes `fd`."""

    fd: int
    size: int
    etag: str
    modified_s: float
    content_type: str
    cache_control: str
    until: Callable[[int], Awaitable[None]] | None = None
    """Of a file that is still being written: waits until so many of its bytes are there. Raises ConnectionError where they never are."""


class Store:
    """Everything below one directory, and nothing outside it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._within = f"{self.root}/"
        self._counted: tuple[float, int] = (float("-inf"), 0)

    @property
    def capacity_bytes(self) -> int:
        """Most that it can hold: what its file system has."""
        return shutil.disk_usage(self.root).total

    @property
    def used_bytes(self) -> int:
        """Bytes below the directory, as counted RECOUNT_S ago at most. Blocks on the disk."""
        counted, held = self._counted
        if time.monotonic() - counted >= RECOUNT_S:
            held = 0
            for file in self.root.rglob("*"):
                with contextlib.suppress(OSError):  # it went meanwhile
                    status = file.lstat()
                    held += status.st_size if stat.S_ISREG(status.st_mode) else 0
            self._counted = (time.monotonic(), held)
        return held

    def open(self, path: str) -> Found | None:
        """The file that a request path (percent-decoded) means; None where there is none. Blocks while the disk finds it."""
        try:
            fd = os.open(self._within + path.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK)
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return None
        status = os.fstat(fd)
        file = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (a Path costs ten times as much); where `..` and links have led
        if not (stat.S_ISREG(status.st_mode) and file.startswith(self._within)):
            os.close(fd)
            return None
        suffix = file[file.rfind(".") :]
        kind, keep = CONTENT_TYPES.get(suffix, "application/octet-stream"), SHORT_LIVED if suffix in MANIFESTS else IMMUTABLE
        return Found(fd, status.st_size, etag(status), status.st_mtime, kind, keep)


def etag(status: os.stat_result) -> str:
    """The tag of a file as it is. One that was last changed at a whole second has the tag that nginx gives it."""
    modified_s, rest_ns = divmod(status.st_mtime_ns, 1_000_000_000)
    return f'"{modified_s if rest_ns == 0 else status.st_mtime_ns:x}-{status.st_size:x}"'


def cid(path: str) -> str | None:
    """The title of a path `/<cid>/v<version>/…`."""
    first, _, rest = path.strip("/").partition("/")
    return first if rest else None

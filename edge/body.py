"""Request bodies from strangers: read with a bound, unpacked with a bound, split into reports with their original bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator

MAX_RECEIVED = 1 << 20
"""Bytes of a body as it comes over the wire."""
MAX_UNPACKED = 4 << 20
"""Bytes of a body after decompression: what a gzip bomb may cost."""
MAX_REPORTS = 5_000
"""Reports of a body: a body of line feeds must not cost more memory than one of reports."""


class BodyRefused(Exception):
    """A body that cannot be split into reports; `status` is the HTTP answer, `received` the bytes that were read."""

    def __init__(self, status: int, rule: str, message: str, received: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.rule = rule
        self.received = received


async def read(stream: AsyncIterator[bytes], encoding: str) -> bytes:
    """The whole body, unpacked as its Content-Encoding says. Raises BodyRefused: 413 too large, 415 unknown encoding, 400 broken gzip."""
    received = bytearray()
    async for chunk in stream:
        received += chunk
        if len(received) > MAX_RECEIVED:
            raise BodyRefused(
                413, "size", f"a body has {MAX_RECEIVED} bytes at most; send fewer reports at once", bytes(received[:MAX_RECEIVED])
            )
    body = bytes(received)
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return gunzip(body)
    raise BodyRefused(415, "encoding", f"Content-Encoding {encoding!r} is not understood; gzip is", body)


def gunzip(packed: bytes) -> bytes:
    """All members of a gzip file. Raises BodyRefused: 413 beyond `MAX_UNPACKED`, 400 where it is broken or cut short."""
    unpacked = bytearray()
    rest = packed
    while True:
        member = zlib.decompressobj(wbits=31)
        try:
            unpacked += member.decompress(rest, MAX_UNPACKED + 1 - len(unpacked))
        except zlib.error as error:
            raise BodyRefused(400, "gzip", f"the body is not gzip: {error}", packed) from None
        if len(unpacked) > MAX_UNPACKED:
            raise BodyRefused(413, "size", f"the body has more than {MAX_UNPACKED} bytes when unpacked", packed)
        if not member.eof:
            raise BodyRefused(400, "gzip", "the gzip body is cut short", packed)
        rest = member.unused_data
        if not rest:
            return bytes(unpacked)


def lines(body: bytes) -> list[tuple[int, bytes]]:
    """Reports of a text body with their line numbers from 1; blank lines are none. Raises BodyRefused: 413 beyond `MAX_REPORTS` lines."""
    if body.count(b"\n") > MAX_REPORTS:
        raise _too_many(body)
    return [(number, line) for number, raw in enumerate(body.split(b"\n"), 1) if (line := raw.strip(b" \t\r"))]


def json_reports(body: bytes) -> list[tuple[int, bytes]]:
    """Reports of a JSON body — one object, an array of them, or objects one after the other — with their numbers from 1, as they came.

    Raises BodyRefused: 400 where the body is not JSON, 413 beyond `MAX_REPORTS`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyRefused(400, "syntax", f"byte {error.start} is not UTF-8", body) from None
    decoder = json.JSONDecoder()
    reports: list[tuple[int, bytes]] = []
    in_array = text.lstrip().startswith("[")
    position = text.index("[") + 1 if in_array else 0
    while (position := _past(text, position, " \t\r\n,")) < len(text):
        if in_array and text[position] == "]":
            if _past(text, position + 1, " \t\r\n") < len(text):
                raise BodyRefused(400, "syntax", f"character {position + 1}: something follows the array", body)
            return reports
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise BodyRefused(400, "syntax", f"the body is not JSON: {error}", body) from None
        reports.append((len(reports) + 1, text[position:end].encode()))
        if len(reports) > MAX_REPORTS:
            raise _too_many(body)
        position = end
    if in_array:
        raise BodyRefused(400, "syntax", "the array is not closed", body)
    return reports


def _too_many(body: bytes) -> BodyRefused:
    return BodyRefused(413, "size", f"a body has {MAX_REPORTS} reports at most; send fewer at once", body[:MAX_RECEIVED])


def _past(text: str, position: int, skipped: str) -> int:
    while position < len(text) and text[position] in skipped:
        position += 1
    return position

"""A gateway, cache servers and a collector in memory: a network for players in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from producers.players.transport import Answer, NoAnswer
from schemas.cmcd import Report, parse, parse_query, to_report

LADDER = {"low": 300, "mid": 1000, "top": 2500}
SEGMENT_S = 2


def mpd(segments: int) -> str:
    """A manifest of three rungs and audio, of that many segments."""

    def representation(name: str, kbps: int, size: str = "") -> str:
        return (
            f'<Representation id="{name}" bandwidth="{kbps * 1000}" codecs="x" {size}><SegmentTemplate timescale="1000" '
            f'initialization="{name}/init.mp4" media="{name}/$Number%03d$.m4s" startNumber="0"><SegmentTimeline>'
            f'<S t="0" d="{SEGMENT_S * 1000}" r="{segments - 1}"/></SegmentTimeline></SegmentTemplate></Representation>'
        )

    heights = dict(zip(LADDER, (240, 480, 720), strict=True))
    video = "".join(representation(name, kbps, f'width="320" height="{heights[name]}"') for name, kbps in LADDER.items())
    return (
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT{segments * SEGMENT_S}S"><Period>'
        f'<AdaptationSet contentType="video">{video}</AdaptationSet>'
        f'<AdaptationSet contentType="audio">{representation("audio", 96)}</AdaptationSet></Period></MPD>'
    )


STALL_S = 4.0
"""As HttpTransport has it."""
PIECE = 4096


@dataclass
class _Incoming:
    status: int
    headers: Mapping[str, str]
    content: bytes
    ill: Callable[[], str | int]
    breaks_off: bool = False

    async def body(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), PIECE):
            await suffer(self.ill())
            yield self.content[start : start + PIECE]
        if self.breaks_off:
            raise NoAnswer("the connection was reset")


async def suffer(illness: str | int) -> None:
    """What an illness does to the next piece: the number of a slow server is its bytes per second."""
    if illness == "silent":
        await asyncio.sleep(STALL_S)
        raise NoAnswer("silence")
    if illness == "dead":
        raise NoAnswer("connection lost")
    if isinstance(illness, int):
        await asyncio.sleep(PIECE / illness)


@dataclass
class FakeEdge:
    """Implements `Transport`. `status(url)` may answer for a cache server: 0 refuses the connection, -1 breaks off halfway.

    `ill(host)` is asked at each request and each piece: "" is well; "silent" and "dead" from now on, also in the middle of a body; a number
    is how many bytes per second a body gets; "corrupt" segments have one wrong byte. With `sums`, checksums are served.
    """

    segments: int = 10
    status: Callable[[str], int] = lambda url: 200
    ill: Callable[[str], str | int] = lambda host: ""
    sums: bool = False
    collector: Callable[[], Answer] = lambda: Answer(202)
    urls: tuple[str, ...] = ("http://oca-1/t/v1/manifest.mpd", "http://oca-2/t/v1/manifest.mpd")
    asked: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    posts: int = 0
    plays: int = 0

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[_Incoming]:
        self.asked.append(url)
        parts = urlsplit(url)
        assert parse_query(parts.query), "every request carries CMCD"
        status = self.status(url)
        if status == 0:
            raise NoAnswer("connection refused")

        def ill() -> str | int:
            return self.ill(parts.netloc)

        await suffer("" if isinstance(illness := ill(), int) else illness)
        content = b"no" if status > 0 and status != 200 else self.content(parts.path)
        if content is None:
            status, content = 404, b"no"
        headers = {"x-oca-id": parts.netloc, "content-length": str(len(content))}
        if illness == "corrupt" and parts.path.endswith(".m4s"):
            content = b"\xff" + content[1:]
        yield _Incoming(200 if status == -1 else status, headers, content[: len(content) // 2] if status == -1 else content, ill,
                        breaks_off=status == -1)  # fmt: skip

    def content(self, path: str) -> bytes | None:
        """A file of the title `/t/v1`."""
        if path.endswith(".mpd"):
            return mpd(self.segments).encode()
        if path.endswith("checksums.json"):
            names = [f"{rung}/{number:03}.m4s" for rung in (*LADDER, "audio") for number in range(self.segments)]
            bodies = {name: self.content(f"/{name}") or b"" for name in names}
            told = {name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in bodies.items()}
            return json.dumps({"cid": "t", "version": 1, "published_s": 0, "files": told}).encode() if self.sums else None
        if path.endswith("init.mp4"):
            return bytes(1_000)
        return bytes({**LADDER, "audio": 96}[path.split("/")[-2]] * 1000 * SEGMENT_S // 8)

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        if url.endswith("/play"):
            self.plays += 1
            sid = f"sid-{self.plays}"
            told = {"sid": sid, "correlation_id": f"play-{self.plays}", "cid": json.loads(content)["title"], "manifest_urls": self.urls,
                    "collector_url": "http://collector/cmcd"}  # fmt: skip
            return Answer(200, {}, json.dumps(told).encode())
        assert content_type == "application/cmcd"
        self.posts += 1
        answer = self.collector()
        if answer.status == 202:
            self.reports += [to_report(parse(line)) for line in content.decode().splitlines()]
        return answer

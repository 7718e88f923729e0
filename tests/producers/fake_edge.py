"""A gateway, cache servers and a collector in memory: a network for players in virtual time."""

from __future__ import annotations

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


@dataclass
class _Incoming:
    status: int
    headers: Mapping[str, str]
    content: bytes
    breaks_off: bool = False

    async def body(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), 4096):
            yield self.content[start : start + 4096]
        if self.breaks_off:
            raise NoAnswer("the connection was reset")


@dataclass
class FakeEdge:
    """Implements `Transport`. `status(url)` may answer for a cache server: 0 refuses the connection, -1 breaks off halfway."""

    segments: int = 10
    status: Callable[[str], int] = lambda url: 200
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
        headers = {"x-oca-id": parts.netloc}
        if status > 0 and status != 200:
            yield _Incoming(status, headers, b"no")
        elif parts.path.endswith(".mpd"):
            yield _Incoming(200, headers, mpd(self.segments).encode())
        else:
            rung = parts.path.split("/")[-2]
            size = 1_000 if parts.path.endswith("init.mp4") else {**LADDER, "audio": 96}[rung] * 1000 * SEGMENT_S // 8
            yield _Incoming(200, headers, bytes(size if status == 200 else size // 2), breaks_off=status == -1)

    async def post(self, url: str, content: bytes, content_type: str) -> Answer:
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

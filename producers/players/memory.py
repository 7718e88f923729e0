"""Sessions without a stack: cache servers and a collector in memory, for players in virtual time.

    sessions(...) -> the reports that a player would have sent

Servers answer at once and hold every title, so all that takes time is the player's own network. What a title is made of comes from the
cache of encodes; of a title that is not there a segment has as many bytes as its bitrate × its duration says, and no checksum.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from producers.abr.prior import Prior
from producers.encoders import cache
from producers.encoders.titles import SEGMENT_S, Title
from producers.players.clock import LoopClock, run_virtual
from producers.players.network import Link
from producers.players.player import Player, Ticket
from producers.players.population import Viewer, actions
from producers.players.reports import Outbox
from producers.players.transport import Answer
from schemas.cmcd import Report, parse, to_report

SERVERS = 3
"""As many as a gateway names."""
PIECE = 65_536
"""Bytes of a body that come at once, as from a socket."""
AUDIO_KBPS = 96

Files = Mapping[str, bytes]
"""Path below a server → what is there."""


def title_files(title: Title, titles: Path | None = None) -> dict[str, bytes]:
    """All files of a title, of its encode where it is in the cache (`titles`), else made up."""
    if cache.load(title, titles) is None:
        return made_up(title)
    home = cache.home(title, titles)
    return {f"/{title.cid}/v{title.version}/{file.relative_to(home)}": file.read_bytes() for file in home.rglob("*") if file.is_file()}


def made_up(title: Title) -> dict[str, bytes]:
    """A title of its ladder's target bitrates, every segment as large as these say."""
    count, folder = title.seconds // SEGMENT_S, f"/{title.cid}/v{title.version}"
    tracks = [(rung.name, rung.target_kbps, f'width="{rung.width}" height="{rung.height}"') for rung in title.ladder]
    told = {name: _representation(name, kbps, size, count) for name, kbps, size in (*tracks, ("audio", AUDIO_KBPS, ""))}
    video = "".join(told[name] for name, _, _ in tracks)
    manifest = (
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT{count * SEGMENT_S}S"><Period>'
        f'<AdaptationSet contentType="video">{video}</AdaptationSet><AdaptationSet contentType="audio">{told["audio"]}</AdaptationSet>'
        "</Period></MPD>"
    )
    files = {f"{folder}/manifest.mpd": manifest.encode()}
    for name, kbps, _ in (*tracks, ("audio", AUDIO_KBPS, "")):
        segment = bytes(kbps * 1000 * SEGMENT_S // 8)
        files[f"{folder}/{name}/init.mp4"] = bytes(1_000)
        files |= {f"{folder}/{name}/{number:03}.m4s": segment for number in range(count)}
    return files


def _representation(name: str, kbps: int, size: str, count: int) -> str:
    return (
        f'<Representation id="{name}" bandwidth="{kbps * 1000}" codecs="x" {size}><SegmentTemplate timescale="1" '
        f'initialization="{name}/init.mp4" media="{name}/$Number%03d$.m4s" startNumber="0"><SegmentTimeline>'
        f'<S t="0" d="{SEGMENT_S}" r="{count - 1}"/></SegmentTimeline></SegmentTemplate></Representation>'
    )


@dataclass
class MemoryEdge:
    """Implements `Transport`: serves `files` from every host, and keeps what is reported."""

    files: Files
    reports: list[Report] = field(default_factory=list)

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[_Body]:
        """GET with the body in pieces; 404 of what nobody has."""
        parts = urlsplit(url)
        content = self.files.get(parts.path)
        yield _Body(parts.netloc, b"") if content is None else _Body(parts.netloc, content, 200)

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        """Take reports. Raises InvalidCmcd."""
        self.reports += [to_report(parse(line)) for line in content.decode().splitlines()]
        return Answer(202)


class _Body:
    def __init__(self, host: str, content: bytes, status: int = 404) -> None:
        self.status = status
        self.headers = {"x-oca-id": host, "content-length": str(len(content))}
        self._content = memoryview(content)

    async def body(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), PIECE):
            yield bytes(self._content[start : start + PIECE])


def watched(
    who: Viewer, titles: Sequence[Title], files: Files, draws: Random, sid: str, at_ms: int, flags: Mapping[str, Any],
    prior: Prior | None = None,
) -> list[Report]:  # fmt: skip
    """One session from the press of play at `at_ms`, as `crowd` has it, and all its reports.

    `draws` chooses a title, the first most often, and what the member does. The network is the member's own, the same in each session.
    """
    title = draws.choices(titles, [1 / (rank + 1) for rank in range(len(titles))])[0]
    doing = actions(draws)
    edge = MemoryEdge(files)

    async def session() -> None:
        clock = LoopClock(at_ms)
        outbox = Outbox(edge, clock)
        sending = asyncio.create_task(outbox.run())
        urls = tuple(f"http://oca-{number}/{title.cid}/v{title.version}/manifest.mpd" for number in range(1, SERVERS + 1))
        ticket = Ticket(sid, sid, title.cid, urls, "http://collector/cmcd", prior, flags)
        link = Link(who.network.steps(Random(who.seed + 1)), at_ms)
        try:
            await Player(ticket, who.device, edge, link, who.network.rtt_ms, outbox, clock, doing).run()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            await outbox.drain()

    run_virtual(session())
    return edge.reports

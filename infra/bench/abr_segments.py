"""`python -m infra.bench.abr_segments --url URL --video DIR [--chunks N] [--segment-s S]`: a title over HTTP for `abr_real`.

Segments are as large as `DIR/video_sizes` says, of nothing but zeros; manifest and checksums are those of any title. Reports are accepted
and forgotten. A thread a connection, kept alive, so that nobody waits for anybody else's segment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from infra.base.children import die_with_parent
from producers.abr.environment import CHUNK_S, CHUNKS, Video, read_video
from schemas.assets import CHECKSUMS

TITLE = "/t/v1/"
INIT_BYTES = 800


def files(video: Video) -> dict[str, bytes | int]:
    """What there is below `TITLE`: the content, or how many zeros it has."""
    levels = range(len(video.bitrates_kbps))
    segments = {f"{level}/{number:03}.m4s": int(sizes[level]) for number, sizes in enumerate(video.sizes) for level in levels}
    sums = {name: {"bytes": size, "sha256": hashlib.sha256(bytes(size)).hexdigest()} for name, size in segments.items()}
    checksums = json.dumps({"cid": "t", "version": 1, "published_s": 0, "files": sums}).encode()
    inits: dict[str, bytes | int] = {f"{level}/init.mp4": INIT_BYTES for level in levels}
    return {"manifest.mpd": _manifest(video), CHECKSUMS: checksums, **inits, **segments}


def _manifest(video: Video) -> bytes:
    count, segment_ms = len(video.sizes), round(video.chunk_s * 1000)
    encodings = "".join(
        f'<Representation id="{level}" bandwidth="{round(kbps * 1000)}" codecs="avc1.4d401f" width="{(level + 1) * 160}" '
        f'height="{(level + 1) * 90}"/>'
        for level, kbps in enumerate(video.bitrates_kbps)
    )
    return (
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT{count * video.chunk_s}S"><Period>'
        f'<AdaptationSet contentType="video"><SegmentTemplate timescale="1000" initialization="$RepresentationID$/init.mp4" '
        f'media="$RepresentationID$/$Number%03d$.m4s" startNumber="0"><SegmentTimeline><S t="0" d="{segment_ms}" r="{count - 1}"/>'
        f"</SegmentTimeline></SegmentTemplate>{encodings}</AdaptationSet></Period></MPD>"
    ).encode()


class Server(ThreadingHTTPServer):
    """Serves one title."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, video: Video) -> None:
        self.files = files(video)
        self.zeros = memoryview(bytes(max([INIT_BYTES, *(int(size) for sizes in video.sizes for size in sizes)])))
        super().__init__((host, port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """A file of the title, or that the server is well."""
        path = urlsplit(self.path).path
        found = b"well" if path == "/healthz" else self.server.files.get(path.removeprefix(TITLE))
        body = b"no such file" if found is None else self.server.zeros[:found] if isinstance(found, int) else found
        self._answer(404 if found is None else 200, body)

    def do_POST(self) -> None:
        """Reports."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer(202, b"")

    def _answer(self, status: int, body: bytes | memoryview) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def main() -> None:
    """Serve until killed."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--url", required=True)
    words.add_argument("--video", type=Path, required=True)
    words.add_argument("--chunks", type=int, default=CHUNKS)
    words.add_argument("--segment-s", type=float, default=CHUNK_S)
    given = words.parse_args()
    die_with_parent()
    url = urlsplit(given.url)
    video = replace(read_video(given.video, chunks=given.chunks), chunk_s=given.segment_s)
    with Server(str(url.hostname), int(url.port or 80), video) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

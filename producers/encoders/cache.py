"""The cache of encoded titles: where they lie, how they are found whole, how they get there.

    <cache>/titles/<cid>/v<version>/manifest.mpd, master.m3u8, <rung>/init.mp4, <rung>/NNN.m4s, encoded.json, checksums.json

A version's directory appears by one rename, under a lock, when everything is in it; `encoded.json` is the digest file that says
what was made and by which recipe, `checksums.json` makes an asset of it (`schemas.assets`). `<cache>` is what the local origin serves: its
bucket `titles`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.base.settings import settings
from producers.encoders.titles import Title
from schemas.assets import CHECKSUMS, AssetId
from schemas.assets import publish as publish_asset

DIGEST_FILE = "encoded.json"


@dataclass(frozen=True)
class Encoded:
    """What an encode made: the fields of its events, less cid and version, which all of them share.

    `source`, each of `rungs` and each of `chunks` are the own fields of encoding.source, encoding.rung and encoding.chunk.
    """

    cid: str
    version: int
    name: str
    recipe: str
    sha256: str
    encoded_at_ms: int
    duration_ms: int
    bytes: int
    source: dict[str, Any]
    rungs: list[dict[str, Any]]
    chunks: list[dict[str, Any]]


def root() -> Path:
    """The bucket of the titles."""
    return settings().cache / "titles"


def home(title: Title, titles: Path | None = None) -> Path:
    """Where this version of the title lies, or will."""
    return (titles or root()) / title.cid / f"v{title.version}"


def load(title: Title, titles: Path | None = None) -> Encoded | None:
    """The cached encode, or None where there is none, it was made by another recipe, or its files are not what was written."""
    folder = home(title, titles)
    try:
        encoded = Encoded(**json.loads((folder / DIGEST_FILE).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        sys.stderr.write(f"{folder / DIGEST_FILE} cannot be read ({error}): {title.cid} is encoded again\n")
        return None
    if encoded.recipe != title.recipe:
        sys.stderr.write(f"{folder} was made by another recipe: {title.cid} is encoded again\n")
        return None
    if encoded.sha256 != digest(folder):
        sys.stderr.write(f"{folder} is not what was written there: {title.cid} is encoded again\n")
        return None
    if not (folder / CHECKSUMS).exists():  # an encode of before there were any
        _make_asset(folder, encoded)
    return encoded


def digest(folder: Path) -> str:
    """SHA-256 over path and content of every file but those that say what was made, in order of path."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (DIGEST_FILE, CHECKSUMS)):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def publish(title: Title, encoded: Encoded, work: Path, titles: Path | None = None) -> None:
    """Put the finished directory `work` in place. Call with the lock held; what was there before is removed after the swap."""
    (work / DIGEST_FILE).write_text(json.dumps(asdict(encoded), indent=1))
    _make_asset(work, encoded)
    folder = home(title, titles)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        stale = work.with_name(work.name + ".stale")
        folder.rename(stale)
        work.rename(folder)
        shutil.rmtree(stale)
    else:
        work.rename(folder)


def _make_asset(folder: Path, encoded: Encoded) -> None:
    publish_asset(folder, AssetId(encoded.cid, encoded.version), encoded.encoded_at_ms // 1000, without=(DIGEST_FILE,))


@contextmanager
def lock(titles: Path | None = None) -> Iterator[None]:
    """Hold the cache's lock; says so when another encode holds it, and waits. The kernel lets go of it when a process dies."""
    folder = titles or root()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"another encode is at work in {folder}: waiting for it\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

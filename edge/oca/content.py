"""What a cache server holds: assets, each a version of a title, whole and as their checksums say, within the bytes there are.

    <root>/<cid>/v<version>/checksums.json      size and SHA-256 of each file of the asset
    <root>/<cid>/v<version>/…                   those files
    <root>/.filling/<cid>/v<version>/…          an asset on its way in: served to nobody
    <root>/.leaving/…                           an asset on its way out

The store is its own table: an asset is held when its directory stands in its place. It gets there by one rename after every file was
verified, and leaves by one rename, so whatever the moment a process dies, it is held whole or not at all. All files of an asset, wherever
it is held, have the time of its publication; a file with another time or size is not served: it is not what was verified.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.store import Found, Store
from schemas.assets import CHECKSUMS, Altered, Asset, AssetId, InvalidChecksums, asset_of, read_checksums, verify

FILLING, LEAVING = ".filling", ".leaving"


class NoRoom(Exception):
    """More bytes than are free: how many were asked for, and how many there are."""


@dataclass(frozen=True)
class Change:
    """What the table of contents learnt."""

    kind: Literal["held", "pulled", "evicted", "refused"]
    """`refused`: an asset that had been held, or was to be, and is not what its checksums say."""
    asset: AssetId
    bytes: int
    reason: str


@dataclass(frozen=True)
class Memory:
    """A directory on a file system that is in memory (tmpfs), and how much of it is ours."""

    folder: Path
    capacity_bytes: int


def hottest(asked_bytes: Mapping[AssetId, float], size_bytes: Mapping[AssetId, int], capacity_bytes: int) -> list[AssetId]:
    """What to keep in memory: assets by bytes that were asked for per byte that they take, Open Connect's popularity, while they fit.

    Greedy: the fractional knapsack's optimum but for the assets at the edge, which are small beside the whole.
    """
    chosen, left = [], capacity_bytes
    for asset in sorted(asked_bytes.keys() & size_bytes.keys(), key=lambda asset: (-asked_bytes[asset] / max(1, size_bytes[asset]), asset)):
        if asked_bytes[asset] > 0 and size_bytes[asset] <= left:
            chosen.append(asset)
            left -= size_bytes[asset]
    return chosen


class Content(Store):
    """A store that holds whole assets within `capacity_bytes`, and serves nothing else.

    One thread may fill while others serve: what changes the table is behind a lock. `on_change` is called in the thread that changed it.
    """

    def __init__(self, root: Path, capacity_bytes: int, on_change: Callable[[Change], None], memory: Memory | None = None) -> None:
        """Reads what is there: sizes and times, not every byte. Raises NoRoom where what is there is more than there may be.

        `memory` holds copies of the assets that are asked for most, so that no fill drives them out of the page cache.
        """
        super().__init__(root)
        self._capacity_bytes = capacity_bytes
        self._memory = memory
        self._warm: dict[AssetId, Store] = {}
        self._asked: Counter[AssetId] = Counter()
        if memory is not None:
            shutil.rmtree(memory.folder, ignore_errors=True)
            memory.folder.mkdir(parents=True)
        self._on_change = on_change
        self._lock = threading.RLock()
        self._held: dict[AssetId, Asset] = {}
        self._promised: dict[AssetId, int] = {}
        """Bytes that are kept free for what is on its way in."""
        shutil.rmtree(self.root / LEAVING, ignore_errors=True)
        for file in sorted(self.root.glob(f"*/v*/{CHECKSUMS}")):
            self._find(file)
        if self.used_bytes > capacity_bytes:
            raise NoRoom(f"{self.root} holds {self.used_bytes} bytes; this server may hold {capacity_bytes}")

    @property
    def capacity_bytes(self) -> int:
        """Most that it may hold."""
        return self._capacity_bytes

    @property
    def held(self) -> Mapping[AssetId, Asset]:
        """What is served."""
        with self._lock:
            return dict(self._held)

    @property
    def used_bytes(self) -> int:
        """Of what is held, and of what is on its way in."""
        with self._lock:
            return sum(asset.size_bytes for asset in self._held.values()) + sum(self._promised.values())

    def open(self, path: str) -> Found | None:
        """The file that a request path means, if it belongs to an asset that is held. A file that was altered makes an end of its asset."""
        wanted = asset_of(path)
        asset = self._held.get(wanted[0]) if wanted else None
        if wanted is None or asset is None or (wanted[1] != CHECKSUMS and wanted[1] not in asset.files):
            return None
        warm = self._warm.get(asset.id)
        found = warm.open(path) if warm else super().open(path)
        if found is None and warm:  # it has just left
            found = super().open(path)
        if wanted[1] == CHECKSUMS:
            return found
        size = asset.files[wanted[1]].bytes
        if found is not None and found.size == size and found.modified_s == asset.published_s:
            self._asked[asset.id] += size
            return found
        how = "is gone" if found is None else f"has {found.size} bytes, of {found.modified_s:.0f}; it had {size}, of {asset.published_s}"
        if found is not None:
            os.close(found.fd)
        self._end(asset.id, "refused", f"{asset.id}/{wanted[1]} {how}")
        return None

    def promise(self, asset: AssetId, size: int) -> None:
        """Keep `size` bytes free for an asset that is on its way in. Raises NoRoom."""
        with self._lock:
            free = self.capacity_bytes - self.used_bytes + self._promised.get(asset, 0)
            if size > free:
                raise NoRoom(f"{asset} needs {size} bytes, and {max(0, free)} of {self.capacity_bytes} are free")
            here = sum(file.stat().st_size for file in self.filling(asset).rglob("*") if file.is_file())
            if size - here > (left := shutil.disk_usage(self.root).free):
                raise NoRoom(f"{asset} needs {size - here} more bytes, and the disk has {left}")
            self._promised[asset] = size

    def abandon(self, asset: AssetId) -> None:
        """Give up an asset that was on its way in, and what is there of it."""
        with self._lock:
            self._promised.pop(asset, None)
            shutil.rmtree(self.filling(asset), ignore_errors=True)

    def filling(self, asset: AssetId) -> Path:
        """Where an asset on its way in is written."""
        return self.root / FILLING / asset.path

    def admit(self, asset: Asset) -> None:
        """Hold an asset whose files are all in `filling`: every byte is read first. Raises Altered, and then nothing of it is kept."""
        folder = self.filling(asset.id)
        try:
            verify(folder, asset)
        except Altered as error:
            self.abandon(asset.id)
            self._on_change(Change("refused", asset.id, asset.size_bytes, str(error)))
            raise
        for file in folder.rglob("*"):
            if file.is_file() and str(file.relative_to(folder)) not in asset.files:
                file.unlink()
        (folder / CHECKSUMS).write_bytes(asset.to_json())
        for name in (*asset.files, CHECKSUMS):
            _settle(folder / name, asset.published_s)
        place = self.root / asset.id.path
        with self._lock:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                self._remove(asset.id)
            folder.rename(place)
            _sync(place.parent)
            self._promised.pop(asset.id, None)
            self._held[asset.id] = asset
        self._on_change(Change("held", asset.id, asset.size_bytes, "verified"))

    def pull(self, asset: AssetId, reason: str) -> bool:
        """Stop serving an asset and remove its files; false where it is not held. Who reads one of its files now has it to its end."""
        return self._end(asset, "pulled", reason)

    def evict(self, asset: AssetId, reason: str) -> bool:
        """The same, because its room is needed."""
        return self._end(asset, "evicted", reason)

    def scrub(self, asset: AssetId) -> bool:
        """Read every byte of an asset that is held, which takes its time, and make an end of it where it is not what its checksums say."""
        known = self._held.get(asset)
        if known is None:
            return False
        try:
            verify(self.root / asset.path, known)
        except Altered as error:
            self._end(asset, "refused", str(error))
            return False
        return True

    @property
    def by_demand(self) -> list[AssetId]:
        """What is held, what is asked for most first."""
        return sorted(self.held, key=lambda asset: (-self._asked[asset], asset))

    @property
    def warm(self) -> list[AssetId]:
        """What is in memory."""
        return sorted(self._warm)

    def warm_up(self) -> None:
        """Have in memory what was asked for most, what is longer ago counting half with each call. Copies, and so takes its time."""
        if self._memory is None:
            return
        held = self.held
        chosen = hottest(self._asked, {asset: known.size_bytes for asset, known in held.items()}, self._memory.capacity_bytes)
        for asset in self._warm.keys() - set(chosen):
            self._cool(asset)
        for asset in chosen:
            if asset not in self._warm:
                place = self._memory.folder / asset.path
                try:
                    shutil.copytree(self.root / asset.path, place)  # with their times
                    verify(place, held[asset])
                except (OSError, shutil.Error, Altered):  # it was pulled, or is to be found altered by whoever reads it from the disk
                    shutil.rmtree(place, ignore_errors=True)
                    continue
                with self._lock:
                    if asset in self._held:
                        self._warm[asset] = Store(self._memory.folder)
                    else:
                        shutil.rmtree(place, ignore_errors=True)
        for asset in list(self._asked):
            self._asked[asset] //= 2

    def _cool(self, asset: AssetId) -> None:
        if self._warm.pop(asset, None) is not None and self._memory is not None:
            shutil.rmtree(self._memory.folder / asset.path, ignore_errors=True)

    def _find(self, file: Path) -> None:
        """Take up an asset that was left here, if it is what it was."""
        named = asset_of(f"{file.relative_to(self.root)}")
        if named is None:
            return
        try:
            asset = read_checksums(file.read_bytes(), named[0])
            for name, wanted in asset.files.items():
                status = (file.parent / name).stat()
                if (status.st_size, status.st_mtime) != (wanted.bytes, asset.published_s):
                    raise Altered(f"{asset.id}/{name} was altered")
        except (InvalidChecksums, Altered, OSError) as error:
            self._remove(named[0])
            self._on_change(Change("refused", named[0], 0, str(error)))
            return
        self._held[asset.id] = asset

    def _end(self, asset: AssetId, kind: Literal["pulled", "evicted", "refused"], reason: str) -> bool:
        with self._lock:
            known = self._held.pop(asset, None)  # from here on it is not served
            if known is None:
                return False
            self._remove(asset)
        self._on_change(Change(kind, asset, known.size_bytes, reason))
        return True

    def _remove(self, asset: AssetId) -> None:
        self._cool(asset)
        leaving = self.root / LEAVING / uuid.uuid4().hex
        leaving.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.root / asset.path).rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)
        with contextlib.suppress(OSError):  # other versions are there
            (self.root / asset.cid).rmdir()


def _settle(file: Path, modified_s: int) -> None:
    """Bring a file to the disk and give it its time."""
    os.utime(file, (modified_s, modified_s))
    _sync(file)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

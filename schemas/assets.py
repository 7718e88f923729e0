"""An asset: a version of a title as it lies on a disk, whole, and the `checksums.json` that says what it is to be.

    <cid>/v<version>/checksums.json      size and SHA-256 of each file of the asset, and when it was published
    <cid>/v<version>/…                   those files, all with the time of the publication

The encoder writes it last, cache servers fill and verify by it, players check what they got.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

CHECKSUMS = "checksums.json"
_cid = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}")
_sha256 = re.compile(r"[0-9a-f]{64}")


class InvalidChecksums(ValueError):
    """A `checksums.json` that is none: what is wrong, and where."""


class Altered(Exception):
    """A file that is not what its checksum says: which one, and how it differs."""


@dataclass(frozen=True, order=True)
class AssetId:
    """A version of a title."""

    cid: str
    version: int

    @property
    def path(self) -> str:
        """Its directory, below the root of a store or of a server."""
        return f"{self.cid}/v{self.version}"

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Sum:
    """What a file is to be."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Asset:
    """An asset by its checksums."""

    id: AssetId
    published_s: int
    """When it was published, seconds since 1970: the time of its files."""
    files: Mapping[str, Sum]
    """By path below the asset's directory."""

    @cached_property
    def size_bytes(self) -> int:
        """Of all its files, of which a title has a thousand."""
        return sum(wanted.bytes for wanted in self.files.values())

    def to_json(self) -> bytes:
        """As `checksums.json` has it: the same bytes for the same asset."""
        files = {name: {"bytes": wanted.bytes, "sha256": wanted.sha256} for name, wanted in sorted(self.files.items())}
        told = {"cid": self.id.cid, "version": self.id.version, "published_s": self.published_s, "files": files}
        return json.dumps(told, indent=1).encode() + b"\n"


def asset_of(path: str) -> tuple[AssetId, str] | None:
    """Asset and file that a request path means; None where it means none."""
    cid, _, rest = path.lstrip("/").partition("/")
    version, _, name = rest.partition("/")
    if not (_cid.fullmatch(cid) and re.fullmatch(r"v[0-9]{1,9}", version) and name):
        return None
    return AssetId(cid, int(version[1:])), name


def read_checksums(raw: bytes, expected: AssetId | None = None) -> Asset:
    """The asset that a `checksums.json` tells. Raises InvalidChecksums, also for names that would lead outside the asset's directory."""
    try:
        told = json.loads(raw)
        asset = AssetId(_text(told, "cid"), _whole(told, "version"))
        files = {}
        for name, wanted in told["files"].items():
            parts = PurePosixPath(name).parts
            if not parts or name != "/".join(parts) or any(part.startswith(".") for part in parts) or name == CHECKSUMS or "\0" in name:
                raise InvalidChecksums(f"{name!r} is no name of a file of an asset")
            files[name] = Sum(_whole(wanted, "bytes"), _text(wanted, "sha256"))
            if not _sha256.fullmatch(files[name].sha256):
                raise InvalidChecksums(f"the sha256 of {name!r} is not 64 hexadecimal digits")
        published_s = _whole(told, "published_s")
    except InvalidChecksums:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidChecksums(f"not the checksums of an asset: {type(error).__name__}: {error}") from None
    if expected is not None and asset != expected:
        raise InvalidChecksums(f"these are the checksums of {asset}, not of {expected}")
    if not files:
        raise InvalidChecksums(f"{asset} has no files")
    return Asset(asset, published_s, files)


def checksums(folder: Path, asset: AssetId, published_s: int, without: Collection[str] = ()) -> Asset:
    """The asset in a directory, by reading every file of it but those of the names `without`."""
    without = {CHECKSUMS, *without}
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.name not in without)
    return Asset(asset, published_s, {name: Sum((folder / name).stat().st_size, sha256(folder / name)) for name in names})


def publish(folder: Path, asset: AssetId, published_s: int, without: Collection[str] = ()) -> Asset:
    """Write `checksums.json` into a directory of finished files and give all of them their time. What an encoder does last."""
    found = checksums(folder, asset, published_s, without)
    (folder / CHECKSUMS).write_bytes(found.to_json())
    for name in (*found.files, CHECKSUMS):
        os.utime(folder / name, (published_s, published_s))
    return found


def sha256(file: Path) -> str:
    """Of a file's bytes; reads it in blocks."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify(folder: Path, asset: Asset) -> None:
    """Read every file of an asset. Raises Altered for the first that is not what its checksum says."""
    for name, wanted in asset.files.items():
        try:
            found = Sum((folder / name).stat().st_size, sha256(folder / name))
        except OSError as error:
            raise Altered(f"{asset.id}/{name} cannot be read: {error}") from None
        if found.bytes != wanted.bytes:
            raise Altered(f"{asset.id}/{name} has {found.bytes} bytes instead of {wanted.bytes}")
        if found.sha256 != wanted.sha256:
            raise Altered(f"{asset.id}/{name} has the SHA-256 {found.sha256} instead of {wanted.sha256}")


def _whole(told: Mapping[str, Any], name: str) -> int:
    value = told[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidChecksums(f"{name} is {value!r}; it is a whole number, not negative")
    return value


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told[name]
    if not isinstance(value, str):
        raise InvalidChecksums(f"{name} is {value!r}; it is a text")
    return value

"""From a unit's name to its place: the hash functions of allocation.

Ours is the first: MurmurHash3_x86_32 (A. Appleby, 2008) over the UTF-8 bytes of `salt:unit`, all 2³² values, so that the smallest cell is
a four-billionth and ClickHouse says the same with `murmurHash3_32(concat(salt, ':', unit))`. The rest is what two products prescribe:
FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo) in GrowthBook's two versions, MurmurHash3 reduced to 1..n in Unleash's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

SPACE = 1 << 32
"""How many buckets there are: a bucket is an integer in [0, SPACE)."""
UNLEASH_VARIANT_SEED = 86028157
_MASK = SPACE - 1
_C1, _C2, _ROUND, _F1, _F2 = 0xCC9E2D51, 0x1B873593, 0xE6546B64, 0x85EBCA6B, 0xC2B2AE35
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193
_WORD = struct.Struct("<I")

Position = float
"""Where a unit lies: our integer bucket, GrowthBook's fraction of 1, Unleash's 1..n. Only positions of one hash are comparable."""


def murmur3_32(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 of `data`, in [0, 2³²)."""
    whole = len(data) & ~3
    return _finish(_blocks(data[:whole], seed), data[whole:], len(data))


def bucketer(salt: str) -> Callable[[str], int]:
    """The function that gives a unit's bucket under `salt`; the salt's part of the hash is computed once, here."""
    prefix = _utf8(f"{salt}:")
    whole = len(prefix) & ~3
    state, left, prefix_bytes = _blocks(prefix[:whole], 0), prefix[whole:], len(prefix)
    skip = -len(left) & 3

    def bucket(unit: str) -> int:
        head, blocks, tail, size = _unit(unit, skip)
        h = _blocks(left + head, state) if skip else state
        for k in blocks:
            h = ((h ^ k) << 13 & _MASK | (h ^ k) >> 19) * 5 + _ROUND & _MASK
        h ^= tail ^ size + prefix_bytes
        h = (h ^ h >> 16) * _F1 & _MASK
        h = (h ^ h >> 13) * _F2 & _MASK
        return h ^ h >> 16

    def any_bucket(unit: str) -> int:
        return bucket(unit) if len(unit) > 3 else murmur3_32(prefix + _utf8(unit))  # a short one may end within the salt's last block

    return any_bucket


@lru_cache(maxsize=4096)
def _unit(unit: str, skip: int) -> tuple[bytes, tuple[int, ...], int, int]:
    """What hashing a unit has in common under all salts that leave `skip` bytes of it to their last block: a member is in many tests."""
    data = _utf8(unit)
    rest = data[skip:]
    whole = len(rest) & ~3
    blocks = tuple(_mix(k) for (k,) in _WORD.iter_unpack(rest[:whole]))
    return data[:skip], blocks, _mix(int.from_bytes(rest[whole:], "little")), len(data)


class Lanes:
    """`bucket` of one unit under many salts at once: a member is in many tests. A tenth of the time of asking one by one.

    Python's integers have any length, so each operation of the hash is done for all salts by one: a salt has 64 bits of the integer, its
    state the lower 32, and a product never leaves its 64 (L. Lamport, "Multiple Byte Processing with Full-Word Instructions", CACM 18(8),
    1975). Salts whose last block lacks as many bytes go together.
    """

    def __init__(self, salts: Sequence[str]) -> None:
        self._salts = tuple(salts)
        prefixes = [_utf8(f"{salt}:") for salt in salts]
        self._groups = []
        order: list[int] = []
        for over in range(4):
            members = [index for index, prefix in enumerate(prefixes) if len(prefix) % 4 == over]
            if members:
                order += members
                wholes = [(prefixes[index], len(prefixes[index]) - over) for index in members]
                states = _lanes([_blocks(prefix[:whole], 0) for prefix, whole in wholes])
                lefts = _lanes([int.from_bytes(prefix[whole:], "little") for prefix, whole in wholes])
                sizes, ones = _lanes([len(prefix) for prefix, _ in wholes]), _lanes([1] * len(members))
                self._groups.append((over, states, lefts, sizes, ones, ones * _MASK, ones * _ROUND, 8 * len(members)))
        self._order = tuple(order)

    def __call__(self, unit: str) -> list[int]:
        """(salts,): the unit's bucket under each salt, in their order."""
        found: list[int] = []
        for over, h, left, sizes, ones, mask, added, width in self._groups:
            head, blocks, tail, size = _unit(unit, -over & 3)
            if len(head) < -over & 3:  # the unit ends within the salt's last block
                return [bucket(salt, unit) for salt in self._salts]
            if over:
                k = ((left | (int.from_bytes(head, "little") << 8 * over) * ones) * _C1) & mask
                h ^= ((k << 15 | k >> 17) & mask) * _C2 & mask
                h = ((h << 13 | h >> 19) & mask) * 5 + added & mask
            for block in blocks:
                h ^= block * ones
                h = ((h << 13 | h >> 19) & mask) * 5 + added & mask
            h ^= tail * ones ^ sizes + size * ones
            h = (h ^ h >> 16 & mask) * _F1 & mask
            h = (h ^ h >> 13 & mask) * _F2 & mask
            found += struct.unpack(f"<{width // 4}I", (h ^ h >> 16 & mask).to_bytes(width, "little"))[::2]
        ordered = [0] * len(found)
        for index, one in zip(self._order, found, strict=True):
            ordered[index] = one
        return ordered


def _lanes(values: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f"<{len(values)}Q", *values), "little")


def bucket(salt: str, unit: str, seed: int = 0) -> int:
    """The bucket of one unit under one salt, in [0, 2³²)."""
    return murmur3_32(_utf8(f"{salt}:{unit}"), seed)


def buckets(salt: str, units: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """`bucket` of many units at once: shape (len(units),), uint32. Faster by far than one by one. Raises ValueError for a unit with NUL."""
    prefix = _utf8(f"{salt}:")
    try:
        encoded = [unit.encode() for unit in units]
    except UnicodeEncodeError:
        encoded = list(map(_utf8, units))
    if not encoded:
        return np.zeros(0, np.uint32)
    if "\0" in "".join(units):  # numpy drops the zero bytes at the end of a fixed-width text
        raise ValueError("a unit's name holds a NUL character")
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded)) + len(prefix)
    width = -(-int(sizes.max()) // 4)
    text = np.zeros((len(encoded), width * 4), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    longest = int(sizes.max()) - len(prefix)
    if longest:
        text[:, len(prefix) : len(prefix) + longest] = np.array(encoded, f"S{longest}").view(np.uint8).reshape(len(encoded), longest)
    words = text.view("<u4")
    whole, h = sizes // 4, np.zeros(len(encoded), np.uint32)
    for i in range(width):
        k = words[:, i] * np.uint32(_C1)
        k = ((k << np.uint32(15)) | (k >> np.uint32(17))) * np.uint32(_C2)
        mixed = h ^ k
        rotated = ((mixed << np.uint32(13)) | (mixed >> np.uint32(19))) * np.uint32(5) + np.uint32(_ROUND)
        # Past a text's end its word is zero and k too: the tail's step then changes nothing.
        h = np.where(i < whole, rotated, np.where(i == whole, mixed, h))
    h ^= sizes.astype(np.uint32)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(_F1)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(_F2)
    return np.asarray(h ^ (h >> np.uint32(16)), np.uint32)


def allocate(salt: str, units: Sequence[str], ranges: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The index of the range of each unit under `salt`, -1 for none; shape (len(units),). Ranges ascend and do not overlap."""
    places = buckets(salt, units)
    begins, belows = (np.array(bounds, np.uint64) for bounds in zip(*ranges, strict=True))
    found = np.searchsorted(begins, places, side="right") - 1
    return np.where((found >= 0) & (places < belows[found]), found, -1)


def fnv1a_32(text: str, state: int = _FNV_OFFSET) -> int:
    """FNV-1a over the UTF-16 code units of `text`, as JavaScript's charCodeAt gives them, in [0, 2³²); `state` continues a text."""
    if text.isascii():
        for unit in text.encode():
            state = (state ^ unit) * _FNV_PRIME & _MASK
    else:
        data = text.encode("utf-16-le", "surrogatepass")
        for low, high in zip(data[::2], data[1::2], strict=True):
            state = (state ^ (low | high << 8)) * _FNV_PRIME & _MASK
    return state


def position(kind: str, salt: str, scale: int = SPACE) -> Callable[[str], Position] | None:
    """The function unit → position of hash `kind`; None for a kind that is not known, under which nobody is in anything.

    `scale` is Unleash's n: positions are 1..n.
    """
    if kind == "murmur3":
        return bucketer(salt)
    if kind == "growthbook1":
        return lambda unit: fnv1a_32(salt, fnv1a_32(unit)) % 1000 / 1000
    if kind == "growthbook2":
        state = fnv1a_32(salt)
        return lambda unit: fnv1a_32(str(fnv1a_32(unit, state))) % 10000 / 10000
    if kind == "unleash":
        return lambda unit: bucket(salt, unit) % scale + 1
    if kind == "unleash_variant":
        return lambda unit: bucket(salt, unit, UNLEASH_VARIANT_SEED) % scale + 1
    return None


def _utf8(text: str) -> bytes:
    """UTF-8, where half a surrogate pair is U+FFFD, as browsers write it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _mix(k: int) -> int:
    k = k * _C1 & _MASK
    return (k << 15 | k >> 17) * _C2 & _MASK


def _blocks(data: bytes, h: int) -> int:
    for (k,) in _WORD.iter_unpack(data):
        h ^= _mix(k)
        h = (h << 13 | h >> 19) * 5 + _ROUND & _MASK
    return h


def _finish(h: int, tail: bytes, size: int) -> int:
    h ^= _mix(int.from_bytes(tail, "little")) ^ size
    h = (h ^ h >> 16) * _F1 & _MASK
    h = (h ^ h >> 13) * _F2 & _MASK
    return h ^ h >> 16

"""Avro's binary coding of the two types that everything else is made of: numbers and strings."""

from __future__ import annotations

ONE_BYTE = [bytes((low,)) for low in range(0x80)]
TWO_MORE = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(0x4000)]
"""Fourteen bits of a longer number: bulk is sent by this, and a loop over single bytes took a sixth of its time."""


def long_bytes(value: int) -> bytes:
    """An int or long: zigzag, seven bits a byte, lowest first."""
    left = (value << 1) ^ (value >> 63)
    if left < 0x80:
        return ONE_BYTE[left]
    out = b""
    while left >= 0x4000:
        out += TWO_MORE[left & 0x3FFF]
        left >>= 14
    return out + (ONE_BYTE[left] if left < 0x80 else TWO_MORE[left & 0x7F][:1] + ONE_BYTE[left >> 7])


def string_bytes(value: str) -> bytes:
    """A string: its length in bytes, and its UTF-8. Raises UnicodeEncodeError for half a surrogate pair."""
    data = value.encode()
    return long_bytes(len(data)) + data

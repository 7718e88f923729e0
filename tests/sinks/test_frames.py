"""Where messages begin, and the proof that a row stands where its message stood."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEADER
from sinks.loader import frames


def framed(event_id: str, schema_id: int = 7, rest: bytes = b"rest") -> bytes:
    """A message that begins as all do: framing, then `event_id` with its length as a zigzag varint."""
    text = event_id.encode()
    length = len(text) << 1
    varint = bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
    return HEADER.pack(0, schema_id) + varint + text + rest


@given(st.lists(st.tuples(st.text(max_size=90), st.integers(0, 2**31 - 1), st.binary(max_size=5)), min_size=1, max_size=20))
def test_ids_and_tails_are_those_of_each_message(messages: list[tuple[str, int, bytes]]) -> None:
    block = frames.join([framed(*message) for message in messages])
    assert block.framed.all()
    assert block.schema_ids.tolist() == [schema_id for _, schema_id, _ in messages]
    assert block.tails.tolist() == [int.from_bytes(event_id.encode()[-4:], "little") for event_id, _, _ in messages]


def test_what_is_not_framed_is_named() -> None:
    block = frames.join([framed("a"), b"", b"\x00\x00\x00", b"\x01" + framed("b")[1:], framed("c"), b""])
    assert block.framed.tolist() == [True, False, False, False, True, False]


@pytest.mark.parametrize("junk", [b"\x00" * 6, b"\x00\x00\x00\x00\x01\xff", b"\x00\x00\x00\x00\x01\x7e"])
def test_lengths_that_lie_are_no_reason_to_fall(junk: bytes) -> None:
    assert len(frames.join([junk, junk]).tails) == 2


def test_positions_are_packed_as_the_insert_reads_them() -> None:
    text = frames.positions([10, 11, 15], [1_700_000_000_000, 3, 2**40], np.array([1, 2, 3, 4], dtype=np.uint32))
    packed = np.frombuffer(base64.b64decode(text), dtype=frames.POSITION)
    assert packed["offset"].tolist() == [0, 1, 5, 0]
    assert packed["time_ms"].tolist() == [1_700_000_000_000, 3, 2**40, 0]
    assert packed["tail"].tolist() == [1, 2, 3, 4]

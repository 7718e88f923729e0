"""Where messages begin, which schemas they name, and what proves that the store reads them where they begin.

`AvroConfluent` reads a stream: a message that is cut off takes its missing bytes from the next one, and the rows behind it would
get the wrong offsets. So each row must end its `event_id`, the first field of every contract, in the four bytes that the message at
its place has there; and behind the last message follows a sentinel of random length, which must come out where it is expected.
Vectorised: a block of 100,000 messages takes a few milliseconds.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.codec import HEADER

SHORTEST = HEADER.size + 1
"""Magic byte, schema id and the length of `event_id`."""

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """Messages end to end. `starts[i]` is where message i begins, `lengths[i]` how long it is."""

    data: bytes
    starts: Int64s
    lengths: Int64s

    @property
    def framed(self) -> npt.NDArray[np.bool_]:
        """Which messages are long enough and begin with the magic byte."""
        whole = self.lengths >= SHORTEST
        whole[whole] = self._bytes[self.starts[whole]] == 0
        return np.asarray(whole)

    @property
    def schema_ids(self) -> Int64s:
        """Schema id of each message; only meaningful where all are framed."""
        return self._words(self.starts + 1, ">u4").astype(np.int64)

    @property
    def tails(self) -> npt.NDArray[np.uint32]:
        """The last four bytes of each `event_id` as ClickHouse's `reinterpretAsUInt32(right(event_id, 4))` reads them.

        Only meaningful where all are framed. An `event_id` beyond 8191 bytes is measured wrongly, and so refused by the store.
        """
        at, end_of_data = self.starts + HEADER.size, len(self.data)
        first = self._bytes[at].astype(np.int64)
        second = np.where(at + 1 < end_of_data, self._bytes[np.minimum(at + 1, end_of_data - 1)], 0).astype(np.int64)
        long = first >= 0x80
        length = np.where(long, (first & 0x7F) | (second << 7), first) >> 1
        end = np.minimum(at + 1 + long + length, end_of_data)
        tail = self._words(end - 4, "<u4")
        return np.asarray(tail >> (8 * (4 - np.minimum(length, 4))).astype(np.uint32), dtype=np.uint32)

    def _words(self, at: Int64s, kind: str) -> npt.NDArray[np.uint32]:
        """The four bytes from each place on, as a number. Reads across the data as they lie: copying them costs more than all the rest."""
        return np.ndarray(len(self.data) - 3, kind, self.data, strides=(1,))[at]

    @property
    def _bytes(self) -> Bytes:
        return np.frombuffer(self.data, dtype=np.uint8)


def join(messages: Sequence[bytes]) -> Frames:
    """Lay messages end to end."""
    lengths = np.fromiter(map(len, messages), dtype=np.int64, count=len(messages))
    return Frames(b"".join(messages), np.cumsum(lengths) - lengths, lengths)


POSITION = np.dtype([("offset", "<u4"), ("time_ms", "<i8"), ("tail", "<u4")])
"""What is passed beside each message: offset above the block's first, Kafka timestamp, proof of place."""


def positions(offsets: Sequence[int], times_ms: Sequence[int], tails: npt.NDArray[np.uint32]) -> str:
    """The `POSITION`s of a block and of the sentinel behind it, in base64. `tails` has one more entry than the others."""
    packed = np.zeros(len(offsets) + 1, dtype=POSITION)
    packed["offset"][:-1] = np.asarray(offsets, dtype=np.int64) - offsets[0]
    packed["time_ms"][:-1] = times_ms
    packed["tail"] = tails
    return base64.b64encode(packed.tobytes()).decode()

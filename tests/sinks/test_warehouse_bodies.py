"""A compressed body comes in as many frames as the client likes; none may be left out, and a torn one is refused."""

from __future__ import annotations

import gzip

import lz4.frame
import pytest
import zstandard

from sinks.warehouse.server import decompressed

FRAMES = {"lz4": lz4.frame.compress, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
BLOCKS = [b"first" * 30_000, b"second" * 30_000, b"last"]


@pytest.mark.parametrize("encoding", FRAMES)
def test_every_frame_is_read(encoding: str) -> None:
    assert decompressed(b"".join(map(FRAMES[encoding], BLOCKS)), encoding) == b"".join(BLOCKS)


@pytest.mark.parametrize("encoding", ["lz4", "gzip"])
def test_a_torn_last_frame_is_refused(encoding: str) -> None:
    body = b"".join(map(FRAMES[encoding], BLOCKS))
    with pytest.raises(EOFError):
        decompressed(body[:-1], encoding)

"""What real players sent: CMCD of dash.js, hls.js, Shaka and our own, recorded while they played a clip of ours (tests/players/record.py).

`expected` is how the Common Media Library read the same text, an implementation that shares nothing with ours: by key, the value as
`{"token": …}`, `{"list": [[value, params], …]}`, or plain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("recordings.json")


class Recording(NamedTuple):
    """One report as it went over the network: by way of an `event` body, a `query` (percent-encoded), or `headers` by name."""

    player: str
    way: str
    sent: str | Mapping[str, str]
    expected: Mapping[str, Any]


def recordings() -> list[Recording]:
    """All of them, in the order in which they were sent."""
    return [Recording(**told) for told in json.loads(FILE.read_text())]

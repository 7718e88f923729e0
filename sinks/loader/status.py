"""What the loader says of itself: GET /healthz, GET /status."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from sinks.loader.ranges import Range

WINDOW_S = 60.0
RATE_WINDOW_S = 10.0
STEPS_PER_DOUBLING = 8
BUCKETS = 30 * STEPS_PER_DOUBLING
SILENT_AFTER_S = 120.0


@dataclass
class Progress:
    """What is known of one partition. Written by the loader's thread, read by the status server's.

    `blocks` are inserts that stored something, `uncertain` those without a clear answer, `recoveries` ranges counted in the table after a
    doubt.
    """

    topic: str
    table: str
    partition: int
    rows: int = 0
    blocks: int = 0
    uncertain: int = 0
    recoveries: int = 0
    dead_letters: int = 0
    lag: int = 0
    current: Range | None = None
    newest_ms: int = 0
    last_error: str = ""
    last_error_at_ms: int = 0
    stopped: str = ""
    _loaded: deque[tuple[float, int, npt.NDArray[np.int64]]] = field(default_factory=deque)

    def loaded(self, times_ms: Sequence[int], now_ms: int) -> None:
        """Messages with these Kafka timestamps can be queried since `now_ms`."""
        waited = np.maximum(now_ms - np.asarray(times_ms, dtype=np.int64), 1)
        buckets = np.minimum((np.log2(waited) * STEPS_PER_DOUBLING).astype(np.int64), BUCKETS - 1)
        now = time.monotonic()
        self._loaded.append((now, len(times_ms), np.bincount(buckets, minlength=BUCKETS).astype(np.int64)))
        while self._loaded and self._loaded[0][0] < now - WINDOW_S:
            self._loaded.popleft()
        self.rows += len(times_ms)
        self.blocks += 1
        self.newest_ms = max(self.newest_ms, int(times_ms[-1]))

    def failed(self, words: str, now_ms: int) -> None:
        """Something went wrong; it is tried again."""
        self.last_error, self.last_error_at_ms = words, now_ms

    def recent(self) -> tuple[float, npt.NDArray[np.int64]]:
        """Rows per second over the last seconds, and the waiting times of the last minute in logarithmic buckets."""
        now = time.monotonic()
        kept = [entry for entry in list(self._loaded) if entry[0] >= now - WINDOW_S]
        rows = sum(entry[1] for entry in kept if entry[0] >= now - RATE_WINDOW_S)
        return rows / RATE_WINDOW_S, sum((entry[2] for entry in kept), np.zeros(BUCKETS, dtype=np.int64))


def quantile_ms(waited: npt.NDArray[np.int64], share: float) -> int | None:
    """The upper end of the bucket that holds this share of all waiting times; None where there are none. At most 9 % too high."""
    total = int(waited.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(waited), share * total))
    return round(2 ** ((bucket + 1) / STEPS_PER_DOUBLING))


def tables(parts: Sequence[Progress], now_ms: int) -> list[dict[str, Any]]:
    """One entry a table, of all its partitions: what this process has loaded, lag in messages, freshness, errors, waiting times."""
    entries = []
    for name in sorted({part.table for part in parts}):
        own = [part for part in parts if part.table == name]
        recent = [part.recent() for part in own]
        waited = sum((r[1] for r in recent), np.zeros(BUCKETS, dtype=np.int64))
        failed = max(own, key=lambda p: p.last_error_at_ms)
        lag = sum(part.lag for part in own)
        newest = max(part.newest_ms for part in own)
        entries.append(
            {
                "table": name,
                "topic": own[0].topic,
                "rows": sum(part.rows for part in own),
                "blocks": sum(part.blocks for part in own),
                "uncertain": sum(part.uncertain for part in own),
                "recoveries": sum(part.recoveries for part in own),
                "rows_per_s": round(sum(r[0] for r in recent), 1),
                "lag": lag,
                "behind_ms": max(0, now_ms - newest) if lag and newest else 0,
                "newest_at_ms": newest or None,
                "dead_letters": sum(part.dead_letters for part in own),
                "queryable_after_ms": {"p50": quantile_ms(waited, 0.5), "p95": quantile_ms(waited, 0.95), "p99": quantile_ms(waited, 0.99)},
                "last_error": failed.last_error or None,
                "last_error_at_ms": failed.last_error_at_ms or None,
                "loading": {part.partition: str(part.current) for part in own if part.current},
                "stopped": {part.partition: part.stopped for part in own if part.stopped},
            }
        )
    return entries


def serve(url: str, report: Callable[[], dict[str, Any]], ticked_s_ago: Callable[[], float]) -> ThreadingHTTPServer:
    """Answer at `url` from threads of our own. Raises OSError where the address is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match urlsplit(self.path).path:
                case "/healthz":
                    silent_s = ticked_s_ago()
                    alive = silent_s < SILENT_AFTER_S
                    self._send(200 if alive else 503, {"status": "ok" if alive else f"the loader has been stuck for {silent_s:.0f} s"})
                case "/status":
                    self._send(200, report())
                case other:
                    self._send(404, {"error": f"there is no {other} here: /healthz, /status"})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged one by one."""

    address = urlsplit(url)
    server = ThreadingHTTPServer((address.hostname or "127.0.0.1", 8005 if address.port is None else address.port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server

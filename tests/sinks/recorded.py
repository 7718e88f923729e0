"""What the archive and replay tests share: rows of every awkward kind, and a registry that gives ids of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.envelope import Stamp, marker
from sinks.archive import RecordedLog, Row

TOPIC = "encoding.source"
PARTITIONS = 2
NOW_MS = 1_700_000_000_000


def rows_of(count: int, schema_id: int) -> list[tuple[int, Row]]:
    """(partition, row): some stamped late, some with headers, one without key, one tombstone."""
    event = catalogue().topic(TOPIC).event
    encode, stamp = Encoder(event, schema_id), Stamp("encoder-1", 1)
    rows = []
    for number in range(count):
        payload = encode(stamp(TOPIC, marker(event) | {"marker": False}, NOW_MS + number))
        stamp.used(TOPIC)
        late_ms = 700 if number % 7 == 3 else 0
        headers = [("trace", b"%d" % number), ("empty", None)] if number % 5 == 0 else None
        key = None if number == 4 else b"title-%d" % (number % 3)
        row = Row(number // PARTITIONS, NOW_MS + 100 * number - late_ms, key, headers, None if number == 8 else payload)
        rows.append((number % PARTITIONS, row))
    return rows


def by_partition(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """In the order in which a log gives them."""
    return sorted(rows, key=lambda item: item[0])


def kept(path: Path) -> list[tuple[int, Row]]:
    """All rows of a log, partition by partition."""
    log = RecordedLog.open(path)
    return [(partition, row) for partition in range(PARTITIONS) for row in log.read(TOPIC, partition)]


@contextmanager
def registry(first_id: int) -> Iterator[str]:
    """The address of a registry that gives ids from `first_id` on and refuses nothing."""
    schemas: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]:
                case ["schemas", "ids", number] if 0 <= int(number) - first_id < len(schemas):
                    self._answer(200, {"schema": json.dumps(schemas[int(number) - first_id])})
                case _:
                    self._answer(404, {"error_code": 40403, "message": "not found"})

        def do_POST(self) -> None:
            schema = json.loads(self._body()["schema"])
            if schema not in schemas:
                schemas.append(schema)
            self._answer(200, {"id": first_id + schemas.index(schema)})

        def do_PUT(self) -> None:
            self._answer(200, self._body())

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, code: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """A test prints what fails, not what was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

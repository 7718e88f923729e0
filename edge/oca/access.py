"""What a cache server tells of each request: an event, a line of its access log, and what the player said in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.judge import DEAD_LETTERS, Judge, Rejected
from edge.judge import TOPIC as REPORTS
from edge.outbox import Outbox
from edge.store import cid
from schemas import cmcd

ACCESS = "delivery.access"
TOPICS = (ACCESS, REPORTS, DEAD_LETTERS)
LOG_BYTES, LOG_FILES = 16 << 20, 3


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    """Percent-decoded, without query."""
    query: str
    """As it came, without `?`."""
    headers: Mapping[str, str]
    url: str
    """Without query."""
    client: str
    """Address that it came from."""
    sid: str | None = None
    """The session that its token was made for."""
    denied: str = ""
    """Why its token does not allow it."""


@dataclass
class Sent:
    """How much of a body was handed over, and when that began (`time.perf_counter`)."""

    bytes: int = 0
    first_byte: float | None = None


@dataclass
class Access:
    """One request, as the access event and the log line tell it. Times are of `time.perf_counter`."""

    started: float
    event_time_ms: int
    path: str
    url: str
    report: cmcd.Report | None
    letter: dict[str, Any] | None
    """The dead letter of CMCD that is no report."""
    correlation_id: str
    granted_sid: str | None = None
    """The session that its token was made for."""
    rc: int = 0
    sent: Sent = field(default_factory=Sent)
    range_first: int | None = None
    hit: bool = False
    event_id: str | None = None
    """Of the access event; None: it gets one."""

    @property
    def sid(self) -> str | None:
        """The session that the request belongs to, as far as its CMCD says, or else its token."""
        return self.granted_sid if self.report is None else str(self.report.fields["sid"])


@dataclass(frozen=True)
class Teller:
    """Tells what one cache server served."""

    oca_id: str
    site_id: str
    tier: str
    judge: Judge
    outboxes: Mapping[str, Outbox]
    """By topic: what was served, what players said in their requests, and what of that was wrong."""
    write_line: Callable[[str], None]

    def heard(self, asked: Asked, started: float, now_ms: int) -> Access:
        """The access that begins with a request; what its CMCD says is judged."""
        report, letter = None, None
        try:
            wanted = f"{asked.url} {asked.headers.get('range', '')}"
            report = self.judge.request(asked.query, asked.headers, now_ms, self.oca_id, wanted)
        except Rejected as refusal:
            told = {"component": "oca", "topic": REPORTS, "reason": refusal.reason, "detail": str(refusal)}
            letter = {**told, "payload": _cmcd_as_it_came(asked)}
        correlation_id = asked.headers.get("x-correlation-id") or ("" if report is None else report.correlation_id)
        return Access(started, now_ms, asked.path, asked.url, report, letter, correlation_id[:128], asked.sid)

    def tell(self, access: Access, ended: float) -> None:
        """Event, line, and report or dead letter of an access that has ended."""
        first_byte = ended if access.sent.first_byte is None else access.sent.first_byte
        record: dict[str, Any] = {
            "oca_id": self.oca_id,
            "site_id": self.site_id,
            "tier": self.tier,
            "sid": access.sid,
            "cid": cid(access.path),
            "path": access.path,
            "rc": access.rc,
            "bytes": access.sent.bytes,
            "range_first": access.range_first,
            "ttfb_us": round((first_byte - access.started) * 1e6),
            "ttlb_us": round((ended - access.started) * 1e6),
            "hit": access.hit,
        }
        self.outboxes[ACCESS].put(record, access.event_time_ms, access.correlation_id, access.event_id)
        if access.report is not None:
            ours = {"url": access.url, "oca_id": self.oca_id, "rc": access.rc, "bytes": access.sent.bytes}
            times = {"ttfb_ms": round(record["ttfb_us"] / 1000), "ttlb_ms": round(record["ttlb_us"] / 1000)}
            fields = {**access.report.fields, **ours, **times}
            self.outboxes[REPORTS].put(fields, access.event_time_ms, access.correlation_id, access.report.event_id)
        if access.letter is not None:
            self.outboxes[DEAD_LETTERS].put(access.letter, access.event_time_ms, access.correlation_id)
        self.write_line(json.dumps({"event_time": access.event_time_ms, "correlation_id": access.correlation_id, **record}))


def _cmcd_as_it_came(asked: Asked) -> bytes:
    """The query of a request and its CMCD headers, one a line."""
    headers = [f"{name.lower()}: {text}" for name, text in asked.headers.items() if name.lower() in cmcd.SHARDS]
    return "\n".join([asked.query, *headers]).encode(errors="surrogateescape")


@contextlib.contextmanager
def access_log(path: Path) -> Iterator[Callable[[str], None]]:
    """A function that appends a line to `path`, which is rotated at `LOG_BYTES`; `LOG_FILES` older ones are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = _AccessLog(path)
    try:
        yield log.write
    finally:
        log.close()


class _AccessLog:
    """As logging.handlers.RotatingFileHandler, at a tenth of its price: each segment leaves a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def write(self, line: str) -> None:
        """Append `line`, whole and at once."""
        written = f"{line}\n".encode(errors="backslashreplace")
        if self._size and self._size + len(written) > LOG_BYTES:
            self.close()
            for number in range(LOG_FILES, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._path.with_name(f"{self._path.name}.{number - 1}" if number > 1 else self._path.name).replace(
                        self._path.with_name(f"{self._path.name}.{number}")
                    )
            self._open()
        self._size += os.write(self._fd, written)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._fd).st_size

"""nginx as the data plane of a cache server: its configuration, generated from the same settings as ours, and the agent beside it.

nginx serves the files. The agent makes the same events of its log as our own server sends, and answers for it what it cannot: health,
what an operator asks for, and misses, by way of a socket. It differs from our own server in this: `narrow_kbps` has no effect, times are
in whole milliseconds, symbolic links are not followed, and a file that was altered is served until it is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from edge.oca import access
from edge.oca.access import Asked
from edge.oca.answers import ALWAYS, PREFLIGHT, RETRY_AFTER_S, Oca
from edge.oca.wire import KEEP_ALIVE_S, LOOK_EVERY_S, SLICE, STALLED_MS, Handler, Patience, answering_at, asked_of, send, send_section
from edge.outbox import meanwhile
from edge.store import CONTENT_TYPES, IMMUTABLE, MANIFESTS, SHORT_LIVED
from infra.base import log
from infra.base.children import die_with_parent
from producers.emit import Counts
from schemas import cmcd

EXECUTABLE = "nginx"
CMCD_HEADERS = sorted(cmcd.SHARDS)
LOG_FORMAT = {
    "request_id": '"$request_id"',
    "ended_ms": "$ended_ms",
    "method": '"$request_method"',
    "path": '"$uri"',
    "query": '"$args"',
    "host": '"$http_host"',
    "client": '"$remote_addr"',
    "rc": "$status",
    "bytes": "$body_bytes_sent",
    "range": '"$http_range"',
    "sent_range": '"$sent_http_content_range"',
    "ttfb_s": "$header_time",
    "ttlb_s": "$request_time",
    "correlation_id": '"$http_x_correlation_id"',
    "upstream": '"$upstream_addr"',
    **{name: f'"$http_{name.replace("-", "_")}"' for name in CMCD_HEADERS},
}
"""A line of nginx's log: what `edge.oca.access` needs to tell the access as if it were ours."""
LINES_AT_ONCE = 5_000
HEAD_BYTES = 80
"""So many first bytes, of which most are a random id, tell one log file from another whatever it is called by then."""


@dataclass(frozen=True)
class Plane:
    """One nginx."""

    root: Path
    host: str
    port: int
    folder: Path
    """What it writes is below this directory, which is absolute: pid, temporary files, log; and the agent's socket is there."""
    user: str
    """Whom the worker is where nginx is started by root; the titles are his to read."""
    prefixes: tuple[str, ...] = ()
    """Whom it serves; empty: everybody."""
    has_parent: bool = False
    """Whether the agent answers for what is not in `root`."""

    @property
    def log(self) -> Path:
        """Its access log."""
        return self.folder / "access.jsonl"

    @property
    def socket(self) -> Path:
        """Where the agent answers what nginx does not: health and what an operator asks for."""
        return self.folder / "agent.sock"


def configuration(plane: Plane, fail_rate: float = 0.0, draining: bool = False) -> str:
    """nginx.conf for one worker."""
    line = ", ".join(f'"{name}": {value}' for name, value in LOG_FORMAT.items())
    types = " ".join(f"{kind} {suffix[1:]};" for suffix, kind in CONTENT_TYPES.items())
    manifests = "|".join(suffix[1:] for suffix in sorted(MANIFESTS))
    told = "".join(f'        add_header {name} "{value}" always;\n' for name, value in ALWAYS.items() if name != "Accept-Ranges")
    if draining:
        told += f"        add_header Retry-After {RETRY_AFTER_S} always;\n"
    preflight = " ".join(f'add_header {name} "{value}";' for name, value in PREFLIGHT.items())
    allowed = "".join(f"allow {prefix}; " for prefix in plane.prefixes) + "deny all;" if plane.prefixes else ""
    twice = " ".join(f"proxy_hide_header {name};" for name in ("Cache-Control", *ALWAYS) if name != "Accept-Ranges")
    to_agent = f"proxy_pass http://unix:{plane.socket}:; proxy_buffering off; proxy_set_header Host $http_host; {twice}"
    miss = "error_page 404 = @miss;" if plane.has_parent else ""
    failing = f'split_clients "$request_id" $fails {{ {100 * fail_rate:.2f}% 1; * 0; }}' if fail_rate else ""
    refusal = "return 503;" if draining else "if ($fails) { return 503; }" if fail_rate else ""
    return f"""\
user {plane.user};
worker_processes 1;
daemon off;
pid {plane.folder}/nginx.pid;
error_log {plane.folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    {" ".join(f"{kind}_temp_path {plane.folder}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
    sendfile on;
    sendfile_max_chunk {SLICE};
    tcp_nopush on;
    keepalive_timeout {KEEP_ALIVE_S:.0f}s;
    keepalive_requests 1000000;
    send_timeout {STALLED_MS // 1000}s;
    server_tokens off;
    types {{ {types} }}
    default_type application/octet-stream;
    map $uri $keep {{ ~\\.({manifests})$ "{SHORT_LIVED}"; default "{IMMUTABLE}"; }}
    map $msec $ended_ms {{ "~^(?<s>[0-9]+)\\.(?<ms>[0-9]+)$" $s$ms; }}
    # Evaluated, and so remembered, when headers are sent: `first_seen` is empty, and a header that is empty is left out.
    map $request_time $header_time {{ default $request_time; }}
    map $header_time $first_seen {{ default ""; }}
    {failing}
    log_format line escape=json '{{{line}}}';
    access_log {plane.log} line if=$uri;
    server {{
        listen {plane.host}:{plane.port} backlog=1024;
        root {plane.root};
        max_ranges 1;
        merge_slashes on;
        disable_symlinks on from=$document_root;
        add_header Cache-Control $keep;
        add_header X-First-Seen $first_seen always;
{told}        location = /healthz {{ access_log off; {to_agent} }}
        location /admin/ {{ access_log off; allow 127.0.0.0/8; allow ::1; deny all; {to_agent} }}
        location ~ /\\. {{ return 404; }}
        location @miss {{ {to_agent} }}
        location / {{
            if ($request_method = OPTIONS) {{ {preflight} return 204; }}
            if ($request_method !~ ^(GET|HEAD)$) {{ return 405; }}
            {refusal}
            {allowed}
            {miss}
        }}
    }}
}}
"""


def tell(line: bytes, oca: Oca) -> None:
    """Tell the access that a line of nginx's log is about: of the same line the same event, with the same event_id. Raises ValueError where
    it is no such line.
    """
    known = json.loads(line.decode(errors="replace"))
    try:
        asked = _asked(known)
        ttlb_s, ttfb_s, rc = float(known["ttlb_s"]), float(known["ttfb_s"]), int(known["rc"])
        seen = oca.teller.heard(asked, 0.0, int(known["ended_ms"]) - round(1000 * ttlb_s))
        seen.sent.bytes = int(known["bytes"]) if asked.method == "GET" else 0
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error} is missing or of another kind") from None
    seen.rc, seen.sent.first_byte = rc, ttfb_s
    if rc == 206:
        seen.range_first = int(known["sent_range"].removeprefix("bytes ").partition("-")[0])
    seen.hit = rc in (200, 206, 304, 416) and not known["upstream"]
    seen.event_id = hashlib.blake2b(line.rstrip(b"\n"), digest_size=16).hexdigest()
    oca.requests += 1
    oca.tally.begin(seen)
    oca.tally.end(seen, ttlb_s)
    oca.teller.tell(seen, ttlb_s)


def _asked(known: Mapping[str, Any]) -> Asked:
    said = {"range": known["range"], "x-correlation-id": known["correlation_id"]} | {name: known[name] for name in CMCD_HEADERS}
    headers = {name: text for name, text in said.items() if text}
    return Asked(known["method"], known["path"], known["query"], headers, f"http://{known['host']}{known['path']}", known["client"])


class Tail:
    """Reads a log that grows and is rotated to `<name>.1`, `<name>.2` …; goes on where `keep` was called last, also after a restart."""

    def __init__(self, path: Path, state: Path) -> None:
        self._path, self._state = path, state
        try:
            kept = json.loads(state.read_text())
            self._head, self._offset = bytes.fromhex(kept["head"]), int(kept["offset"])
        except (OSError, ValueError, KeyError, TypeError):  # the first time, or what is left of a damaged note: from the beginning
            self._head, self._offset = b"", 0

    @property
    def position(self) -> tuple[bytes, int]:
        """Behind the last line that was read."""
        return self._head, self._offset

    def keep(self, position: tuple[bytes, int]) -> None:
        """Go on behind there after a restart."""
        beside = self._state.with_suffix(".new")
        beside.write_text(json.dumps({"head": position[0].hex(), "offset": position[1]}))
        beside.replace(self._state)

    def lines(self, most: int = LINES_AT_ONCE) -> Iterator[bytes]:
        """Lines that were not read yet, whole ones only, in order; `most` at once. Blocks on the disk."""
        files = self._files()
        heads = [_head(file) for file in files]
        at = heads.index(self._head) if self._head in heads else 0
        if self._head not in heads:
            self._offset = 0  # the file was rotated away, or there was none: from the oldest that is left
        for number in range(at, len(files)):
            if len(heads[number]) < HEAD_BYTES:
                continue
            if number > at:
                self._offset = 0
            self._head = heads[number]
            with files[number].open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # still being written; of an older file, never to be finished
                    self._offset += len(line)
                    yield line
                    most -= 1
                    if not most:
                        return

    def _files(self) -> list[Path]:
        """Oldest first."""
        older = sorted(self._path.parent.glob(f"{self._path.name}.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
        return [*older, self._path] if self._path.exists() else older


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD_BYTES)


class Agent:
    """Runs one nginx, and speaks for it."""

    def __init__(self, plane: Plane, oca: Oca, counts: Counts) -> None:
        """`counts` are those of the emitter behind the outboxes of `oca`. Raises SystemExit where nginx is not installed."""
        executable = shutil.which(EXECUTABLE, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
        if executable is None:
            raise SystemExit(f"--data-plane nginx: {EXECUTABLE} is not on this machine; install it, or leave the option out")
        self._command = (executable, "-p", str(plane.folder), "-c", str(plane.folder / "nginx.conf"))
        self._plane, self._oca, self._counts = plane, oca, counts
        self._tail = Tail(plane.log, plane.folder / "position.json")
        self._sent: tuple[int, tuple[bytes, int]] | None = None
        """Events that had been sent, and how far the log had been read, at one moment: kept when Kafka has them."""
        self._log = log.get(__name__)

    async def serve(self, *beside: Coroutine[None, None, None]) -> None:
        """Serve, and run what is `beside` it, until drained, as `edge.oca.wire.serve` does.

        Raises SystemExit where nginx does not start, or ends by itself.
        """
        patience = Patience(self._oca)
        self._plane.folder.mkdir(parents=True, exist_ok=True)
        drains = [outbox.drain() for outbox in self._oca.teller.outboxes.values()]
        try:
            async with meanwhile(*drains, *beside), answering_at(_handler(self._oca), self._plane.socket):
                configured = self._configure()
                # Its master ends its workers on SIGTERM; on SIGKILL it would leave them behind.
                process = await asyncio.create_subprocess_exec(*self._command, preexec_fn=partial(die_with_parent, signal.SIGTERM))
                try:
                    leaving: set[int] = set()
                    while not (self._oca.draining and configured[1] and (not leaving & _children(process.pid) or patience.over)):
                        if process.returncode is not None:
                            raise SystemExit(f"nginx ended with code {process.returncode}: {self._plane.folder}/error.log says why")
                        await self._tell()
                        self._rotate(process.pid)
                        if configured != (self._oca.fail_rate, self._oca.draining):
                            leaving = _children(process.pid)
                            configured = self._configure()
                            process.send_signal(signal.SIGHUP)  # those workers end what they have in flight, new ones take what is new
                        await asyncio.sleep(LOOK_EVERY_S)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
                    await process.wait()
                    while await self._tell():
                        pass
        finally:
            if self._oca.parent is not None:
                await self._oca.parent.close()

    def _configure(self) -> tuple[float, bool]:
        """Write the configuration; returns what it depends on."""
        wanted = self._oca.fail_rate, self._oca.draining
        (self._plane.folder / "nginx.conf").write_text(configuration(self._plane, *wanted))
        return wanted

    async def _tell(self) -> int:
        """Tell of the accesses that are new in the log; returns how many there were."""
        lines = await asyncio.to_thread(list, self._tail.lines())
        for line in lines:
            try:
                tell(line, self._oca)
            except ValueError as error:
                self._log.error("a line of nginx's log is left out", line=line[:200], reason=str(error))
        if self._sent is not None and self._counts.sent - self._counts.in_flight >= self._sent[0]:
            self._tail.keep(self._sent[1])
            self._sent = None
        if self._sent is None and not any(outbox.held for outbox in self._oca.teller.outboxes.values()):
            self._sent = self._counts.sent, self._tail.position
        return len(lines)

    def _rotate(self, nginx: int) -> None:
        """Begin a new log where this one has grown large. Not while two workers write: the older one might write to the older log last."""
        log_file = self._plane.log
        if log_file.exists() and log_file.stat().st_size > access.LOG_BYTES and len(_children(nginx)) == 1:
            for number in range(access.LOG_FILES, 0, -1):
                older = log_file.with_name(f"{log_file.name}.{number - 1}") if number > 1 else log_file
                if older.exists():
                    older.replace(log_file.with_name(f"{log_file.name}.{number}"))
            os.kill(nginx, signal.SIGUSR1)


def _handler(oca: Oca) -> Handler:
    """What the agent answers. nginx has looked at the client's address, and its log tells the access."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked = asked_of(request, "127.0.0.1")
        if asked.path == "/healthz" or asked.path.startswith("/admin/"):
            return await send(request, oca.beside(asked))
        answer = await oca.content(asked, access.Access(0.0, 0, asked.path, asked.url, None, None, ""))
        return await (send_section(request, answer, answer.section, access.Sent()) if answer.section else send(request, answer))

    return handle


def _children(pid: int) -> set[int]:
    """Of a process; none where it is gone."""
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return set()

"""nginx as the data plane of a cache server: its configuration, generated from the same settings as ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.oca.answers import ALWAYS, PREFLIGHT, RETRY_AFTER_S
from edge.oca.wire import DRAIN_S, KEEP_ALIVE_S, SLICE, STALLED_MS
from edge.store import CONTENT_TYPES, IMMUTABLE, MANIFESTS, SHORT_LIVED

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
    "cmcd": '["$http_cmcd_object", "$http_cmcd_request", "$http_cmcd_session", "$http_cmcd_status"]',
}
"""A line of nginx's log: what `edge.oca.access` needs to tell the access as if it were ours."""


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

    @property
    def log(self) -> Path:
        """Its access log."""
        return self.folder / "access.jsonl"

    @property
    def socket(self) -> Path:
        """Where the agent answers what nginx does not: health and what an operator asks for."""
        return self.folder / "agent.sock"


def configuration(plane: Plane, fail_rate: float = 0.0, draining: bool = False) -> str:
    """nginx.conf for one worker. Differs from our own server in this: `narrow_kbps` has no effect."""
    line = ", ".join(f'"{name}": {value}' for name, value in LOG_FORMAT.items())
    types = " ".join(f"{kind} {suffix[1:]};" for suffix, kind in CONTENT_TYPES.items())
    manifests = "|".join(suffix[1:] for suffix in sorted(MANIFESTS))
    told = "".join(f'        add_header {name} "{value}" always;\n' for name, value in ALWAYS.items() if name != "Accept-Ranges")
    preflight = " ".join(f'add_header {name} "{value}";' for name, value in PREFLIGHT.items())
    failing = f'split_clients "$request_id" $fails {{ {100 * fail_rate:.2f}% 1; * 0; }}' if fail_rate else ""
    refusal = (
        f"add_header Retry-After {RETRY_AFTER_S} always; return 503;" if draining else "if ($fails) { return 503; }" if fail_rate else ""
    )
    return f"""\
user {plane.user};
worker_processes 1;
daemon off;
pid {plane.folder}/nginx.pid;
error_log {plane.folder}/error.log;
worker_shutdown_timeout {DRAIN_S:.0f}s;
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
    access_log {plane.log} line;
    server {{
        listen {plane.host}:{plane.port} backlog=1024;
        root {plane.root};
        max_ranges 1;
        merge_slashes on;
        disable_symlinks on from=$document_root;
        add_header Cache-Control $keep;
        add_header X-First-Seen $first_seen always;
{told}        location = /healthz {{ access_log off; proxy_pass http://unix:{plane.socket}:; }}
        location /admin/ {{
            access_log off;
            allow 127.0.0.0/8;
            allow ::1;
            deny all;
            proxy_pass http://unix:{plane.socket}:;
        }}
        location / {{
            if ($request_method = OPTIONS) {{ {preflight} return 204; }}
            if ($request_method !~ ^(GET|HEAD)$) {{ return 405; }}
            {refusal}
        }}
    }}
}}
"""

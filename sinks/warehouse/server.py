"""ClickHouse's HTTP protocol in front of the engine: what curl, clickhouse-connect, Grafana and DBeaver speak.

    GET|POST /?query=...&database=...&default_format=...&query_id=...&<setting>=...&param_<name>=...
    GET /ping       the process lives
    GET /healthz    the engine has answered a query

A statement is in `query`, in the body, or begins in the first and goes on in the second. Users: `reader` (also `default`, or
none), without a password, reads; `loader` writes. Errors carry `X-ClickHouse-Exception-Code`; what may work later is answered 503.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import lz4.frame
import zstandard

from infra.base import log
from sinks.warehouse.engine import Answer, Engine, EngineError, Request, Role
from sinks.warehouse.sql import Refused, first_word

MAX_BODY_BYTES = 512 << 20
TRANSPORT = frozenset(
    {
        "query", "database", "default_format", "query_id", "user", "password", "compress", "decompress", "enable_http_compression",
        "http_zlib_compression_level", "wait_end_of_query", "buffer_size", "session_id", "session_timeout", "session_check", "quota_key",
        "client_protocol_version", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close", "http_write_exception_in_output_format", "add_http_cors_header", "role",
    }
)  # fmt: skip
"""Parameters that speak to the HTTP layer, and those of a session, which a stateless warehouse has no use for."""

STATUS = {
    62: 400, 36: 400, 53: 400, 457: 400, 115: 404, 47: 404, 46: 404, 60: 404, 81: 404, 48: 501,
    164: 403, 497: 403, 516: 403, 159: 504, 202: 503, 216: 409, 241: 503, 243: 503, 75: 503,
}  # fmt: skip
"""HTTP status by error code, 500 where none is given. 241 memory, 243 and 75 disk, 202 slots: later may be better."""

JSON, TSV, BINARY = "application/json; charset=UTF-8", "text/tab-separated-values; charset=UTF-8", "application/octet-stream"
CONTENT_TYPES = {
    "JSON": JSON, "JSONCompact": JSON, "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": TSV, "TSV": TSV, "TabSeparatedWithNames": TSV, "TabSeparatedWithNamesAndTypes": TSV,
    "CSV": "text/csv; charset=UTF-8; header=absent", "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "Native": BINARY, "RowBinary": BINARY, "ArrowStream": BINARY, "Parquet": BINARY,
}  # fmt: skip


class Denied(Exception):
    """Wrong user or password."""


class BadRequest(Exception):
    """The HTTP request itself is wrong; `status` says how."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Users:
    """Who may connect: name → (role, password). A role with an empty password asks for none."""

    def __init__(self, users: Mapping[str, tuple[Role, str]]) -> None:
        self._users = dict(users)

    def role(self, name: str, password: str) -> Role:
        """The role of this user. Raises Denied."""
        role, expected = self._users.get(name, (None, ""))
        if role is None or not hmac.compare_digest(password.encode(), expected.encode()):
            raise Denied(f"{name}: Authentication failed: password is incorrect, or there is no user with such name")
        return role


class Server(ThreadingHTTPServer):
    """A thread a connection; the engine's slots bound how many queries run."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], engine: Engine, users: Users) -> None:
        super().__init__(address, Handler)
        self.engine = engine
        self.users = users
        self.log = log.get(__name__)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is."""
        self.log.warning("connection ended early", client=str(client_address), exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    timeout: ClassVar[float] = 3600.0

    def do_GET(self) -> None:
        """Liveness, health, or a query by URL."""
        match urlsplit(self.path).path:
            case "/ping":
                self._send(200, b"Ok.\n")
            case "/healthz":
                self._healthz()
            case "/":
                self._serve(b"")
            case other:
                self._send(404, f"There is no {other} here: queries go to /\n".encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """A query with a body."""
        try:
            body = self._body()
        except BadRequest as error:
            self.close_connection = True  # what is left of the body would be taken for the next request
            self._send(error.status, f"{error}\n".encode())
            return
        self._serve(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged one by one."""

    def _healthz(self) -> None:
        try:
            role = self.server.users.role("default", "")
            self.server.engine.run(Request(b"SELECT count() FROM system.tables", f"healthz-{uuid.uuid4()}"), role)
        except (EngineError, Refused) as error:
            self._send(503, f"{error}\n".encode())
            return
        self._send(200, b'{"status": "ok"}\n', {"Content-Type": "application/json"})

    def _serve(self, body: bytes) -> None:
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        query_id = parameters.get("query_id") or self.headers.get("X-ClickHouse-Query-Id") or str(uuid.uuid4())
        started = time.monotonic()
        try:
            form, body = self._form(body)
            parameters |= form
            role = self._role(parameters)
            request = self._request(parameters, query_id, body)
            if not request.sql.strip():
                self._send(200, b"Ok.\n")
                return
            if self.command in ("GET", "HEAD") and role.writes and first_word(request.sql) not in ("SELECT", "WITH", "SHOW", "DESCRIBE"):
                raise Refused("Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly: use POST")
            answer = self.server.engine.run(request, role)
        except Denied as error:
            self._error(str(error), 516, query_id)
        except BadRequest as error:
            self._send(error.status, f"{error}\n".encode())
        except Refused as error:
            self._error(f"Code: {error.code}. DB::Exception: {error}.", error.code, query_id)
        except EngineError as error:
            self._error(str(error), error.code, query_id)
        except MemoryError:
            self._error("Code: 241. DB::Exception: the process is out of memory", 241, query_id)
        else:
            self._answer(request, answer, time.monotonic() - started, "enable_http_compression" in parameters)

    def _role(self, parameters: Mapping[str, str]) -> Role:
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            try:
                user, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
            except ValueError:
                raise Denied("the Authorization header cannot be read") from None
        else:
            user = self.headers.get("X-ClickHouse-User") or parameters.get("user", "default")
            password = self.headers.get("X-ClickHouse-Key") or parameters.get("password", "")
        return self.server.users.role(user, password)

    def _request(self, parameters: Mapping[str, str], query_id: str, body: bytes) -> Request:
        text = parameters.get("query", "").encode()
        if parameters.get("decompress") == "1":
            raise BadRequest("blocks in ClickHouse's own compression are not understood here: use Content-Encoding", 501)
        return Request(
            sql=text + b"\n" + body if text and body else text or body,
            query_id=query_id,
            format=parameters.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated",
            database=parameters.get("database") or self.headers.get("X-ClickHouse-Database") or "default",
            settings={k: v for k, v in parameters.items() if k not in TRANSPORT and not k.startswith("param_")},
            params={k.removeprefix("param_"): v for k, v in parameters.items() if k.startswith("param_")},
        )

    def _form(self, body: bytes) -> tuple[dict[str, str], bytes]:
        """Parameters that came as a form, and what is left of the body."""
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/x-www-form-urlencoded") and body.startswith(b"query="):
            return {k: unquote_plus(v) for k, v in parse_qsl(body.decode(errors="replace"), keep_blank_values=True)}, b""
        if not kind.startswith("multipart/form-data"):
            return {}, body
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=policy.HTTP)
        form: dict[str, str] = {}
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if not isinstance(name, str) or part.get_filename() is not None:
                raise BadRequest("external tables are not understood here", 501)
            payload = part.get_payload(decode=True)
            form[name] = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
        return form, b""

    def _body(self) -> bytes:
        """The whole body, decompressed. Raises BadRequest."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = self._chunks()
        else:
            try:
                length = int(self.headers.get("Content-Length", "0"))
            except ValueError:
                raise BadRequest("Content-Length is no number") from None
            if length > MAX_BODY_BYTES:
                raise BadRequest(f"{length} bytes are more than the {MAX_BODY_BYTES} of one request: send smaller blocks", 413)
            data = self.rfile.read(length)
            if len(data) < length:
                raise BadRequest(f"the body ended after {len(data)} of {length} bytes")
        encoding = self.headers.get("Content-Encoding", "").lower()
        try:
            return decompressed(data, encoding)
        except (OSError, EOFError, RuntimeError, zlib.error, zstandard.ZstdError) as error:
            raise BadRequest(f"the body is not {encoding}: {error}") from None

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                length = int(self.rfile.readline(64).split(b";")[0], 16)
            except ValueError:
                raise BadRequest("the body ended within a chunk") from None
            size += length
            if size > MAX_BODY_BYTES:
                raise BadRequest(f"more than the {MAX_BODY_BYTES} bytes of one request: send smaller blocks", 413)
            part = self.rfile.read(length)
            if len(part) < length:
                raise BadRequest("the body ended within a chunk")
            parts.append(part)
            self.rfile.readline(64)
            if not length:
                return b"".join(parts)

    def _answer(self, request: Request, answer: Answer, elapsed_s: float, compress: bool) -> None:
        summary = {
            "read_rows": str(answer.read_rows), "read_bytes": str(answer.read_bytes), "written_rows": str(answer.written_rows),
            "written_bytes": "0", "total_rows_to_read": "0", "result_rows": "0", "result_bytes": str(len(answer.body)),
            "elapsed_ns": str(int(elapsed_s * 1e9)),
        }  # fmt: skip
        headers = {
            "Content-Type": CONTENT_TYPES.get(request.format, "text/plain; charset=UTF-8"),
            "X-ClickHouse-Server-Display-Name": "headrace-warehouse",
            "X-ClickHouse-Query-Id": request.query_id,
            "X-ClickHouse-Format": request.format,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": json.dumps(summary),
        }
        body = answer.body
        if compress and (encoding := accepted(self.headers.get("Accept-Encoding", ""))):
            body = compressed(body, encoding)
            headers["Content-Encoding"] = encoding
        self._send(200, body, headers)

    def _error(self, words: str, code: int, query_id: str) -> None:
        text = words if words.startswith("Code:") else f"Code: {code}. DB::Exception: {words}"
        headers = {"X-ClickHouse-Exception-Code": str(code), "X-ClickHouse-Query-Id": query_id}
        if code == 516:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        self._send(STATUS.get(code, 500), text.encode() + b"\n", headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=UTF-8", **(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def accepted(header: str) -> str:
    """The first encoding of an Accept-Encoding header that we speak, empty for none."""
    offered = (part.split(";")[0].strip().lower() for part in header.split(","))
    return next((e for e in offered if e in ("lz4", "zstd", "gzip", "deflate")), "")


def compressed(data: bytes, encoding: str) -> bytes:
    """`data` in a content encoding."""
    match encoding:
        case "lz4":
            return bytes(lz4.frame.compress(data))
        case "zstd":
            return bytes(zstandard.ZstdCompressor(level=1).compress(data))
        case "gzip":
            return gzip.compress(data, compresslevel=3)
        case _:
            return zlib.compress(data, 3)


def decompressed(data: bytes, encoding: str) -> bytes:
    """`data` out of a content encoding, which may say that it grows beyond MAX_BODY_BYTES. Raises BadRequest and the codecs' own errors."""
    match encoding:
        case "" | "identity":
            return data
        case "lz4":
            plain = _every_frame(data, lz4.frame.LZ4FrameDecompressor)
        case "zstd":
            plain = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(MAX_BODY_BYTES + 1)
        case "gzip" | "deflate":
            plain = _every_frame(data, lambda: zlib.decompressobj(wbits=47))
        case other:
            raise BadRequest(f"Content-Encoding {other!r} is not understood: use gzip, lz4 or zstd", 415)
    if len(plain) > MAX_BODY_BYTES:
        raise BadRequest(f"more than the {MAX_BODY_BYTES} bytes of one request, decompressed: send smaller blocks", 413)
    return plain


def _every_frame(data: bytes, decompressor: Callable[[], Any]) -> bytes:
    """All frames in `data`, which clickhouse-connect sends one a block, up to the limit and a byte. EOFError where the last is cut off."""
    plain = bytearray()
    while data and len(plain) <= MAX_BODY_BYTES:
        frame = decompressor()
        plain += frame.decompress(data, MAX_BODY_BYTES + 1 - len(plain))
        if not frame.eof and len(plain) <= MAX_BODY_BYTES:
            raise EOFError("the compressed body is cut off")
        data = frame.unused_data or b""
    return bytes(plain)

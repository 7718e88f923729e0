"""What a request to a cache server gets: which bytes of which file, under which headers, or why none. No HTTP server in here."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from importlib.metadata import version
from urllib.parse import parse_qs

from edge.oca.access import Access, Asked, Teller
from edge.oca.faults import MODES, BadFault, Fault, read
from edge.oca.fills import Fills
from edge.oca.parent import Parent, ParentFailed
from edge.oca.prefixes import Prefixes
from edge.oca.vitals import EGRESS_BPS, Tally
from edge.serve import EXPOSED, METHODS, PREFLIGHT_S, from_here
from edge.sign import HEADER, MARK, Denied, Keys, bare
from edge.store import CONTENT_TYPES, Found, Store, Unsatisfiable, byte_range
from schemas.assets import asset_of

SOFTWARE = version("headrace")
MAX_DIGITS = 7
RETRY_AFTER_S = 5
SEGMENT_TYPE = CONTENT_TYPES[".m4s"]
OPEN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": ", ".join(EXPOSED)}
"""Browsers on any page may read every answer: no cookie or credential is involved."""
ALWAYS = {**OPEN, "Accept-Ranges": "bytes", "Timing-Allow-Origin": "*"}
PREFLIGHT = {
    **OPEN,
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": str(PREFLIGHT_S),
}


@dataclass(frozen=True)
class Section:
    """Bytes `first` to `last` of an open file, at `bytes_per_s` unless that is 0. Whoever sends them closes the file."""

    found: Found
    first: int
    last: int
    bytes_per_s: int = 0
    flipped: int | None = None
    """Position in the file of a byte that is to arrive with its bits flipped."""


@dataclass(frozen=True)
class Answer:
    """Status, headers, and a body: bytes, or a section of a file."""

    rc: int
    headers: dict[str, str]
    body: bytes = b""
    section: Section | None = None


@dataclass
class Oca:
    """One cache server."""

    store: Store
    teller: Teller
    now_ms: Callable[[], int]
    prefixes: Prefixes = field(default_factory=Prefixes)
    """Whom it serves."""
    keys: Keys | None = None
    """What each request for content is to be signed with; None: anybody may ask."""
    parent: Parent | None = None
    """Where a miss is fetched; None: it is refused."""
    fills: Fills | None = None
    """Of a server that holds assets; None: it serves a directory as it is."""
    chance: random.Random = field(default_factory=random.Random)
    fault: Fault | None = None
    """What an operator asked to be wrong with it."""
    modes: tuple[str, ...] = MODES
    """Of faults, those that its data plane can have."""
    requests: int = 0
    in_flight: int = 0
    tally: Tally = field(default_factory=Tally)
    egress_bps: int = EGRESS_BPS
    """Most that it can send."""
    draining: bool = False

    @property
    def fail_rate(self) -> float:
        """The share of requests that are refused on purpose."""
        return self.fault.rate if self.fault is not None and self.fault.mode == "refuse" else 0.0

    @property
    def hangs(self) -> bool:
        """Whether it is to take requests and answer none, those for its health included."""
        return self.fault is not None and self.fault.mode == "hang"

    def admit(self, asked: Asked) -> Asked:
        """A request for content without its token, and what that says: from here on its path is that of a file."""
        if self.keys is None:
            return asked
        token = asked.headers.get(HEADER)
        path, sid, denied = bare(asked.path), None, ""
        try:
            signed = asked.path if token is None else f"{MARK}{token}{asked.path}"
            path, grant = self.keys.verify(signed, asked.client, self.now_ms() / 1000)
            sid = grant.sid or None
        except Denied as refusal:
            denied = str(refusal)
        return replace(asked, path=path, url=asked.url.removesuffix(asked.path) + path, sid=sid, denied=denied)

    def begin(self, asked: Asked) -> Access:
        """A request for content has come, and was admitted; its answer is followed by `end`."""
        self.requests += 1
        self.in_flight += 1
        access = self.teller.heard(asked, time.perf_counter(), self.now_ms())
        self.tally.begin(access)
        return access

    def end(self, access: Access) -> None:
        """The answer is sent, whole or not."""
        self.in_flight -= 1
        ended = time.perf_counter()
        self.tally.end(access, ended)
        self.teller.tell(access, ended)

    def vitals(self) -> dict[str, object]:
        """What delivery.oca_report tells beside counts. Blocks on the disk now and then."""
        return {
            "oca_id": self.teller.oca_id,
            "site_id": self.teller.site_id,
            "state": "DRAINING" if self.draining else "SERVING",
            "software": SOFTWARE,
            "egress_bps": self.egress_bps,
            "disk_bytes": self.store.capacity_bytes,
            "held_bytes": self.store.used_bytes,
            "throttle": 0.0,
        }

    async def content(self, asked: Asked, access: Access) -> Answer:
        """GET or HEAD of a file. Opening it may block for as long as the disk takes to find it; its bytes are not read."""
        answer = await self._content(asked, access)
        access.rc, access.sent.bytes = answer.rc, len(answer.body) if asked.method == "GET" else 0
        return answer

    async def _content(self, asked: Asked, access: Access) -> Answer:
        if not self.prefixes.has(asked.client):
            return _refused(403, f"{asked.client or 'your address'} is in none of the prefixes that this cache server advertises")
        if asked.denied:
            return _refused(403, asked.denied)
        if self.draining:
            return _refused(503, "this cache server is about to leave", {"Retry-After": str(RETRY_AFTER_S)})
        narrow = _parameter(asked.query, "narrow_kbps", "0")
        if not (narrow.isascii() and narrow.isdigit() and len(narrow) <= MAX_DIGITS):
            return _refused(400, "narrow_kbps is a whole number of kbit/s")
        if self.fail_rate and self.chance.random() < self.fail_rate:
            return _refused(503, "this cache server has been told to fail")
        found = self.store.open(asked.path)
        access.hit = found is not None
        if found is None and self.parent is not None and asset_of(asked.path):
            try:
                found = await self.parent.fetch(asked.path)
            except ParentFailed as error:
                return _refused(502, str(error))
        if found is None:
            return _refused(404, "no such file here")
        answer = self._spoilt(of_file(found, asked, int(narrow) * 125))
        if answer.rc == 206 and answer.section is not None:
            access.range_first = answer.section.first
        return answer

    def _spoilt(self, answer: Answer) -> Answer:
        """An answer with what is wrong with this server: a slow body, or a byte of a segment that is another one."""
        section, fault = answer.section, self.fault
        if section is None or fault is None:
            return answer
        if fault.mode == "slow":
            most = max(1, fault.bytes_per_s // max(1, self.in_flight))
            return replace(answer, section=replace(section, bytes_per_s=min(section.bytes_per_s or most, most)))
        if fault.mode == "corrupt" and section.found.content_type == SEGMENT_TYPE:
            return replace(answer, section=replace(section, flipped=(section.first + section.last) // 2))
        return answer

    def beside(self, asked: Asked) -> Answer:
        """Whatever is not GET or HEAD of a file: health, what an operator asks for, a browser's question before it asks."""
        match asked.method, asked.path:
            case "OPTIONS", _:
                return Answer(204, PREFLIGHT)
            case "GET" | "HEAD", "/healthz":
                return _told(self._health())
            case "POST", "/admin/fail" | "/admin/heal" | "/admin/drain" | "/admin/fill" | "/admin/pull":
                if not from_here(asked.headers, asked.client):
                    return _told({"error": "only from this machine, and from no web page"}, 403)
                return self._admin(asked)
            case _:
                return Answer(405, {**OPEN, "Allow": "POST" if asked.path.startswith("/admin/") else "GET, HEAD"})

    def _admin(self, asked: Asked) -> Answer:
        match asked.path:
            case "/admin/drain":
                self.draining = True
                return _told({"oca_id": self.teller.oca_id, "state": "draining", "in_flight": self.in_flight})
            case "/admin/fill" | "/admin/pull":
                return self._stock(asked)
            case "/admin/heal":
                self.fault = None
            case _:
                try:
                    fault = read(asked.query, self.egress_bps)
                except BadFault as error:
                    return _told({"error": str(error)}, 400)
                if fault.mode not in self.modes:
                    return _told({"error": f"mode={fault.mode}: this data plane can only {', '.join(self.modes)}"}, 409)
                self.fault = fault
        return _told({"oca_id": self.teller.oca_id, "fault": self._fault_told})

    @property
    def _fault_told(self) -> dict[str, object] | None:
        return None if self.fault is None else self.fault.told

    def _stock(self, asked: Asked) -> Answer:
        """An asset is to come, or to go."""
        said = _parameter(asked.query, "asset", "")
        known = asset_of(f"{said}/-")
        if self.fills is None:
            return _told({"error": "this cache server serves a directory as it is: start it with --capacity-bytes"}, 409)
        if known is None:
            return _told({"error": f"asset={said!r}: <cid>/v<version>"}, 400)
        if asked.path == "/admin/pull":
            pulled = self.fills.pull(known[0], _parameter(asked.query, "reason", "pulled by an operator"))
            return _told({"asset": said, "pulled": pulled}, 200 if pulled else 404)
        source_url = _parameter(asked.query, "source", "")
        if not source_url.startswith(("http://", "https://")):
            return _told({"error": f"source={source_url!r}: the address below which {said} is"}, 400)
        return _told({"asset": said, "ordered": self.fills.order(known[0], source_url.rstrip("/"))}, 202)

    def _health(self) -> dict[str, object]:
        outboxes = self.teller.outboxes.values()
        held, lost = (sum(getattr(outbox, name) for outbox in outboxes) for name in ("held", "lost"))
        return {
            "oca_id": self.teller.oca_id,
            "state": "draining" if self.draining else "serving",
            "fault": self._fault_told,
            "requests": self.requests,
            "in_flight": self.in_flight,
            "events_held": held,
            "events_lost": lost,
            **(self.fills.told if self.fills else {}),
        }


def of_file(found: Found, asked: Asked, bytes_per_s: int = 0) -> Answer:
    """What RFC 9110 says of a file and the conditions of a request. Closes the file unless its bytes are part of the answer."""
    headers = {
        **ALWAYS,
        "ETag": found.etag,
        "Last-Modified": _http_date(int(found.modified_s)),
        "Cache-Control": found.cache_control,
    }
    if found.etag in asked.headers.get("if-none-match", ""):
        os.close(found.fd)
        return Answer(304, headers)
    try:
        wanted = byte_range(asked.headers.get("range"), found.size) if asked.headers.get("if-range", found.etag) == found.etag else None
    except Unsatisfiable:
        os.close(found.fd)
        return Answer(416, {**headers, "Content-Range": f"bytes */{found.size}"})
    headers["Content-Type"] = found.content_type
    if wanted is None:
        return Answer(200, headers, section=Section(found, 0, found.size - 1, bytes_per_s))
    headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1]}/{found.size}"
    return Answer(206, headers, section=Section(found, *wanted, bytes_per_s))


@lru_cache(maxsize=1_024)
def _http_date(second: int) -> str:
    """A segment's date is that of its title's other segments."""
    return formatdate(second, usegmt=True)


def _refused(rc: int, why: str, more: dict[str, str] | None = None) -> Answer:
    return Answer(rc, {**ALWAYS, "Content-Type": "text/plain; charset=utf-8", **(more or {})}, f"{why}\n".encode())


def _told(content: dict[str, object], rc: int = 200) -> Answer:
    return Answer(rc, {**OPEN, "Content-Type": "application/json"}, json.dumps(content).encode())


def _parameter(query: str, name: str, default: str) -> str:
    return parse_qs(query, keep_blank_values=True).get(name, [default])[-1] if name in query else default

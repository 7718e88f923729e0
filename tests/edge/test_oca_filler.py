"""The fill client: within its window and its rate, on from where it broke, and nothing held that was not verified."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.oca.content import Content
from edge.oca.filler import ATTEMPTS, BURST_BYTES, Filler, Step, TokenBucket, Window
from infra.base.clock import FakeClock
from schemas.assets import CHECKSUMS, AssetId, publish

BBB = AssetId("bbb", 1)
ALWAYS = Window(0, 1440)
BIG = bytes(range(256)) * 8_000
"""2 MB."""
Script = Callable[["Source", str, int], bool]
"""Misbehaves at a request for a file from a first byte on; whether it has answered."""


class Source(BaseHTTPRequestHandler):
    """A source of fills that keeps ranges and If-Range, and does wrong where it is told to."""

    protocol_version = "HTTP/1.1"
    folder: Path
    script: Script
    asked: list[tuple[str, int]]

    def do_GET(self) -> None:
        name = self.path.removeprefix("/media/")
        file = self.folder / name
        whole = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        first = int(whole[1]) if whole and self.headers.get("if-range", '"t"') == '"t"' else 0
        self.asked.append((file.name, first))
        if type(self).script(self, file.name, first):
            return
        if not file.is_file():
            self.answer(404, b"")
            return
        self.answer(206 if first else 200, file.read_bytes()[first:], first)

    def answer(self, rc: int, body: bytes, first: int = 0, length: int | None = None, etag: str = '"t"') -> None:
        self.send_response(rc)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", etag)
        if rc == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{first + len(body)}")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or length is not None

    def log_message(self, *words: object) -> None:
        """Say nothing."""


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that leave."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """It is meant."""


class Bench:
    """A source, a store and a filler between them."""

    def __init__(self, tmp_path: Path, window: Window = ALWAYS, rate: float = 1e12, capacity: int = 10 << 20) -> None:
        self.folder = tmp_path / "source"
        self.steps: list[Step] = []
        self.refused: list[str] = []
        self.clock = FakeClock(1_700_000_000_000)  # 22:13:20 UTC
        (tmp_path / "store").mkdir(parents=True, exist_ok=True)
        self.content = Content(tmp_path / "store", capacity, lambda change: self.refused.append(change.kind))
        self.asked: list[tuple[str, int]] = []
        self.filler = Filler(self.content, window, TokenBucket(rate), self.clock, self.steps.append)
        for name, body in {"a.m4s": b"a" * 1000, "b.m4s": BIG, "empty.m4s": b""}.items():
            file = self.folder / BBB.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        publish(self.folder / BBB.path, BBB, 1_600_000_000)

    @contextmanager
    def source(self, script: Script = lambda source, name, first: False) -> Iterator[str]:
        handler = type("Scripted", (Source,), {"folder": self.folder, "script": staticmethod(script), "asked": self.asked})
        with Quiet(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/media"
            finally:
                server.shutdown()
                thread.join()

    @property
    def kinds(self) -> list[str]:
        return [step.kind for step in self.steps]


def test_an_asset_is_brought_verified_and_held(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.source() as url:
        assert bench.filler.fill(BBB, url)
        assert bench.filler.fill(BBB, url)  # it is here: nothing is asked for
    assert bench.kinds == ["started", "completed"]
    assert (bench.steps[-1].bytes, bench.steps[-1].total_bytes, bench.steps[-1].source_url) == (len(BIG) + 1000, len(BIG) + 1000, url)
    for name in ("a.m4s", "b.m4s", "empty.m4s", CHECKSUMS):
        assert (tmp_path / "store" / BBB.path / name).read_bytes() == (bench.folder / BBB.path / name).read_bytes()
    assert len(bench.asked) == 4
    assert sorted(file.name for file in (tmp_path / "store" / BBB.path).iterdir()) == sorted(["a.m4s", "b.m4s", "empty.m4s", CHECKSUMS])


def test_a_transfer_that_breaks_goes_on_where_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def breaks(source: Source, name: str, first: int) -> bool:
        if name != "b.m4s" or first > 1_500_000:
            return False
        source.answer(206 if first else 200, BIG[first : first + 600_000], first, len(BIG) - first) if not first else source.wfile.write(
            f'HTTP/1.1 206 Partial Content\r\nContent-Length: {len(BIG) - first}\r\nETag: "t"\r\n'
            f"Content-Range: bytes {first}-{len(BIG) - 1}/{len(BIG)}\r\n\r\n".encode()
            + BIG[first : first + 600_000]
        )
        source.close_connection = True
        return True

    with bench.source(breaks) as url:
        assert bench.filler.fill(BBB, url)
    firsts = [first for name, first in bench.asked if name == "b.m4s"]
    assert firsts[0] == 0
    assert firsts == sorted(set(firsts))
    assert len(firsts) >= 4
    assert (tmp_path / "store" / BBB.path / "b.m4s").read_bytes() == BIG


def test_what_was_begun_goes_on_after_a_restart_unless_the_file_is_another_one_now(tmp_path: Path) -> None:
    for tag, first in (('"t"', 700_000), ('"old"', 0)):
        bench = Bench(tmp_path / tag.strip('"'))
        folder = bench.content.filling(BBB)
        folder.mkdir(parents=True)
        (folder / "b.m4s").write_bytes(BIG[:700_000])
        (folder / ".b.m4s.etag").write_text(tag)
        with bench.source() as url:
            assert bench.filler.fill(BBB, url)
        assert ("b.m4s", first) in bench.asked


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda s, name, first: name == "b.m4s" and (s.answer(200, BIG + b"x"), True)[1], "lies"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(200, BIG[:-1]), True)[1], "lies"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(416, b""), True)[1], "lies"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(206, BIG[5:], 5), True)[1], "lies"),
        (lambda s, name, first: name == CHECKSUMS and (s.answer(200, b"{}"), True)[1], "lies"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(200, BIG[::-1]), True)[1], "checksum"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(500, b""), True)[1], "broke"),
        (lambda s, name, first: name == "b.m4s" and (s.answer(200, b"", length=len(BIG)), True)[1], "broke"),
        (lambda s, name, first: (s.answer(404, b""), True)[1], "unreachable"),
    ],
)
def test_a_source_that_does_wrong_is_found_out_and_nothing_is_held(tmp_path: Path, lie: Script, reason: str) -> None:
    bench = Bench(tmp_path)
    with bench.source(lie) as url:
        assert not bench.filler.fill(BBB, url)
        assert bench.kinds == ["started", "failed"]
        assert bench.steps[-1].reason == reason
        assert bench.steps[-1].detail
        assert not bench.content.held
        assert len(bench.asked) <= 2 + ATTEMPTS + 3
    assert bench.refused == (["refused"] if reason == "checksum" else [])
    if reason in ("lies", "checksum"):
        assert bench.content.used_bytes == 0
    with bench.source() as url:
        assert bench.filler.fill(BBB, url)


def test_a_chunked_body_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def endless(source: Source, name: str, first: int) -> bool:
        if name != "a.m4s":
            return False
        source.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"a" * 1000 + b"\r\n" + b"1\r\nb\r\n")
        source.close_connection = True
        return True

    with bench.source(endless) as url:
        assert not bench.filler.fill(BBB, url)
    assert bench.steps[-1].reason == "lies"


def test_nobody_at_the_address_of_the_source(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert not bench.filler.fill(BBB, "http://127.0.0.1:1/media")
    assert bench.steps[-1].reason == "unreachable"


def test_a_slow_source_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    real = bench.clock.now_ms

    def passing() -> int:
        bench.clock.advance(1)  # a second between one look and the next: some 30 blocks in 30 s, of 64 KiB at most
        return real()

    bench.clock.now_ms = passing  # type: ignore[method-assign]
    slow = Filler(bench.content, ALWAYS, TokenBucket(1e12), bench.clock, bench.steps.append)

    def drips(source: Source, name: str, first: int) -> bool:
        if name != "b.m4s":
            return False
        source.send_response(200)
        source.send_header("Content-Length", str(len(BIG)))
        source.send_header("ETag", '"t"')
        source.end_headers()
        try:
            for at in range(0, 200_000, 1_000):
                source.wfile.write(BIG[at : at + 1_000])
                source.wfile.flush()
                threading.Event().wait(0.002)
        except OSError:
            pass
        source.close_connection = True
        return True

    with bench.source(drips) as url:
        assert not slow.fill(BBB, url)
    assert bench.steps[-1].reason == "slow"
    assert 0 < (bench.content.filling(BBB) / "b.m4s").stat().st_size < 200_000


def test_an_asset_that_has_no_room_is_not_begun(tmp_path: Path) -> None:
    bench = Bench(tmp_path, capacity=1_000_000)
    with bench.source() as url:
        assert not bench.filler.fill(BBB, url)
    assert (bench.steps[-1].reason, [name for name, _ in bench.asked]) == ("no_room", [CHECKSUMS])


def test_the_rate_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rate=100_000)
    began_ms = bench.clock.now_ms()
    with bench.source() as url:
        assert bench.filler.fill(BBB, url)
    took_s = (bench.clock.now_ms() - began_ms) / 1000
    assert took_s >= (len(BIG) - 2 * BURST_BYTES) / 100_000
    assert took_s <= (len(BIG) + 1_000) / 100_000 + 1


def test_a_fill_stops_with_its_window_and_goes_on_in_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Window(2 * 60, 2 * 60 + 1), rate=20_000)  # a minute a night: 1.2 MB
    moments: list[int] = []
    with bench.source(lambda source, name, first: moments.append(bench.clock.now_ms()) or False) as url:  # type: ignore[func-returns-value]
        assert bench.filler.fill(BBB, url)
    minutes = {datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M") for ms in moments}
    assert minutes == {"02:00"}
    ended = [step for step in bench.steps if step.reason == "window"]
    assert len(ended) == 1
    assert 0 < ended[0].bytes < len(BIG)
    assert bench.steps[-1].kind == "completed"
    assert bench.steps[-1].at_ms - bench.steps[0].at_ms > 24 * 3_600_000
    assert [first > 0 for name, first in bench.asked if name == "b.m4s"] == [False, True]


def test_a_fill_that_is_stopped_goes_on_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rate=100_000)

    def stops(source: Source, name: str, first: int) -> bool:
        if name == "b.m4s" and not first:
            bench.filler.stop()
        return False

    with bench.source(stops) as url:
        assert not bench.filler.fill(BBB, url)
        assert bench.steps[-1].reason == "stopped"
        again = Filler(bench.content, ALWAYS, TokenBucket(1e12), bench.clock, bench.steps.append)
        assert again.fill(BBB, url)


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 500)), max_size=60), st.integers(1_000, 10_000_000))
def test_a_bucket_never_gives_more_than_its_rate(takes: list[tuple[int, int]], rate: int) -> None:
    bucket, now_ms, given_bytes = TokenBucket(rate), 0.0, 0
    for count, pause_ms in takes:
        now_ms += pause_ms
        now_ms += 1000 * bucket.wait_s(count, round(now_ms))
        given_bytes += count
        assert given_bytes <= BURST_BYTES + rate * (now_ms + 1 * len(takes)) / 1000 + 1


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("window", "at", "opens_in_s"),
    [
        (Window(120, 840), "2026-03-01T01:59:30+00:00", 30),
        (Window(120, 840), "2026-03-01T02:00:00+00:00", 0),
        (Window(120, 840), "2026-03-01T13:59:59+00:00", 0),
        (Window(120, 840), "2026-03-01T14:00:00+00:00", 12 * 3600),
        (Window(1380, 60), "2026-03-01T00:59:00+00:00", 0),
        (Window(1380, 60), "2026-03-01T01:00:00+00:00", 22 * 3600),
        (Window(120, 840, BERLIN), "2026-03-01T00:30:00+00:00", 30 * 60),
        (Window(120, 840, BERLIN), "2026-07-01T00:30:00+00:00", 0),
        (Window(0, 1440), "2026-07-01T00:30:00+00:00", 0),
    ],
)
def test_windows_are_of_local_time(window: Window, at: str, opens_in_s: int) -> None:
    now_ms = round(datetime.fromisoformat(at).timestamp() * 1000)
    assert window.opens_in_s(now_ms) == opens_in_s
    assert window.is_open(now_ms) == (opens_in_s == 0)


@given(st.integers(0, 1439), st.integers(1, 1440), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))  # noqa: DTZ001 (hypothesis wants it so)
def test_a_window_is_open_when_it_says_it_will_be(first: int, end: int, at: datetime) -> None:
    if first == end:
        with pytest.raises(ValueError, match="not empty"):
            Window(first, end)
        return
    window, now_ms = Window(first, end), round(at.replace(tzinfo=UTC).timestamp() * 1000)
    later_ms = now_ms + round(window.opens_in_s(now_ms) * 1000)
    assert window.is_open(later_ms)
    if later_ms > now_ms:
        assert not window.is_open(later_ms - 1)
        assert later_ms - now_ms <= timedelta(days=1) / timedelta(milliseconds=1)

"""The cache server: the right bytes with the right words about them, nothing outside its store, an access event for each request."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.judge import Judge
from edge.oca.access import LOG_FILES, TOPICS, Asked, Teller, access_log
from edge.oca.answers import Oca
from edge.oca.wire import listening
from edge.outbox import Outbox
from edge.pseudonym import pseudonym
from edge.store import Store, Unsatisfiable, byte_range, cid
from infra.base.ports import free_port
from infra.base.settings import settings
from producers.emit import Emitter
from schemas.cmcd import report_id
from tests.broker import FakeRegistry, MockCluster, records

SEGMENT = random.Random(1).randbytes(600_000)
PATH = "/bbb/v1/720/001.m4s"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one title, and a secret beside it."""
    store = tmp_path / "titles"
    (store / "bbb/v1/720").mkdir(parents=True)
    (store / "bbb/v1/720/001.m4s").write_bytes(SEGMENT)
    (store / "bbb/v1/720/empty.m4s").write_bytes(b"")
    (store / "bbb/v1/manifest.mpd").write_text("<MPD/>")
    (store / "bbb/v1/master.m3u8").write_text("#EXTM3U")
    (store / "bbb/v1/50% off.mp4").write_text("x")
    (tmp_path / "secret").write_text("secret")
    (store / "bbb/link").symlink_to(tmp_path / "secret")
    return store


@asynccontextmanager
async def running(root: Path, registry: FakeRegistry) -> AsyncIterator[httpx.AsyncClient]:
    with access_log(root.parent / "access.jsonl") as write_line, Emitter("oca-1", registry=registry, background=True) as emitter:
        outboxes = {topic: Outbox(emitter, topic) for topic in TOPICS}
        teller = Teller("oca-1", "local", "EMBEDDED_FLASH", Judge(settings()), outboxes, write_line)
        oca, port = Oca(Store(root), teller, emitter.clock.now_ms), free_port()
        async with (
            listening(oca, "127.0.0.1", port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"host": "oca"}) as client,
        ):
            yield client
            async with asyncio.timeout(10):
                while any(outbox.held for outbox in outboxes.values()):
                    await asyncio.sleep(0.02)


async def test_a_file_is_served_whole_with_all_that_caches_and_browsers_need(
    cluster: MockCluster, registry: FakeRegistry, root: Path
) -> None:
    async with running(root, registry) as client:
        answer = await client.get(PATH, headers={"origin": "http://page"})
    assert (answer.status_code, answer.content == SEGMENT) == (200, True)
    told = {name: answer.headers.get(name) for name in ("content-type", "content-length", "accept-ranges", "timing-allow-origin")}
    assert told == {"content-type": "video/iso.segment", "content-length": "600000", "accept-ranges": "bytes", "timing-allow-origin": "*"}
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Content-Range" in answer.headers["access-control-expose-headers"]
    assert answer.headers["etag"].startswith('"')


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/bbb/v1/manifest.mpd", "application/dash+xml"),
        ("/bbb/v1/master.m3u8", "application/vnd.apple.mpegurl"),
        ("/bbb/v1/50%25%20off.mp4", "video/mp4"),
    ],
)
async def test_the_content_type_is_that_of_the_file(cluster: MockCluster, registry: FakeRegistry, root: Path, path: str, kind: str) -> None:
    async with running(root, registry) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-0", 206, SEGMENT[:1], "bytes 0-0/600000"),
        ("bytes=300000-", 206, SEGMENT[300_000:], "bytes 300000-599999/600000"),
        ("bytes=-5", 206, SEGMENT[-5:], "bytes 599995-599999/600000"),
        ("bytes=599999-700000", 206, SEGMENT[-1:], "bytes 599999-599999/600000"),
        ("bytes=600000-", 416, b"", "bytes */600000"),
        ("bytes=-0", 416, b"", "bytes */600000"),
        ("bytes=5-4", 200, SEGMENT, None),
        ("bytes=0-1,3-4", 200, SEGMENT, None),
        ("lines=0-1", 200, SEGMENT, None),
    ],
)
async def test_ranges(
    cluster: MockCluster, registry: FakeRegistry, root: Path, asked: str, status: int, body: bytes, told: str | None
) -> None:
    async with running(root, registry) as client:
        answer = await client.get(PATH, headers={"range": asked})
    assert (answer.status_code, answer.headers.get("content-range"), answer.content == body) == (status, told, True)


async def test_head_and_conditions(cluster: MockCluster, registry: FakeRegistry, root: Path) -> None:
    async with running(root, registry) as client:
        head = await client.head(PATH)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "600000", b"")
        etag = head.headers["etag"]
        assert (await client.get(PATH, headers={"if-none-match": f'"x", {etag}'})).status_code == 304
        assert (await client.get(PATH, headers={"if-none-match": '"x"'})).status_code == 200
        assert (await client.get(PATH, headers={"range": "bytes=0-0", "if-range": etag})).status_code == 206
        assert (await client.get(PATH, headers={"range": "bytes=0-0", "if-range": '"old"'})).status_code == 200
        empty = await client.get("/bbb/v1/720/empty.m4s")
        assert (empty.status_code, empty.headers["content-length"]) == (200, "0")
        assert (await client.get("/bbb/v1/720/empty.m4s", headers={"range": "bytes=0-"})).status_code == 416
        assert (await client.post(PATH)).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/bbb/%2e%2e/%2e%2e/secret",
        "/bbb/link",
        "//etc/passwd",
        "/bbb/v1",
        "/bbb/v1/720/001.m4s/x",
        "/%00",
        "/x" * 3000,
    ],
)
async def test_nothing_outside_the_store_is_served(cluster: MockCluster, registry: FakeRegistry, root: Path, path: str) -> None:
    async with running(root, registry) as client:
        answer = await client.get(client.base_url.copy_with(raw_path=path.encode()))
    assert answer.status_code == 404
    assert b"secret" not in answer.content


async def test_each_request_leaves_an_event_and_a_line(cluster: MockCluster, registry: FakeRegistry, root: Path) -> None:
    members = quote('com.headrace-cid="c-1",ot=v,sid="s-1"', safe="")
    async with running(root, registry) as client:
        await client.get(f"{PATH}?CMCD={members}", headers={"range": "bytes=100-199"})
        await client.get("/bbb/v1/none.m4s", headers={"cmcd-session": 'sid="s-2"', "x-correlation-id": "c-2"})
        await client.get("/bbb/v1/manifest.mpd?CMCD=broken%3D%3D")
        access = await asyncio.to_thread(records, cluster, registry, "delivery.access", 3)
    told = {r["path"]: (r["rc"], r["bytes"], r["range_first"], r["sid"], r["correlation_id"], r["cid"], r["hit"]) for r in access}
    assert told == {
        PATH: (206, 100, 100, "s-1", "c-1", "bbb", True),
        "/bbb/v1/none.m4s": (404, 18, None, "s-2", "c-2", "bbb", False),
        "/bbb/v1/manifest.mpd": (200, 6, None, None, "", "bbb", True),
    }
    assert all(0 < r["ttfb_us"] <= r["ttlb_us"] for r in access)
    logged = [json.loads(line) for line in (root.parent / "access.jsonl").read_text().splitlines()]
    assert {line["path"]: line["rc"] for line in logged} == {path: values[0] for path, values in told.items()}


async def test_what_a_request_says_of_its_session_is_a_report(cluster: MockCluster, registry: FakeRegistry, root: Path) -> None:
    told = 'bl=(4000),br=(700),bs,com.headrace-member="m-1",d=2000,ot=v,sid="s-1",sn=3,sta=p,v=2'
    async with running(root, registry) as client:
        await client.get(f"{PATH}?narrow_kbps=0&CMCD={quote(told, safe='')}", headers={"range": "bytes=100-199"})
        (report,) = await asyncio.to_thread(records, cluster, registry, "playback.report", 1)
    kept = ("sid", "sn", "target", "e", "sta", "br_kbps", "bl_ms", "d_ms", "ot", "bs", "url", "oca_id", "rc", "bytes", "member_id")
    assert {name: report[name] for name in kept} == {
        "sid": "s-1", "sn": 3, "target": "request:oca-1", "e": "rr", "sta": "p", "br_kbps": 700, "bl_ms": 4000, "d_ms": 2000, "ot": "v",
        "bs": True, "url": f"http://oca{PATH}", "oca_id": "oca-1", "rc": 206, "bytes": 100, "member_id": pseudonym("m-1"),
    }  # fmt: skip
    assert report["event_id"] == report_id("s-1", "request:oca-1", 3)
    assert 0 <= report["ttfb_ms"] <= report["ttlb_ms"]


async def test_version_1_is_a_report_too_and_a_request_sent_again_the_same(
    cluster: MockCluster, registry: FakeRegistry, root: Path
) -> None:
    first, then = ({"cmcd-session": 'sid="s-1",sf=d', "cmcd-object": "br=700,d=2000,ot=v", "cmcd-request": f"bl={bl}"} for bl in (400, 800))
    async with running(root, registry) as client:
        for headers in (first, first, then, first | {"range": "bytes=0-9"}):
            assert (await client.get(PATH, headers=headers)).status_code in (200, 206)
        reports = await asyncio.to_thread(records, cluster, registry, "playback.report", 4)
    assert {(r["sid"], r["sn"], r["target"], r["br_kbps"]) for r in reports} == {("s-1", -1, "request:oca-1", 700)}
    assert len({r["event_id"] for r in reports}) == 3


@pytest.mark.parametrize(
    ("query", "headers", "key"),
    [
        ("?CMCD=broken%3D%3D", {}, "broken"),
        ("?CMCD=sid%3D%22s%22%2Cbr%3D%28-5%29%2Cv%3D2", {}, "br"),
        ("?CMCD=ot%3Dv", {}, "sid"),
        (f"?CMCD=sid%3D%22{'s' * 17_000}%22", {}, "17"),
        ("", {"cmcd-object": 'sid="s"'}, "sid"),
        ("?CMCD=sid%3D%22%FF%22", {}, "sid"),
    ],
)
async def test_a_segment_is_served_whatever_its_cmcd_is_like(
    cluster: MockCluster, registry: FakeRegistry, root: Path, query: str, headers: dict[str, str], key: str
) -> None:
    async with running(root, registry) as client:
        answer = await client.get(f"{PATH}{query}", headers=headers)
        assert (answer.status_code, answer.content == SEGMENT) == (200, True)
        (letter,) = await asyncio.to_thread(records, cluster, registry, "observability.dead_letter", 1)
    assert (letter["component"], letter["topic"]) == ("oca", "playback.report")
    assert key in letter["detail"]
    assert (query[1:] or "cmcd-object").encode() in letter["payload"]


async def test_segments_are_served_while_the_registry_is_away_and_told_when_it_is_back(
    cluster: MockCluster, registry: FakeRegistry, root: Path
) -> None:
    registry.down = True
    async with running(root, registry) as client:
        for _ in range(3):
            assert (await client.get(PATH)).status_code == 200
        assert (await client.get("/healthz")).json()["events_held"] == 3
        registry.down = False
    assert len(records(cluster, registry, "delivery.access", 3)) == 3


async def test_a_server_fails_when_told_to_and_heals(cluster: MockCluster, registry: FakeRegistry, root: Path) -> None:
    async with running(root, registry) as client:
        assert (await client.post("/admin/fail?rate=1")).json() == {"oca_id": "oca-1", "fault": {"mode": "refuse", "rate": 1.0}}
        assert (await client.get(PATH)).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        await client.post("/admin/fail?rate=0.5")
        assert {(await client.get("/bbb/v1/manifest.mpd")).status_code for _ in range(60)} == {200, 503}
        await client.post("/admin/heal")
        assert (await client.get(PATH)).status_code == 200


async def test_only_this_machine_and_no_web_page_may_make_it_fail(cluster: MockCluster, registry: FakeRegistry, root: Path) -> None:
    async with running(root, registry) as client:
        assert (await client.post("/admin/fail", headers={"origin": "http://page"})).status_code == 403
        assert (await client.get(PATH)).status_code == 200


@pytest.mark.parametrize(("client", "rc"), [("10.0.0.7", 403), ("", 403), ("::1", 200), ("127.0.0.1", 200)])
@pytest.mark.parametrize("path", ["/admin/fail", "/admin/heal", "/admin/drain"])
def test_an_operator_speaks_from_the_machine_itself(tmp_path: Path, path: str, client: str, rc: int) -> None:
    oca = Oca(Store(tmp_path), Teller("oca-1", "local", "ORIGIN", Judge(settings()), {}, lambda line: None), lambda: 0)
    assert oca.beside(Asked("POST", path, "", {}, f"http://oca{path}", client)).rc == rc


def test_the_access_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.oca.access.LOG_BYTES", 1_000)
    with access_log(tmp_path / "access.jsonl") as write_line:
        for n in range(1_000):
            write_line(json.dumps({"n": n}))
    files = sorted(tmp_path.iterdir())
    assert len(files) == LOG_FILES + 1
    assert sum(file.stat().st_size for file in files) <= 1_000 * (LOG_FILES + 1)
    assert json.loads((tmp_path / "access.jsonl").read_text().splitlines()[-1]) == {"n": 999}


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2_000))
def test_any_range_is_within_the_file_or_none(header: str, size: int) -> None:
    try:
        found = byte_range(header, size)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found[0] <= found[1] < size


@pytest.mark.parametrize(("path", "expected"), [("/bbb/v1/1.m4s", "bbb"), ("/bbb", None), ("/", None), ("bbb/v1", "bbb")])
def test_the_title_of_a_path(path: str, expected: str | None) -> None:
    assert cid(path) == expected

"""A cache server that fails as an operator asked: slowly, silently, or with wrong bytes; and whole again when it is healed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2 as httpx
import pytest

from edge.oca.faults import BadFault, Fault, read
from edge.oca.vitals import probe_us
from tests.edge.test_oca_wire import SEGMENT, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bbb/v1").mkdir(parents=True)
    (tmp_path / "bbb/v1/1.m4s").write_bytes(SEGMENT[:5_000_000])
    (tmp_path / "bbb/v1/2.m4s").write_bytes(SEGMENT[:100_000])
    (tmp_path / "bbb/v1/empty.m4s").write_bytes(b"")
    (tmp_path / "bbb/v1/init.mp4").write_bytes(SEGMENT[:900])
    return tmp_path


def differing(got: bytes, wanted: bytes) -> list[int]:
    """Positions at which two bodies of one length differ."""
    return [at for at, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("", Fault("refuse")),
        ("rate=0.25", Fault("refuse", rate=0.25)),
        ("mode=refuse&rate=0", Fault("refuse", rate=0.0)),
        ("mode=slow", Fault("slow", bytes_per_s=5_000_000)),
        ("mode=slow&share=0.5", Fault("slow", bytes_per_s=50_000_000)),
        ("mode=slow&bytes_per_s=20000", Fault("slow", bytes_per_s=20_000)),
        ("mode=hang", Fault("hang")),
        ("mode=corrupt", Fault("corrupt")),
    ],
)
def test_what_can_be_asked_for(query: str, fault: Fault) -> None:
    assert read(query, egress_bps=800_000_000) == fault


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rate=2", "rate='2': a number from 0 to 1"),
        ("rate=-1", "rate='-1'"),
        ("rate=nan", "rate='nan'"),
        ("rate=", "rate=''"),
        ("mode=melt", "mode='melt': one of refuse, slow, hang, corrupt"),
        ("mode=hang&rate=0.1", "mode=hang has no rate"),
        ("mode=slow&share=0", "share='0'"),
        ("mode=slow&bytes_per_s=0.5", "bytes_per_s='0.5'"),
        ("mode=slow&bytes_per_s=9&share=1", "either share or bytes_per_s"),
        ("bytes_per_s=9", "mode=refuse has no bytes_per_s"),
    ],
)
async def test_what_cannot_be_had_is_refused_in_words(root: Path, query: str, words: str) -> None:
    with pytest.raises(BadFault, match=words):
        read(query, egress_bps=1_000)
    async with running(root) as server:
        answer = await server.client.post(f"/admin/fail?{query}")
        assert (answer.status_code, words in answer.json()["error"], server.oca.fault) == (400, True, None)


async def test_a_slow_server_shares_what_it_has_left(root: Path) -> None:
    async with running(root) as server:
        await server.client.post("/admin/fail?mode=slow&bytes_per_s=400000")
        assert (await server.client.get("/healthz")).json()["fault"] == {"mode": "slow", "bytes_per_s": 400_000}
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await server.client.get("/bbb/v1/2.m4s")).content == SEGMENT[:100_000]
        assert loop.time() - began >= 0.25
        began = loop.time()
        both = await asyncio.gather(*(server.client.get("/bbb/v1/2.m4s") for _ in range(2)))
        assert loop.time() - began >= 0.5
        assert {answer.content for answer in both} == {SEGMENT[:100_000]}


async def test_a_server_that_hangs_answers_nobody_but_its_operator(root: Path) -> None:
    async with running(root) as server:
        url = str(server.client.base_url)
        await server.client.post("/admin/fail?mode=hang")
        assert await probe_us(server.client, url) is None
        leaving, staying = await server.asks("/bbb/v1/2.m4s"), await server.asks("/bbb/v1/2.m4s")
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(staying, 1), 0.5)
        leaving.close()
        (line,) = await server.tells(1)
        assert (line["rc"], line["bytes"]) == (0, 0)
        assert (await server.client.post("/admin/heal")).json()["fault"] is None
        assert (await loop.sock_recv(staying, 15)).startswith(b"HTTP/1.1 200")
        staying.close()
        assert await probe_us(server.client, url)


async def test_one_byte_of_a_segment_is_another_one(root: Path) -> None:
    async with running(root) as server:
        right = await server.client.get("/bbb/v1/1.m4s")
        await server.client.post("/admin/fail?mode=corrupt")
        wrong = await server.client.get("/bbb/v1/1.m4s")
        assert differing(wrong.content, SEGMENT[:5_000_000]) == [2_499_999]
        assert {**wrong.headers, "date": ""} == {**right.headers, "date": ""}
        part = await server.client.get("/bbb/v1/1.m4s", headers={"range": "bytes=10-12"})
        assert differing(part.content, SEGMENT[10:13]) == [1]
        assert (await server.client.get("/bbb/v1/init.mp4")).content == SEGMENT[:900]
        assert (await server.client.get("/bbb/v1/empty.m4s")).content == b""
        await server.client.post("/admin/heal")
        assert (await server.client.get("/bbb/v1/1.m4s")).content == SEGMENT[:5_000_000]


async def test_a_data_plane_has_the_faults_that_it_can_have(root: Path) -> None:
    async with running(root) as server:
        server.oca.modes = ("refuse",)
        assert (await server.client.post("/admin/fail?mode=corrupt")).status_code == 409
        assert (await server.client.post("/admin/fail")).status_code == 200
        with pytest.raises(httpx.HTTPStatusError):
            (await server.client.get("/bbb/v1/2.m4s")).raise_for_status()

"""The whole of it with real processes: origin, a storage server filled from it, a flash server filled from that, and a player."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from infra.base.ports import free_port
from schemas.assets import CHECKSUMS, AssetId, publish
from tests.edge.test_serve import environment
from tests.kit import eventually

SEGMENT = bytes(range(256)) * 2_000


@contextmanager
def service(state: Path, *command: str, port: int) -> Iterator[httpx.Client]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment(state, OCA_URLS=f'["http://127.0.0.1:{port}"]'), stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            eventually(lambda: client.get("/healthz").status_code)
            yield client
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def test_an_asset_goes_from_the_origin_by_way_of_the_exchange_to_the_edge(tmp_path: Path) -> None:
    media = tmp_path / "origin/media/bbb/v1"
    media.mkdir(parents=True)
    for name in ("1.m4s", "2.m4s", "manifest.mpd"):
        (media / name).write_bytes(SEGMENT + name.encode())
    publish(media, AssetId("bbb", 1), 1_700_000_000)
    ports = [free_port() for _ in range(3)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    holds = ("--capacity-bytes", "5000000", "--root")
    with (
        service(tmp_path / "0", "edge.origin", "--url", urls[0], "--root", str(tmp_path / "origin"), port=ports[0]),
        service(
            tmp_path / "1", "edge.oca", "--tier", "IX_STORAGE", "--parent", f"{urls[0]}/media", *holds, str(tmp_path / "ix"), port=ports[1]
        ) as ix,
        service(tmp_path / "2", "edge.oca", *holds, str(tmp_path / "flash"), port=ports[2]) as flash,
    ):
        assert flash.get("/bbb/v1/1.m4s").status_code == 404  # it has no parent
        miss = ix.get("/bbb/v1/1.m4s")
        assert miss.content == SEGMENT + b"1.m4s"
        for server, source in ((ix, f"{urls[0]}/media"), (flash, urls[1])):
            answer = server.post("/admin/fill", params={"asset": "bbb/v1", "source": source})
            assert (answer.status_code, answer.json()["asset"]) == (202, "bbb/v1")
            eventually(lambda server=server: server.get("/healthz").json()["assets"] == 1)  # type: ignore[misc]
        hit = flash.get("/bbb/v1/1.m4s")
        assert (hit.content, hit.headers["etag"]) == (miss.content, miss.headers["etag"])
        assert flash.get(f"/bbb/v1/{CHECKSUMS}").content == (media / CHECKSUMS).read_bytes()
        used = flash.get("/healthz").json()
        assert (used["used_bytes"], used["capacity_bytes"]) == (3 * len(SEGMENT) + 22, 5_000_000)
        assert flash.post("/admin/pull", params={"asset": "bbb/v1", "reason": "bad audio"}).json() == {"asset": "bbb/v1", "pulled": True}
        assert flash.get("/bbb/v1/1.m4s").status_code == 404
        assert flash.post("/admin/pull", params={"asset": "bbb/v1"}).status_code == 404
        assert flash.post("/admin/pull", params={"asset": "../etc"}).status_code == 400
        assert flash.post("/admin/fill", params={"asset": "bbb/v1", "source": "file:///etc"}).status_code == 400
        assert ix.get("/bbb/v1/1.m4s").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prefixes", "10.0.0.1/8"], "--prefixes: 10.0.0.1/8 has host bits set"),
        (["--fill-window", "2-14"], "'2-14' is no time of day"),
        (["--fill-window", "02:00-02:00", "--capacity-bytes", "1"], "not empty"),
        (["--zone", "Nowhere"], "'Nowhere' is no time zone"),
    ],
)
def test_a_wrong_argument_is_said_in_words(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "edge.oca", "--root", str(tmp_path / "titles"), *arguments]
    state = environment(tmp_path, OCA_URLS='["http://127.0.0.1:1"]')
    done = subprocess.run(command, env=state, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr

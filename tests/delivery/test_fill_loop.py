"""The fill loop on the real stack: what is announced is planned, filled before it is played, and filled again when a disk has rotted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from producers.emit import Emitter
from producers.encoders import cache
from schemas.assets import AssetId, publish
from tests.kit import eventually

EMBEDDED = "oca-1"
BODY = bytes(range(256)) * 400


@pytest.fixture
def title(stack: Settings) -> Iterator[str]:
    """A title in the origin's bucket, published, and announced as a premiere of tomorrow in the region of `EMBEDDED`."""
    cid = f"premiere-{uuid4().hex[:8]}"
    folder = cache.root() / cid
    (asset := folder / "v1").mkdir(parents=True)
    for name in ("1.m4s", "manifest.mpd"):
        (asset / name).write_bytes(BODY + name.encode())
    size = publish(asset, AssetId(cid, 1), 1_700_000_000).size_bytes
    told = {
        "cid": cid, "version": 1, "title": cid, "dash_path": f"{cid}/v1/manifest.mpd", "hls_path": f"{cid}/v1/master.m3u8",
        "duration_ms": 2_000, "rungs": 1, "bytes": size, "sha256": "",
    }  # fmt: skip
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    release = {"cid": cid, "unit": cid, "regions": ["eu-west"], "from_time": tomorrow, "expected_plays": 5.0, "premiere": True}
    try:
        with Emitter("test-fill-loop") as emitter:
            emitter.send("delivery.release", {**release, "withdrawn": False})
            emitter.send("encoding.published", told)
            yield cid
            emitter.send("delivery.release", {**release, "withdrawn": True})
    finally:
        shutil.rmtree(folder)


def contents(cid: str) -> list[tuple[str, str, bool]]:
    """What servers have told of a title, in order."""
    rows = warehouse.reader().query(
        "SELECT oca_id, reason, held FROM delivery_content WHERE NOT marker AND cid = {cid: String} ORDER BY event_time", {"cid": cid}
    )
    return [(oca_id, reason, held) for oca_id, reason, held in rows.result_rows]


def steps(cid: str) -> list[str]:
    """What `EMBEDDED` has told of filling a title, in order."""
    rows = warehouse.reader().query(
        "SELECT kind FROM delivery_fill WHERE cid = {cid: String} AND oca_id = {oca: String} ORDER BY event_time",
        {"oca": EMBEDDED, "cid": cid},
    )
    return [kind for (kind,) in rows.result_rows]


@pytest.mark.stack
def test_a_premiere_is_filled_before_it_is_played_and_again_when_its_disk_rots(stack: Settings, title: str) -> None:
    eventually(lambda: (EMBEDDED, "FILLED", True) in contents(title), within=90)
    told = warehouse.reader().query(
        "SELECT DISTINCT why FROM delivery_fill_reason WHERE oca_id = {oca: String} AND unit = {cid: String}",
        {"oca": EMBEDDED, "cid": title},
    )
    assert ("PREMIERE",) in told.result_rows
    url = f"{stack.edge.oca_urls[0]}/{title}/v1/1.m4s"
    assert httpx.get(url).content == BODY + b"1.m4s"
    held = Path(stack.state_dir) / "oca" / EMBEDDED / title / "v1" / "1.m4s"
    held.write_bytes(b"rotten" + BODY)
    assert httpx.get(url).content == BODY + b"1.m4s"  # from the parent: what was held is no longer
    healed = [(EMBEDDED, "FILLED", True), (EMBEDDED, "CORRUPT", False), (EMBEDDED, "FILLED", True)]
    eventually(lambda: [told for told in contents(title) if told[0] == EMBEDDED] == healed, within=90)
    eventually(lambda: steps(title) == ["STARTED", "COMPLETED"] * 2, within=60)

"""What a cache server holds: whole assets that are what their checksums say, within the bytes there are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.oca.content import Change, Content, Memory, NoRoom, hottest
from schemas.assets import CHECKSUMS, Altered, Asset, AssetId, InvalidChecksums, asset_of, publish, read_checksums

BBB = AssetId("bbb", 1)
PUBLISHED_S = 1_700_000_000
FILES = {"720/001.m4s": b"one" * 1000, "720/002.m4s": b"two" * 1000, "manifest.mpd": b"<MPD/>"}
SIZE = sum(map(len, FILES.values()))


def write(folder: Path, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


class Kept:
    """A content and what it told."""

    def __init__(self, root: Path, capacity_bytes: int = 10 * SIZE, memory: Memory | None = None) -> None:
        self.changes: list[Change] = []
        root.mkdir(exist_ok=True)
        self.content = Content(root, capacity_bytes, self.changes.append, memory)

    def bring(self, asset: AssetId = BBB) -> Asset:
        """Hold an asset of `FILES`."""
        folder = self.content.filling(asset)
        write(folder)
        known = publish(folder, asset, PUBLISHED_S)
        self.content.promise(asset, known.size_bytes)
        self.content.admit(known)
        return known

    def read(self, path: str) -> bytes | None:
        found = self.content.open(path)
        if found is None:
            return None
        try:
            return os.pread(found.fd, found.size, 0)
        finally:
            os.close(found.fd)


def test_what_is_held_is_served_and_nothing_else(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store")
    write(tmp_path / "store/astray/v1")
    known = kept.bring()
    for name, content in FILES.items():
        assert kept.read(f"/bbb/v1/{name}") == content
    assert kept.read(f"/bbb/v1/{CHECKSUMS}") == known.to_json()
    for path in (
        "/astray/v1/manifest.mpd",
        "/bbb/v2/manifest.mpd",
        "/bbb/v1/none",
        "/.filling/bbb/v1/manifest.mpd",
        "/bbb/v1/../v1/manifest.mpd",
    ):
        assert kept.read(path) is None
    assert kept.changes == [Change("held", BBB, SIZE, "verified")]
    assert kept.content.used_bytes == SIZE


def test_the_tag_of_a_file_is_the_same_wherever_it_is_held(tmp_path: Path) -> None:
    tags = set()
    for name in ("a", "b"):
        kept = Kept(tmp_path / name)
        kept.bring()
        found = kept.content.open("/bbb/v1/manifest.mpd")
        assert found is not None
        os.close(found.fd)
        tags.add(found.etag)
    assert tags == {f'"{PUBLISHED_S:x}-6"'}


def test_it_is_there_again_after_a_restart(tmp_path: Path) -> None:
    known = Kept(tmp_path).bring()
    again = Kept(tmp_path)
    assert again.content.held == {BBB: known}
    assert again.read("/bbb/v1/manifest.mpd") == FILES["manifest.mpd"]
    with pytest.raises(NoRoom, match=f"holds {SIZE} bytes; this server may hold 100"):
        Kept(tmp_path, 100)


def test_an_asset_on_its_way_in_is_not_held_and_not_lost_by_a_restart(tmp_path: Path) -> None:
    write(Kept(tmp_path).content.filling(BBB))
    again = Kept(tmp_path)
    assert not again.content.held
    assert (again.content.filling(BBB) / "manifest.mpd").exists()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda file: file.write_bytes(b"three" + file.read_bytes()[5:]), "has 3000 bytes, of"),
        (lambda file: os.truncate(file, 10), "has 10 bytes"),
        (lambda file: file.unlink(), "is gone"),
    ],
)
def test_an_altered_file_makes_an_end_of_its_asset(tmp_path: Path, harm: Any, why: str) -> None:
    kept = Kept(tmp_path)
    kept.bring()
    harm(tmp_path / "bbb/v1/720/001.m4s")
    assert kept.read("/bbb/v1/720/001.m4s") is None
    assert kept.read("/bbb/v1/manifest.mpd") is None
    assert not (tmp_path / "bbb").exists()
    assert [change.kind for change in kept.changes] == ["held", "refused"]
    assert why in kept.changes[1].reason
    assert kept.content.used_bytes == 0


def test_what_rotted_in_silence_is_found_by_reading_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.bring()
    assert kept.content.scrub(BBB)
    file = tmp_path / "bbb/v1/720/001.m4s"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    os.utime(file, (PUBLISHED_S, PUBLISHED_S))
    assert kept.read("/bbb/v1/720/001.m4s") is not None
    assert not kept.content.scrub(BBB)
    assert kept.read("/bbb/v1/720/001.m4s") is None
    assert "SHA-256" in kept.changes[-1].reason
    assert not kept.content.scrub(BBB)


@pytest.mark.parametrize("damage", [b"x", b"{}", b""])
def test_damage_done_while_it_was_down_is_found_at_the_start(tmp_path: Path, damage: bytes) -> None:
    Kept(tmp_path).bring()
    (tmp_path / "bbb/v1" / CHECKSUMS).write_bytes(damage)
    again = Kept(tmp_path)
    assert not again.content.held
    assert [change.kind for change in again.changes] == ["refused"]
    assert not (tmp_path / "bbb/v1").exists()


def test_a_pulled_asset_is_gone_at_once_and_its_files_too(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.bring()
    kept.bring(AssetId("bbb", 2))
    assert kept.content.pull(BBB, "audio out of sync")
    assert kept.read("/bbb/v1/manifest.mpd") is None
    assert kept.read("/bbb/v2/manifest.mpd") is not None
    assert not (tmp_path / "bbb/v1").exists()
    assert kept.changes[-1] == Change("pulled", BBB, SIZE, "audio out of sync")
    assert not kept.content.pull(BBB, "again")


def test_a_tampered_asset_is_not_held(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    folder = kept.content.filling(BBB)
    write(folder)
    known = publish(folder, BBB, PUBLISHED_S)
    (folder / "720/001.m4s").write_bytes(b"six" * 1000)
    with pytest.raises(Altered, match=r"bbb/v1/720/001.m4s has the SHA-256"):
        kept.content.admit(known)
    assert not kept.content.held
    assert not folder.exists()
    assert [change.kind for change in kept.changes] == ["refused"]


def test_nothing_is_promised_beyond_the_bytes_there_are(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 2 * SIZE + 1)
    kept.bring()
    kept.content.promise(AssetId("b", 1), SIZE)
    kept.content.promise(AssetId("b", 1), SIZE)  # the same, once more
    with pytest.raises(NoRoom, match="c/v1 needs 2 bytes, and 1 of"):
        kept.content.promise(AssetId("c", 1), 2)
    kept.content.abandon(AssetId("b", 1))
    kept.content.promise(AssetId("c", 1), SIZE)
    huge = Kept(tmp_path / "huge", 1 << 60)
    with pytest.raises(NoRoom, match="the disk has"):
        huge.content.promise(BBB, 1 << 59)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cid": "other"}, "of other/v1, not of bbb/v1"),
        ({"version": True}, "version is True"),
        ({"files": {}}, "no files"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "no name of a file"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "no name of a file"),
        ({"files": {"a//b": {"bytes": 1, "sha256": "0" * 64}}}, "no name of a file"),
        ({"files": {".hidden": {"bytes": 1, "sha256": "0" * 64}}}, "no name of a file"),
        ({"files": {CHECKSUMS: {"bytes": 1, "sha256": "0" * 64}}}, "no name of a file"),
        ({"files": {"a": {"bytes": -1, "sha256": "0" * 64}}}, "bytes is -1"),
        ({"files": {"a": {"bytes": 1, "sha256": "zz"}}}, "64 hexadecimal"),
        ({"files": ["a"]}, "not the checksums"),
        ({"published_s": None}, "published_s is None"),
    ],
)
def test_checksums_of_a_stranger_are_read_with_care(change: dict[str, Any], why: str) -> None:
    told = {"cid": "bbb", "version": 1, "published_s": 1, "files": {"a": {"bytes": 1, "sha256": "0" * 64}}}
    assert read_checksums(json.dumps(told).encode(), BBB).size_bytes == 1
    with pytest.raises(InvalidChecksums, match=why):
        read_checksums(json.dumps(told | change).encode(), BBB)


TREES = st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.binary(max_size=60) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_any_other_bytes_are_refused_in_words(raw: bytes) -> None:
    with pytest.raises(InvalidChecksums):
        read_checksums(raw, BBB)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/bbb/v1/a/b.m4s", (BBB, "a/b.m4s")),
        ("bbb/v1/a", (BBB, "a")),
        ("/bbb/v1/", None),
        ("/bbb/v1", None),
        ("/bbb/1/a", None),
        ("/.filling/v1/a", None),
        ("/b b/v1/a", None),
        ("/", None),
    ],
)
def test_the_asset_of_a_path(path: str, expected: tuple[AssetId, str] | None) -> None:
    assert asset_of(path) == expected


def test_what_is_asked_for_most_is_in_memory(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    kept = Kept(tmp_path / "store", memory=Memory(memory, 2 * SIZE))
    assets = [AssetId(name, 1) for name in "abc"]
    for times, asset in enumerate(assets, 1):
        kept.bring(asset)
        for _ in range(times):
            kept.read(f"/{asset}/720/001.m4s")
    kept.content.warm_up()
    assert kept.content.warm == assets[1:]
    assert sum(file.stat().st_size for file in memory.rglob("*.m4s")) == 2 * 6_000
    (tmp_path / "store/c/v1/720/001.m4s").write_bytes(b"gone from the disk")
    assert kept.read("/c/v1/720/001.m4s") == FILES["720/001.m4s"]
    found = kept.content.open("/c/v1/manifest.mpd")
    assert found is not None
    os.close(found.fd)
    assert found.etag == f'"{PUBLISHED_S:x}-6"'
    kept.content.pull(assets[2], "bad")
    assert kept.read("/c/v1/720/001.m4s") is None
    assert not (memory / "c/v1").exists()
    for _ in range(9):
        kept.read("/a/v1/720/001.m4s")
    kept.content.warm_up()
    assert kept.content.warm == assets[:2]
    for _ in range(20):
        kept.content.warm_up()
    assert kept.content.warm == []
    assert not list(memory.rglob("*.m4s"))


SIZES = st.dictionaries(st.sampled_from([AssetId(name, 1) for name in "abcdefgh"]), st.integers(1, 100))


@given(SIZES, st.lists(st.integers(0, 1_000), min_size=8, max_size=8), st.integers(0, 300))
def test_memory_is_never_too_full_and_nothing_that_fits_is_left_out(sizes: dict[AssetId, int], asked: list[int], capacity: int) -> None:
    asked_bytes = dict(zip(sizes, map(float, asked), strict=False))
    chosen = hottest(asked_bytes, sizes, capacity)
    left = capacity - sum(sizes[asset] for asset in chosen)
    assert left >= 0
    assert all(not asked_bytes[asset] or sizes[asset] > left for asset in sizes.keys() - set(chosen))
    heat = [asked_bytes[asset] / sizes[asset] for asset in chosen]
    assert heat == sorted(heat, reverse=True)

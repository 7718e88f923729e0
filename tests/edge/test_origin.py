"""The origin speaks S3: an independent client reads and lists it, what is put is there whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.oca.wire import answering
from edge.origin import Buckets, Page, handler, page_of
from infra.base.ports import free_port

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    async with (
        answering(handler(Buckets(root)), "127.0.0.1", port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in ("bbb/v1/a.m4s", "bbb/v1/b.m4s", "bbb/v2/a.m4s", "bbb-x", "café & co.mp4"):
        file = tmp_path / "media" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(key.encode() * 10)
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def listed(answer: httpx.Response) -> tuple[list[str], list[str], str]:
    """Keys, common prefixes, continuation token."""
    tree = ET.fromstring(answer.text)
    keys = [e.text or "" for e in tree.iterfind(f"{NAMESPACE}Contents/{NAMESPACE}Key")]
    groups = [e.text or "" for e in tree.iterfind(f"{NAMESPACE}CommonPrefixes/{NAMESPACE}Prefix")]
    return keys, groups, tree.findtext(f"{NAMESPACE}NextContinuationToken") or ""


async def test_objects_and_their_ranges(root: Path) -> None:
    async with running(root) as client:
        whole = await client.get("/media/bbb/v1/a.m4s")
        assert (whole.status_code, whole.content) == (200, b"bbb/v1/a.m4s" * 10)
        part = await client.get("/media/bbb/v1/a.m4s", headers={"range": "bytes=4-5", "if-range": whole.headers["etag"]})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"v1", "bytes 4-5/120")
        assert (await client.get("/media/bbb/v1/a.m4s", headers={"range": "bytes=120-"})).status_code == 416
        head = await client.head(f"/media/{quote('café & co.mp4')}")
        assert (head.status_code, head.headers["content-length"], head.headers["content-type"]) == (200, "140", "video/mp4")


@pytest.mark.parametrize(
    ("method", "path", "rc", "code"),
    [
        ("GET", "/media/none", 404, "NoSuchKey"),
        ("GET", "/none/bbb", 404, "NoSuchBucket"),
        ("GET", "/media/../secret?list-type=2", 404, "NoSuchBucket"),
        ("GET", "/media/%2e%2e/secret", 404, "NoSuchKey"),
        ("GET", "/../secret?list-type=2", 404, "NoSuchBucket"),
        ("GET", "/secret/x", 404, "NoSuchBucket"),
        ("GET", "/media", 501, "NotImplemented"),
        ("GET", "/media?list-type=2&max-keys=x", 400, "InvalidArgument"),
        ("GET", "/media?list-type=2&continuation-token=%FF", 400, "InvalidArgument"),
        ("PUT", "/media/%2e%2e/x", 400, "InvalidArgument"),
        ("PUT", "/media/bbb", 409, "InvalidObjectState"),
        ("PUT", "/media/bbb-x/y", 409, "InvalidObjectState"),
        ("PUT", "/none/x", 404, "NoSuchBucket"),
        ("DELETE", "/media/bbb-x", 405, "MethodNotAllowed"),
    ],
)
async def test_what_is_wrong_is_said_in_the_words_of_s3(root: Path, method: str, path: str, rc: int, code: str) -> None:
    async with running(root) as client:
        answer = await client.request(method, client.base_url.copy_with(raw_path=path.encode()), content=b"x" if method == "PUT" else None)
    assert answer.status_code == rc
    assert (ET.fromstring(answer.text).findtext("Code") or "").startswith(code)
    assert not list(root.glob(".uploads/*"))


async def test_an_object_is_put_whole_or_not_at_all(root: Path) -> None:
    body = b"segment" * 100_000
    async with running(root) as client:
        put = await client.put("/media/new/v1/s.m4s", content=body, headers={"x-amz-content-sha256": hashlib.sha256(body).hexdigest()})
        assert put.status_code == 200
        got = await client.get("/media/new/v1/s.m4s")
        assert (got.content == body, got.headers["etag"]) == (True, put.headers["etag"])
        for headers in ({"x-amz-content-sha256": "0" * 64}, {"content-md5": "AAAA"}):
            wrong = await client.put("/media/new/v1/s.m4s", content=b"other", headers=headers)
            assert wrong.status_code == 400
        assert (await client.get("/media/new/v1/s.m4s")).content == body
    assert not list(root.glob(".uploads/*"))


async def test_keys_are_listed_in_order_and_in_pages(root: Path) -> None:
    async with running(root) as client:
        everything, _, _ = listed(await client.get("/media?list-type=2"))
        assert everything == ["bbb-x", "bbb/v1/a.m4s", "bbb/v1/b.m4s", "bbb/v2/a.m4s", "café & co.mp4"]
        assert listed(await client.get("/media?list-type=2&prefix=bbb/v1/"))[0] == ["bbb/v1/a.m4s", "bbb/v1/b.m4s"]
        assert listed(await client.get("/media?list-type=2&prefix=../"))[0] == []
        assert listed(await client.get("/media?list-type=2&delimiter=/&prefix=bbb"))[:2] == (["bbb-x"], ["bbb/"])
        assert listed(await client.get("/media?list-type=2&delimiter=/&prefix=bbb/"))[:2] == ([], ["bbb/v1/", "bbb/v2/"])
        assert listed(await client.get("/media?list-type=2&start-after=bbb/v1/b.m4s"))[0] == ["bbb/v2/a.m4s", "café & co.mp4"]
        found, token = [], "-"
        while token:
            more = "" if token == "-" else f"&continuation-token={token}"
            keys, groups, token = listed(await client.get(f"/media?list-type=2&delimiter=/&max-keys=1{more}"))
            found += keys + groups
        assert found == ["bbb-x", "bbb/", "café & co.mp4"]


@given(
    st.sets(st.from_regex(r"[ab](/?[ab]){0,4}", fullmatch=True), max_size=12),
    st.sampled_from(["", "a", "a/", "b/a"]),
    st.sampled_from(["", "/"]),
    st.integers(1, 4),
)
def test_pages_have_every_key_once(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], prefix: str, delimiter: str, most: int
) -> None:
    root = tmp_path_factory.mktemp("origin")
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}  # a file is no directory
    for key in keys | {"z"}:
        file = root / "m" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    wanted = {key for key in keys | {"z"} if key.startswith(prefix)}
    if delimiter:
        wanted = {prefix + head + mark for key in wanted for head, mark, _ in [key[len(prefix) :].partition("/")]}
    buckets, found, query = Buckets(root), [], ""
    while True:
        after = page_of(f"list-type=2{query}").after
        answer = httpx.Response(200, content=buckets.list("m", Page(prefix, delimiter, after, most)))
        keys_, groups, token = listed(answer)
        assert len(keys_) + len(groups) <= most
        found += keys_ + groups
        if not token:
            break
        query = f"&continuation-token={token}"
    assert sorted(found) == sorted(wanted)
    assert len(set(found)) == len(found)


def test_an_independent_client_reads_and_lists(root: Path) -> None:
    """Apache Arrow's S3 client, which is AWS's SDK for C++."""
    code = f"""
import asyncio, sys, threading
from pathlib import Path
from pyarrow import fs
from edge.oca.wire import answering
from edge.origin import Buckets, handler
from infra.base.ports import free_port

port, ready, done = free_port(), threading.Event(), threading.Event()
async def serve():
    async with answering(handler(Buckets(Path({str(root)!r}))), "127.0.0.1", port):
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.01)
server = threading.Thread(target=asyncio.run, args=(serve(),))
server.start()
ready.wait()
try:
    s3 = fs.S3FileSystem(anonymous=True, scheme="http", endpoint_override=f"127.0.0.1:{{port}}", region="us-east-1")
    found = s3.get_file_info(fs.FileSelector("media", recursive=True))
    print(sorted((i.path, i.size) for i in found if i.type == fs.FileType.File))
    with s3.open_input_file("media/bbb/v1/a.m4s") as file:
        print(file.size(), file.read_at(6, 12))
finally:
    done.set()
    server.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    sizes = {f"media/{f.relative_to(root / 'media')}": f.stat().st_size for f in (root / "media").rglob("*") if f.is_file()}
    assert done.stdout.splitlines() == [str(sorted(sizes.items())), "120 b'bbb/v1'"], done.stderr

"""The origin: object storage by S3's API, path style, over a directory of buckets. `python -m edge.origin --url URL --root DIR`.

    GET, HEAD /<bucket>/<key>      the object; single ranges, If-Range, ETag, Last-Modified
    PUT /<bucket>/<key>            from loopback only: the body becomes the object, whole or not at all
    GET /                          the buckets
    GET /<bucket>?list-type=2      its keys in order: prefix, delimiter, max-keys, start-after, continuation-token

Requests are anonymous: a signature is not looked at. An ETag is of time and size, as a cache server's, not an MD5. What goes wrong is said
in S3's words, as XML. Where there is a real object store, cache servers are given its address instead.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from edge.oca.access import Asked, Sent
from edge.oca.answers import Answer, of_file
from edge.oca.wire import Handler, answering, send, send_section
from edge.serve import free_address
from edge.store import Store, etag
from infra.base import log

MAX_KEYS = 1_000
UPLOADS = ".uploads"


class S3Error(Exception):
    """An answer that is an error: status, and S3's code for it."""

    def __init__(self, rc: int, code: str, message: str) -> None:
        super().__init__(message)
        self.rc, self.code = rc, code

    def answer(self) -> Answer:
        """As XML."""
        return _xml(self.rc, f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>")


@dataclass(frozen=True)
class Page:
    """What ListObjectsV2 was asked for."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    most: int = MAX_KEYS


class Buckets:
    """Objects below one directory, whose directories are the buckets."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._store = Store(root)

    def get(self, bucket: str, key: str, asked: Asked) -> Answer:
        """An object, or the bytes of it that were asked for. Raises S3Error."""
        self._bucket(bucket)
        found = self._store.open(f"{bucket}/{key}") if _is_key(key) else None
        if found is None:
            raise S3Error(404, "NoSuchKey", f"{bucket} has no object {key}")
        return of_file(found, asked)

    def all(self) -> Answer:
        """The buckets, as S3's XML."""
        names = sorted(folder.name for folder in self.root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        told = "".join(f"<Bucket><Name>{escape(name)}</Name></Bucket>" for name in names)
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        return _xml(200, f'<ListAllMyBucketsResult xmlns="{namespace}"><Buckets>{told}</Buckets></ListAllMyBucketsResult>')

    def list(self, bucket: str, page: Page) -> bytes:
        """The keys of a bucket that a page asks for, as S3's XML. Raises S3Error."""
        folder = self._bucket(bucket)
        contents: list[str] = []
        groups: list[str] = []
        last, truncated = "", False
        for key in _keys(folder, page.prefix):
            head, delimiter, _ = key[len(page.prefix) :].partition(page.delimiter) if page.delimiter else ("", "", "")
            name = page.prefix + head + delimiter if delimiter else key
            told = page.delimiter and page.after.endswith(page.delimiter) and key.startswith(page.after)
            if key <= page.after or told or (delimiter and groups and groups[-1] == name):
                continue
            if len(contents) + len(groups) == page.most:
                truncated = page.most > 0
                break
            last = name
            if delimiter:
                groups.append(name)
                continue
            status = (folder / key).stat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><ETag>{escape(etag(status))}</ETag>"
                f"<Size>{status.st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        token = f"<NextContinuationToken>{_token(last)}</NextContinuationToken>" if truncated else ""
        return _xml(
            200,
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{escape(bucket)}</Name>'
            f"<Prefix>{escape(page.prefix)}</Prefix><Delimiter>{escape(page.delimiter)}</Delimiter><MaxKeys>{page.most}</MaxKeys>"
            f"<KeyCount>{len(contents) + len(groups)}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>{token}"
            f"{''.join(contents)}{''.join(f'<CommonPrefixes><Prefix>{escape(g)}</Prefix></CommonPrefixes>' for g in groups)}"
            "</ListBucketResult>",
        ).body

    @contextlib.contextmanager
    def uploading(self, bucket: str, key: str) -> Iterator[Upload]:
        """An object that comes: it is there, or the older one still is, at the end of the context. Raises S3Error."""
        place = self._bucket(bucket) / key
        if not _is_key(key):
            raise S3Error(400, "InvalidArgument", f"{key!r} cannot be a key here: its parts must not be empty or begin with a dot")
        (self.root / UPLOADS).mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.root / UPLOADS, delete=False) as file:
            try:
                upload = Upload(file)
                yield upload
                file.flush()
                os.fsync(file.fileno())
                place.parent.mkdir(parents=True, exist_ok=True)
                Path(file.name).chmod(0o644)
                Path(file.name).rename(place)
                upload.etag = etag(place.stat())
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise S3Error(409, "InvalidObjectState", f"{key}: on a file system a key cannot be the directory of another") from None
            finally:
                Path(file.name).unlink(missing_ok=True)

    def _bucket(self, bucket: str) -> Path:
        if not bucket or bucket.startswith(".") or "\0" in bucket or not (self.root / bucket).is_dir():
            raise S3Error(404, "NoSuchBucket", f"there is no bucket {bucket!r}")
        return self.root / bucket


class Upload:
    """A body that comes in, and its digests."""

    def __init__(self, file: tempfile._TemporaryFileWrapper[bytes]) -> None:
        self._file = file
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.etag = ""

    def write(self, block: bytes) -> None:
        """Take the next bytes."""
        self._file.write(block)
        self._sha256.update(block)
        self._md5.update(block)

    def check(self, sha256: str, md5: str) -> None:
        """Compare with what the client said of its body, where it did. Raises S3Error."""
        if len(sha256) == 64 and sha256 != self._sha256.hexdigest():
            raise S3Error(400, "XAmzContentSHA256Mismatch", "the body is not what x-amz-content-sha256 says")
        if md5 and md5 != base64.b64encode(self._md5.digest()).decode():
            raise S3Error(400, "BadDigest", "the body is not what Content-MD5 says")


def page_of(query: str) -> Page:
    """What a query asks ListObjectsV2 for. Raises S3Error."""
    said = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if said.get("list-type") != "2":
        raise S3Error(501, "NotImplemented", "of a bucket only list-type=2 is answered")
    most, after = said.get("max-keys", str(MAX_KEYS)), said.get("start-after", "")
    if not (most.isascii() and most.isdigit()):
        raise S3Error(400, "InvalidArgument", f"max-keys={most!r} is no whole number")
    if token := said.get("continuation-token"):
        try:
            after = base64.urlsafe_b64decode(token).decode()
        except ValueError:
            raise S3Error(400, "InvalidArgument", "the continuation token is not one of ours") from None
    return Page(said.get("prefix", ""), said.get("delimiter", ""), after, min(int(most[:9]), MAX_KEYS))


def handler(buckets: Buckets) -> Handler:
    """What answers each request."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        bucket, _, key = unquote(request.rel_url.raw_path.lstrip("/")).partition("/")
        asked = Asked(request.method, request.path, request.rel_url.raw_query_string, request.headers, "", request.remote or "")
        try:
            if request.method == "PUT" and key:
                return await send(request, await _put(buckets, bucket, key, request))
            if request.method not in ("GET", "HEAD"):
                raise S3Error(405, "MethodNotAllowed", f"{request.method} is not answered here")
            if not (bucket or key):
                return await send(request, await asyncio.to_thread(buckets.all))
            if not key:
                listed = await asyncio.to_thread(buckets.list, bucket, page_of(asked.query))
                return await send(request, Answer(200, {"Content-Type": "application/xml"}, listed))
            answer = buckets.get(bucket, key, asked)
        except S3Error as error:
            return await send(request, error.answer())
        return await (send_section(request, answer, answer.section, Sent()) if answer.section else send(request, answer))

    return handle


async def _put(buckets: Buckets, bucket: str, key: str, request: web.BaseRequest) -> Answer:
    try:
        local = ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        local = False
    if not local:
        raise S3Error(403, "AccessDenied", "objects are put from this machine only")
    with buckets.uploading(bucket, key) as upload:
        async for block in request.content.iter_any():
            await asyncio.to_thread(upload.write, block)
        upload.check(request.headers.get("x-amz-content-sha256", ""), request.headers.get("content-md5", ""))
    return Answer(200, {"ETag": upload.etag})


def _is_key(key: str) -> bool:
    return bool(key) and "\0" not in key and all(part and not part.startswith(".") for part in key.split("/"))


def _keys(folder: Path, prefix: str) -> list[str]:
    """Keys with a prefix, in order of their bytes."""
    within = folder / prefix.rpartition("/")[0]
    if not within.resolve().is_relative_to(folder):
        return []
    found = (f"{where}/{name}"[len(str(folder)) + 1 :] for where, _, names in os.walk(within) for name in names)
    return sorted((key for key in found if key.startswith(prefix) and _is_key(key)), key=str.encode)


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _xml(rc: int, body: str) -> Answer:
    return Answer(rc, {"Content-Type": "application/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode())


async def serve(buckets: Buckets, url: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises SystemExit in words where the address is no use."""
    host, port = free_address(url)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with answering(handler(buckets), host, port):
        log.get(__name__).info("serving", address=f"{host}:{port}")
        await ended.wait()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m edge.origin", description="Object storage by S3's API over a directory.")
    parser.add_argument("--url", required=True, help="address to serve at")
    parser.add_argument("--root", type=Path, required=True, help="directory of the buckets")
    arguments = parser.parse_args()
    log.configure("origin")
    if not arguments.root.is_dir():
        raise SystemExit(f"--root {arguments.root}: there is no such directory")
    asyncio.run(serve(Buckets(arguments.root), arguments.url))


if __name__ == "__main__":
    main()

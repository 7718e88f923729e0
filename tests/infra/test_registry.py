"""The registry client: a refusal is told from an outage, whatever the other side does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable

SCHEMA = {"type": "record", "name": "R", "fields": []}


class Stub(BaseHTTPRequestHandler):
    """Answers every request as the test says, and keeps what was asked."""

    answers: list[tuple[int, bytes]]
    asked: list[tuple[str, str]]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path))
        code, body = self.answers.pop(0)
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def stub() -> Iterator[type[Stub]]:
    class Fresh(Stub):
        answers: list[tuple[int, bytes]] = []  # noqa: RUF012
        asked: list[tuple[str, str]] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    Fresh.url = f"http://127.0.0.1:{server.server_port}/apis"  # type: ignore[attr-defined]
    yield Fresh
    server.shutdown()
    server.server_close()
    thread.join()


def client(stub: type[Stub], *answers: tuple[int, object]) -> RegistryClient:
    stub.answers[:] = [(code, body if isinstance(body, bytes) else json.dumps(body).encode()) for code, body in answers]
    return RegistryClient(stub.url, timeout_s=5)  # type: ignore[attr-defined]


def test_a_refusal_keeps_the_registrys_words_and_code(stub: type[Stub]) -> None:
    with client(stub, (409, {"message": "Incompatible", "error_code": 409})) as registry, pytest.raises(RegistryError) as refusal:
        registry.register("a/b-value", SCHEMA)
    assert (refusal.value.code, str(refusal.value)) == (409, "Incompatible")
    assert stub.asked == [("POST", "/apis/subjects/a%2Fb-value/versions?normalize=true")]


@pytest.mark.parametrize("answer", [(500, {"message": "?"}), (503, b"busy"), (200, b"<html>hello</html>")])
def test_an_outage_is_no_verdict(stub: type[Stub], answer: tuple[int, object]) -> None:
    with client(stub, answer) as registry, pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1"):
        registry.schema(1)


def test_nothing_there_is_an_outage() -> None:
    with RegistryClient("http://127.0.0.1:1") as registry, pytest.raises(RegistryUnavailable, match="does not answer"):
        registry.subjects()


def test_a_refusal_without_json_keeps_the_text(stub: type[Stub]) -> None:
    with client(stub, (403, b"not you")) as registry, pytest.raises(RegistryError, match="not you"):
        registry.subjects()


def test_ids_are_asked_for_once(stub: type[Stub]) -> None:
    with client(stub, (200, {"schema": json.dumps(SCHEMA)})) as registry:
        assert registry.schema(7) == registry.schema(7) == SCHEMA
    assert len(stub.asked) == 1


def test_a_subject_that_is_not_there_has_no_versions_and_no_level(stub: type[Stub]) -> None:
    with client(stub, *[(404, {"message": "no"})] * 4) as registry:
        assert (registry.versions("s"), registry.latest("s"), registry.history("s"), registry.level("s")) == ([], None, [], "NONE")


def test_history_is_oldest_first(stub: type[Stub]) -> None:
    with client(stub, (200, [2, 1]), (200, {"schema": '"int"'}), (200, {"schema": '"long"'})) as registry:
        assert registry.history("s") == [(1, "int"), (2, "long")]
    assert [path for _, path in stub.asked] == ["/apis/subjects/s/versions", "/apis/subjects/s/versions/1", "/apis/subjects/s/versions/2"]

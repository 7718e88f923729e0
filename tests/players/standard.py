"""dash.js, hls.js and Shaka on a page of their own, each with the settings that docs/edge.md recommends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import edge.board

HERE = Path(__file__).parent
MODULES = Path(edge.board.__file__).parent / "node_modules"
VENDOR = {
    "/vendor/dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
    "/vendor/hls.js": "hls.js/dist/hls.min.js",
    "/vendor/shaka.js": "shaka-player/dist/shaka-player.compiled.js",
}
CALLED = {"dashjs": "dash.js", "hlsjs": "hls.js", "shaka": "shaka"}
"""The players by their name on the page."""
PLAYERS = tuple(CALLED)


def _files() -> Mapping[str, Path]:
    return {"/": HERE / "page.html", "/page.js": HERE / "page.js"} | {path: MODULES / name for path, name in VENDOR.items()}


@contextmanager
def page_server() -> Iterator[str]:
    """The address of the page. Skips the test in words where the players are not installed."""
    files = _files()
    if missing := [str(file) for file in files.values() if not file.exists()]:
        pytest.skip(f"the players are not installed ({', '.join(missing)}): run `headrace setup`")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = files.get(self.path)
            self.send_response(404 if file is None else 200)
            self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html; charset=utf-8")
            self.end_headers()
            if file is not None:
                self.wfile.write(file.read_bytes())

        def log_message(self, *told: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def versions(tab: Any) -> dict[str, str]:
    """Name and version of each player on the page."""
    found = tab.evaluate("Object.fromEntries(Object.entries(playing).map(([name, { version }]) => [name, version]))")
    return {name: f"{called}/{str(found[name]).lstrip('v')}" for name, called in CALLED.items()}

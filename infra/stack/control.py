"""The supervisor's control endpoint on loopback.

`GET /status`; `POST /services/<name>/kill|stop|start`; `POST /down`. Answers JSON. Requests sent by a web page of another
origin are refused, so that no site can reach it through a visitor's browser; the board's server speaks for its page.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from infra.base.ports import LOOPBACK


class Controlled(Protocol):
    """What is controlled. All of it is called on the event loop."""

    @property
    def units(self) -> Mapping[str, object]:
        """The services by name."""

    def status(self) -> dict[str, Any]:
        """How the stack and each service are."""

    def stop(self) -> None:
        """Take everything down."""

    def kill(self, name: str) -> None:
        """SIGKILL to a service, which then is started again."""

    def stop_service(self, name: str) -> Awaitable[None]:
        """End a service, and leave it so."""

    def start_service(self, name: str) -> None:
        """Start a service that was stopped."""


def serve(supervisor: Controlled, loop: asyncio.AbstractEventLoop, port: int) -> ThreadingHTTPServer:
    """Start serving on a thread of its own; calls into the supervisor happen on its loop. Call `.shutdown()` to end."""

    def on_loop(call: Callable[[], Any]) -> Any:
        """Run `call` on the loop, awaiting its result where there is one."""

        async def wrapped() -> Any:
            result = call()
            return await result if asyncio.iscoroutine(result) else result

        outcome: Future[Any] = asyncio.run_coroutine_threadsafe(wrapped(), loop)
        return outcome.result(timeout=30)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._foreign():
                return
            if self.path == "/status":
                self._answer(200, on_loop(supervisor.status))
            else:
                self._answer(404, {"error": f"there is no {self.path}; GET /status"})

        def do_POST(self) -> None:
            if self._foreign():
                return
            if self.path == "/down":
                on_loop(supervisor.stop)
                self._answer(202, {"stopping": True})
                return
            actions: dict[str, Callable[[str], Any]] = {
                "kill": supervisor.kill, "stop": supervisor.stop_service, "start": supervisor.start_service,
            }  # fmt: skip
            match self.path.strip("/").split("/"):
                case ["services", name, action] if action in actions and name in supervisor.units:
                    on_loop(lambda: actions[action](name))
                    self._answer(200, {"service": name, "did": action})
                case _:
                    self._answer(404, {"error": f"POST /services/<name>/<{'|'.join(actions)}>; names: {', '.join(supervisor.units)}"})

        def _foreign(self) -> bool:
            host = self.headers.get("Host", "").partition(":")[0]
            if self.headers.get("Origin") or host not in (LOOPBACK, "localhost"):
                self._answer(403, {"error": "the supervisor is not for web pages; call it from a process on this machine"})
                return True
            return False

        def _answer(self, code: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Status is asked every second; a line for each would bury the supervisor's own log."""

    server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="control", daemon=True).start()
    return server

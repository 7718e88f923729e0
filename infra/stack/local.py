"""The local stack seen from another process: start it, wait for it, ask it, end it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx

from infra.base.children import die_with_parent
from infra.stack.supervisor import StartFailed, tail

Progress = Callable[[dict[str, Any]], None]


class NotRunning(RuntimeError):
    """No stack runs in the state directory."""


class LocalStack:
    """The stack of one state directory, whether it runs or not."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    def locked(self) -> bool:
        """Whether a supervisor lives in this state directory."""
        path = self.state_dir / "lock"
        if not path.exists():
            return False
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def start(self, arguments: Sequence[str] = (), *, tied: bool = False, env: dict[str, str] | None = None) -> None:
        """Start a supervisor and return at once. `tied`: it ends with this process; otherwise it lives until `down`."""
        log = self.state_dir / "logs" / "supervisor.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.stack.supervisor", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, **(env or {}), "HEADRACE_STATE_DIR": str(self.state_dir)},
                preexec_fn=die_with_parent if tied else None,
            )

    def wait_ready(self, on_change: Progress = lambda status: None) -> dict[str, Any]:
        """Block until the supervisor started by `start` reports ready; returns its status. StartFailed with its words otherwise."""
        assert self._process is not None, "start() first"
        while True:
            ended = self._process.poll() is not None
            if ended:
                note = self.note()
                words = note.get("failed") if note.get("pid") == self._process.pid else None
                raise StartFailed(words or f"the supervisor ended:\n{tail(self.state_dir / 'logs' / 'supervisor.log', 15)}")
            try:
                status = self.status()
            except NotRunning:
                time.sleep(0.1)
                continue
            if status["pid"] == self._process.pid:
                on_change(status)
                if status["phase"] == "ready":
                    return status
            time.sleep(0.2)

    def wait_end(self, timeout_s: float | None = None) -> None:
        """Block until the supervisor started by `start` has ended."""
        assert self._process is not None, "start() first"
        self._process.wait(timeout_s)

    def end_started(self, timeout_s: float = 60.0) -> None:
        """End the supervisor started by `start`, at whatever point it is, and wait for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout_s)

    def settings(self) -> dict[str, Any]:
        """The settings tree of the running stack, as `stack.json` holds it. NotRunning where it is not ready."""
        try:
            return dict(json.loads((self.state_dir / "stack.json").read_text())["settings"])
        except FileNotFoundError:
            raise NotRunning(f"no stack is ready in {self.state_dir}: start one with `headrace up`") from None

    def status(self) -> dict[str, Any]:
        """The supervisor's own status."""
        return dict(self._call("GET", "/status"))

    def act(self, service: str, action: str) -> None:
        """`kill`, `stop` or `start` a service."""
        self._call("POST", f"/services/{service}/{action}")

    def down(self, timeout_s: float = 60.0) -> None:
        """End the stack and return when nothing of it is left. NotRunning where there is none; TimeoutError when it does not end."""
        if not self.locked():
            raise NotRunning(f"no stack runs in {self.state_dir}")
        try:
            self._call("POST", "/down")
        except NotRunning:  # it holds the lock and does not answer yet, or not any more
            os.kill(int(self.note()["pid"]), signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.locked():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the supervisor in {self.state_dir} did not end within {timeout_s:.0f} s: see its logs/supervisor.log")
            time.sleep(0.1)

    def note(self) -> dict[str, Any]:
        """What the last supervisor wrote about itself: pid, run, url, and `failed` when it could not start; empty where none did."""
        try:
            return dict(json.loads((self.state_dir / "supervisor.json").read_text()))
        except FileNotFoundError:
            return {}

    def _call(self, method: str, path: str) -> Any:
        url = self.note().get("url")
        if not url:
            raise NotRunning(f"no stack runs in {self.state_dir}: start one with `headrace up`")
        try:
            answer = httpx.request(method, url + path, timeout=30.0)
        except httpx.HTTPError as error:
            raise NotRunning(f"no stack runs in {self.state_dir}: its supervisor does not answer ({error})") from error
        if answer.status_code >= 400:
            raise ValueError(answer.json()["error"])
        return answer.json()

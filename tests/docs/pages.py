"""A page of docs that is executed: its files are written, its commands are run in one shell, word for word, and must say what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.base.settings import Settings
from tests.kit import eventually

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands after that, and its text."""

    language: str
    title: str
    text: str

    @property
    def is_file(self) -> bool:
        """Whether the page says to write it."""
        return bool(self.title) and self.language != "sh"


def blocks(page: str) -> list[Block]:
    """The blocks of docs/<page>, in order."""
    return [Block(*groups) for groups in BLOCK.findall((ROOT / "docs" / page).read_text())]


class Shell:
    """One bash, so that variables and background jobs live on from block to block; it ends at the first command that fails."""

    def __init__(self, folder: Path, stack: Settings, tree: Path) -> None:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        state = str(stack.state_dir.absolute())
        environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(tree), "HEADRACE_STATE_DIR": state}
        self.folder = folder
        self._bash = subprocess.Popen(
            ["bash", "-e"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def __call__(self, commands: str) -> str:
        """Run commands; what they print. AssertionError with all of it where one fails."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{commands}echo __ended\n")
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if line == "__ended\n":
                return printed
            printed += line
        raise AssertionError(f"{commands}{printed}")

    def close(self) -> None:
        """End bash and whatever it has left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.communicate(timeout=60)


def execute(page: list[Block], shell: Shell, arrived: Callable[[], None] = lambda: None) -> None:
    """Do what the page says. `arrived` is called each time that something waited for has come true."""
    for block, following in zip(page, [*page[1:], Block("", "", "")], strict=True):
        said = following.text.strip() if following.language == "text" else ""
        if block.is_file:
            _write(block, shell.folder)
        elif block.language == "sh" and block.title:
            eventually(lambda run=block.text, said=said: said in shell(run), within=120, every=1)  # type: ignore[misc]
            arrived()
        elif block.language == "sh":
            printed = shell(block.text)
            assert said in printed, f"{block.text}\nsays\n{printed}\nand not\n{said}"


def _write(block: Block, folder: Path) -> None:
    """Do what the block's title says: a file of its own, more of one that is there, or another text in its place."""
    name, _, how = block.title.partition(" ")
    file = folder / name
    assert file.exists() == bool(how), f"{name}: {how or 'is there already'}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(file.read_text() + block.text if how == "(append)" else block.text)

"""docs/add-an-event.md does what it says: its files are written into a copy of this tree, its commands are run there, word for word.

A copy, with PYTHONPATH on it, because contracts, jobs and panels are found by their place in the tree: so nothing needs a second root.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from sinks import dashboards
from tests.kit import eventually
from tests.world import copy_of_tree

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-an-event.md").read_text()
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands after that, and its text."""

    language: str
    title: str
    text: str


BLOCKS = [Block(*groups) for groups in BLOCK.findall(PAGE)]
FILES = [block for block in BLOCKS if block.title and block.language != "sh"]


class Shell:
    """One bash, so that variables and background jobs live on from block to block; it ends at the first command that fails."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this tree, committed on `main`."""
    copy_of_tree(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Before"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


@pytest.fixture
def shell(checkout: Path, stack: Settings) -> Iterator[Shell]:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    state = str(stack.state_dir.absolute())
    opened = Shell(checkout, {**os.environ, "PATH": paths, "PYTHONPATH": str(checkout), "HEADRACE_STATE_DIR": state})
    try:
        yield opened
    finally:
        opened.close()


def write(block: Block, checkout: Path) -> None:
    """Do what the block's title says: a file of its own, or more of one that is there."""
    name, _, how = block.title.partition(" ")
    file = checkout / name
    if how == "(append)":
        file.write_text(file.read_text() + block.text)
    else:
        assert not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)


def test_it_takes_at_most_six_files() -> None:
    assert len({block.title.split(" ")[0] for block in FILES}) == len(FILES) <= 6


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(shell: Shell, checkout: Path) -> None:
    expected = [following.text if following.language == "text" else "" for following in (*BLOCKS[1:], Block("", "", ""))]
    for block, said in zip(BLOCKS, expected, strict=True):
        if block in FILES:
            write(block, checkout)
        elif block.language == "sh" and block.title:
            eventually(lambda run=block.text, said=said: said in shell(run), within=120, every=1)  # type: ignore[misc]
            assert shows(checkout) == [169]
        elif block.language == "sh":
            assert said.strip() in shell(block.text)


def shows(checkout: Path) -> list[object]:
    """What the new panel shows of the namespace that the page works in."""
    (panel,) = (p for p in dashboards.load(checkout / "sinks" / "dashboards") if p.board == "seeking")
    now = datetime.now(UTC)
    client = warehouse.reader("headrace_seeking")
    try:
        return [row["value"] for row in dashboards.run(panel, client, {"from": now - timedelta(hours=1), "to": now}).records()]
    finally:
        client.close()

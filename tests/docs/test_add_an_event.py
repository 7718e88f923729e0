"""docs/add-an-event.md does what it says: its files are written into a copy of this tree, its commands are run there, word for word.

A copy, with PYTHONPATH on it, because contracts, jobs and panels are found by their place in the tree: so nothing needs a second root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from sinks import dashboards
from tests.docs.pages import Shell, blocks, execute
from tests.world import copy_of_tree

PAGE = blocks("add-an-event.md")
FILES = [block for block in PAGE if block.is_file]


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
    opened = Shell(checkout, stack, checkout)
    try:
        yield opened
    finally:
        opened.close()


def test_it_takes_at_most_six_files() -> None:
    assert len({block.title.split(" ")[0] for block in FILES}) == len(FILES) <= 6


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(shell: Shell, checkout: Path) -> None:
    def shown() -> None:
        assert shows(checkout) == [169]

    execute(PAGE, shell, shown)


def shows(checkout: Path) -> list[object]:
    """What the new panel shows of the namespace that the page works in."""
    (panel,) = (p for p in dashboards.load(checkout / "sinks" / "dashboards") if p.board == "seeking")
    now = datetime.now(UTC)
    client = warehouse.reader("headrace_seeking")
    try:
        return [row["value"] for row in dashboards.run(panel, client, {"from": now - timedelta(hours=1), "to": now}).records()]
    finally:
        client.close()

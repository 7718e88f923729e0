"""docs/teams.md does what it says: a second team, in a repository of its own, with nothing but an installed `headrace`."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.base.settings import Settings
from tests.docs.pages import ROOT, Shell, blocks, execute


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(stack: Settings, tmp_path: Path) -> None:
    shell = Shell(tmp_path, stack, ROOT)  # an installed package lies on the path behind the folder that one stands in
    try:
        execute(blocks("teams.md"), shell)
    finally:
        shell.close()

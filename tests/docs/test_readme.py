"""The README's commands are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.base.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_two_commands_are_targets_of_make() -> None:
    commands = re.findall(r"^    (make \w+)", README, re.MULTILINE)
    assert commands == ["make demo", "make test"]
    for command in [*commands, *re.findall(r"`(make [^`]+)`", README)]:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_each_page_it_names_exists() -> None:
    for page in re.findall(r"\]\((docs/[^)#]+)", README):
        assert (ROOT / page).exists(), page


def test_it_leads_to_every_page() -> None:
    named = set(re.findall(r"\]\((docs/[^)#]+)", README))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= named


@pytest.mark.stack
def test_the_commands_beside_a_demo_work(stack: Settings, tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in block.replace("build/evening.log", str(tmp_path / "evening.log")).splitlines():
        done = subprocess.run(line, shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

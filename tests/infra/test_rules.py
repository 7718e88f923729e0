"""Rules that no single module can keep: the direction of imports, and that settings and commands are documented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.cli.document import commands_table, renewed
from infra.cli.settings import every

ROOT = Path(__file__).parents[2]


def test_imports_go_down_the_flow() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_tables_of_commands_and_settings_are_current() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert renewed(text) == text, "run `python -m infra.cli.document docs/operations.md`"


def test_every_command_says_what_it_does() -> None:
    assert [row for row in commands_table() if "|  |" in row.rpartition("|")[0].rpartition("|")[0] + "|"] == []


def test_every_setting_says_what_it_means() -> None:
    assert [setting.variable for setting in every() if not setting.meaning] == []


@pytest.mark.parametrize("command", [command.callback.__name__ for command in app.registered_commands if command.callback])
def test_every_command_has_help_and_loads_nothing_for_it(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0
    heavy = "import sys; from infra.cli import app; print([m for m in ('pyflink', 'chdb', 'confluent_kafka', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"

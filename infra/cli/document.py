"""`python -m infra.cli.document docs/operations.md`: writes the tables of commands and settings between their marks.

A test compares the file with what this would write, so that neither can be forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import typer.core

from infra.cli import app
from infra.cli.settings import every


def settings_table() -> Iterator[str]:
    """Every setting: variable, default, meaning."""
    yield from ("| variable | default | meaning |", "|---|---|---|")
    yield from (f"| `{s.variable}` | {f'`{s.default}`' if s.default else ''} | {s.meaning} |" for s in every())


def commands_table() -> Iterator[str]:
    """Every command with its options."""
    yield from ("| command | what it does | options |", "|---|---|---|")
    yield from _below(typer.main.get_command(app), "headrace")


def _below(command: Any, name: str) -> Iterator[str]:
    if isinstance(command, typer.core.TyperGroup):
        for child in command.commands.values():
            yield from _below(child, f"{name} {child.name}")
        return
    words = " ".join(p.name.upper() for p in command.params if p.param_type_name == "argument")
    options = ", ".join(f"`{max(p.opts, key=len)}`" for p in command.params if p.param_type_name == "option")
    summary = " ".join((command.help or "").split("\n\n")[0].split())
    yield f"| `{name}{' ' + words if words else ''}` | {summary} | {options} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {"commands": commands_table, "settings": settings_table}


def renewed(text: str) -> str:
    """`text` with each table between its two marks renewed. ValueError where a table has no place."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: written by infra.cli.document -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the table of {name} needs the lines {begin} and {end}")
        text = "\n".join([before + begin, "", *table(), "", end + after])
    return text


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text()))

"""`headrace settings`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import BaseModel

BEGIN, END = "<!-- settings: written by `headrace settings --write` -->", "<!-- end of settings -->"
SECRET = ("password", "key")


class Setting(NamedTuple):
    """One setting: its variable, its default, its value here, its meaning."""

    variable: str
    default: str
    value: str
    meaning: str


def settings(
    write: Annotated[Path | None, typer.Option(help="Rewrite the table of settings in this Markdown file.")] = None,
) -> None:
    """Show every setting with its environment variable, and its value here where it differs from the default."""
    from infra.cli.words import out

    if write is not None:
        write.write_text(with_table(write.read_text()))
        return
    for setting in every():
        value = "" if setting.value == setting.default else f" = [bold]{setting.value}[/bold]"
        out.print(f"{setting.variable}{value}\n    {setting.meaning} ({setting.default or 'empty'})")


def every() -> Iterator[Setting]:
    """All settings, in the order of their declaration; secrets are masked."""
    from infra.base.settings import Settings
    from infra.base.settings import settings as current

    yield from _below(Settings, current(), "HEADRACE_")


def _below(model: type[BaseModel], values: BaseModel, prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        variable = f"{prefix}{name}".upper()
        if isinstance(value, BaseModel):
            yield from _below(type(value), value, variable + "__")
        else:
            default = field.get_default(call_default_factory=True)
            shown = "(set)" if value and name.endswith(SECRET) and value != default else _words(value)
            yield Setting(variable, _words(default), shown, field.description or "")


def _words(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)


def with_table(text: str) -> str:
    """`text` with the table between its two marks renewed. ValueError where it has no marks."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the file has no place for the table: it needs the lines {BEGIN} and {END}")
    rows = [f"| `{s.variable}` | {f'`{s.default}`' if s.default else ''} | {s.meaning} |" for s in every()]
    return "\n".join([before + BEGIN, "", "| variable | default | meaning |", "|---|---|---|", *rows, "", END + after])

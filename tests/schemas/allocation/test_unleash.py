"""The files of Unleash's client specification through its adapter, and what they leave to chance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.allocation.unleash import Unleash, context
from tests.kit import VECTORS, vectors

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def cases(kind: str) -> list[Any]:
    found = [
        pytest.param(file["state"], case, id=f"{file['name']}: {case['description']}")
        for path in sorted((VECTORS / "flags" / "unleash").glob("*.json"))
        for file in [json.loads(path.read_text())]
        for case in file.get(kind, [])
    ]
    return found or [pytest.param(None, None, id="absent")]


@pytest.mark.parametrize(("state", "case"), cases("tests"))
def test_is_enabled(state: Any, case: Any) -> None:
    vectors("flags")
    assert Unleash(state).is_enabled(case["toggleName"], context(case["context"], NOW, "r")) is case["expectedResult"]


@pytest.mark.parametrize(("state", "case"), cases("variantTests"))
def test_variant(state: Any, case: Any) -> None:
    vectors("flags")
    assert Unleash(state).variant(case["toggleName"], context(case["context"], NOW, "r")) == case["expectedResult"]

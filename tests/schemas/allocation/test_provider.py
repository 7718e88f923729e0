"""The OpenFeature provider, with the SDK."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from schemas.allocation.definition import spans
from schemas.allocation.engine import Exposure, Table
from schemas.allocation.provider import provider

IN_THE_NETHERLANDS = {"country": "NL", "since": {"$exists": True}}
TABLE = Table(
    {
        "flags": {
            "text": {"default": "plain"},
            "number": {"default": 3},
            "off": {"default": None},
            "loop": {"default": 1, "rules": [{"value": 2, "requires": [{"flag": "loop", "condition": {}}]}]},
            "targeted": {"default": False, "rules": [{"id": "nl", "value": True, "entry": {"condition": IN_THE_NETHERLANDS}}]},
            "shape": {"default": {"a": [1]}},
            "tested": {
                "default": "a",
                "rules": [
                    {
                        "id": "rule",
                        "experiment": "e",
                        "variations": [{"key": "control", "value": "a"}, {"key": "new", "value": "b"}],
                        "split": {"salt": "s", "units": ["member_id"], "ranges": spans([0.5, 0.5])},
                        "forced": {"tester": 1},
                    }
                ],
            },
        }
    }
)


@pytest.fixture
def exposures() -> list[Exposure]:
    return []


@pytest.fixture
def headrace(exposures: list[Exposure]) -> Any:
    return provider(lambda: TABLE, "member_id", lambda: 0, exposures.append)


@pytest.mark.parametrize(
    ("kind", "flag", "default", "expected"),
    [
        ("string", "text", "d", ("plain", "DEFAULT", None)),
        ("integer", "number", 0, (3, "DEFAULT", None)),
        ("float", "number", 0.5, (3.0, "DEFAULT", None)),
        ("object", "shape", {}, ({"a": [1]}, "DEFAULT", None)),
        ("boolean", "off", True, (True, "DISABLED", None)),
        ("boolean", "targeted", False, (True, "TARGETING_MATCH", None)),
        ("boolean", "missing", True, (True, "ERROR", "FLAG_NOT_FOUND")),
        ("boolean", "number", True, (True, "ERROR", "TYPE_MISMATCH")),
        ("integer", "targeted", 7, (7, "ERROR", "TYPE_MISMATCH")),
        ("integer", "loop", 7, (7, "ERROR", "GENERAL")),
    ],
)
def test_every_kind_and_every_error(headrace: Any, kind: str, flag: str, default: Any, expected: tuple[Any, str, str | None]) -> None:
    asked = EvaluationContext("m1", {"country": "NL", "since": datetime(2026, 1, 1, tzinfo=UTC)})
    said = getattr(headrace, f"resolve_{kind}_details")(flag, default, asked)
    value, reason, error = expected
    assert (said.value, said.reason.name) == (value, reason)
    assert (said.error_code.name if said.error_code else None) == error
    assert bool(said.error_message) is (error is not None)


def test_an_experiment_gives_its_variation_and_tells_the_exposure(headrace: Any, exposures: list[Exposure]) -> None:
    said = headrace.resolve_string_details("tested", "d", EvaluationContext("m1"))
    assert (said.reason.name, said.flag_metadata) == ("SPLIT", {"rule": "rule", "experiment": "e"})
    assert [(one.experiment, one.key, one.unit) for one in exposures] == [("e", said.variant, "m1")]
    assert headrace.resolve_string_details("tested", "d", EvaluationContext("tester")).reason.name == "TARGETING_MATCH"
    assert headrace.resolve_string_details("tested", "d", None).reason.name == "DEFAULT"
    assert headrace.get_metadata().name == "headrace"


def test_without_the_sdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openfeature", None)
    monkeypatch.setitem(sys.modules, "openfeature.provider", None)
    with pytest.raises(ImportError, match="pip install openfeature-sdk"):
        provider(lambda: TABLE, "member_id", lambda: 0)


def test_the_sdks_own_client_is_served(headrace: Any) -> None:
    api.set_provider(headrace)
    try:
        client = api.get_client()
        asked = EvaluationContext("m1", {"country": "NL", "since": "2026"})
        assert client.get_boolean_value("targeted", False, asked) is True
        assert client.get_string_details("tested", "d", asked).variant in ("control", "new")
        assert client.get_boolean_details("missing", True, asked).error_code.name == "FLAG_NOT_FOUND"
    finally:
        api.clear_providers()

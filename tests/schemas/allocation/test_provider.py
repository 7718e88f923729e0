"""The OpenFeature provider: with the SDK where it is installed, else with a double of the parts that it uses."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

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


@dataclass
class _Details:
    """FlagResolutionDetails of the SDK 0.10."""

    value: Any
    error_code: Any = None
    error_message: str | None = None
    reason: Any = None
    variant: str | None = None
    flag_metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Metadata:
    name: str


@dataclass
class _Asked:
    targeting_key: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*all_: str) -> Any:
        return Enum("names", {name: name for name in all_})  # type: ignore[misc]

    parts = {
        "openfeature": {},
        "openfeature.provider": {
            "AbstractProvider": object,
            "Metadata": dataclass(type("Metadata", (), {"__annotations__": {"name": str}})),
        },
        "openfeature.flag_evaluation": {
            "FlagResolutionDetails": _Details,
            "Reason": names("DEFAULT", "DISABLED", "ERROR", "SPLIT", "TARGETING_MATCH"),
        },
        "openfeature.exception": {"ErrorCode": names("FLAG_NOT_FOUND", "TYPE_MISMATCH", "GENERAL")},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def exposures() -> list[Exposure]:
    return []


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, exposures: list[Exposure]) -> Any:
    if find_spec("openfeature") is None:
        _double(monkeypatch)
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
    asked = _Asked("m1", {"country": "NL", "since": datetime(2026, 1, 1, tzinfo=UTC)})
    said = getattr(headrace, f"resolve_{kind}_details")(flag, default, asked)
    value, reason, error = expected
    assert (said.value, said.reason.name) == (value, reason)
    assert (said.error_code.name if said.error_code else None) == error
    assert bool(said.error_message) is (error is not None)


def test_an_experiment_gives_its_variation_and_tells_the_exposure(headrace: Any, exposures: list[Exposure]) -> None:
    said = headrace.resolve_string_details("tested", "d", _Asked("m1"))
    assert (said.reason.name, said.flag_metadata) == ("SPLIT", {"rule": "rule", "experiment": "e"})
    assert [(one.experiment, one.key, one.unit) for one in exposures] == [("e", said.variant, "m1")]
    assert headrace.resolve_string_details("tested", "d", _Asked("tester")).reason.name == "TARGETING_MATCH"
    assert headrace.resolve_string_details("tested", "d", None).reason.name == "DEFAULT"
    assert headrace.get_metadata().name == "headrace"


def test_without_the_sdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openfeature", None)
    monkeypatch.setitem(sys.modules, "openfeature.provider", None)
    with pytest.raises(ImportError, match="pip install openfeature-sdk"):
        provider(lambda: TABLE, "member_id", lambda: 0)


@pytest.mark.skipif(find_spec("openfeature") is None, reason="openfeature-sdk is not installed")
def test_the_sdks_own_client_is_served(headrace: Any) -> None:
    api, contexts = import_module("openfeature.api"), import_module("openfeature.evaluation_context")
    api.set_provider(headrace)
    try:
        client = api.get_client()
        asked = contexts.EvaluationContext("m1", {"country": "NL", "since": "2026"})
        assert client.get_boolean_value("targeted", False, asked) is True
        assert client.get_string_details("tested", "d", asked).variant in ("control", "new")
        assert client.get_boolean_details("missing", True, asked).error_code.name == "FLAG_NOT_FOUND"
    finally:
        api.clear_providers()

"""RFC 9651 against the vectors of the HTTP working group, and round trips of everything that can be written."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import structured_fields as sf
from tests.kit import VECTORS, vectors

FOLDER = VECTORS / "cmcd" / "structured_fields"
PARSE: dict[str, Callable[[str], Any]] = {"item": sf.parse_item, "list": sf.parse_list, "dictionary": sf.parse_dictionary}
SERIALISE: dict[str, Callable[[Any], str]] = {"item": sf.serialise_item, "list": sf.serialise_list, "dictionary": sf.serialise_dictionary}


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{file.stem}: {case['name']}")
        for file in sorted(FOLDER.glob("*.json"))
        for case in json.loads(Path(file).read_text())
    ]


def plain(value: Any) -> Any:
    """Our values as the vectors write them: pairs as lists, types beyond JSON as objects with `__type`."""
    if isinstance(value, dict):
        return [[k, plain(v)] for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        pair = isinstance(value, tuple) and len(value) == 2
        return [plain(value[0]), [[k, plain(v)] for k, v in value[1].items()]] if pair else [plain(v) for v in value]
    if isinstance(value, sf.Token):
        return {"__type": "token", "value": str(value)}
    if isinstance(value, sf.DisplayString):
        return {"__type": "displaystring", "value": str(value)}
    if isinstance(value, sf.Date):
        return {"__type": "date", "value": int(value)}
    if isinstance(value, bytes):
        return {"__type": "binary", "value": base64.b32encode(value).decode()}
    return value


def of_same_type(ours: Any, expected: Any) -> bool:
    """Equal, with integers and decimals kept apart as the RFC does."""
    if isinstance(ours, list) and isinstance(expected, list):
        return len(ours) == len(expected) and all(map(of_same_type, ours, expected))
    return type(ours) is type(expected) and ours == expected


@pytest.mark.parametrize("case", cases())
def test_vector(case: dict[str, Any]) -> None:
    vectors("cmcd")
    kind, text = case["header_type"], ", ".join(case["raw"])
    if case.get("must_fail"):
        with pytest.raises(sf.SyntaxViolation):
            PARSE[kind](text)
        return
    try:
        parsed = PARSE[kind](text)
    except sf.SyntaxViolation:
        assert case.get("can_fail"), f"{text!r} is allowed"
        return
    assert of_same_type(plain(parsed), case["expected"])
    assert SERIALISE[kind](parsed) == ", ".join(case.get("canonical", case["raw"]))


keys = st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,10}", fullmatch=True)
bare = st.one_of(
    st.booleans(),
    st.integers(-sf.INTEGER_MAX, sf.INTEGER_MAX),
    st.integers(-(10**14), 10**14).map(lambda n: n / 1000),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    st.from_regex(r"[A-Za-z*][A-Za-z0-9:/.]{0,10}", fullmatch=True).map(sf.Token),
    st.binary(),
    st.integers(-sf.INTEGER_MAX, sf.INTEGER_MAX).map(sf.Date),
    st.text().map(sf.DisplayString),
)
items = st.tuples(bare, st.dictionaries(keys, bare, max_size=3))
members = st.one_of(items, st.tuples(st.lists(items, max_size=4), st.dictionaries(keys, bare, max_size=3)))


@given(st.dictionaries(keys, members, max_size=6))
def test_what_is_written_is_read_back(dictionary: dict[str, Any]) -> None:
    assert plain(sf.parse_dictionary(sf.serialise_dictionary(dictionary))) == plain(dictionary)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_in_words(text: str) -> None:
    for parse in PARSE.values():
        try:
            parse(text)
        except sf.SyntaxViolation as refusal:
            assert 0 <= refusal.position <= len(text) + 1  # noqa: PT017 -- both outcomes are right


@pytest.mark.parametrize("value", [10**15, -(10**15), 1e12, float("nan"), float("inf"), "é", "\n", sf.Token("1a")])
def test_what_cannot_be_written_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        sf.serialise_item((value, {}))

"""GrowthBook's own cases through its adapter, and what the cases do not say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.allocation import growthbook as gb
from schemas.allocation.growthbook import GrowthBook
from tests.kit import VECTORS, vectors

FILE = VECTORS / "flags" / "growthbook_cases_half.json"
CASES: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}


def cases(section: str) -> list[Any]:
    """The cases of a section; one that skips where a checkout has none."""
    found = CASES.get(section, [])
    return [pytest.param(case, id=f"{index}: {case[0]}") for index, case in enumerate(found)] or [pytest.param(None, id="absent")]


def case_of(section: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize("case", cases(section))


@pytest.fixture(autouse=True)
def _present(request: pytest.FixtureRequest) -> None:
    if "case" in request.fixturenames:
        vectors("flags")


def near(value: Any) -> Any:
    """Numbers to six digits, as the cases' own runners compare them."""
    return round(value, 6) if isinstance(value, float) else [near(one) for one in value] if isinstance(value, (list, tuple)) else value


@case_of("evalCondition")
def test_condition(case: list[Any]) -> None:
    _, wanted, attributes, expected, *groups = case
    assert gb.condition(attributes, wanted, *groups) is expected


@case_of("hash")
def test_hash(case: list[Any]) -> None:
    seed, value, version, expected = case
    assert gb.gb_hash(seed, value, version) == expected


@case_of("getBucketRange")
def test_bucket_ranges(case: list[Any]) -> None:
    _, (variations, coverage, weights), expected = case
    assert near(gb.bucket_ranges(variations, coverage, weights)) == near(expected)


@case_of("feature")
def test_feature(case: list[Any]) -> None:
    _, given, key, expected = case
    assert GrowthBook(given).feature(key) == expected


@case_of("run")
def test_run(case: list[Any]) -> None:
    _, given, experiment, value, inside, hashed = case
    result = GrowthBook(given).run(experiment)
    assert (result["value"], result["inExperiment"], result["hashUsed"]) == (value, inside, hashed)


@case_of("chooseVariation")
def test_choose_variation(case: list[Any]) -> None:
    _, position, among, expected = case
    assert gb.choose_variation(position, among) == expected


@case_of("getQueryStringOverride")
def test_query_override(case: list[Any]) -> None:
    _, experiment, url, variations, expected = case
    assert gb.query_override(experiment, url, variations) == expected


@case_of("inNamespace")
def test_namespace(case: list[Any]) -> None:
    _, unit, namespace, expected = case
    assert gb.in_namespace(unit, namespace) is expected


@case_of("getEqualWeights")
def test_equal_weights(case: list[Any]) -> None:
    variations, expected = case
    assert gb.equal_weights(variations) == pytest.approx(expected, abs=1e-7)


@case_of("stickyBucket")
def test_sticky_bucket(case: list[Any]) -> None:
    _, given, documents, key, expected, afterwards = case
    one = GrowthBook(given, documents)
    assert one.feature(key).get("experimentResult") == expected
    assert one.documents == afterwards

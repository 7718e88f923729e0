"""The engine's promises: ramps that only widen, units that stay, prerequisites, holdouts, and contexts that are odd."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.allocation import growthbook, unleash
from schemas.allocation.conditions import ConditionError, compile_condition
from schemas.allocation.definition import spans
from schemas.allocation.engine import Context, Table, TableError
from schemas.allocation.hashing import SPACE

HALVES = [{"key": "control", "value": "a"}, {"key": "new", "value": "b"}]
SHARES = st.integers(0, 1000).map(lambda n: n / 1000)
WEIGHTS = st.lists(st.integers(1, 100), min_size=2, max_size=5).map(lambda ns: [n / sum(ns) for n in ns])
UNIT = st.text(min_size=1, max_size=12).filter(lambda unit: "\0" not in unit and unit.isprintable())


def experiment(**more: Any) -> dict[str, Any]:
    split = {"salt": "s", "units": ["id"], "ranges": spans([0.5, 0.5])}
    return {"experiment": "e", "variations": HALVES, "split": split, **more}


def table(*rules: dict[str, Any], **flags: Any) -> Table:
    return Table({"flags": {"f": {"default": "default", "rules": list(rules)}, **flags}})


def variation(weights: list[float], coverage: float, unit: str) -> str | None:
    arms = [{"key": str(index), "value": index} for index in range(len(weights))]
    rule = experiment(variations=arms, split={"salt": "ramp", "units": ["id"], "ranges": spans(weights, coverage)})
    exposure = table(rule).decide("f", Context({"id": unit})).exposure
    return None if exposure is None else exposure.key


@given(WEIGHTS, SHARES, SHARES, UNIT)
def test_more_coverage_never_moves_a_unit(weights: list[float], a: float, b: float, unit: str) -> None:
    before, after = variation(weights, min(a, b), unit), variation(weights, max(a, b), unit)
    assert before in (None, after)


@given(WEIGHTS, UNIT)
def test_at_full_coverage_everybody_is_in_and_at_none_nobody(weights: list[float], unit: str) -> None:
    assert variation(weights, 1.0, unit) is not None
    assert variation(weights, 0.0, unit) is None


@given(WEIGHTS, SHARES)
def test_spans_lie_beside_each_other_in_their_order(weights: list[float], coverage: float) -> None:
    whole, part = spans(weights), spans(weights, coverage)
    assert [begin for begin, _ in whole] == [0, *(below for _, below in whole[:-1])]
    assert whole[-1][1] == SPACE
    assert all(begin == first and below <= last for (begin, below), (first, last) in zip(part, whole, strict=True))


def test_a_ramp_goes_by_the_contexts_time() -> None:
    steps = [[1_000, spans([0.5, 0.5], 0.1)], [2_000, spans([0.5, 0.5], 0.5)], [3_000, spans([0.5, 0.5])]]
    ramped = table(experiment(split={"salt": "s", "units": ["id"], "ranges": [], "ramp": steps}))

    def inside(at_ms: int) -> dict[str, str]:
        decisions = {str(i): ramped.decide("f", Context({"id": str(i)}, at_ms=at_ms)) for i in range(2_000)}
        return {unit: decision.exposure.key for unit, decision in decisions.items() if decision.exposure}

    assert inside(999) == {}
    first, second, last = inside(1_000), inside(2_999), inside(3_000)
    assert 140 < len(first) < 260
    assert 900 < len(second) < 1_100
    assert len(last) == 2_000
    assert first.items() <= second.items() <= last.items()


@given(UNIT, st.sampled_from(["control", "new"]))
def test_an_assignment_sticks_whatever_targeting_and_weights_become(unit: str, key: str) -> None:
    rule = experiment(sticky={"version": 2, "units": ["id"]}, entry={"condition": {"country": "NL"}})
    rule["split"] = {"salt": "other", "units": ["id"], "ranges": spans([0.9, 0.1], 0.01)}
    kept = {f"id||{unit}": {"e__2": key}}
    exposure = table(rule).decide("f", Context({"id": unit, "country": "FI"}, assignments=kept)).exposure
    assert exposure is not None
    assert (exposure.key, exposure.sticky, exposure.remember) == (key, True, None)


def test_what_is_to_be_remembered_is_said_once() -> None:
    rule = experiment(sticky={"version": 1, "units": ["id"]})
    first = table(rule).decide("f", Context({"id": "u"}, assignments={})).exposure
    assert first is not None
    assert first.remember == ("id||u", "e__1", first.key)
    again = table(rule).decide("f", Context({"id": "u"}, assignments={"id||u": {"e__1": first.key}})).exposure
    assert again is not None
    assert (again.key, again.remember, again.sticky) == (first.key, None, True)
    assert table(rule).decide("f", Context({"id": "u"})).exposures[0].remember is None


def test_an_assignment_of_a_version_too_old_shuts_out() -> None:
    rule = experiment(sticky={"version": 2, "oldest": 2, "units": ["id"]})
    assert table(rule).decide("f", Context({"id": "u"}, assignments={"id||u": {"e__1": "new"}})).reason == "default"


def test_forced_units_get_their_variation_and_are_not_counted() -> None:
    rule = experiment(forced={"u": 1, "7": 0}, entry={"condition": {"country": "NL"}})
    for unit, value in (("u", "b"), (7, "a")):
        exposure = table(rule).decide("f", Context({"id": unit})).exposure
        assert exposure is not None
        assert (exposure.value, exposure.hashed) == (value, False)
    assert table(rule).decide("f", Context({"id": "v"}, forced={"e": 1})).value == "b"
    assert table(rule).decide("f", Context({"id": "v"}, forced={"e": 5})).value == "default"


def test_prerequisites_gate_or_skip_and_cycles_end() -> None:
    needs = {"flag": "g", "condition": {"value": True}}
    after = {"value": "after"}
    off, on = {"g": {"default": False}}, {"g": {"default": True}}
    given_ = Context({"id": "u"})
    assert table({"value": "x", "requires": [needs]}, after, **on).decide("f", given_).value == "x"
    assert table({"value": "x", "requires": [needs]}, after, **off).decide("f", given_).value == "after"
    gated = table({"value": "x", "requires": [{**needs, "gate": True}]}, after, **off).decide("f", given_)
    assert (gated.value, gated.reason) == (None, "prerequisite")
    back = {"g": {"default": True, "rules": [{"value": 1, "requires": [{"flag": "f", "condition": {}}]}]}}
    assert table({"value": "x", "requires": [needs]}, **back).decide("f", given_).reason == "cycle"


def test_exposures_of_prerequisites_and_of_what_is_passed_through_are_told() -> None:
    through = experiment(experiment="holdback", variations=[{**one, "passthrough": True} for one in HALVES])
    parent = {"g": {"default": None, "rules": [experiment(experiment="parent")]}}
    decision = table(through, {"value": "x", "requires": [{"flag": "g", "condition": {}}]}, **parent).decide("f", Context({"id": "u"}))
    assert ([one.experiment for one in decision.exposures], decision.value) == (["holdback", "parent"], "x")
    assert decision.exposure is None


@pytest.mark.parametrize("attributes", [{}, {"id": ""}, {"id": None}, {"id": 0}, {"id": []}, {"id": float("nan")}, {"id": {"a": 1}}])
def test_odd_units_raise_nothing(attributes: dict[str, Any]) -> None:
    assert table(experiment()).decide("f", Context(attributes)).value in ("default", "a", "b")


def test_who_has_no_unit_is_in_nothing() -> None:
    for attributes in ({}, {"id": ""}, {"id": None}):
        assert table(experiment()).decide("f", Context(attributes)).reason == "default"


OPERANDS = st.sampled_from(["a", "b", "$gt", "$in", "$all", "$regex", "$not", "$elemMatch", "$semverGt", "$after", "$cidr"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "$gt", "$in", "$regex", "$not"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["a", "a.b", "$or", "$not", "$and", "c"]), JSON, max_size=3),
    st.dictionaries(st.sampled_from("abc"), JSON),
)
def test_no_condition_and_no_attributes_raise_when_asked(wanted: dict[str, Any], attributes: dict[str, Any]) -> None:
    assert compile_condition(wanted, strict=False)(attributes) in (True, False)
    try:
        strict = compile_condition(wanted)
    except ConditionError:
        return
    assert strict(attributes) is compile_condition(wanted, strict=False)(attributes)


def test_a_condition_nested_without_end_is_refused() -> None:
    wanted: dict[str, Any] = {"a": 1}
    for _ in range(500):
        wanted = {"$not": wanted}
    with pytest.raises(ConditionError, match="nested more than 50 deep"):
        compile_condition(wanted)


@pytest.mark.parametrize(
    "flags",
    [
        {"f": {"rules": [{"experiment": "e", "variations": HALVES}]}},
        {"f": {"rules": [{"value": 1, "split": {"hash": "md5", "ranges": []}}]}},
        {"f": {"rules": [{"value": 1, "split": {}}]}},
        {"f": []},
        [],
        None,
    ],
)
def test_a_table_that_cannot_be_read_is_refused(flags: Any) -> None:
    with pytest.raises(TableError):
        Table({"flags": flags})


def test_unleash_rollouts_are_as_large_as_they_say_and_random_ones_take_what_they_are_given() -> None:
    strategy = {"name": "flexibleRollout", "parameters": {"rollout": "30", "stickiness": "userId", "groupId": "g"}}
    toggles = unleash.Unleash({"features": [{"name": "t", "enabled": True, "strategies": [strategy]}]})
    now = datetime(2026, 1, 1, tzinfo=UTC)
    on = sum(toggles.is_enabled("t", unleash.context({"userId": str(i)}, now, "r")) for i in range(5_000))
    assert 1_350 < on < 1_650
    chance = {"name": "gradualRolloutRandom", "parameters": {"percentage": "30"}}
    dice = unleash.Unleash({"features": [{"name": "t", "enabled": True, "strategies": [chance]}]})
    assert {dice.is_enabled("t", unleash.context({"userId": "u"}, now, str(i))) for i in range(50)} == {True, False}


def test_growthbook_contextual_bandits_take_the_first_context_that_is_met() -> None:
    rule = {"key": "b", "contextualVariations": ["x", "y"], "contextualBanditRef": "r", "weights": [0.5, 0.5], "hashVersion": 2}
    contexts = [{"leafId": 3, "condition": {"plan": "pro"}, "weights": [0, 1]}, {"leafId": 4, "condition": {}, "weights": [1, 0]}]
    given_ = {"features": {"f": {"rules": [rule]}}, "contextualBandits": {"r": {"banditVersion": 2, "contexts": contexts}}}
    pro = growthbook.GrowthBook({**given_, "attributes": {"id": "1", "plan": "pro"}}).feature("f")
    free = growthbook.GrowthBook({**given_, "attributes": {"id": "1"}}).feature("f")
    assert (pro["value"], pro["experiment"]["contextualBandit"]["leafId"], pro["experimentResult"]["variationWeights"]) == ("y", 3, [0, 1])
    assert (free["value"], free["experimentResult"]["leafId"]) == ("x", 4)
    forced = growthbook.GrowthBook({**given_, "attributes": {"id": "1", "plan": "pro"}, "forcedVariations": {"b": 0}}).feature("f")
    assert forced["experiment"]["weights"] == [0, 1]
    assert "contextualBandit" not in forced["experiment"]

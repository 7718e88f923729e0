"""Definitions: the examples are right, and everything that is wrong is said in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.allocation.definition import AnyDefinition, DefinitionError, changes, fold, problems, read, read_folder, spans
from schemas.allocation.engine import Context, Table
from schemas.allocation.measurable import unmeasurable
from schemas.catalogue import catalogue

EXAMPLES = Path(__file__).parents[3] / "schemas" / "allocation" / "examples"


def flag(**more: Any) -> AnyDefinition:
    return read(yaml.safe_dump({"kind": "flag", "key": "f", "owner": "o", "type": "string", "default": "a", "unit": "member_id", **more}))


def experiment(**more: Any) -> AnyDefinition:
    written = {
        "kind": "experiment",
        "key": "e",
        "owner": "o",
        "flag": "f",
        "unit": "member_id",
        "state": "running",
        "variations": [{"key": "control", "weight": 0.5, "value": "a"}, {"key": "new", "weight": 0.5, "value": "b"}],
        **more,
    }
    return read(yaml.safe_dump(written))


def namespace(**more: Any) -> AnyDefinition:
    return read(yaml.safe_dump({"kind": "namespace", "key": "n", "owner": "o", "unit": "member_id", **more}))


def variations(*weights: float) -> list[dict[str, Any]]:
    return [{"key": f"v{index}", "weight": weight, "value": "a"} for index, weight in enumerate(weights)]


def said(*definitions: AnyDefinition) -> str:
    return "\n".join(problems(definitions))


def test_the_examples_have_no_problem_and_hold_one_of_each_kind() -> None:
    definitions = read_folder(EXAMPLES)
    assert {one.kind for one in definitions} == {"flag", "experiment", "holdout", "namespace", "group", "metric"}
    assert set(Table(fold(definitions)).flags) == {"abr_rule", "new_player", "holdout.winter_2026"}


@pytest.mark.parametrize(
    ("definitions", "words"),
    [
        ([flag(), experiment(variations=variations(0.5, 0.4))], "the weights sum to 0.9, not to 1"),
        ([flag(), experiment(variations=variations(1))], "1 variations; an experiment compares two or more"),
        ([flag(), experiment(variations=[*variations(0.5), *variations(0.5)])], "variation v0 is there twice"),
        ([experiment()], "there is no flag f"),
        ([flag(), flag()], "flag f: is defined twice"),
        ([flag(type="number", default=1), experiment()], "value 'a' is no number"),
        ([flag(type="number", default=True)], "default True is no number"),
        ([flag(type="number", default=float("nan"))], "default nan is not finite"),
        ([flag(), experiment(when={"country": {"$near": "NL"}})], "unknown operator $near; known are $after"),
        ([flag(), experiment(when={"agent": {"$regex": "(a+"}})], "an opening bracket without a closing one at character 3"),
        ([flag(), experiment(when={"agent": {"$regex": "(?=a)b"}})], "look-around, flags and named groups are not supported"),
        ([flag(), experiment(when={"agent": {"$regex": "((x{99}){99}){99}"}})], "too large once its repetitions are written out"),
        ([flag(), experiment(when={"id": {"$inGroup": "staff"}})], "there is no group 'staff'"),
        ([flag(), experiment(when={"$gt": 3})], "$gt stands where an attribute's name is expected"),
        ([flag(), experiment(when={"age": {"$gt": 3, "years": 4}})], "operators and names stand in one object"),
        ([flag(), experiment(when={"version": {"$semverGt": "v1"}})], "'v1' is no semantic version"),
        ([flag(), experiment(when={"at": {"$after": "soon"}})], "'soon' is no time"),
        ([flag(), experiment(when={"ip": {"$cidr": ["10.0.0.0/99"]}})], "neither an address nor a network"),
        ([flag(), experiment(holdouts=["h"])], "there is no holdout h"),
        ([flag(), experiment(metrics=["m"])], "there is no metric m"),
        ([flag(), experiment(state="shipped")], "`shipped` names the variation exactly when"),
        ([flag(), experiment(state="shipped", shipped="other")], "is none of its variations"),
        ([flag(), experiment(forced={"control": ["m1"], "new": ["m1"]})], "m1 is forced into two variations"),
        ([flag(), experiment(namespace={"key": "n", "from": 0, "below": 0.5})], "there is no namespace n"),
        ([flag(), namespace(unit="device"), experiment(namespace={"key": "n", "from": 0, "below": 0.5})], "namespace n by device"),
        ([flag(), namespace(), experiment(namespace={"key": "n", "from": 0.5, "below": 0.5})], "its slice of namespace n is empty"),
        ([flag(), namespace(flags=["f"]), experiment()], "flag f belongs to the layer n, so it needs a slice"),
        ([flag(), experiment(), experiment(key="e2")], "experiments e and e2: both decide flag f"),
        ([flag(), experiment(salt="s"), experiment(key="e2", salt="s")], "have one salt, 's'"),
        (
            [
                flag(),
                namespace(),
                experiment(namespace={"key": "n", "from": 0, "below": 0.5}),
                experiment(key="e2", namespace={"key": "n", "from": 0.4, "below": 1}),
            ],
            "experiments e and e2: their slices of namespace n overlap from 0.4 below 0.5",
        ),
        (
            [
                flag(rules=[{"name": "r", "value": "b", "requires": [{"flag": "g", "when": {"value": "a"}}]}]),
                flag(key="g", rules=[{"name": "r", "value": "b", "requires": [{"flag": "h", "when": {"value": "a"}}]}]),
                flag(key="h"),
                experiment(flag="h", requires=[{"flag": "f", "when": {"value": "b"}}]),
            ],
            "flags require each other: f → g → h → f",
        ),
        (
            [flag(), experiment(ramp=[{"at": "2026-01-02T00:00:00Z", "coverage": 0.5}, {"at": "2026-01-01T00:00:00Z", "coverage": 0.1}])],
            "its ramp falls to 0.1",
        ),
    ],
)
def test_what_is_wrong_is_said(definitions: list[AnyDefinition], words: str) -> None:
    assert words in said(*definitions)
    with pytest.raises(DefinitionError):
        fold(definitions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [", "not YAML"),
        ("kind: plan", "plan"),
        ("{kind: group, key: UPPER, owner: o, members: []}", "key: String should match pattern"),
        ("{kind: group, key: g, owner: o, members: [], colour: red}", "colour: Extra inputs are not permitted"),
        ("{kind: holdout, key: h, owner: o, unit: m, share: .nan}", "share: "),
        ("{kind: holdout, key: h, owner: o, unit: m, share: 1.5}", "share: Input should be less than 1"),
        ("{kind: metric, key: m, owner: o, unit: ms, topic: t, aggregation: mean, field: f, window_s: 0, better: lower}", "window_s: "),
    ],
)
def test_a_definition_that_cannot_be_read_says_where(text: str, words: str) -> None:
    with pytest.raises(DefinitionError, match=r"here\.yaml") as error:
        read(text, "here.yaml")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"aggregation": "ratio"}, "a ratio has a denominator"),
        ({"aggregation": "mean", "denominator": "x"}, "a ratio has a denominator"),
        ({"aggregation": "quantile"}, "a quantile says which"),
        ({"aggregation": "sum", "field": None}, "sum of which field?"),
        ({"aggregation": "count"}, "count is of events, not of a field"),
        ({"aggregation": "time_to_event", "field": None}, "whole intervals of `interval_s`"),
        ({"aggregation": "time_to_event", "field": None, "interval_s": 7}, "no whole number of intervals of 7 s"),
        ({"aggregation": "mean", "interval_s": 60}, "whole intervals of `interval_s`, and nothing else has them"),
        ({"aggregation": "mean", "floor": 5, "cap": 1}, "do not rise: 5, 1"),
        ({"aggregation": "mean", "at_most": 1e12, "scale": 100_000}, "beyond 9.0072e+15, the largest measurement"),
        ({"aggregation": "mean", "when": {"e": {"$regex": "a"}}}, "$regex is none of what a metric may ask"),
        ({"aggregation": "mean", "when": {"$or": [{"e": "a"}]}}, "$or: $eq is none of what a metric may ask"),
        ({"aggregation": "mean", "when": {"e": {"$in": []}}}, "$in is of a list with something in it"),
        ({"aggregation": "mean", "when": {"e": {"$gt": None}}}, "$gt None is no text, number or truth value"),
        ({"aggregation": "mean", "when": {"e": {"$exists": 1}}}, "$exists is true or false"),
    ],
)
def test_metrics(more: dict[str, Any], words: str) -> None:
    written = {"kind": "metric", "key": "m", "owner": "o", "unit": "ms", "topic": "t", "field": "x", "window_s": 60, "better": "lower"}
    assert words in said(read(yaml.safe_dump(written | more)))


def metric(**more: Any) -> AnyDefinition:
    written = {"kind": "metric", "key": "m", "owner": "o", "unit": "ms", "topic": "t", "aggregation": "sum", "field": "x"}
    return read(yaml.safe_dump({**written, "window_s": 60, "better": "lower", **more}))


@pytest.mark.parametrize(
    ("measured", "more", "words"),
    [
        ({}, {"guardrails": ["m"]}, "guardrail m says no `guardrail_margin`"),
        ({"unit_field": "sid"}, {"metrics": ["m"]}, "allocates by member_id, metric m is of sid"),
        ({}, {"metrics": ["m"], "plan": {"primary": "other"}}, "its primary metric, other, is none of its metrics"),
        ({}, {"metrics": ["m"], "plan": {"units": 100}}, "names its `primary` metric"),
    ],
)
def test_what_an_experiment_measures(measured: dict[str, Any], more: dict[str, Any], words: str) -> None:
    assert words in said(flag(), metric(**measured), experiment(**more))
    assert said(flag(), metric(guardrail_margin=1), experiment(metrics=["m"], guardrails=["m"], plan={"primary": "m", "units": 9})) == ""


def test_metrics_of_one_topic_agree_on_what_a_measurement_is() -> None:
    assert "metrics m and n: unit_field, measurement_id and version of t differ" in said(metric(), metric(key="n", measurement_id="sid"))
    assert said(metric(), metric(key="n", measurement_id="sid", topic="u")) == ""


def test_running_experiments_together_split_by_no_more_than_can_be_kept() -> None:
    """Whatever players say: an exposure tells the segments of all experiments that it is to."""
    slices = [{"namespace": {"key": "n", "from": begin, "below": begin + 0.5}} for begin in (0, 0.5)]
    namespace = read(yaml.safe_dump({"kind": "namespace", "key": "n", "owner": "o", "unit": "member_id"}))
    countries, devices = {"country": [f"c{n}" for n in range(140)]}, {"device_type": ["tv", "web", "phone", "tablet", "headless"]}
    one, two = experiment(segments=countries, **slices[0]), experiment(key="e2", segments=devices, **slices[1])
    assert said(flag(), namespace, one, two) == ""  # 142 × 7
    more = experiment(key="e2", segments={"device_type": ["tv", "web", "phone", "tablet", "headless", "console"]}, **slices[1])
    assert "run at play, country (140) × device_type (6), have 1,136 combinations, and may have 1,000" in said(flag(), namespace, one, more)
    drafted = experiment(key="e2", state="draft", segments={"device_type": [f"d{n}" for n in range(99)]}, **slices[1])
    assert said(flag(), namespace, one, drafted) == ""
    with pytest.raises(DefinitionError, match=r"segments.country.0: String should match"):
        experiment(segments={"country": ["a b"]})
    with pytest.raises(DefinitionError, match=r"segments: .* lists the values that are told apart"):
        experiment(segments=["country"])


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"salt": "other"}, "salt changed from 'e.0' to 'other' "),
        ({"unit": "device"}, "unit changed"),
        ({"variations": variations(0.5, 0.5)}, "variations changed"),
        ({"coverage": 0.1}, "coverage fell from 0.5 to 0.1"),
        ({"namespace": {"key": "n", "from": 0, "below": 0.1}}, "its slice of the namespace moved or shrank"),
        ({"segments": {"country": ["NL"]}}, "segments changed"),
        ({"plan": {"alpha": 0.1}}, "plan changed"),
        ({"state": "draft"}, "is a draft"),
    ],
)
def test_what_may_not_change_once_units_were_told(state: str, more: dict[str, Any], words: str) -> None:
    before = [experiment(coverage=0.5, state=state)]
    wrong = "\n".join(changes(before, [experiment(**({"coverage": 0.5} | more))]))
    assert words in wrong
    assert ("while it runs" if state == "running" else "after it ran") in wrong
    assert changes(before, [experiment(**({"coverage": 0.5} | more | {"phase": 1, "salt": None}))]) == []
    assert changes([experiment(coverage=0.5, state="draft")], [experiment(**({"coverage": 0.5} | more))]) == []


def test_what_may_change_while_it_runs() -> None:
    before = [experiment(coverage=0.5)]
    assert changes(before, [experiment(coverage=0.6, metrics=["m"], about="more")]) == []
    assert changes(before, [experiment(coverage=0.5, state="stopped")]) == []
    assert changes([experiment(state="stopped")], []) == []
    assert changes([experiment(state="stopped")], [experiment()]) == []


def test_what_a_running_experiment_stands_on_may_not_change_either() -> None:
    holdout = "{kind: holdout, key: h, owner: o, unit: member_id, share: %s}"
    one = experiment(metrics=["m"], holdouts=["h"], namespace={"key": "n", "from": 0, "below": 1})
    before = [one, metric(), read(holdout % 0.3), namespace()]
    assert changes(before, before) == []
    assert changes(before, [one, metric(about="in other words", better="higher"), read(holdout % 0.3), namespace()]) == []
    wrong = changes(before, [one, metric(cap=5), read(holdout % 0.2), namespace(salt="s")])
    assert [line.partition(" changed")[0] for line in wrong] == ["metric m: cap", "holdout h: who is in it", "namespace n: who is in it"]
    assert changes(before, before[1:]) == ["experiment e: is withdrawn while it runs: stop it first"]


def test_a_holdout_gets_none_of_its_experiments() -> None:
    holdout = read("{kind: holdout, key: h, owner: o, unit: member_id, share: 0.3}")
    table = Table(fold([flag(), holdout, experiment(holdouts=["h"])]))
    held = 0
    for i in range(2_000):
        context = Context({"member_id": f"m{i}"})
        out = table.decide("holdout.h", context).value
        held += out
        assert (table.decide("f", context).reason == "default") is out
    assert 500 < held < 700


def test_experiments_in_one_namespace_exclude_each_other_and_others_do_not() -> None:
    definitions = [
        flag(),
        flag(key="g"),
        namespace(),
        experiment(namespace={"key": "n", "from": 0, "below": 0.5}),
        experiment(key="e2", namespace={"key": "n", "from": 0.5, "below": 1}),
        experiment(key="e3", flag="g"),
    ]
    table = Table(fold(definitions))
    seen = []
    for i in range(4_000):
        decisions = table.decide_all(Context({"member_id": f"m{i}"}))
        first, second = decisions["f"].exposure, decisions["g"].exposure
        assert first is not None
        assert second is not None
        seen.append((first.experiment, first.key, second.key))
    counts = {one: seen.count(one) for one in set(seen)}
    assert len(counts) == 8
    assert all(400 < count < 600 for count in counts.values()), counts


def test_what_is_shipped_goes_to_all_who_are_meant() -> None:
    table = Table(fold([flag(), experiment(state="shipped", shipped="new", when={"country": "NL"})]))
    assert table.decide("f", Context({"member_id": "m", "country": "NL"})).value == "b"
    assert table.decide("f", Context({"member_id": "m", "country": "FI"})).value == "a"


def test_thirds_are_thirds() -> None:
    assert spans([0.333333, 0.333333, 0.333333]) == [[0, 1431655765], [1431655765, 2863311530], [2863311530, 2**32]]


def test_a_catastrophic_pattern_costs_nothing() -> None:
    table = Table(fold([flag(rules=[{"name": "r", "value": "b", "when": {"agent": {"$regex": "^(a+)+(.*)*(a|aa)+$"}}}])]))
    began = time.perf_counter()
    assert table.decide("f", Context({"agent": "a" * 50_000 + "\n"})).value == "a"
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"topic": "playback.nothing"}, "there is no topic playback.nothing"),
        ({"field": "startup_s"}, "playback.qoe_session has no field startup_s"),
        ({"field": "cid"}, "cid of playback.qoe_session is a string, not int or long"),
        ({"unit_field": "visitor"}, "has no field visitor"),
        ({"unit_field": "reports"}, "reports of playback.qoe_session is a int, not string"),
        ({"version": "rebuffer_ratio"}, "rebuffer_ratio of playback.qoe_session is a double, not int or long"),
        ({"when": {"colour": "red"}}, "has no field colour, which it asks for"),
        ({"when": {"failed_start": "yes"}}, "failed_start is a boolean, which 'yes' is not"),
        ({"when": {"segments": {"$gt": True}}}, "segments is a int, which True is not"),
        ({"when": {"started_at": {"$gt": 0}}}, "started_at of playback.qoe_session is a timestamp-millis"),
    ],
)
def test_what_a_metric_asks_of_a_contract_is_there(more: dict[str, Any], words: str) -> None:
    right = {"topic": "playback.qoe_session", "field": "startup_ms", "measurement_id": "sid", "version": "reports"}
    assert unmeasurable([metric(**right, when={"device_type": {"$in": ["tv"]}, "failed_start": False})], catalogue()) == []
    assert words in "\n".join(unmeasurable([metric(**(right | more))], catalogue()))


def test_the_products_own_definitions_are_right_and_can_be_measured() -> None:
    definitions = read_folder(EXAMPLES.parents[1] / "experiments" / "definitions")
    assert unmeasurable(definitions, catalogue()) == []
    assert unmeasurable(read_folder(EXAMPLES), catalogue()) == []
    assert Table(fold(definitions)).decide("nothing", Context({"member_id": "m"})).reason == "experiment"

"""The page decides as the engine does: every outside case, and units, patterns and tables at random."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from schemas.allocation import growthbook, hashing, unleash
from schemas.allocation.conditions import OPERATORS, compile_condition
from schemas.allocation.definition import fold, read_folder
from schemas.allocation.engine import Context, Table
from schemas.allocation.growthbook import GrowthBook
from schemas.allocation.pattern import Pattern, PatternError
from tests.kit import VECTORS, vectors
from tests.schemas.allocation.node import ask, asked, plain
from tests.schemas.allocation.test_definition import EXAMPLES
from tests.schemas.allocation.test_unleash import NOW

FILE = VECTORS / "flags" / "growthbook_cases_half.json"


def test_every_growthbook_condition() -> None:
    vectors("flags")
    cases = json.loads(FILE.read_text())["evalCondition"]
    questions = [
        {"ask": "condition", "condition": wanted, "attributes": attributes, "groups": (groups or [{}])[0]}
        for _, wanted, attributes, _, *groups in cases
    ]
    answers = ask(questions)
    assert [case[0] for case, answer in zip(cases, answers, strict=True) if answer is not case[3]] == []


@pytest.mark.parametrize("section", ["feature", "stickyBucket"])
def test_every_growthbook_feature(section: str) -> None:
    vectors("flags")
    questions, expected = [], []
    for case in json.loads(FILE.read_text())[section]:
        documents = case[2] if section == "stickyBucket" else None
        key = case[3] if documents is not None else case[2]
        one = GrowthBook(case[1], documents)
        counted = {
            rule.get("key", name): 9 for name, feature in (case[1].get("features") or {}).items() for rule in feature.get("rules", [])
        }
        kept = None if one.documents is None else {name: document["assignments"] for name, document in one.documents.items()}
        given = growthbook.context(case[1], counted, kept)
        table = growthbook.table(case[1], sticky=documents is not None)
        questions.append(asked(table, key, given))
        expected.append(plain(Table(table, strict=False).decide(key, given)))
    assert ask(questions) == expected


def test_every_growthbook_experiment() -> None:
    vectors("flags")
    questions, expected = [], []
    for _, given, experiment, value, inside, hashed in json.loads(FILE.read_text())["run"]:
        flags = {**growthbook.table(given)["flags"], "\0": {"rules": [growthbook.rule_of(experiment)]}}
        table = {"groups": given.get("savedGroups") or {}, "flags": flags}
        context = growthbook.context(given, {experiment["key"]: len(experiment["variations"])})
        questions.append(asked(table, "\0", context, "run"))
        expected.append((value, inside, hashed))
    assert [(one["value"], one["inside"], one["hashed"]) for one in ask(questions)] == expected


def test_every_unleash_case() -> None:
    vectors("flags")
    questions, expected = [], []
    for path in sorted((VECTORS / "flags" / "unleash").glob("*.json")):
        file = json.loads(path.read_text())
        table = unleash.table(file["state"])
        for case in [*file.get("tests", []), *file.get("variantTests", [])]:
            questions.append(asked(table, case["toggleName"], unleash.context(case["context"], NOW, "r")))
            wanted = case["expectedResult"]
            expected.append(wanted["feature_enabled"] if isinstance(wanted, dict) else wanted)
            if isinstance(wanted, dict):
                questions.append(questions[-1])
                expected.append(wanted["name"])
    answers = [one["value"] for one in ask(questions)]
    said = [
        (answer is not None) if isinstance(wanted, bool) else (answer or {"name": "disabled"})["name"]
        for answer, wanted in zip(answers, expected, strict=True)
    ]
    assert said == expected


def test_a_hundred_thousand_units_lie_where_they_lie_in_python() -> None:
    dice = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_:äß漢😀"
    units = ["".join(dice.choices(letters, k=dice.randrange(1, 30))) for _ in range(100_000)]
    (answer,) = ask([{"ask": "buckets", "salt": "abr_hybrid.0", "units": units}])
    assert answer == hashing.buckets("abr_hybrid.0", units).tolist()


def test_the_examples_table_gives_the_same() -> None:
    table = fold(read_folder(EXAMPLES))
    dice = random.Random(3)
    contexts = [
        Context(
            {
                "member_id": f"member-{dice.randrange(10**9)}",
                "country": dice.choice(["NL", "US", "DE", "FI"]),
                "player_version": dice.choice(["4.1.9", "4.2.0", "5.0.0-rc.1"]),
                "device": dice.choice(["tv-1", "web", "STICK-2"]),
                "staff": dice.random() < 0.1,
            },
            at_ms=dice.randrange(1_790_000_000_000, 1_800_000_000_000),
        )
        for _ in range(2_000)
    ]
    (answer,) = ask([{"ask": "decide_all", "table": table, "contexts": [plain(one) for one in contexts]}])
    ours = [[decision.value for decision in Table(table).decide_all(context).values()] for context in contexts]
    assert answer == ours
    assert {"bola", "hybrid", "throughput"} == {values[0] for values in ours}


@pytest.mark.parametrize(
    ("value", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.1.2.4/31", "nonsense"], False),
        ("010.1.2.3", ["10.0.0.0/8"], False),
        ("::1", ["::1"], True),
        ("2001:db8::ff", ["2001:db8::/120"], True),
        ("2001:db8::1:ff", ["2001:db8::/120"], False),
        ("::ffff:1.2.3.4", ["::ffff:0:0/96"], True),
        ("1:2:3:4:5:6:7:8:9", ["::/0"], False),
        ("1.2.3.4", ["::/0"], False),
        ("", ["0.0.0.0/0"], False),
    ],
)
def test_networks(value: str, networks: list[str], expected: bool) -> None:
    wanted = {"ip": {"$cidr": networks}}
    assert compile_condition(wanted, strict=False)({"ip": value}) is expected
    assert ask([{"ask": "condition", "condition": wanted, "attributes": {"ip": value}, "groups": {}}]) == [expected]


def test_versions_and_texts_compare_the_same() -> None:
    dice = random.Random(9)
    versions = [
        "1.0.0",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-1",
        "1.0.0-rc.1+b",
        "v1.0.0",
        "2.10.0",
        "2.9.0",
        "01.0.0",
        "1.0",
        "",
        "1.0.0-01",
    ]
    others = [*versions, 3, 2.5, 1e-7, 1e21, True, None, "3", " 3 ", "0x10", "abc", [], [3], ["a"], {}, "2026-01-01", "2026-01-01T00:00:00"]
    names = sorted(set(OPERATORS) - {"$elemMatch", "$inGroup", "$notInGroup", "$type"})
    questions, expected = [], []
    for _ in range(4_000):
        operand: Any = dice.choice(others) if dice.random() < 0.7 else [str(dice.choice(versions)) for _ in range(2)]
        wanted = {"a": {dice.choice(names): operand}} if dice.random() < 0.9 else {"a": operand}
        attributes = {"a": dice.choice(others)} if dice.random() < 0.95 else {}
        questions.append({"ask": "condition", "condition": wanted, "attributes": attributes, "groups": {}})
        expected.append(compile_condition(wanted, strict=False)(attributes))
    answers = ask(questions)
    assert [(q["condition"], q["attributes"], a) for q, a, e in zip(questions, answers, expected, strict=True) if a is not e] == []
    assert {True, False} == set(expected)


def test_patterns_match_the_same_texts() -> None:
    dice = random.Random(5)
    parts = [*"abC.*+?|()^$", "[ab]", "[^a]", "[a-c]", "\\b", "\\B", "{1,2}", "{2}", "\\w", "\\D", "\\u0061"]
    questions, expected = [], []
    for _ in range(3_000):
        pattern = "".join(dice.choices(parts, k=dice.randrange(1, 8)))
        text = "".join(dice.choices("abcC 1", k=dice.randrange(8)))
        ignore_case = dice.random() < 0.3
        questions.append({"ask": "search", "pattern": pattern, "text": text, "ignore_case": ignore_case})
        try:
            expected.append(Pattern(pattern, ignore_case).search(text))
        except PatternError:
            expected.append("refused")
    assert ask(questions) == expected
    assert {True, False, "refused"} == set(expected)

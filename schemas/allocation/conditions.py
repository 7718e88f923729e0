"""Who is meant: conditions on a unit's attributes, compiled once and then asked in microseconds.

The language is MongoDB's as GrowthBook uses it ({"country": "US", "age": {"$gte": 18}}; their documentation "Build Your Own SDK",
specification 0.8), with JavaScript's comparisons, and the operators that Unleash adds (texts, numbers written as texts, dates, semantic
versions, networks). A path `a.b` goes into objects. What is missing is null.

A condition cannot hang: it has no loops but over its own lists and the attribute's, its depth is bounded, and `pattern` matches regular
expressions in linear time.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from schemas.allocation import javascript as js
from schemas.allocation.pattern import Pattern, PatternError

Attributes = Mapping[str, Any]
Condition = Callable[[Attributes], bool]
Test = Callable[[Any], bool]
"""Asked of one value."""

DEEPEST = 50
"""Levels of a condition in a condition."""


class ConditionError(ValueError):
    """The condition cannot be meant: an unknown operator, an operand of the wrong kind, a bad regular expression."""


def compile_condition(condition: Any, groups: Mapping[str, Sequence[Any]] | None = None, strict: bool = True) -> Condition:
    """The function that says whether attributes meet `condition`; `groups` are the lists that `$inGroup` names.

    Raises ConditionError where the condition cannot be meant; not `strict`, as products' own SDKs do it, such a part is never met.
    """
    return _Compiler(groups or {}, strict).condition(condition, 0)


class _Compiler:
    def __init__(self, groups: Mapping[str, Sequence[Any]], strict: bool) -> None:
        self.groups, self.strict = groups, strict

    def condition(self, condition: Any, depth: int) -> Condition:
        if depth > DEEPEST:
            self.refuse(f"conditions nested more than {DEEPEST} deep")
            return _never
        if not isinstance(condition, Mapping):
            self.refuse(f"a condition is a mapping of attributes to what they must be, not {condition!r}")
            return _never
        named = {key: self.test(value, depth + 1) for key, value in condition.items() if "." not in key and not key.startswith("$")}
        parts = [self.part(key, value, depth) for key, value in condition.items() if key not in named]
        return _every([*([_named(named)] if named or not parts else []), *parts])

    def part(self, key: str, value: Any, depth: int) -> Condition:
        if key == "$not":
            inner = self.condition(value, depth + 1)
            return lambda attributes: not inner(attributes)
        if key in ("$or", "$nor", "$and"):
            if not isinstance(value, list):
                self.refuse(f"{key} takes a list of conditions, not {value!r}")
                return _never
            inners = [self.condition(one, depth + 1) for one in value]
            if key == "$and":
                return _every(inners)
            if key == "$or":
                return lambda attributes: not inners or any(inner(attributes) for inner in inners)
            return lambda attributes: bool(inners) and not any(inner(attributes) for inner in inners)
        if key.startswith("$") and self.strict and key in OPERATORS:
            raise ConditionError(f"{key} stands where an attribute's name is expected: write {{attribute: {{{key}: ...}}}}")
        test, path = self.test(value, depth + 1), key.split(".")
        return lambda attributes: test(_at(attributes, path))

    def test(self, wanted: Any, depth: int, ignore_case: bool = False) -> Test:
        """What a value must be: a plain value, or an object of operators that must all hold."""
        if depth > DEEPEST:
            self.refuse(f"conditions nested more than {DEEPEST} deep")
            return _never
        if isinstance(wanted, str):
            if ignore_case:
                lowered = wanted.lower()
                return lambda value: js.text(value).lower() == lowered
            return lambda value: value == wanted if isinstance(value, str) else js.text(value) == wanted
        if isinstance(wanted, bool):
            return lambda value: value is not None and js.truthy(value) is wanted
        if js.is_number(wanted):
            return lambda value: js.number(value) == wanted
        if wanted is None:
            return lambda value: value is None
        if not _is_operators(wanted):
            if isinstance(wanted, Mapping) and self.strict and any(key in OPERATORS for key in wanted):
                raise ConditionError(f"operators and names stand in one object: {sorted(wanted)}")
            return lambda value: js.same_json(value, wanted)
        return _every([self.operator(name, operand, depth) for name, operand in wanted.items()])

    def operator(self, name: str, operand: Any, depth: int) -> Test:
        if name not in OPERATORS:
            self.refuse(f"unknown operator {name}; known are {', '.join(sorted(OPERATORS))}")
            return _never
        try:
            return OPERATORS[name](self, operand, depth)
        except (ConditionError, PatternError) as error:
            self.refuse(f"{name}: {error}")
        return _never

    def refuse(self, why: str) -> None:
        if self.strict:
            raise ConditionError(why)


def _never(_: Any) -> bool:
    return False


def _is_operators(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and bool(wanted) and all(key.startswith("$") for key in wanted)


def _every(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) and second(value)

    def test(value: Any) -> bool:
        for one in tests:  # noqa: SIM110 — all() takes twice the time, and this is asked on every request
            if not one(value):
                return False
        return True

    return test


def _named(tests: Mapping[str, Test]) -> Condition:
    """Attributes by their names alone, which most conditions ask for, in one loop."""
    pairs = tuple(tests.items())

    def condition(attributes: Attributes) -> bool:
        at = attributes.get if attributes.__class__ is dict else lambda name: _at(attributes, [name])
        for name, test in pairs:  # noqa: SIM110 — as above
            if not test(at(name)):
                return False
        return True

    return condition


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


_NUMBERS = (int, float)
Operator = Callable[[_Compiler, Any, int], Test]


def _list(operand: Any) -> list[Any]:
    if not isinstance(operand, list):
        raise ConditionError(f"takes a list, not {operand!r}")
    return operand


def _texts(operand: Any) -> list[str]:
    wanted = _list(operand)
    if not all(isinstance(one, str) for one in wanted):
        raise ConditionError(f"takes a list of texts, not {operand!r}")
    return wanted


def _fold(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _member(wanted: Sequence[Any], ignore_case: bool = False) -> Test:
    """Whether a value, or any member of a list, is one of `wanted`."""
    if ignore_case:
        wanted = [_fold(one) for one in wanted]
    texts = frozenset(one for one in wanted if isinstance(one, str))
    numbers = frozenset(one for one in wanted if js.is_number(one))
    rest = [one for one in wanted if one is None or isinstance(one, bool)]

    def has(value: Any) -> bool:
        if isinstance(value, str):
            return (value.lower() if ignore_case else value) in texts
        if js.is_number(value):
            return value in numbers
        return any(value is one for one in rest)

    if ignore_case:
        return lambda value: any(has(one) for one in value) if isinstance(value, list) else has(value)

    def test(value: Any) -> bool:
        if value.__class__ is str:  # what most are: decided without another call
            return value in texts
        return any(has(one) for one in value) if isinstance(value, list) else has(value)

    return test


def _in(negated: bool, ignore_case: bool) -> Operator:
    def build(_: _Compiler, operand: Any, __: int) -> Test:
        member = _member(_list(operand), ignore_case)
        return (lambda value: not member(value)) if negated else member

    return build


def _group(negated: bool) -> Operator:
    def build(compiler: _Compiler, operand: Any, _: int) -> Test:
        if compiler.strict and operand not in compiler.groups:
            raise ConditionError(f"there is no group {operand!r}")
        member = _member(compiler.groups.get(operand) or [] if isinstance(operand, str) else [])
        return (lambda value: not member(value)) if negated else member

    return build


_HOLDS: Mapping[frozenset[int], Callable[[Any, Any], bool]] = {
    frozenset({-1}): operator.lt,
    frozenset({-1, 0}): operator.le,
    frozenset({0}): operator.eq,
    frozenset({1}): operator.gt,
    frozenset({1, 0}): operator.ge,
    frozenset({-1, 1}): operator.ne,
}
"""What two values that can be compared must be, by which of -1, 0 and 1 is accepted."""


def _ordered(*accepted: int) -> Operator:
    holds = _HOLDS[frozenset(accepted)]

    def build(_: _Compiler, operand: Any, __: int) -> Test:
        if operand.__class__ not in _NUMBERS or operand != operand:
            return lambda value: js.compare(value, operand) in accepted

        def test(value: Any) -> bool:
            if value.__class__ in _NUMBERS and value == value:
                return holds(value, operand)
            return js.compare(value, operand) in accepted

        return test

    return build


def _read_as(what: str, read: Callable[[Any], Any], *accepted: int) -> Operator:
    """Compares what `read` makes of both sides; None from it is refused as an operand and never met as a value."""
    holds = _HOLDS[frozenset(accepted)]

    def build(_: _Compiler, operand: Any, __: int) -> Test:
        wanted = read(operand)
        if wanted is None:
            raise ConditionError(f"{operand!r} is no {what}")

        def test(value: Any) -> bool:
            ours = read(value)
            return ours is not None and holds(ours, wanted)

        return test

    return build


def _version(*accepted: int) -> Operator:
    return _read_as("version", padded_version, *accepted)


def padded_version(value: Any) -> str:
    """A version as a text that orders as versions do, after GrowthBook: no `v`, no build, numbers padded, releases after pre-releases."""
    if value.__class__ is not str:
        value = js.text(value) if js.is_number(value) else ""
    return _padded(value or "0")


@lru_cache(maxsize=1024)
def _padded(value: str) -> str:
    parts = re.split(r"[-.]", re.sub(r"^v|\+.*$", "", value))
    if len(parts) == 3:
        parts.append("~")
    return "-".join(part.rjust(5) if part.isascii() and part.isdigit() else part for part in parts)


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?", re.ASCII
)
LONGEST_VERSION = 256


def semantic_version(value: Any) -> tuple[Any, ...] | None:
    """The precedence of a version after Semantic Versioning 2.0.0, §11, as a tuple that orders; None for what is none (`v1.0.0`)."""
    matched = _SEMVER.fullmatch(value) if isinstance(value, str) and len(value) <= LONGEST_VERSION else None
    if matched is None:
        return None
    *numbers, before = matched.groups()
    identifiers = before.split(".") if before else []
    if any(one.isdigit() and len(one) > 1 and one[0] == "0" for one in identifiers):
        return None
    # Numbers come before texts, a longer list after its beginning, and no pre-release after every one.
    ranks = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in identifiers)
    return (*map(int, numbers), not before, ranks)


def _semver(*accepted: int) -> Operator:
    return _read_as("semantic version", semantic_version, *accepted)


def numeric(value: Any) -> float | None:
    """A number, or a text that is one; None for what is missing (unlike $gt, where that is 0) or no number."""
    found = math.nan if value is None else js.number(value)
    return found if found == found else None


def _numeric(*accepted: int) -> Operator:
    return _read_as("number", numeric, *accepted)


def instant(value: Any) -> datetime | None:
    """A time written after ISO 8601 (UTC where it names no zone), or milliseconds since 1970; None for what is none."""
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if js.is_number(value):
            return datetime.fromtimestamp(value / 1000, UTC)
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _dated(*accepted: int) -> Operator:
    return _read_as("time", instant, *accepted)


def _text(holds: Callable[[str, tuple[str, ...]], bool], ignore_case: bool) -> Operator:
    def build(_: _Compiler, operand: Any, __: int) -> Test:
        wanted = tuple(one.lower() if ignore_case else one for one in _texts(operand))
        return lambda value: isinstance(value, str) and holds(value.lower() if ignore_case else value, wanted)

    return build


def _contains(value: str, wanted: tuple[str, ...]) -> bool:
    return any(one in value for one in wanted)


def _cidr(compiler: _Compiler, operand: Any, _: int) -> Test:
    networks = []
    for one in _texts(operand):
        try:
            networks.append(ip_network(one, strict=False))
        except ValueError:
            compiler.refuse(f"{one!r} is neither an address nor a network")

    def test(value: Any) -> bool:
        try:
            address = ip_address(value) if isinstance(value, str) else None
        except ValueError:
            return False
        return address is not None and any(address in network for network in networks)

    return test


def _regex(negated: bool, ignore_case: bool) -> Operator:
    def build(_: _Compiler, operand: Any, __: int) -> Test:
        pattern = Pattern(operand, ignore_case)
        return lambda value: pattern.search(value if value.__class__ is str else js.text(value)) is not negated

    return build


def _all(ignore_case: bool) -> Operator:
    def build(compiler: _Compiler, operand: Any, depth: int) -> Test:
        tests = [compiler.test(one, depth + 1, ignore_case) for one in _list(operand)]
        return lambda value: isinstance(value, list) and all(any(test(one) for one in value) for test in tests)

    return build


def _elem_match(compiler: _Compiler, operand: Any, depth: int) -> Test:
    if not isinstance(operand, Mapping):
        raise ConditionError(f"takes a condition, not {operand!r}")
    test = compiler.test(operand, depth + 1) if _is_operators(operand) else compiler.condition(operand, depth + 1)
    return lambda value: isinstance(value, list) and any(js.truthy(one) and test(one) for one in value)


def _size(compiler: _Compiler, operand: Any, depth: int) -> Test:
    test = compiler.test(operand, depth + 1)
    return lambda value: isinstance(value, list) and test(len(value))


def _not(compiler: _Compiler, operand: Any, depth: int) -> Test:
    test = compiler.test(operand, depth + 1)
    return lambda value: not test(value)


def _exists(_: _Compiler, operand: Any, __: int) -> Test:
    wanted = js.truthy(operand)
    return lambda value: (value is not None) is wanted


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if js.is_number(value):
        return "number"
    return "array" if isinstance(value, (list, tuple)) else "object"


def _type(_: _Compiler, operand: Any, __: int) -> Test:
    return lambda value: _type_of(value) == operand


OPERATORS: Mapping[str, Operator] = {
    "$eq": lambda _, operand, __: lambda value: js.identical(value, operand),
    "$ne": lambda _, operand, __: lambda value: not js.identical(value, operand),
    "$lt": _ordered(-1),
    "$lte": _ordered(-1, 0),
    "$gt": _ordered(1),
    "$gte": _ordered(1, 0),
    "$exists": _exists,
    "$type": _type,
    "$not": _not,
    "$in": _in(negated=False, ignore_case=False),
    "$nin": _in(negated=True, ignore_case=False),
    "$ini": _in(negated=False, ignore_case=True),
    "$nini": _in(negated=True, ignore_case=True),
    "$inGroup": _group(negated=False),
    "$notInGroup": _group(negated=True),
    "$all": _all(ignore_case=False),
    "$alli": _all(ignore_case=True),
    "$elemMatch": _elem_match,
    "$size": _size,
    "$regex": _regex(negated=False, ignore_case=False),
    "$regexi": _regex(negated=False, ignore_case=True),
    "$notRegex": _regex(negated=True, ignore_case=False),
    "$notRegexi": _regex(negated=True, ignore_case=True),
    "$veq": _version(0),
    "$vne": _version(-1, 1),
    "$vlt": _version(-1),
    "$vlte": _version(-1, 0),
    "$vgt": _version(1),
    "$vgte": _version(1, 0),
    "$semverEq": _semver(0),
    "$semverLt": _semver(-1),
    "$semverLte": _semver(-1, 0),
    "$semverGt": _semver(1),
    "$semverGte": _semver(1, 0),
    "$numEq": _numeric(0),
    "$numLt": _numeric(-1),
    "$numLte": _numeric(-1, 0),
    "$numGt": _numeric(1),
    "$numGte": _numeric(1, 0),
    "$before": _dated(-1),
    "$after": _dated(1),
    "$startsWith": _text(str.startswith, ignore_case=False),
    "$startsWithi": _text(str.startswith, ignore_case=True),
    "$endsWith": _text(str.endswith, ignore_case=False),
    "$endsWithi": _text(str.endswith, ignore_case=True),
    "$contains": _text(_contains, ignore_case=False),
    "$containsi": _text(_contains, ignore_case=True),
    "$cidr": _cidr,
}

"""What a team writes, checked and folded into the table that decides.

A definition is one YAML document: a flag, an experiment, a holdout, a namespace, a group or a metric (`kind`). `read` checks one by
itself, `problems` all of them together, `changes` one set against the next while experiments run; each says in words what is wrong.
`fold` writes the engine's table. schemas/allocation/examples holds one of each kind.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from itertools import combinations, pairwise
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from schemas.allocation.conditions import ConditionError, compile_condition
from schemas.allocation.hashing import SPACE

SUM_TOLERANCE = Fraction(1, 100_000)
"""How far from one the weights may sum, so that three times 0.333333 is thirds; they are divided by their sum."""
MOST = 2**53
"""The largest whole number of a measurement: every double up to it is exact."""
LIVE = ("running", "stopped", "shipped")
"""States after the draft: what units were told in these must not be told otherwise."""

KINDS = ("group", "metric", "flag", "namespace", "holdout", "experiment")
"""Each after those that it is made of."""
PLAY = "play"
HOLDOUT = "holdout."
"""What the flag of a holdout begins with: nobody else's can."""
MAX_SEGMENTS = 3
"""Attributes that one experiment's read-outs are split by."""
MAX_COMBINATIONS = 1_000
"""Of the values of all attributes that running experiments are split by where they are asked: an exposure tells all of them, and sums are
kept for each combination, whatever players say of themselves."""
ASKED = ("$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$exists")
"""What a metric may ask of a field: SQL asks it, so a field that is null meets nothing but `$exists: false`."""

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Name = Key
"""Of an attribute, or a field of a contract."""
Segment = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}$")]
"""A value of an attribute that read-outs are split by."""
Aggregation = Literal["sum", "mean", "count", "proportion", "ratio", "quantile", "time_to_event"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
When = dict[str, Any]


class DefinitionError(ValueError):
    """Definitions that cannot be used; `problems` has a line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Step(_Model):
    """From `at` on, this share of the units."""

    at: AwareDatetime
    coverage: Share


class Requires(_Model):
    """What another flag must give, asked of {"value": …}. A failed gate turns the flag off, else only the rule is skipped."""

    flag: Key
    when: When
    gate: bool = False


class Rule(_Model):
    """A value for whom `when` describes, or for `coverage` of them, or for ever more of them (`ramp`)."""

    name: Key
    value: Any
    when: When = {}
    requires: list[Requires] = []
    coverage: Share = 1.0
    ramp: list[Step] = []
    salt: str | None = None


class _Named(_Model):
    """What every definition says of itself."""

    key: Key
    owner: str
    about: str = ""


class Flag(_Named):
    """A value that is decided per unit. Its rules come first, then its experiments in the order of their keys, then `default`."""

    kind: Literal["flag"]
    type: Literal["boolean", "string", "number", "object"]
    default: Any
    unit: str
    asked_at: Name = PLAY
    """Where it is decided: at the press of play, by the gateway, or by an application of that name."""
    rules: list[Rule] = []


class Group(_Named):
    """A list that conditions name ($inGroup)."""

    kind: Literal["group"]
    members: list[str | float]


class _Part(_Named):
    """Cuts all units in parts by a salt of its own: what is written, or its kind and key."""

    kind: str
    unit: str
    salt: str | None = None

    def split(self, ranges: list[list[int]]) -> dict[str, Any]:
        """The engine's split of who lies in `ranges`."""
        return {"salt": self.salt if self.salt is not None else f"{self.kind}.{self.key}", "units": [self.unit], "ranges": ranges}


class Namespace(_Part):
    """Experiments that exclude each other: each takes a slice, and slices do not overlap.

    With `flags` it is a layer (Tang et al., KDD 2010): every experiment on one of these flags has to take a slice of it.
    """

    kind: Literal["namespace"]
    flags: list[Key] = []


class Holdout(_Part):
    """A share of units that get none of the experiments which name the holdout: what all of them together are worth."""

    kind: Literal["holdout"]
    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]

    @property
    def ranges(self) -> list[list[int]]:
        """Who is held out, and who is free."""
        return spans([self.share, 1 - self.share])


class Variation(_Model):
    """One arm."""

    key: Key
    weight: Share
    value: Any


class Slice(_Model):
    """Part of a namespace: from ≤ place < below."""

    key: Key
    begin: Share = Field(alias="from")
    below: Share


class Plan(_Model):
    """What is to be found out, written down before it begins: read-outs keep to it.

    `primary` decides, at `alpha`; `units` of all variations together are the planned end, at which a relative change of `mde` is found
    with `power`. Without `units` there is no planned end. `strata` is the attribute among the segments by whose values units are
    post-stratified.
    """

    primary: Key | None = None
    alpha: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.05
    power: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.8
    mde: Annotated[Finite, Field(gt=0)] | None = None
    units: Annotated[int, Field(gt=0)] | None = None
    strata: Name | None = None


class Experiment(_Named):
    """Variations of one flag, given by hash to the units that `when` describes."""

    kind: Literal["experiment"]
    flag: Key
    unit: str
    fallback: str | None = None
    state: Literal["draft", "running", "stopped", "shipped"] = "draft"
    shipped: Key | None = None
    phase: Annotated[int, Field(ge=0)] = 0
    oldest_phase: Annotated[int, Field(ge=0)] = 0
    salt: str | None = None
    sticky: bool = False
    when: When = {}
    requires: list[Requires] = []
    namespace: Slice | None = None
    holdouts: list[Key] = []
    coverage: Share = 1.0
    ramp: list[Step] = []
    variations: list[Variation]
    forced: dict[Key, list[str]] = {}
    metrics: list[Key] = []
    guardrails: list[Key] = []
    segments: Annotated[dict[Name, Annotated[list[Segment], Field(min_length=1)]], Field(max_length=MAX_SEGMENTS)] = {}
    plan: Plan = Plan()

    @field_validator("segments", mode="before")
    @classmethod
    def _listed(cls, written: Any) -> Any:
        if isinstance(written, list):
            raise ValueError("each attribute lists the values that are told apart, such as {device_type: [tv, phone]}; the rest is `other`")
        return written

    @property
    def control(self) -> Variation:
        """The variation that the others are compared with: the first."""
        return self.variations[0]

    @property
    def measured(self) -> list[str]:
        """Keys of its metrics and guardrails, each once."""
        return list(dict.fromkeys([*self.metrics, *self.guardrails]))

    @property
    def salted(self) -> str:
        """The salt: what is written, or the key and the phase, so that a new phase deals anew."""
        return self.salt if self.salt is not None else f"{self.key}.{self.phase}"


class Metric(_Named):
    """What is measured of a unit, from its first exposure for `window_s` and, as a covariate, for `covariate_s` before it.

    One measurement is what one event of `topic` says of the unit in `unit_field`: `field`, where `when` holds. It is counted in whole
    numbers, value × `scale`, rounded half to even, and no measurement at all where it is null, not finite, or beyond `at_least` and
    `at_most`, which no true value is; between those, `floor` and `cap` take its place where it lies beyond them. Both bounds are in `unit`
    and of a ratio hold for the denominator, too. Of several events with one `measurement_id` the one with the highest `version` counts.

    What the unit's measurements in a time come to (`aggregation`): their sum or count; their mean, rounded to a small unit; 1 if any is
    not 0, else 0 (proportion; without a field, if there is any); Σ field / Σ denominator (ratio); all of them (quantile); the time to the
    first, in whole `interval_s` (time_to_event).
    """

    kind: Literal["metric"]
    unit: str
    topic: str
    unit_field: Name = "member_id"
    measurement_id: Name = "event_id"
    version: Name | None = None
    field: Name | None = None
    denominator: Name | None = None
    when: When = {}
    aggregation: Aggregation
    quantile: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    interval_s: Annotated[int, Field(gt=0)] | None = None
    scale: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    at_least: Finite | None = None
    at_most: Finite | None = None
    floor: Finite | None = None
    cap: Finite | None = None
    window_s: Annotated[int, Field(gt=0)]
    covariate_s: Annotated[int, Field(ge=0)] = 7 * 86_400
    better: Literal["higher", "lower"]
    guardrail_margin: Annotated[Finite, Field(ge=0)] | None = None

    @property
    def source(self) -> tuple[str, str, str, str | None]:
        """What metrics of one topic must agree on, because an event is one measurement for all of them."""
        return self.topic, self.unit_field, self.measurement_id, self.version

    @property
    def meaning(self) -> dict[str, Any]:
        """All that its figures depend on: other figures are another metric's."""
        return self.model_dump(exclude={"owner", "about", "better", "guardrail_margin"})


AnyDefinition = Flag | Group | Namespace | Holdout | Experiment | Metric
_DEFINITION: TypeAdapter[Any] = TypeAdapter(Annotated[AnyDefinition, Field(discriminator="kind")])


def read(text: str, where: str = "the definition") -> AnyDefinition:
    """One definition of a YAML document, checked by itself. Raises DefinitionError."""
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DefinitionError([f"{where}: not YAML: {error}"]) from None
    return _read(written, where)


def load(document: str, where: str = "the definition") -> AnyDefinition:
    """One definition of what `dump` wrote, checked by itself. Raises DefinitionError."""
    try:
        written = json.loads(document)
    except ValueError as error:
        raise DefinitionError([f"{where}: not JSON: {error}"]) from None
    return _read(written, where)


def dump(definition: AnyDefinition) -> str:
    """As JSON, what was left out left out: the same definition is the same text."""
    return json.dumps(definition.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=True, ensure_ascii=False)


def _read(written: Any, where: str) -> AnyDefinition:
    try:
        read: AnyDefinition = _DEFINITION.validate_python(written)
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(str(part) for part in one['loc'][1:]) or 'kind'}: {one['msg']}" for one in error.errors()]
        raise DefinitionError(lines) from None
    return read


def read_folder(folder: Path) -> list[AnyDefinition]:
    """All definitions of a folder's *.yaml, checked by themselves and together. Raises DefinitionError with everything that is wrong."""
    found, wrong = read_each(folder)
    wrong += problems(found)
    if wrong:
        raise DefinitionError(wrong)
    return found


def read_each(folder: Path) -> tuple[list[AnyDefinition], list[str]]:
    """The definitions of a folder's *.yaml, each checked by itself, and what is wrong with the others."""
    found: list[AnyDefinition] = []
    wrong: list[str] = []
    for path in sorted(folder.rglob("*.yaml")):
        try:
            found.append(read(path.read_text(encoding="utf-8"), str(path.relative_to(folder))))
        except DefinitionError as error:
            wrong += error.problems
        except (OSError, UnicodeDecodeError) as error:
            wrong.append(f"{path.relative_to(folder)}: cannot be read: {error}")
    return found, wrong


def problems(definitions: Iterable[AnyDefinition]) -> list[str]:
    """What is wrong with definitions that are used together; a line each, none where all is well."""
    return list(_Checker(list(definitions)).all())


def spans(weights: Sequence[float], coverage: float = 1.0) -> list[list[int]]:
    """The buckets of each weight, [first, below), shape (len(weights), 2): at its place in [0, 2³²), `coverage` of its length.

    Computed in decimals as they were written, so that it is the same everywhere; more coverage moves ends outwards only.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    total, begin, found = sum(exact) or Fraction(1), Fraction(0), []
    for weight in exact:
        share = weight / total
        found.append([int(begin * SPACE), int((begin + Fraction(str(coverage)) * share) * SPACE)])
        begin += share
    return found


def fold(definitions: Iterable[AnyDefinition]) -> dict[str, Any]:
    """The engine's table. Raises DefinitionError where `problems` finds one."""
    definitions = list(definitions)
    if wrong := problems(definitions):
        raise DefinitionError(wrong)
    return folded(definitions)


def folded(definitions: Sequence[AnyDefinition]) -> dict[str, Any]:
    """The same of definitions that `problems` found nothing in."""
    holdouts = {one.key: one for one in definitions if isinstance(one, Holdout)}
    namespaces = {one.key: one for one in definitions if isinstance(one, Namespace)}
    experiments: dict[str, list[Experiment]] = defaultdict(list)
    for one in sorted((one for one in definitions if isinstance(one, Experiment)), key=lambda one: one.key):
        experiments[one.flag].append(one)
    flags: dict[str, Any] = {}
    for flag in sorted((one for one in definitions if isinstance(one, Flag)), key=lambda one: one.key):
        rules = [_rule(flag, rule) for rule in flag.rules]
        rules += [_experiment(one, namespaces, holdouts) for one in experiments[flag.key] if one.state == "running"]
        rules += [_shipped(one) for one in experiments[flag.key] if one.state == "shipped"]
        flags[flag.key] = {"default": _plain(flag.default), "rules": rules}
    for key, holdout in sorted(holdouts.items()):
        flags[f"{HOLDOUT}{key}"] = {"default": False, "rules": [_holdout_rule(holdout)]}
    return {"groups": {one.key: one.members for one in definitions if isinstance(one, Group)}, "flags": flags}


def changes(before: Iterable[AnyDefinition], after: Iterable[AnyDefinition]) -> list[str]:
    """What may not change once units were told, yet does; a line each. A higher `phase` deals anew and may change everything.

    `after` is all there is from now on: what is missing there is withdrawn.
    """
    before, after = list(before), list(after)
    nows = {one.key: one for one in after if isinstance(one, Experiment)}
    wrong = []
    for was in before:
        if not isinstance(was, Experiment) or was.state not in LIVE:
            continue
        now = nows.get(was.key)
        if now is None:
            wrong += [f"experiment {was.key}: is withdrawn while it runs: stop it first"] if was.state == "running" else []
        elif now.phase <= was.phase:
            wrong += _changed(was, now)
    return [*wrong, *_other_figures(before, after)]


def _changed(was: Experiment, now: Experiment) -> Iterator[str]:
    """One experiment, live before, in the same phase."""
    while_ = "while it runs" if was.state == "running" else "after it ran"
    if now.state not in LIVE:
        yield f"experiment {now.key}: is a {now.state} {while_}: stop it, or raise `phase` to deal anew"
    fixed = {
        "salt": (was.salted, now.salted),
        "unit": ((was.unit, was.fallback), (now.unit, now.fallback)),
        "phase": (was.phase, now.phase),
        "flag": (was.flag, now.flag),
        "variations": ([(one.key, one.weight) for one in was.variations], [(one.key, one.weight) for one in now.variations]),
        "values": ([one.value for one in was.variations], [one.value for one in now.variations]),
        "segments": (was.segments, now.segments),
        "plan": (was.plan.model_dump(), now.plan.model_dump()),
    }
    for name, (old, new) in fixed.items():
        if old != new:
            yield f"experiment {now.key}: {name} changed from {old!r} to {new!r} {while_}: raise `phase` to deal anew"
    if not _widens(was.namespace, now.namespace):
        yield f"experiment {now.key}: its slice of the namespace moved or shrank {while_}: raise `phase` to deal anew"
    if now.state == "running" and _last(now) < _last(was):
        yield f"experiment {now.key}: coverage fell from {_last(was)} to {_last(now)} {while_}: stop it, or raise `phase`"


def _other_figures(before: Sequence[AnyDefinition], after: Sequence[AnyDefinition]) -> Iterator[str]:
    """Metrics and holdouts that running experiments stand on, and that would no longer be what they were."""
    running = [one for one in before if isinstance(one, Experiment) and one.state == "running"]
    metrics = {key: one.key for one in running for key in one.measured}
    nows = {(one.kind, one.key): one for one in after}
    for was in before:
        now = nows.get((was.kind, was.key))
        if isinstance(was, Metric) and isinstance(now, Metric) and was.key in metrics and was.meaning != now.meaning:
            names = ", ".join(name for name, value in now.meaning.items() if was.meaning[name] != value)
            yield f"metric {was.key}: {names} changed while experiment {metrics[was.key]} runs: give the new metric a key of its own"
        if isinstance(was, (Holdout, Namespace)) and isinstance(now, (Holdout, Namespace)):
            users = [one.key for one in running if was.key in one.holdouts or (one.namespace and one.namespace.key == was.key)]
            if users and (was.split([]), getattr(was, "share", None)) != (now.split([]), getattr(now, "share", None)):
                yield f"{was.kind} {was.key}: who is in it changed while experiment {users[0]} runs: stop it first"


def _last(experiment: Experiment) -> float:
    return experiment.ramp[-1].coverage if experiment.ramp else experiment.coverage


def _widens(was: Slice | None, now: Slice | None) -> bool:
    if was is None or now is None:
        return now is None
    return was.key == now.key and now.begin <= was.begin and now.below >= was.below


class _Checker:
    def __init__(self, definitions: list[AnyDefinition]) -> None:
        self.definitions = definitions
        self.flags = {one.key: one for one in definitions if isinstance(one, Flag)}
        self.namespaces = {one.key: one for one in definitions if isinstance(one, Namespace)}
        self.holdouts = {one.key: one for one in definitions if isinstance(one, Holdout)}
        self.metrics = {one.key: one for one in definitions if isinstance(one, Metric)}
        self.groups = {one.key: one.members for one in definitions if isinstance(one, Group)}
        self.experiments = [one for one in definitions if isinstance(one, Experiment)]

    def all(self) -> Iterator[str]:
        seen = set()
        for one in self.definitions:
            if (one.kind, one.key) in seen:
                yield f"{one.kind} {one.key}: is defined twice"
            seen.add((one.kind, one.key))
        for flag in self.flags.values():
            yield from self.flag(flag)
        for experiment in self.experiments:
            yield from self.experiment(experiment)
        for one in self.definitions:
            if isinstance(one, Metric):
                yield from self.metric(one)
        for namespace in self.namespaces.values():
            yield from (f"namespace {namespace.key}: there is no flag {key}" for key in namespace.flags if key not in self.flags)
        yield from self.sources()
        yield from self.together()
        yield from self.cycles()

    def flag(self, flag: Flag) -> Iterator[str]:
        where = f"flag {flag.key}"
        yield from self.typed(where, flag, "default", flag.default)
        for rule in flag.rules:
            inside = f"{where}, rule {rule.name}"
            yield from self.typed(inside, flag, "value", rule.value)
            yield from self.condition(inside, rule.when, self.groups)
            yield from self.requirements(inside, rule.requires)
            yield from self.ramp(inside, rule.ramp)

    def experiment(self, one: Experiment) -> Iterator[str]:
        where = f"experiment {one.key}"
        keys = [variation.key for variation in one.variations]
        if len(keys) < 2:
            yield f"{where}: {len(keys)} variations; an experiment compares two or more"
        yield from (f"{where}: variation {key} is there twice" for key in sorted({key for key in keys if keys.count(key) > 1}))
        total = sum((Fraction(str(variation.weight)) for variation in one.variations), Fraction(0))
        if abs(total - 1) > SUM_TOLERANCE:
            yield f"{where}: the weights sum to {float(total):g}, not to 1"
        if one.flag not in self.flags:
            yield f"{where}: there is no flag {one.flag}"
        else:
            for variation in one.variations:
                yield from self.typed(f"{where}, variation {variation.key}", self.flags[one.flag], "value", variation.value)
        yield from self.condition(where, one.when, self.groups)
        yield from self.requirements(where, one.requires)
        yield from self.ramp(where, one.ramp)
        if one.oldest_phase > one.phase:
            yield f"{where}: oldest_phase {one.oldest_phase} is after its phase {one.phase}"
        if (one.state == "shipped") is (one.shipped is None):
            yield f"{where}: `shipped` names the variation exactly when the state is shipped"
        if one.shipped is not None and one.shipped not in keys:
            yield f"{where}: what is shipped, {one.shipped}, is none of its variations"
        yield from (f"{where}: forces into {key}, which is none of its variations" for key in one.forced if key not in keys)
        units = [unit for forced in one.forced.values() for unit in forced]
        yield from (f"{where}: {unit} is forced into two variations" for unit in sorted({unit for unit in units if units.count(unit) > 1}))
        yield from self.measured(where, one)
        for key in one.holdouts:
            if key not in self.holdouts:
                yield f"{where}: there is no holdout {key}"
            elif self.holdouts[key].unit != one.unit:
                yield f"{where}: allocates by {one.unit}, holdout {key} by {self.holdouts[key].unit}"
        if one.namespace is not None:
            yield from self.slice(where, one, one.namespace)

    def measured(self, where: str, one: Experiment) -> Iterator[str]:
        for key in one.measured:
            if key not in self.metrics:
                yield f"{where}: there is no metric {key}"
            elif self.metrics[key].unit_field not in (one.unit, one.fallback):
                yield f"{where}: allocates by {one.unit}, metric {key} is of {self.metrics[key].unit_field}"
        for key in one.guardrails:
            if key in self.metrics and self.metrics[key].guardrail_margin is None:
                yield f"{where}: guardrail {key} says no `guardrail_margin`"
        if one.plan.primary is not None and one.plan.primary not in one.metrics:
            yield f"{where}: its primary metric, {one.plan.primary}, is none of its metrics"
        if one.plan.strata is not None and one.plan.strata not in one.segments:
            yield f"{where}: its strata are by {one.plan.strata}, which is none of its segments"
        if one.plan.primary is None and (one.plan.mde is not None or one.plan.units is not None):
            yield f"{where}: a plan with `mde` or `units` names its `primary` metric"

    def slice(self, where: str, one: Experiment, part: Slice) -> Iterator[str]:
        if part.begin >= part.below:
            yield f"{where}: its slice of namespace {part.key} is empty, from {part.begin} below {part.below}"
        if part.key not in self.namespaces:
            yield f"{where}: there is no namespace {part.key}"
        elif self.namespaces[part.key].unit != one.unit:
            yield f"{where}: allocates by {one.unit}, namespace {part.key} by {self.namespaces[part.key].unit}"

    def metric(self, metric: Metric) -> Iterator[str]:
        where = f"metric {metric.key}"
        if (metric.aggregation == "ratio") is (metric.denominator is None):
            yield f"{where}: a ratio has a denominator, and nothing else has"
        if (metric.aggregation == "quantile") is (metric.quantile is None):
            yield f"{where}: a quantile says which (`quantile`), and nothing else does"
        if (metric.aggregation == "time_to_event") is (metric.interval_s is None):
            yield f"{where}: a time to an event is counted in whole intervals of `interval_s`, and nothing else has them"
        if metric.aggregation in ("count", "time_to_event") and metric.field is not None:
            yield f"{where}: {metric.aggregation} is of events, not of a field: say which events by `when`"
        if metric.aggregation not in ("count", "proportion", "time_to_event") and metric.field is None:
            yield f"{where}: {metric.aggregation} of which field?"
        if metric.interval_s and metric.window_s % metric.interval_s:
            yield f"{where}: its window of {metric.window_s} s is no whole number of intervals of {metric.interval_s} s"
        bounds = [bound for bound in (metric.at_least, metric.floor, metric.cap, metric.at_most) if bound is not None]
        if any(a > b for a, b in pairwise(bounds)):
            yield f"{where}: `at_least`, `floor`, `cap` and `at_most` do not rise: {', '.join(f'{bound:g}' for bound in bounds)}"
        if any(abs(bound) * metric.scale > MOST for bound in bounds):
            yield f"{where}: a bound times its scale of {metric.scale} is beyond {MOST:g}, the largest measurement"
        yield from self.asked(where, metric.when)

    def asked(self, where: str, when: When) -> Iterator[str]:
        """A metric's condition, which SQL asks: fields against constants."""
        for name, asked in when.items():
            for operator, value in (asked if isinstance(asked, dict) else {"$eq": asked}).items():
                if name.startswith("$") or operator not in ASKED:
                    yield f"{where}: {name}: {operator} is none of what a metric may ask of a field: {', '.join(ASKED)}"
                    continue
                many = operator in ("$in", "$nin")
                if many and not (isinstance(value, list) and value):
                    yield f"{where}: {name}: {operator} is of a list with something in it"
                elif not all(isinstance(one, (str, int, float)) and one == one for one in (value if many else [value])):
                    yield f"{where}: {name}: {operator} {value!r} is no text, number or truth value"
                elif operator == "$exists" and not isinstance(value, bool):
                    yield f"{where}: {name}: $exists is true or false"

    def sources(self) -> Iterator[str]:
        """Metrics of one topic that do not agree on what one measurement is."""
        first: dict[str, Metric] = {}
        for metric in sorted((one for one in self.definitions if isinstance(one, Metric)), key=lambda one: one.key):
            other = first.setdefault(metric.topic, metric)
            if metric.source != other.source:
                yield f"metrics {other.key} and {metric.key}: unit_field, measurement_id and version of {metric.topic} differ"

    def together(self) -> Iterator[str]:
        """What running experiments do to each other."""
        running = sorted((one for one in self.experiments if one.state == "running"), key=lambda one: one.key)
        layers = {flag: layer.key for layer in self.namespaces.values() for flag in layer.flags}
        for one in running:
            if one.flag in layers and (one.namespace is None or one.namespace.key != layers[one.flag]):
                yield f"experiment {one.key}: flag {one.flag} belongs to the layer {layers[one.flag]}, so it needs a slice of that"
        yield from self.combined(running)
        for a, b in _close(running):
            apart = False
            if a.namespace and b.namespace and a.namespace.key == b.namespace.key:
                begin, below = max(a.namespace.begin, b.namespace.begin), min(a.namespace.below, b.namespace.below)
                apart = begin >= below
                if not apart:
                    both = f"from {begin:g} below {below:g}"
                    yield f"experiments {a.key} and {b.key}: their slices of namespace {a.namespace.key} overlap {both}"
                    continue
            if a.flag == b.flag and not apart:
                yield f"experiments {a.key} and {b.key}: both decide flag {a.flag}: give them slices of one namespace"
            if a.salted == b.salted:
                yield f"experiments {a.key} and {b.key}: have one salt, {a.salted!r}, so each tells which variation of the other"

    def combined(self, running: Sequence[Experiment]) -> Iterator[str]:
        """Segments that are too many together; each attribute may also be something else, or not told."""
        places: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for one in running:
            for name, values in one.segments.items() if one.flag in self.flags else ():
                places[self.flags[one.flag].asked_at][name].update(values)
        for place, names in sorted(places.items()):
            if (count := prod(len(values) + 2 for values in names.values())) > MAX_COMBINATIONS:
                of = " × ".join(f"{name} ({len(values)})" for name, values in sorted(names.items()))
                yield (
                    f"segments of the experiments that run at {place}, {of}, have {count:,} combinations, and may have "
                    f"{MAX_COMBINATIONS:,}: split by fewer attributes, or list fewer values"
                )

    def cycles(self) -> Iterator[str]:
        """Flags that require each other."""
        needs: dict[str, set[str]] = {key: {one.flag for rule in flag.rules for one in rule.requires} for key, flag in self.flags.items()}
        for experiment in self.experiments:
            needs.setdefault(experiment.flag, set()).update(one.flag for one in experiment.requires)
        done: set[str] = set()
        for start in sorted(needs):
            path, waiting = [start], [iter(sorted(needs[start]))]
            while waiting and start not in done:
                following = next(waiting[-1], None)
                if following is None:
                    waiting.pop()
                    done.add(path.pop())
                elif following in path:
                    yield f"flags require each other: {' → '.join([*path[path.index(following) :], following])}"
                elif following not in done:
                    path.append(following)
                    waiting.append(iter(sorted(needs.get(following, ()))))

    def typed(self, where: str, flag: Flag, what: str, value: Any) -> Iterator[str]:
        kinds = {"boolean": bool, "string": str, "number": (int, float), "object": (dict, list)}
        if not isinstance(value, kinds[flag.type]) or (flag.type == "number" and isinstance(value, bool)):  # type: ignore[arg-type]
            yield f"{where}: {what} {value!r} is no {flag.type}, which flag {flag.key} gives"
        elif isinstance(value, float) and (value != value or abs(value) == float("inf")):
            yield f"{where}: {what} {value!r} is not finite"

    def condition(self, where: str, when: When, groups: Mapping[str, Any] | None = None) -> Iterator[str]:
        try:
            compile_condition(_plain(when), groups)
        except ConditionError as error:
            yield f"{where}: {error}"

    def requirements(self, where: str, requires: Sequence[Requires]) -> Iterator[str]:
        for one in requires:
            if one.flag not in self.flags:
                yield f"{where}: there is no flag {one.flag}, which it requires"
            yield from self.condition(where, one.when)

    def ramp(self, where: str, ramp: Sequence[Step]) -> Iterator[str]:
        for one, following in pairwise(ramp):
            if following.at <= one.at:
                yield f"{where}: its ramp goes back in time, at {following.at.isoformat()}"
            if following.coverage < one.coverage:
                yield f"{where}: its ramp falls to {following.coverage:g} at {following.at.isoformat()}: who was in would be out"


def _close(experiments: Sequence[Experiment]) -> list[tuple[Experiment, Experiment]]:
    """Pairs with a flag, a namespace or a salt in common, in order: of thousands of experiments few."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, one in enumerate(experiments):
        groups["flag", one.flag].append(index)
        groups["salt", one.salted].append(index)
        if one.namespace is not None:
            groups["namespace", one.namespace.key].append(index)
    pairs = {pair for group in groups.values() for pair in combinations(group, 2)}
    return [(experiments[a], experiments[b]) for a, b in sorted(pairs)]


def _rule(flag: Flag, rule: Rule) -> dict[str, Any]:
    salt = rule.salt if rule.salt is not None else f"{flag.key}/{rule.name}"
    split = None if rule.coverage == 1.0 and not rule.ramp else _split(salt, [flag.unit], [1.0], rule.coverage, rule.ramp)
    said = {"id": rule.name, "requires": _requires(rule.requires), "entry": {"condition": _plain(rule.when)}, "value": _plain(rule.value)}
    return said | ({"split": split} if split else {})


def _experiment(one: Experiment, namespaces: Mapping[str, Namespace], holdouts: Mapping[str, Holdout]) -> dict[str, Any]:
    units = [one.unit, one.fallback] if one.fallback else [one.unit]
    entry: dict[str, Any] = {"condition": _plain(one.when)}
    if one.namespace is not None:
        bounds = [int(Fraction(str(bound)) * SPACE) for bound in (one.namespace.begin, one.namespace.below)]
        entry["filters"] = [namespaces[one.namespace.key].split([bounds])]
    indexes = {variation.key: index for index, variation in enumerate(one.variations)}
    rule: dict[str, Any] = {
        "id": one.key,
        "experiment": one.key,
        "requires": _requires(one.requires),
        "filters": [holdouts[key].split(holdouts[key].ranges[1:]) for key in one.holdouts],
        "entry": entry,
        "split": _split(one.salted, units, [variation.weight for variation in one.variations], one.coverage, one.ramp),
        "variations": [{"key": variation.key, "value": _plain(variation.value)} for variation in one.variations],
        "forced": {unit: indexes[key] for key, forced in one.forced.items() for unit in forced},
    }
    if one.sticky:
        rule["sticky"] = {"version": one.phase, "oldest": one.oldest_phase, "units": units}
    return rule


def _shipped(one: Experiment) -> dict[str, Any]:
    value = next(variation.value for variation in one.variations if variation.key == one.shipped)
    return {"id": one.key, "requires": _requires(one.requires), "entry": {"condition": _plain(one.when)}, "value": _plain(value)}


def _holdout_rule(holdout: Holdout) -> dict[str, Any]:
    return {
        "id": holdout.key,
        "experiment": f"{HOLDOUT}{holdout.key}",
        "split": holdout.split(holdout.ranges),
        "variations": [{"key": "held", "value": True}, {"key": "free", "value": False}],
    }


def _split(salt: str, units: list[str], weights: Sequence[float], coverage: float, ramp: Sequence[Step]) -> dict[str, Any]:
    """Before a ramp's first step nobody is in."""
    split: dict[str, Any] = {"hash": "murmur3", "salt": salt, "units": units, "ranges": [] if ramp else spans(weights, coverage)}
    if ramp:
        split["ramp"] = [[round(step.at.timestamp() * 1000), spans(weights, step.coverage)] for step in ramp]
    return split


def _requires(requires: Sequence[Requires]) -> list[dict[str, Any]]:
    return [{"flag": one.flag, "condition": _plain(one.when), "gate": one.gate} for one in requires]


def _plain(value: Any) -> Any:
    """As JSON holds it: YAML's times become texts."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value

"""GrowthBook's features and experiments on our engine.

After their documentation "Build Your Own SDK" (specification 0.8) and their JavaScript SDK, whose behaviour their cases fix. What is here
is data to data: `table` writes an engine table, `context` an engine context, `feature_result` and `experiment_result` say it in their
words. A regular expression that cannot be matched in linear time is, like an invalid one, never met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.allocation import hashing
from schemas.allocation import javascript as js
from schemas.allocation.conditions import compile_condition
from schemas.allocation.engine import Context, Exposure, Ranges, Table, choose, ranges

HASHES = {1: "growthbook1", 2: "growthbook2"}
REASONS = {
    "default": "defaultValue",
    "unknown": "unknownFeature",
    "prerequisite": "prerequisite",
    "cycle": "cyclicPrerequisite",
    "rollout": "force",
    "experiment": "experiment",
}
RULE_FIELDS = (
    "coverage",
    "weights",
    "hashAttribute",
    "fallbackAttribute",
    "disableStickyBucketing",
    "bucketVersion",
    "minBucketVersion",
    "namespace",
    "meta",
    "ranges",
    "name",
    "phase",
    "seed",
    "hashVersion",
    "filters",
    "condition",
)
"""What an experiment takes over from the rule that runs it, in this order."""
EVEN_ZERO = ("coverage", "bucketVersion", "minBucketVersion")
WITHOUT_A_CONTEXT = -1
"""The leaf of a contextual bandit for who is in none of its contexts."""


def gb_hash(seed: str, value: str, version: int) -> float | None:
    """Where `value` lies, in [0, 1); None for an unknown version."""
    position = hashing.position(HASHES.get(version, ""), seed)
    return None if position is None else position(value)


def equal_weights(n: int) -> list[float]:
    """n equal weights; none for n below 1."""
    return [1 / n] * n if n > 0 else []


def bucket_ranges(n: int, coverage: float | None = None, weights: Sequence[float] | None = None) -> list[tuple[float, float]]:
    """The range of each of n variations. Coverage is clipped to [0, 1]; weights that are not n, or not 1 in sum, become equal ones."""
    if weights is None or len(weights) != n or not 0.99 <= sum(weights) <= 1.01:
        weights = equal_weights(n)
    return ranges(weights, 1.0 if coverage is None else min(max(coverage, 0.0), 1.0))


def choose_variation(position: float, among: Ranges) -> int:
    """The index of the range that holds `position`, -1 for none."""
    return choose(position, among)


def in_namespace(unit: str, namespace: Sequence[Any]) -> bool:
    """Whether `unit` lies in [name, from, below)."""
    position = gb_hash(f"__{namespace[0]}", unit, 1)
    return position is not None and namespace[1] <= position < namespace[2]


def query_override(experiment: str, url: str, variations: int) -> int | None:
    """The variation that a URL's query asks for (`?experiment=1`), None where it asks for none that exists."""
    _, _, query = url.partition("?")
    query = query.partition("?")[0].partition("#")[0]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == experiment:
            value = value.partition("=")[0].strip()
            digits = value[: len(value) - len(value.lstrip("0123456789"))]
            index = int(digits) if digits and len(digits) < 10 else -1
            return index if 0 <= index < variations else None
    return None


def condition(attributes: Mapping[str, Any], wanted: Mapping[str, Any], groups: Mapping[str, Any] | None = None) -> bool:
    """Whether attributes meet a condition."""
    return compile_condition(wanted, groups, strict=False)(attributes)


def table(payload: Mapping[str, Any], sticky: bool = False) -> dict[str, Any]:
    """The engine's table of a GrowthBook payload (`features`, `savedGroups`, `contextualBandits`); `sticky`: assignments are kept.

    A rule's id is its index in the feature.
    """
    bandits = payload.get("contextualBandits") or {}
    return {
        "groups": payload.get("savedGroups") or {},
        "flags": {
            key: {
                "default": feature.get("defaultValue"),
                "rules": [
                    translated
                    for index, rule in enumerate(feature.get("rules") or ())
                    if (translated := _rule(key, index, rule, bandits, sticky)) is not None
                ],
            }
            for key, feature in (payload.get("features") or {}).items()
        },
    }


def context(given: Mapping[str, Any], experiments: Mapping[str, int], assignments: Mapping[str, Any] | None = None) -> Context:
    """The engine's context of a GrowthBook context; `experiments` says how many variations each has, for the query of its URL."""
    forced = dict(given.get("forcedVariations") or {})
    url = given.get("url") or ""
    if "?" in url:
        asked = {name: query_override(name, url, variations) for name, variations in experiments.items()}
        forced |= {name: index for name, index in asked.items() if index is not None}
    return Context(
        attributes={**(given.get("attributes") or {}), **(given.get("attributeOverrides") or {})},
        forced=forced,
        assignments=assignments,
        experiments=given.get("enabled") is not False,
        only_forced=bool(given.get("qaMode")),
    )


class GrowthBook:
    """Features and experiments in one context, as an SDK has it."""

    def __init__(self, given: Mapping[str, Any], documents: Sequence[Mapping[str, Any]] | None = None) -> None:
        """`documents` are sticky bucket documents (attributeName, attributeValue, assignments); None where sticky bucketing is off."""
        self.documents = None if documents is None else {f"{one['attributeName']}||{one['attributeValue']}": dict(one) for one in documents}
        self._given = given
        self._features = given.get("features") or {}
        self._table = Table(table(given, sticky=documents is not None), strict=False)

    def feature(self, key: str) -> dict[str, Any]:
        """The feature's result: value, on, off, source, ruleId, and the experiment with its result if one decided."""
        forced = self._given.get("forcedFeatureValues") or {}
        if key in forced:
            return _result(forced[key], "override")
        running = {
            rule.get("key") or name: len(_variations(rule)) for name, one in self._features.items() for rule in one.get("rules") or ()
        }
        decision = self._table.decide(key, self._context(running))
        for exposure in decision.exposures:
            self._remember(exposure)
        rule = self._features[key]["rules"][int(decision.rule)] if decision.rule else {}
        result = _result(decision.value, REASONS[decision.reason], rule.get("id") or "")
        if decision.exposure is not None:
            ran, said = _experiment_of(key, rule), _exposed(decision.exposure, key)
            bandit = (self._given.get("contextualBandits") or {}).get(rule.get("contextualBanditRef") or "")
            if bandit:
                leaf = self._leaf(bandit)
                told = _told(ran, leaf, bandit)
                ran |= {"weights": leaf["weights"]} if leaf else {}
                if decision.exposure.hashed:
                    ran, said = {**ran, "contextualBandit": told}, said | told
            result |= {"experiment": ran, "experimentResult": said}
        return result

    def run(self, experiment: Mapping[str, Any], feature: str | None = None) -> dict[str, Any]:
        """An experiment's result: which variation, and whether the unit is in it."""
        given = self._context({experiment["key"]: len(experiment["variations"])})
        exposure = self._table.run_rule(rule_of(experiment, self.documents is not None), given)
        self._remember(exposure)
        return _exposed(exposure, feature)

    def _context(self, experiments: Mapping[str, int]) -> Context:
        kept = None if self.documents is None else {key: one.get("assignments") or {} for key, one in self.documents.items()}
        return context(self._given, experiments, kept)

    def _leaf(self, bandit: Mapping[str, Any]) -> Mapping[str, Any] | None:
        groups, attributes = self._given.get("savedGroups"), self._context({}).attributes
        return next((one for one in bandit.get("contexts") or () if condition(attributes, one.get("condition") or {}, groups)), None)

    def _remember(self, exposure: Exposure) -> None:
        if exposure.remember is not None and self.documents is not None:
            document, version, key = exposure.remember
            kept = self.documents.get(document) or {"attributeName": exposure.attribute, "attributeValue": js.text(exposure.unit)}
            self.documents[document] = {**kept, "assignments": {**(kept.get("assignments") or {}), version: key}}


def _variations(rule: Mapping[str, Any]) -> Sequence[Any]:
    """A contextual bandit's variations have a field of their own, so that SDKs which do not know it skip the rule."""
    contextual = rule.get("contextualVariations")
    return (rule.get("variations") or ()) if contextual is None else contextual


def _experiment_of(feature: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment that a feature's rule runs."""
    taken = {name: rule[name] for name in RULE_FIELDS if name in rule and (js.truthy(rule[name]) or name in EVEN_ZERO)}
    return {"variations": _variations(rule), "key": rule.get("key") or feature, **taken}


def _rule(feature: str, index: int, rule: Mapping[str, Any], bandits: Mapping[str, Any], sticky: bool) -> dict[str, Any] | None:
    always = {"id": str(index), "requires": _requires(rule), "filters": _filters(rule.get("filters"))}
    if "force" in rule:
        return {**always, "entry": {"condition": rule.get("condition")}, "value": rule["force"], "split": _rollout(feature, rule, sticky)}
    if not _variations(rule):
        return always if always["requires"] else None
    experiment = rule_of(_experiment_of(feature, rule), sticky)
    bandit = bandits.get(rule.get("contextualBanditRef") or "")
    if bandit:
        count, coverage = len(_variations(rule)), rule.get("coverage")
        experiment["split"]["strata"] = [
            {"condition": leaf.get("condition"), "ranges": bucket_ranges(count, coverage, leaf["weights"]), "label": leaf["leafId"]}
            for leaf in bandit.get("contexts") or ()
        ]
    return {**experiment, **always}


def rule_of(experiment: Mapping[str, Any], sticky: bool = False) -> dict[str, Any]:
    """The engine's rule of an experiment that stands by itself; `sticky`: assignments are kept."""
    count, meta = len(experiment["variations"]), experiment.get("meta") or ()
    keeps = sticky and not experiment.get("disableStickyBucketing")
    name, attribute, fallback = experiment["key"], experiment.get("hashAttribute") or "id", experiment.get("fallbackAttribute")
    units = [attribute, fallback] if keeps and fallback else [attribute]
    among = experiment.get("ranges")
    if among is None:
        among = bucket_ranges(count, experiment.get("coverage"), experiment.get("weights"))
    named = [meta[index] if index < len(meta) else {} for index in range(count)]
    rule: dict[str, Any] = {
        "experiment": name,
        "variations": [{**one, "value": value} for one, value in zip(named, experiment["variations"], strict=True)],
        "split": {"hash": _hash(experiment, 1), "salt": experiment.get("seed") or name, "units": units, "ranges": among},
        "active": experiment.get("active") is not False and experiment.get("status") != "draft",
        "stopped": experiment.get("status") == "stopped",
        "force": experiment.get("force"),
        "entry": {
            "filters": _filters(experiment.get("filters")),
            "condition": experiment.get("condition"),
            "requires": _requires(experiment),
        },
    }
    namespace = experiment.get("namespace")
    if namespace and experiment.get("filters") is None:
        split = {"hash": HASHES[1], "salt": f"__{namespace[0]}", "units": units, "ranges": [namespace[1:3]]}
        rule["entry"]["filters"] = [split]
    if keeps:
        version, oldest = experiment.get("bucketVersion") or 0, experiment.get("minBucketVersion") or 0
        rule["sticky"] = {"version": version, "oldest": oldest, "units": [attribute, fallback or "id"]}
    return rule


def _hash(given: Mapping[str, Any], default: int) -> str:
    version = given.get("hashVersion") or default
    return HASHES.get(version, f"growthbook{version}")


def _rollout(feature: str, rule: Mapping[str, Any], sticky: bool) -> dict[str, Any] | None:
    """The split of a forced value: a range, or a coverage whose end belongs to it."""
    coverage, among = rule.get("coverage"), rule.get("range")
    if coverage is None and among is None:
        return None
    fallback = rule.get("fallbackAttribute") if sticky and not rule.get("disableStickyBucketing") else None
    return {
        "hash": _hash(rule, 1),
        "salt": rule.get("seed") or feature,
        "units": [rule.get("hashAttribute") or "id", *([fallback] if fallback else [])],
        "ranges": [among] if among else [[0, math.nextafter(coverage, math.inf)]] if coverage else [],
    }


def _filters(filters: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    return [
        {"hash": _hash(one, 2), "salt": one.get("seed") or "", "units": [one.get("attribute") or "id"], "ranges": one["ranges"]}
        for one in filters or ()
    ]


def _requires(rule: Mapping[str, Any]) -> list[dict[str, Any]]:
    parents = rule.get("parentConditions") or ()
    return [{"flag": one["id"], "condition": one.get("condition") or {}, "gate": bool(one.get("gate"))} for one in parents]


def _result(value: Any, source: str, rule: str = "") -> dict[str, Any]:
    return {"value": value, "on": js.truthy(value), "off": not js.truthy(value), "source": source, "ruleId": rule}


def _exposed(exposure: Exposure, feature: str | None) -> dict[str, Any]:
    said = {
        "key": exposure.key,
        "featureId": feature,
        "inExperiment": exposure.inside,
        "hashUsed": exposure.hashed,
        "variationId": exposure.variation,
        "value": exposure.value,
        "hashAttribute": exposure.attribute,
        "hashValue": exposure.unit,
        "stickyBucketUsed": exposure.sticky,
    }
    more = {"name": exposure.name, "bucket": exposure.position, "passthrough": exposure.passthrough or None}
    return said | {name: value for name, value in more.items() if value is not None}


def _told(ran: Mapping[str, Any], leaf: Mapping[str, Any] | None, bandit: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a contextual bandit: its leaf, that leaf's weights (the rule's where the unit is in no context) and its version."""
    weights = leaf["weights"] if leaf else ran.get("weights") or equal_weights(len(ran["variations"]))
    version = {} if bandit.get("banditVersion") is None else {"banditVersion": bandit["banditVersion"]}
    return {"leafId": WITHOUT_A_CONTEXT if leaf is None else leaf["leafId"], "variationWeights": weights, **version}

"""Unleash's toggles on our engine.

After the client specification (Unleash/client-specification, version 5) and the rules of their Node SDK. `table` translates what a client
is sent (features and segments, or the events of the delta API); a toggle is a flag whose value is its variant, null where it is off.
Time, host name and random stickiness are arguments: nothing here asks the machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.allocation import javascript as js
from schemas.allocation.engine import Context, Table

DISABLED = {"name": "disabled", "enabled": False}
RANDOM, HOST = "%random", "%host"
"""Attributes that no context can name: `_key` writes % as %25."""
FIELDS = ("userId", "sessionId", "remoteAddress", "environment", "appName", "currentTime")
NEVER: dict[str, Any] = {"$nor": [{}]}

_TEXT = {"STR_STARTS_WITH": "$startsWith", "STR_ENDS_WITH": "$endsWith", "STR_CONTAINS": "$contains"}
_NUMBER = {"NUM_EQ": "$numEq", "NUM_GT": "$numGt", "NUM_GTE": "$numGte", "NUM_LT": "$numLt", "NUM_LTE": "$numLte"}
_SEMVER = {
    "SEMVER_EQ": "$semverEq",
    "SEMVER_GT": "$semverGt",
    "SEMVER_GTE": "$semverGte",
    "SEMVER_LT": "$semverLt",
    "SEMVER_LTE": "$semverLte",
}
_DATE = {"DATE_AFTER": "$after", "DATE_BEFORE": "$before"}


class Unleash:
    """Toggles as a client has them."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        """`state`: `features` and `segments`, or `events` of the delta API."""
        self._table = Table(table(state), strict=False)

    def variant(self, toggle: str, context: Context) -> dict[str, Any]:
        """name, payload, enabled and feature_enabled."""
        value = self._table.decide(toggle, context).value
        return {**DISABLED, "feature_enabled": False} if value is None else {**value, "feature_enabled": True}

    def is_enabled(self, toggle: str, context: Context) -> bool:
        """Whether the toggle is on."""
        return self._table.decide(toggle, context).value is not None


def context(given: Mapping[str, Any], now: datetime, random: str, host: str = "") -> Context:
    """The engine's context of an Unleash context.

    `now` is the time where the context has none, `random` stands for who has no unit (a new text each time), `host` is this machine's name.
    """
    attributes = {_key(name): js.text(value) for name, value in (given.get("properties") or {}).items() if value is not None}
    attributes |= {_key(name): js.text(value) for name, value in given.items() if value is not None and name != "properties"}
    attributes.setdefault("currentTime", now.astimezone(UTC).isoformat())
    return Context(attributes | {RANDOM: random, HOST: host})


def fold(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The state after the events of the delta API."""
    features: dict[str, Any] = {}
    segments: dict[int, Any] = {}
    for event in events:
        kind = event["type"]
        if kind == "hydration":
            features = {one["name"]: one for one in event.get("features") or ()}
            segments = {one["id"]: one for one in event.get("segments") or ()}
        elif kind == "feature-updated":
            features[event["feature"]["name"]] = event["feature"]
        elif kind == "feature-removed":
            features.pop(event["featureName"], None)
        elif kind == "segment-updated":
            segments[event["segment"]["id"]] = event["segment"]
        elif kind == "segment-removed":
            segments.pop(event["segmentId"], None)
    return {"features": list(features.values()), "segments": list(segments.values())}


def table(state: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's table of a state."""
    if "events" in state:
        state = fold(state["events"])
    features = {feature["name"]: feature for feature in state.get("features") or ()}
    segments = {segment["id"]: segment.get("constraints") or [] for segment in state.get("segments") or ()}
    return {"flags": {name: {"default": None, "rules": _rules(feature, features, segments)} for name, feature in features.items()}}


def _rules(feature: Mapping[str, Any], features: Mapping[str, Any], segments: Mapping[int, Any]) -> list[dict[str, Any]]:
    requires = _requires(feature, features)
    if not feature.get("enabled") or requires is None:
        return []
    name, own = feature["name"], feature.get("variants") or []
    rules = []
    for strategy in feature.get("strategies") or [{"name": "default"}]:
        parameters = strategy.get("parameters") or {}
        met, split = _activation(strategy["name"], parameters, name)
        parts = [met, *map(_constraint, _constraints(strategy, segments))]
        condition: dict[str, Any] = {"$and": [part for part in parts if part]}
        variants, group, stickiness = own, name, own[0].get("stickiness") if own else None
        if _weight(theirs := strategy.get("variants") or []) > 0:
            variants, group = theirs, parameters.get("groupId") or name
            stickiness = theirs[0].get("stickiness") or parameters.get("stickiness")
        rules += [{**rule, "requires": requires} for rule in _variants(condition, split, variants, group, stickiness or "default")]
    return rules


def _variants(
    condition: dict[str, Any], split: dict[str, Any] | None, variants: Sequence[Mapping[str, Any]], group: str, stickiness: str
) -> list[dict[str, Any]]:
    """The rules of one strategy: its overrides first, then the variants by weight; the toggle alone where there are none."""
    rollout = {"filters": [split] if split else []}
    if _weight(variants) <= 0:
        return [{**rollout, "entry": {"condition": condition}, "value": DISABLED}]
    rules: list[dict[str, Any]] = []
    for variant in variants:
        for override in variant.get("overrides") or ():
            named = {_key(override["contextName"]): {"$in": override.get("values") or []}}
            rules.append({**rollout, "entry": {"condition": {"$and": [condition, named]}}, "value": _said(variant)})
    begin, ranges = 1, []
    for variant in variants:
        ranges.append([begin, begin + variant["weight"]])
        begin += variant["weight"]
    units = ["userId", "sessionId", "remoteAddress"] if stickiness == "default" else [_key(stickiness)]
    place = {"hash": "unleash_variant", "salt": group, "scale": begin - 1, "units": [*units, RANDOM]}
    for variant, (first, below) in zip(variants, ranges, strict=True):
        among = {**place, "ranges": [[first, below]]}
        rules.append({"filters": [*rollout["filters"], among], "entry": {"condition": condition}, "value": _said(variant)})
    return rules


def _weight(variants: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(variant["weight"] for variant in variants))


def _said(variant: Mapping[str, Any]) -> dict[str, Any]:
    payload = variant.get("payload")
    return {"name": variant["name"], "enabled": True} | ({} if payload is None else {"payload": payload})


def _activation(strategy: str, parameters: Mapping[str, Any], toggle: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What a strategy asks of attributes, and the split of its rollout."""
    if strategy == "default":
        return {}, None
    if strategy == "userWithId":
        return {"userId": {"$in": _list(parameters.get("userIds"))}}, None
    if strategy == "remoteAddress":
        addresses = _list(parameters.get("IPs"))
        return {"$or": [{"remoteAddress": {"$in": addresses}}, {"remoteAddress": {"$cidr": addresses}}]}, None
    if strategy == "applicationHostname":
        return {HOST: {"$ini": _list(parameters.get("hostNames"))}}, None
    if strategy == "flexibleRollout":
        stickiness = parameters.get("stickiness") or "default"
        units = {"default": ["userId", "sessionId", RANDOM], "random": [RANDOM]}.get(stickiness, [_key(stickiness)])
        return {}, _rollout(parameters.get("groupId") or toggle, units, parameters.get("rollout"))
    if strategy in ("gradualRolloutUserId", "gradualRolloutSessionId"):
        unit = "userId" if strategy.endswith("UserId") else "sessionId"
        return {}, _rollout(parameters.get("groupId") or "", [unit], parameters.get("percentage"))
    if strategy == "gradualRolloutRandom":
        return {}, _rollout(toggle, [RANDOM], parameters.get("percentage"))
    return NEVER, None  # a strategy that we do not know


def _rollout(group: str, units: list[str], percentage: Any) -> dict[str, Any]:
    percent = math.nan if percentage is None else js.number(percentage)
    ranges = [[1, math.nextafter(percent, math.inf)]] if percent > 0 else []
    return {"hash": "unleash", "salt": group, "scale": 100, "units": units, "ranges": ranges}


def _constraints(strategy: Mapping[str, Any], segments: Mapping[int, Any]) -> list[Mapping[str, Any] | None]:
    """A strategy's constraints and its segments'; None for a segment that is not there."""
    found: list[Mapping[str, Any] | None] = list(strategy.get("constraints") or ())
    for segment in strategy.get("segments") or ():
        found += segments.get(segment, [None])
    return found


def _constraint(constraint: Mapping[str, Any] | None) -> dict[str, Any]:
    if constraint is None:
        return NEVER
    met = _met(constraint)
    return {"$not": met} if constraint.get("inverted") and met is not NEVER else met


def _met(constraint: Mapping[str, Any]) -> dict[str, Any]:
    operator, name, value = constraint["operator"], _key(constraint["contextName"]), constraint.get("value")
    values, insensitive = [one.strip() for one in constraint.get("values") or () if one], bool(constraint.get("caseInsensitive"))
    if operator in ("IN", "NOT_IN"):
        return {name: {"$in" if operator == "IN" else "$nin": values}}
    if operator in _TEXT:
        return {name: {_TEXT[operator] + ("i" if insensitive else ""): values}}
    if operator in _NUMBER:
        return {name: {_NUMBER[operator]: value}}
    if operator in _SEMVER:
        return {name: {_SEMVER[operator]: value}}
    if operator in _DATE:
        return {"currentTime": {_DATE[operator]: value}}
    if operator == "REGEX":
        # RE2, which their SDKs match with, knows flags within the pattern; this one is what our operator is called.
        if insensitive := insensitive or str(value).startswith("(?i)"):
            value = str(value).removeprefix("(?i)")
        return {name: {"$exists": True, "$regexi" if insensitive else "$regex": value}}
    if operator == "IN_CIDR":
        return {name: {"$cidr": values}}
    return NEVER


def _requires(feature: Mapping[str, Any], features: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The prerequisites of a toggle's dependencies; None where one cannot hold: its parent is unknown, or depends on others itself."""
    requires = []
    for parent in feature.get("dependencies") or ():
        theirs = features.get(parent["feature"])
        if theirs is None or theirs.get("dependencies"):
            return None
        condition: dict[str, Any] = {"value": {"$exists": parent.get("enabled") is not False}}
        if parent.get("variants") and parent.get("enabled") is not False:
            condition = {"value.name": {"$in": parent["variants"]}}
        requires.append({"flag": parent["feature"], "condition": condition, "gate": True})
    return requires


def _list(text: Any) -> list[str]:
    return re.split(r"\s*,\s*", text.strip()) if isinstance(text, str) and text.strip() else []


def _key(name: str) -> str:
    """A context's name as an attribute that is no path and no operator."""
    return name.replace("%", "%25").replace(".", "%2E").replace("$", "%24")

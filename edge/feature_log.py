"""One member's features through time, from the log as it is stored: for the command, and for the board's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.read_outs import Queries
from schemas.catalogue import Catalogue, catalogue
from schemas.recommendations.definition import Feature, features, read
from streams.recommendations.explain import Step, explained, of_members, values
from streams.recommendations.plan import Plan
from streams.recommendations.training import Arrived

ABOUT = ("kind", "cid", "query", "row_kind", "rating_halves", "watched_ms", "genres", "region", "device_type")
"""Fields that say what an event was, where it has them."""
MOST_EVENTS = 50_000
"""Of a member, the newest; nobody's but a bot's are more."""


def deployed(client: Queries) -> list[Feature]:
    """The features that are kept now, by the newest word of each; those of this checkout where none was told. Raises clickhouse_connect's
    errors, FeatureError where this version cannot read one.
    """
    told = client.query(
        "SELECT name, argMax((yaml, withdrawn), event_time) AS newest FROM recommendations_feature_definition\n"
        "WHERE NOT marker GROUP BY name HAVING NOT newest.2 ORDER BY name"
    ).result_rows
    return [read(yaml, name) for name, (yaml, _) in told] or features()


def of_member(client: Queries, made: Plan, member_id: str, among: Catalogue | None = None) -> list[Arrived]:
    """What is stored of a member's events that features read, by topic, in its partition's order. Raises clickhouse_connect's errors."""
    contracts, found = among or catalogue(), list[Arrived]()
    for name in sorted(of_members(made).topics):
        topic = contracts.topic(name)
        fields = [one["name"] for one in topic.event.fields]
        told = client.query(
            "SELECT * FROM (\n"
            f"SELECT toUnixTimestamp64Milli(topic_time) AS arrived_ms, topic_offset, {', '.join(fields)} FROM {topic.table}\n"
            "WHERE NOT marker AND member_id = {member:String} ORDER BY topic_offset DESC LIMIT {most:UInt32}) ORDER BY topic_offset",
            {"member": member_id, "most": MOST_EVENTS},
        )
        found += [Arrived(name, dict(zip(fields, row[2:], strict=True)), int(row[0])) for row in told.result_rows]
    return found


def story(client: Queries, made: Plan, member_id: str, at_ms: int, only: Sequence[str] = ()) -> dict[str, Any]:
    """`values`: what is known of the member at `at_ms`; `steps`: his events by arrival, and what each changed. `only`: these features."""
    log = sorted(of_member(client, made, member_id), key=lambda one: one.arrived_ms)
    steps = [_step(one, made, only) for one in explained(made, log, member_id)]
    known = values(made, log, member_id, at_ms)
    return {
        "member_id": member_id,
        "at_ms": at_ms,
        "values": {name: value for name, value in known.items() if _asked(made, name, only)},
        "steps": [one for one in steps if not only or one["changed"] or one["notes"]],
    }


def _asked(made: Plan, value: str, only: Sequence[str]) -> bool:
    return not only or value in only or made.values[value].feature.name in only


def _step(step: Step, made: Plan, only: Sequence[str]) -> dict[str, Any]:
    told = {name: step.event[name] for name in ABOUT if step.event.get(name) not in (None, [], "")}
    return {
        "at_ms": step.at_ms,
        "arrived_ms": step.arrived_ms,
        "topic": step.topic,
        "event_id": step.event["event_id"],
        "what": told,
        "notes": list(step.notes),
        "changed": [
            {"value": one.value, "about": one.about, "before": one.before, "after": one.after}
            for one in step.changed
            if _asked(made, one.value, only)
        ],
    }


def described(feature: Feature) -> dict[str, Any]:
    """A feature in a line: what it sums up, of whom, how, over how long."""
    asked = " and ".join(f"{name} {_condition(what)}" for name, what in feature.filter.items())
    of = f" of {feature.field}" if feature.field else ""
    return {
        "name": feature.name,
        "owner": feature.owner,
        "doc": feature.doc,
        "key": feature.key,
        "sources": feature.sources,
        "sums_up": f"{feature.aggregation}{of}" + (f", half-life {feature.half_life}" if feature.half_life else ""),
        "where": asked,
        "windows": feature.windows,
        "values": list(feature.values),
        "default": feature.default,
    }


def _condition(what: Any) -> str:
    if isinstance(what, list):
        return f"one of {', '.join(map(str, what))}"
    if not hasattr(what, "model_dump"):
        return f"is {what}"
    bounds = what.model_dump(exclude_none=True)
    return " and ".join({"present": "is there", "at_least": f"≥ {what.at_least}", "below": f"< {what.below}"}[name] for name in bounds)

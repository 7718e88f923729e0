"""From the features' plan to the text of the job that keeps them: the view of all events that it reads, and what its operators are told.

Operators are told everything in JSON (Plan.java): which filters an event is asked, whose rows it changes where it meets them, and where in
a row. So a feature is a YAML file and no Java, and the numbers that bound a row stand in definition.py alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from schemas.catalogue import Catalogue, Topic, catalogue
from schemas.recommendations import definition
from schemas.recommendations.definition import CAPPED, ENTITIES, WHOLE, features
from streams.recommendations.plan import Layout, Plan, Selection, plan

BOUNDS = ("TWICE_MS", "MOST_A_DAY", "MOST_KEYS", "MOST_NUMBER", "MOST_TEXT_BYTES", "MOST_DISTINCT", "MOST_IN_TILE", "STEPS", "SCALE")

Field = tuple[str, str]
"""A field's name, and what it is to operators: whole, text, truth, texts, or there (whether it has a value at all)."""
SQL = {"whole": "BIGINT", "text": "STRING", "truth": "BOOLEAN", "texts": "ARRAY<STRING>", "there": "BOOLEAN"}


def kind(topic: Topic, name: str) -> str:
    """What a topic's field is to operators."""
    told = next(field["type"] for field in topic.event.fields if field["name"] == name)
    bare = told[1] if isinstance(told, list) else told
    if isinstance(bare, Mapping):
        many = bare["type"] == "array" and bare["items"] in ("string", *WHOLE)
        return "texts" if many else "there"
    return "whole" if bare in WHOLE else {"string": "text", "boolean": "truth"}.get(bare, "there")


def asked(made: Plan, among: Catalogue | None = None) -> list[Field]:
    """Every field that features ask for, in order; one that has another type in another topic comes twice."""
    found = set()
    for topic, selection in _selections(made, among or catalogue()):
        names = [name for name, _ in selection.asked] + [ENTITIES[entity] for entity in selection.key]
        found |= {(name, kind(topic, name)) for name in [*names, *([selection.field] if selection.field else [])]}
    return sorted(found)


def _selections(made: Plan, among: Catalogue) -> list[tuple[Topic, Selection]]:
    return [(among.topic(name), one) for layout in made.layouts.values() for one in layout.uses for name in one.sources]


def view(made: Plan, among: Catalogue | None = None) -> str:
    """SELECT of all events: topic, its key, event_id, event_time, arrived_at, and what features ask for, null where a topic has it not."""
    contracts = among or catalogue()
    selects = []
    for name in sorted(made.topics):
        topic = contracts.topic(name)
        has = {field["name"] for field in topic.event.fields}
        fields = "".join(
            f", {_cell(name, what)} AS `{name}_{what}`"
            if name in has and kind(topic, name) == what
            else f", CAST(NULL AS {SQL[what]}) AS `{name}_{what}`"
            for name, what in asked(made, contracts)
        )
        selects.append(
            f"SELECT '{name}' AS topic, `{topic.key}` AS keyed_by, event_id, "
            f"CAST(event_time AS TIMESTAMP(3)) AS event_time, arrived_at{fields}\n"
            f"FROM `{name}`\nWHERE NOT marker"
        )
    return "\nUNION ALL\n".join(selects)


def _cell(name: str, what: str) -> str:
    return f"(`{name}` IS NOT NULL)" if what == "there" else f"CAST(`{name}` AS {SQL[what]})"


def argument(made: Plan, generation: int, silent: bool = False, among: Catalogue | None = None) -> str:
    """What the operators are told, in JSON. `generation`: of a state that begins with nothing, greater than that of those before.

    `silent`: rows are kept and not told; whoever starts from that state and is not silent tells all of them first.
    """
    contracts = among or catalogue()
    fields = asked(made, contracts)
    layouts = [made.layouts[group] for group in sorted(made.layouts)]
    topics = {}
    for name in sorted(made.topics):
        topic = contracts.topic(name)
        filters: dict[tuple[tuple[str, str], ...], list[list[int]]] = {}
        for n, layout in enumerate(layouts):
            for m, selection in enumerate(layout.uses):
                if name in selection.sources:
                    place = fields.index((selection.field, kind(topic, selection.field))) if selection.field else -1
                    filters.setdefault(selection.asked, []).append([n, m, place])
        asks = [
            {"asks": [[fields.index((one, kind(topic, one))), json.loads(what)] for one, what in filter_], "parts": parts}
            for filter_, parts in filters.items()
        ]
        keys = [[_place(fields, topic, ENTITIES[entity]) for entity in layout.key] for layout in layouts]
        topics[name] = {"capped": topic.key in CAPPED, "filters": asks, "keys": keys}
    told = {
        "bounds": {bound: getattr(definition, bound) for bound in BOUNDS},
        "fields": [what for _, what in fields],
        "topics": topics,
        "layouts": [_layout(layout) for layout in layouts],
        "generation": generation,
        "silent": silent,
    }
    return json.dumps(told, separators=(",", ":"))


def _place(fields: list[Field], topic: Topic, name: str) -> int:
    """Where a key's field stands; -1 in a topic that no feature of the key reads."""
    has = any(field["name"] == name for field in topic.event.fields)
    field = (name, kind(topic, name)) if has else None
    return fields.index(field) if field in fields else -1


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "id": layout.id,
        "group": layout.group,
        "columns": [[column.kind, column.hop_ms, column.tiles, column.half_life_ms] for column in layout.columns],
        "lasts": len(layout.lasts),
        "texts": [[part.kind, part.hop_ms, part.tiles, part.length_ms] for part in layout.texts],
        "uses": [
            {"columns": [n for n, _ in uses.columns], "lasts": list(uses.lasts), "texts": [n for n, _ in uses.texts]}
            for uses in layout.uses.values()
        ],
    }


def quoted(told: str) -> str:
    """JSON for a job's text, where two hyphens would begin a comment."""
    return told.replace("--", "-\\u002d").replace("'", "''")


PLAN = plan(features())
STATE = "features " + hashlib.sha256(" ".join(sorted(layout.id for layout in PLAN.layouts.values())).encode()).hexdigest()[:8]
"""What rows are of: those of other layouts cannot be gone on with."""
TOLD = view(PLAN)
GENERATION = int(time.time())
"""Of a state that this deployment may begin, in s since 1970: tells its rows from those of the state before. No value depends on it."""
ARGUMENT = quoted(argument(PLAN, GENERATION))
SILENT = quoted(argument(PLAN, GENERATION, silent=True))

"""What the catalogue page and `headrace schema show` tell of a topic, as plain data out of the same files that everything derives from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from schemas import project
from schemas.catalogue import Catalogue, Topic
from schemas.lineage import LOADER, Asset, Kind, Lineage


def summary(topic: Topic, graph: Lineage) -> dict[str, Any]:
    """One line of a list: `topic`, `owner`, `team`, `description`, `event`, `deprecated`, `fields` by name."""
    return {
        "topic": topic.name,
        "owner": topic.owner,
        "team": graph.teams.get(topic.domain, ""),
        "description": topic.description,
        "event": topic.event.full_name,
        "deprecated": said(topic.deprecated),
        "fields": [item["name"] for item in topic.event.fields],
    }


def card(topic: Topic, catalogue: Catalogue, graph: Lineage) -> dict[str, Any]:
    """Everything about one topic but its versions, which only the registry knows."""
    return {
        **summary(topic, graph),
        "doc": topic.event.schema["doc"],
        "key": topic.key,
        "partitions": topic.partitions,
        "kept": kept(topic),
        "compatibility": topic.compatibility,
        "subject": topic.subject,
        "table": topic.table if topic.landing else "",
        "public": topic.public,
        "door": topic.door_name if topic.door else "",
        "fields": [_field(item) for item in topic.event.fields],
        "examples": list(_examples(topic, catalogue)),
        "lineage": neighbourhood(topic, graph),
    }


def kept(topic: Topic) -> str:
    """How long events stay on the topic, in words."""
    return "compacted" if topic.cleanup == "compact" else f"{topic.retention_days:g} day{'' if topic.retention_days == 1 else 's'}"


def said(deprecated: Mapping[str, Any] | None) -> str:
    """A deprecation in words; empty for none."""
    return f"goes by {deprecated['by']}: use {deprecated['use']}" if deprecated else ""


def deprecations(topic: Topic) -> dict[str, str]:
    """Field → its deprecation in words; the topic's own under the empty name."""
    return {name: said(told) for name, told in _deprecated(topic).items()}


def warnings(topic: Topic, graph: Lineage, today: date) -> Iterator[str]:
    """Who still reads what is deprecated, in words. A landing table alone reads everything and is nobody's reason to keep a field."""
    for name, told in _deprecated(topic).items():
        what = f"{topic.name}.{name}" if name else topic.name
        past = ", which is past" if date.fromisoformat(str(told["by"])) < today else ""
        readers = [use.asset for use in graph.users(topic.name, name) if use.asset.name != topic.table]
        yield from (f"{what} goes by {told['by']}{past}, and {reader} still reads it: use {told['use']}" for reader in readers)


def _deprecated(topic: Topic) -> dict[str, Mapping[str, Any]]:
    """Field → what its contract says of its end; the topic's own under the empty name."""
    told = {"": topic.deprecated, **{item["name"]: item.get("deprecated") for item in topic.event.fields}}
    return {name: deprecated for name, deprecated in told.items() if deprecated}


def neighbourhood(topic: Topic, graph: Lineage) -> dict[str, Any]:
    """Where a topic's events come from and go to: `nodes` {id, kind, name, team, column, panels} and `edges` [from, to].

    Columns count from the left, and every edge goes to the right. A board is one node; `panels` are those of it that read these events.
    """
    raw = {*_upstream(topic.name, graph), *_downstream(topic.name, graph)}
    panels: dict[str, list[str]] = defaultdict(list)
    for name in sorted({end for _, end in raw if end.startswith("panel ")}):
        panels[_board(name)].append(name.partition("/")[2])
    edges = {(start, _board(end)) for start, end in raw}
    ids = dict.fromkeys([f"topic {topic.name}", *(end for edge in sorted(edges) for end in edge)])
    columns = _columns(list(ids), edges)
    team_of = {str(asset).partition(" (")[0]: asset.team for asset in (*graph.jobs, *graph.tables)}
    nodes = []
    for name in ids:
        kind, _, bare = name.partition(" ")
        team = team_of.get(name) or graph.teams.get(bare.split(".")[0], "")
        nodes.append({"id": name, "kind": kind, "name": bare, "team": team, "column": columns[name], "panels": panels.get(name, [])})
    return {"nodes": nodes, "edges": [list(edge) for edge in sorted(edges)]}


def _board(name: str) -> str:
    """`panel quality/plays` is on `board quality`; anything else is itself."""
    return f"board {name.removeprefix('panel ').partition('/')[0]}" if name.startswith("panel ") else name


def _upstream(topic: str, graph: Lineage) -> Iterator[tuple[str, str]]:
    """Edges of whoever writes the topic, and of what they read, to the first producers."""
    jobs = {job.name: job for job in graph.jobs}
    todo, seen = [topic], {topic}
    while todo:
        name = todo.pop()
        for producer in graph.topics[name].producers:
            yield f"{'job' if producer in jobs else 'producer'} {producer}", f"topic {name}"
            for source in sorted(_read(jobs[producer], graph)) if producer in jobs else ():
                yield f"topic {source}", f"job {producer}"
                if source not in seen:
                    seen.add(source)
                    todo.append(source)


def _downstream(topic: str, graph: Lineage) -> Iterator[tuple[str, str]]:
    """Edges to whoever reads the topic, and on through what they write, to tables and boards."""
    jobs = {job.name for job in graph.jobs}
    todo, seen = [topic], {topic}
    while todo:
        name = todo.pop()
        declared = graph.topics[name]
        for job in (job for job in graph.jobs if name in _read(job, graph)):
            yield f"topic {name}", f"job {job.name}"
            for written in sorted(graph.writes(job) & graph.topics.keys()):
                yield f"job {job.name}", f"topic {written}"
                if written not in seen:
                    seen.add(written)
                    todo.append(written)
        for consumer in declared.consumers:
            if consumer not in jobs and consumer != LOADER:
                yield f"topic {name}", f"service {consumer}"
        if declared.landing:
            yield f"topic {name}", f"table {declared.table}"
            yield from _behind_table(declared.table, graph)


def _read(job: Asset, graph: Lineage) -> frozenset[str]:
    """Topics that a job reads, but those in which it only finds again what it has written itself."""
    return graph.reads(job) & graph.topics.keys() - graph.writes(job)


def _behind_table(table: str, graph: Lineage) -> Iterator[tuple[str, str]]:
    todo, seen = [table], {table}
    while todo:
        name = todo.pop()
        for asset in graph.readers_of_table(name):
            yield f"table {name}", f"{asset.kind} {asset.name}"
            if asset.kind is Kind.TABLE and asset.name not in seen:
                seen.add(asset.name)
                todo.append(asset.name)


def _columns(ids: list[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """The longest way to each node from one that nothing leads to; in a circle, as far as the number of nodes."""
    columns = dict.fromkeys(ids, 0)
    for _ in ids:
        moved = {end: columns[start] + 1 for start, end in sorted(edges) if columns[end] <= columns[start] < len(ids)}
        if not moved:
            break
        columns |= moved
    return columns


def _field(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": item["name"],
        "type": project.flink_type(item["type"]).removesuffix(" NOT NULL"),
        "optional": isinstance(item["type"], list) or "default" in item,
        "unit": item.get("unit", ""),
        "symbols": item.get("symbols", []),
        "doc": item["doc"],
        "deprecated": said(item.get("deprecated")),
    }


def _examples(topic: Topic, catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    """`case`, `passes`, `event`, and for one that is refused the words that say why."""
    folder = catalogue.folders[topic.domain] / "examples"
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        name, case, outcome, *_ = f"{file.name}....".split(".")
        if name == topic.event.name and outcome in ("pass", "fail"):
            body = json.loads(file.read_text(encoding="utf-8"))
            fails = outcome == "fail"
            yield {
                "case": case.replace("_", " "),
                "passes": not fails,
                "event": body["event"] if fails else body,
                "refused": body["refused"] if fails else "",
            }

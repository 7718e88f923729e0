"""A topic as `headrace schema show` prints it."""

from __future__ import annotations

import json

from infra.base.registry import RegistryClient, RegistryUnavailable
from infra.cli.words import out
from schemas import describe, lineage, project
from schemas.catalogue import Catalogue, Topic
from schemas.publish import subject_of


def print_card(topic: Topic, catalogue: Catalogue) -> None:
    """Everything about a topic, from the files and the registry."""
    graph = lineage.installed()
    card = describe.card(topic, catalogue, graph)
    team = f" (team {card['team']})" if card["team"] not in ("", topic.owner) else ""
    readers = "every team may read" if topic.public else f"readers of {topic.owner} and those of no team may read"
    rows = {
        "event": f"{card['event']}: {card['doc']}",
        "owner": f"{topic.owner}{team}",
        "kept": f"{card['kept']}, {topic.partitions} partition{'' if topic.partitions == 1 else 's'}, by {topic.key}",
        "table": f"{card['table']}, which {readers}" if card["table"] else "none",
        "door": card["door"],
        "compatibility": topic.compatibility,
        "versions": _versions(topic),
        "deprecated": card["deprecated"],
    }
    out.print(f"[bold]{topic.name}[/bold]  {topic.description}")
    for name, value in rows.items():
        if value:
            out.print(f"    {name:14} {value}", markup=False)
    out.print()
    print_fields(topic)
    out.print("\n[bold]Lineage[/bold]")
    out.print(f"    from  {', '.join(topic.producers)}")
    for user in graph.words(topic.name):
        out.print(f"    to    {user}", markup=False)
    out.print("\n[bold]Examples[/bold]")
    for example in card["examples"]:
        verdict = "passes" if example["passes"] else f"is refused: {example['refused']}"
        out.print(f"    {example['case']}, {verdict}: {json.dumps(example['event'])}", markup=False)


def print_fields(topic: Topic) -> None:
    """A line a field: name, type, meaning, unit."""
    going = describe.deprecations(topic)
    for item in topic.event.fields:
        unit = f" [{item['unit']}]" if "unit" in item else ""
        told = f" ({going[item['name']]})" if item["name"] in going else ""
        out.print(f"{item['name']:28} {project.flink_type(item['type']):28} {item['doc']}{unit}{told}", markup=False)


def _versions(topic: Topic) -> str:
    """The versions in the registry, in words."""
    with RegistryClient() as client:
        try:
            found = client.versions(subject_of(topic))
        except RegistryUnavailable as error:
            return str(error)
    return ", ".join(map(str, found)) if found else "none: `headrace schema register` publishes it"

"""`headrace schema`: the contracts, what they derive, whether they still fit, and their publication."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from schemas.catalogue import Catalogue, Topic
    from schemas.lineage import Lineage

app = typer.Typer(help="List, show, check and register the contracts of events and topics.", no_args_is_help=True)


class Projection(StrEnum):
    """What `show` can print of a topic."""

    fields = "fields"
    avsc = "avsc"
    flink = "flink"
    clickhouse = "clickhouse"
    users = "users"


@app.command("list")
def list_() -> None:
    """List every topic: owner, key, partitions, retention, compatibility, who writes it and who reads it."""
    from infra.cli.words import out
    from schemas.catalogue import catalogue

    for topic in catalogue().topics.values():
        kept = "compacted" if topic.cleanup == "compact" else f"{topic.retention_days:g} days"
        door = ", door" if topic.door else ""
        parts = f"{topic.partitions} partition{'s' if topic.partitions > 1 else ''}"
        out.print(f"[bold]{topic.name}[/bold]  owner {topic.owner}, key {topic.key}, {parts}, {kept}, {topic.compatibility}{door}")
        out.print(f"    from  {', '.join(topic.producers)}")
        out.print(f"    to    {', '.join(topic.consumers)}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A topic, such as playback.report.")],
    what: Annotated[Projection, typer.Option("--as", help="What to print of it.")] = Projection.fields,
) -> None:
    """Show one topic: its fields, its Avro schema, its Flink or ClickHouse table, or the users of each field."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, out
    from schemas import project
    from schemas.catalogue import ContractError, catalogue

    try:
        topic = catalogue().topic(name)
    except ContractError as error:
        raise Refusal(str(error)) from None
    if what is Projection.avsc:
        print(json.dumps(topic.event.schema, indent=2))
    elif what is Projection.flink:
        print(project.flink_table(topic, {"connector": "kafka", "topic": settings().topic(topic.name)}))
    elif what is Projection.clickhouse:
        print(project.landing_table(topic, settings().database, settings().warehouse.raw_ttl_days))
    elif what is Projection.users:
        graph = _lineage(catalogue())
        for item in topic.event.fields:
            out.print(f"[bold]{item['name']}[/bold]")
            for user in graph.words(topic.name, item["name"]):
                out.print(f"    {user}")
    else:
        out.print(f"{topic.event.schema['doc']}\n")
        for item in topic.event.fields:
            unit = f" [{item['unit']}]" if "unit" in item else ""
            out.print(f"{item['name']:28} {project.flink_type(item['type']):28} {item['doc']}{unit}", markup=False)


@app.command()
def check(
    against: Annotated[str, typer.Option(help="Git revision to compare the working tree with.")] = "main",
) -> None:
    """Compare the contracts with git and the registry; say which job, table or panel a change breaks, and what hangs loose."""
    from infra.base.registry import RegistryClient, RegistryUnavailable
    from infra.cli.words import Refusal, out
    from schemas import evolve, lineage
    from schemas.catalogue import ContractError, catalogue
    from schemas.publish import subject_of

    try:
        now = catalogue()
    except ContractError as error:
        raise Refusal(str(error)) from None
    before = _at(against)
    client: RegistryClient | None = RegistryClient()
    graph = _lineage(now)
    problems = [f"topic {name} is in {against} and is not declared any more" for name in before.topics.keys() - now.topics.keys()]
    for topic in now.topics.values():
        history = []
        if client is not None:
            try:
                history = [(f"version {number} of the registry", schema) for number, schema in client.history(subject_of(topic))]
            except RegistryUnavailable as error:
                out.print(f"compared with git only: {error}", markup=False)
                client = None
        problems += _moved(topic, before, against)
        if topic.name in before.topics:
            history.append((f"{against} in git", before.topics[topic.name].event.schema))
        if broken := evolve.violations(topic.event.schema, history, topic.compatibility):
            problems.append(evolve.explain_break(topic.name, topic.compatibility, broken, graph.words))
    problems += graph.orphans(lineage.exists_below(_root()))
    if problems:
        raise Refusal("\n".join(problems))
    added = sorted(now.topics.keys() - before.topics.keys())
    news = f", {len(added)} of them new: {', '.join(added)}" if added else ""
    sources = f"{against} in git" + (f" and the registry at {client.url}" if client else "")
    out.print(f"{len(now.topics)} topics fit {sources}{news}", markup=False)


@app.command()
def register(
    topics: Annotated[list[str] | None, typer.Argument(help="Topics to publish; all unless told.")] = None,
) -> None:
    """Publish contracts: create topics in Kafka, enforce each level in the registry, register the schemas. Idempotent."""
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryError, RegistryUnavailable
    from infra.base.settings import settings
    from infra.cli.words import Refusal, out
    from schemas.catalogue import ContractError, catalogue
    from schemas.publish import IncompatibleContract, WrongPartitions, publish

    try:
        wanted = [catalogue().topic(name) for name in topics or catalogue().topics]
        ids = publish(wanted, users=_lineage(catalogue()).words)
    except (ContractError, IncompatibleContract, WrongPartitions, RegistryError, RegistryUnavailable) as error:
        raise Refusal(str(error)) from None
    except KafkaException as error:
        raise Refusal(f"Kafka at {settings().kafka.bootstrap}: {error.args[0].str()}; `headrace up` starts the local stack") from None
    for name, schema_id in ids.items():
        out.print(f"{settings().topic(name):40} schema {schema_id:5}  {catalogue().topic(name).compatibility}")


def _lineage(declared: Catalogue) -> Lineage:
    from importlib.resources import files

    from schemas import lineage

    return lineage.of(declared.topics, files("streams"), files("sinks"))


def _root() -> Path:
    """The folder that the rooms lie in."""
    import schemas

    return Path(schemas.__path__[0]).parent


def _at(revision: str) -> Catalogue:
    """The catalogue as a git revision of this checkout has it. Raises Refusal."""
    import io
    import subprocess
    import tarfile
    import tempfile

    from infra.cli.words import Refusal
    from schemas.catalogue import ContractError, load

    answer = subprocess.run(["git", "-C", str(_root()), "archive", revision, "schemas"], capture_output=True, check=False)
    if answer.returncode:
        words = answer.stderr.decode(errors="replace").strip()
        raise Refusal(f"git has no contracts at {revision!r}: {words}; name a revision that has them with --against")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
            archive.extractall(folder, filter="data")
        try:
            return load(Path(folder) / "schemas")
        except ContractError as error:
            raise Refusal(f"the contracts at {revision} break a rule of today ({error}): name a later revision with --against") from None


def _moved(topic: Topic, before: Catalogue, against: str) -> list[str]:
    """What no schema says and still breaks readers: where events lie and how long."""
    old = before.topics.get(topic.name)
    if old is None:
        return []
    return [
        f"{topic.name}: {name} was {was} in {against} and is {now}: events of one key would lie on two partitions; declare a new topic"
        for name, was, now in (("key", old.key, topic.key), ("partitions", old.partitions, topic.partitions))
        if was != now
    ]

"""`headrace schema`: the contracts, what they derive, whether they still fit, and their publication."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.refuse import refuse

if TYPE_CHECKING:
    from infra.base.registry import RegistryClient
    from schemas.catalogue import Catalogue, Topic

app = typer.Typer(help="List, show, compare, check, deprecate and register the contracts of events and topics.", no_args_is_help=True)


class Projection(StrEnum):
    """What `show` can print of a topic."""

    card = "card"
    fields = "fields"
    avsc = "avsc"
    flink = "flink"
    clickhouse = "clickhouse"
    users = "users"


@app.command("list")
def list_(
    owner: Annotated[str, typer.Option(help="Topics of one owner only.")] = "",
    like: Annotated[str, typer.Option(help="Topics in whose name, description or fields this stands.")] = "",
) -> None:
    """List every topic: owner, key, partitions, retention, compatibility, who writes it and who reads it."""
    from infra.cli.words import out
    from schemas import describe

    for topic in _declared().topics.values():
        told = " ".join([topic.name, topic.description, *(item["name"] for item in topic.event.fields)])
        if (owner and topic.owner != owner) or like.lower() not in told.lower():
            continue
        door = ", door" if topic.door else ""
        parts = f"{topic.partitions} partition{'s' if topic.partitions > 1 else ''}"
        kept = describe.kept(topic)
        out.print(f"[bold]{topic.name}[/bold]  owner {topic.owner}, key {topic.key}, {parts}, {kept}, {topic.compatibility}{door}")
        out.print(f"    from  {', '.join(topic.producers)}")
        out.print(f"    to    {', '.join(topic.consumers)}")
        for name, told in describe.deprecations(topic).items():
            out.print(f"    [yellow]{name or 'the topic'} {told}[/yellow]")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A topic or subject, such as playback.report or playback.report-value.")],
    what: Annotated[Projection, typer.Option("--as", help="What to print of it.")] = Projection.card,
) -> None:
    """Show one topic: owner, fields, examples, versions, lineage; or its Avro schema, Flink or ClickHouse table, or users by field."""
    from infra.base.settings import settings
    from infra.cli import card
    from infra.cli.words import out
    from schemas import lineage, project

    topic = _topic(name)
    if what is Projection.avsc:
        print(json.dumps(topic.event.schema, indent=2))
    elif what is Projection.flink:
        print(project.flink_table(topic, {"connector": "kafka", "topic": settings().topic(topic.name)}))
    elif what is Projection.clickhouse:
        print(project.landing_table(topic, settings().database, settings().warehouse.raw_ttl_days))
    elif what is Projection.users:
        graph = lineage.installed()
        for item in topic.event.fields:
            out.print(f"[bold]{item['name']}[/bold]")
            for user in graph.words(topic.name, item["name"]):
                out.print(f"    {user}")
    elif what is Projection.fields:
        out.print(f"{topic.event.schema['doc']}\n")
        card.print_fields(topic)
    else:
        card.print_card(topic, _declared())


@app.command()
def diff(
    old: Annotated[
        str, typer.Argument(help="A topic and a version: playback.report@3 or @latest (registry), @main (git), none: as it is here.")
    ],
    new: Annotated[str, typer.Argument(help="The newer version; unless told, as it is here.")] = "",
) -> None:
    """Say in words what is different between two versions of a contract, what the change breaks, and which job, table or panel."""
    from infra.cli.words import out
    from schemas import changes, lineage

    name = old.partition("@")[0]
    if new.partition("@")[0] not in ("", name):
        topics = {_topic(one.partition("@")[0]).event.full_name for one in (old, new)}
        if len(topics) > 1:
            refuse(f"{old} and {new} carry different events: give two versions of one topic")
    topic = _topic(name)
    before = _version(topic, old.partition("@")[2] or ("latest" if not new else ""))
    after = _version(topic, new.partition("@")[2])
    found = changes.changes(before[1], after[1])
    out.print(f"{topic.name}: from {before[0]} to {after[0]}", markup=False)
    for line in found or ["nothing is different"]:
        out.print(f"    {line}", markup=False)
    if found:
        out.print(changes.verdict(topic.name, topic.compatibility, before, after[1], lineage.installed().words), markup=False)


def _version(topic: Topic, version: str) -> tuple[str, dict[str, Any]]:
    """(its name in words, the schema): of the registry for a number or `latest`, of git for a revision, of this tree for none."""
    from infra.base.registry import RegistryClient, RegistryUnavailable
    from schemas.publish import subject_of

    if not version:
        return "the working tree", topic.event.schema
    if not version.isdigit() and version != "latest":
        before, _ = _at(version)
        if topic.name not in before.topics:
            refuse(f"{topic.name} is not in {version}")
        return f"{version} in git", before.topics[topic.name].event.schema
    with RegistryClient() as client:
        try:
            history = dict(client.history(subject_of(topic)))
        except RegistryUnavailable as error:
            refuse(f"{error}; compare with git: headrace schema diff {topic.name}@main")
    if not history:
        refuse(f"{topic.name} is not in the registry: `headrace schema register` publishes it")
    number = max(history) if version == "latest" else int(version)
    if number not in history:
        refuse(f"{topic.name} has no version {number}; it has {', '.join(map(str, history))}")
    return f"version {number} of the registry", history[number]


@app.command()
def deprecate(
    name: Annotated[str, typer.Argument(help="A topic, or a field of its event: playback.report or playback.report.url.")],
    by: Annotated[str, typer.Option(help="The day on which it goes, such as 2026-12-31.")],
    use: Annotated[str, typer.Option(help="What to use instead.")],
) -> None:
    """Write into the contract that a topic or field will go; `check` then warns of whoever still reads it."""
    from datetime import date

    from infra.cli.words import out
    from schemas import deprecate, lineage
    from schemas.catalogue import ContractError

    try:
        date.fromisoformat(by)
    except ValueError:
        refuse(f"--by {by}: write a date as 2026-12-31")
    declared = _declared()
    field = "" if name in declared.topics else name.rpartition(".")[2]
    topic = _topic(name if not field else name.rpartition(".")[0])
    folder = declared.folders[topic.domain]
    if not isinstance(folder, Path) or not _writable(folder):
        refuse(f"{folder} is an installed package: do it in the checkout of {topic.owner}")
    file = folder / (f"{topic.event.name}.avsc" if field else "topics.yaml")
    try:
        text = file.read_text()
        file.write_text(deprecate.field(text, field, by, use) if field else deprecate.topic(text, topic.short_name, by, use))
    except ContractError as error:
        refuse(f"{file}: {error}")
    out.print(f"{file}: {name} goes by {by}, use {use}", markup=False)
    for user in lineage.installed().words(topic.name, field):
        out.print(f"    read by {user}", markup=False)


def _writable(folder: Path) -> bool:
    return "site-packages" not in folder.parts


@app.command()
def check(
    against: Annotated[str, typer.Option(help="Git revision to compare the working tree with.")] = "main",
) -> None:
    """Compare the contracts with git and the registry; say which job, table or panel a change breaks, and what hangs loose."""
    from datetime import UTC, datetime

    from infra.base.registry import RegistryClient, RegistryUnavailable
    from infra.base.settings import settings
    from infra.cli.words import Refusal, err, out
    from schemas import describe, evolve, examples, lineage
    from schemas.publish import crowded

    now = _declared()
    before, compared = _at(against)
    graph = lineage.installed()
    with RegistryClient() as client:
        try:
            histories = _histories(client, list(now.topics.values()))
            sources = f"{compared} and the registry at {client.url}"
        except RegistryUnavailable as error:
            out.print(f"compared with git only: {error}", markup=False)
            histories, sources = {}, compared
    problems = [f"topic {name} is in {against} and is not declared any more" for name in before.topics.keys() - now.topics.keys()]
    for topic in now.topics.values():
        history = histories.get(topic.name, [])
        problems += _moved(topic, before, against)
        if topic.name in before.topics:
            history = [*history, (f"{against} in git", before.topics[topic.name].event.schema)]
        if broken := evolve.violations(topic.event.schema, history, topic.compatibility):
            problems.append(evolve.explain_break(topic.name, topic.compatibility, broken, graph.words))
        for warning in describe.warnings(topic, graph, datetime.now(UTC).date()):
            err.print(f"[yellow]warning:[/yellow] {warning}")
    problems += [*graph.orphans(lineage.exists_below(*_roots())), *crowded(now.topics.values()), *examples.mistaken(now)]
    problems += _empty(settings().contracts)
    if problems:
        raise Refusal("\n".join(problems))
    added = sorted(now.topics.keys() - before.topics.keys())
    news = f", {len(added)} of them new: {', '.join(added)}" if added else ""
    out.print(f"{len(now.topics)} topics fit {sources}{news}", markup=False)


def _histories(client: RegistryClient, topics: list[Topic]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Topic → (name of a version, its schema), oldest first, for what is registered. Eight at a time: a team may have a thousand."""
    from concurrent.futures import ThreadPoolExecutor

    from schemas.publish import subject_of

    registered = set(client.subjects())
    wanted = [topic for topic in topics if subject_of(topic) in registered]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda topic: client.history(subject_of(topic)), wanted)
        return {
            topic.name: [(f"version {number} of the registry", schema) for number, schema in history]
            for topic, history in zip(wanted, found, strict=True)
        }


@app.command()
def register(
    topics: Annotated[list[str] | None, typer.Argument(help="Topics to publish; none: all, or in a team's checkout the team's.")] = None,
) -> None:
    """Publish contracts: create topics in Kafka, enforce each level in the registry, register the schemas. Idempotent."""
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryError, RegistryUnavailable
    from infra.base.settings import settings
    from infra.cli.words import Refusal
    from schemas import lineage
    from schemas.publish import IncompatibleContract, WrongPartitions, crowded, publish

    wanted = [_topic(name) for name in topics or _mine()]
    if refused := crowded(_declared().topics.values()):
        refuse("\n".join(refused))
    try:
        publish(wanted, users=lineage.installed().words, tell=_registered)
    except (IncompatibleContract, WrongPartitions, RegistryError, RegistryUnavailable) as error:
        raise Refusal(str(error)) from None
    except KafkaException as error:
        raise Refusal(f"Kafka at {settings().kafka.bootstrap}: {error.args[0].str()}; `headrace up` starts the local stack") from None


def _registered(topic: Topic, schema_id: int) -> None:
    from infra.base.settings import settings
    from infra.cli.words import out

    out.print(f"{settings().topic(topic.name):40} schema {schema_id:5}  {topic.compatibility}", markup=False)


@app.command()
def records(
    out_file: Annotated[Path, typer.Argument(metavar="FILE", help="The Python module to write, such as records.py.")],
) -> None:
    """Write typed records of the contracts as a Python module: all, or in a team's checkout the team's."""
    from infra.cli.words import out
    from schemas import typed

    events = {topic.event.full_name: topic.event for topic in map(_topic, _mine())}
    out_file.write_text(typed.stub(events.values()))
    out.print(f"{out_file}: {', '.join(map(typed.record_name, events.values()))}", markup=False)


def _mine() -> list[str]:
    """The topics of the team in whose checkout one stands; elsewhere all. A team never publishes what is somebody else's in passing.

    Raises Refusal in a checkout that declares none.
    """
    from infra.base.settings import settings

    declared, here = _declared(), Path.cwd()
    for checkout in settings().contracts:
        if here.is_relative_to(checkout.resolve()):
            if empty := _empty([checkout]):
                refuse(empty[0])
            return [name for name, topic in declared.topics.items() if (checkout / "schemas" / topic.domain).is_dir()]
    return list(declared.topics)


def _empty(checkouts: list[Path]) -> list[str]:
    """Checkouts in which no contract was found, in words."""
    return [
        f"{checkout}: HEADRACE_CONTRACTS names it, and it declares no topic: contracts lie in {checkout}/schemas/<domain>/, "
        "with a topics.yaml; `headrace new event` writes the first"
        for checkout in checkouts
        if not any(checkout.glob("schemas/*/topics.yaml"))
    ]


def _declared() -> Catalogue:
    """The catalogue; a mistake in it is a refusal."""
    from schemas.catalogue import ContractError, catalogue

    try:
        return catalogue()
    except ContractError as error:
        refuse(str(error))


def _topic(name: str) -> Topic:
    """The topic of this name, or of this subject in whatever namespace. Raises Refusal."""
    from schemas.catalogue import ContractError

    declared = _declared()
    if name.endswith("-value"):
        name = ".".join(name.removesuffix("-value").split(".")[-2:])
    try:
        return declared.topic(name)
    except ContractError as error:
        refuse(str(error))


def _roots() -> list[Path]:
    """The folders that the rooms lie in: this installation's, then teams' checkouts."""
    import schemas
    from infra.base.settings import settings

    return [Path(schemas.__path__[0]).parent, *settings().contracts]


def _at(revision: str) -> tuple[Catalogue, str]:
    """The catalogue as a git revision of the checkouts has it, and in words what that was. Raises Refusal.

    A checkout that git does not have at this revision, such as an installed package, counts as unchanged.
    """
    import io
    import subprocess
    import tarfile
    import tempfile

    from schemas.catalogue import ContractError, load

    with tempfile.TemporaryDirectory() as folder:
        places, unknown = [], {}
        for number, root in enumerate(root for root in _roots() if (root / "schemas").is_dir()):
            answer = subprocess.run(["git", "-C", str(root), "archive", revision, "schemas"], capture_output=True, check=False)
            if answer.returncode:
                unknown[root] = answer.stderr.decode(errors="replace").strip()
                places.append(root / "schemas")
                continue
            with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
                archive.extractall(Path(folder) / str(number), filter="data")
            places.append(Path(folder) / str(number) / "schemas")
        if len(unknown) == len(places):
            words = "; ".join(unknown.values())
            refuse(f"git has no contracts at {revision!r}: {words}; name a revision that has them with --against")
        try:
            before = load(*places)
        except ContractError as error:
            refuse(f"the contracts at {revision} break a rule of today ({error}): name a later revision with --against")
    unchanged = f" (not {', '.join(str(root) for root in unknown)}, which git does not have)" if unknown else ""
    return before, f"{revision} in git{unchanged}"


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

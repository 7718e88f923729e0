"""`headrace new`: the first version of an event, a job, a table or a panel, in its place and under its name, and green at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.refuse import refuse

if TYPE_CHECKING:
    from schemas.catalogue import Catalogue, Topic

app = typer.Typer(
    help="Write the first version of an event, a job, a table or a panel; docs/add-an-event.md is the whole way.", no_args_is_help=True
)

Named = Annotated[str, typer.Argument(help="<domain>.<name>, such as playback.seek.")]

ENTRY = """{name}:
  description: {description}
  event: {event}
  owner: {owner}
  key: {key}
  partitions: 2
  retention_days: 7
  compatibility: FULL_TRANSITIVE
  producers: [{producer}]
  consumers: [sinks.loader]
  order_by: [{key}, event_time]
"""

PRODUCER = '''"""Emits {topic}, made up in place of what really happens: `python -m {module}`."""

from __future__ import annotations

from producers.emit import Emitter
from {records} import {record}


def {name}() -> {record}:
    """One event; say what happened."""
    return {{"{key}": "1"}}


def main() -> None:
    """Emit one, and wait until Kafka has it."""
    with Emitter("{name}") as emitter:
        emitter.send("{topic}", {name}())
        emitter.mark("{topic}")


if __name__ == "__main__":
    main()
'''

JOB = """-- Which question does the job answer?
--
-- Reads    {reads}
-- Writes   {writes}
-- Key      {key}
-- Time     event_time; nothing waits
-- Lateness None: a late event is an event
-- State    None

INSERT INTO `{writes}`
SELECT
  event_id, event_time, '{name}', 0, CAST(-1 AS BIGINT), correlation_id, marker,
  {fields}
FROM `{reads}`;
"""

TABLE = """-- question: Say which question the table answers.
-- reads: {table}
-- key: {key}
-- time: event_time
CREATE OR REPLACE VIEW {name} AS
SELECT *
FROM {table}
WHERE NOT marker
"""

PANEL = """-- title: {title}
-- question: Say which question the panel answers.
-- show: number
-- unit: events
-- empty: nothing has happened in this range
SELECT count() AS value
FROM {table}
WHERE NOT marker AND event_time >= {{from:DateTime64(3, 'UTC')}} AND event_time < {{to:DateTime64(3, 'UTC')}}
HAVING value > 0
"""


@app.command()
def event(
    name: Named,
    key: Annotated[str, typer.Option(help="Field that the topic is keyed by.")] = "sid",
    owner: Annotated[str, typer.Option(help="Who answers for it; the domain unless told.")] = "",
) -> None:
    """Write a contract, its examples, a topic entry, the typed record and a producer that emits one."""
    from schemas import typed

    domain, short = _split(name)
    root = _checkout()
    folder = root / "schemas" / domain
    contract = {
        "type": "record",
        "name": "".join(part.capitalize() for part in short.split("_")),
        "namespace": f"headrace.{domain}",
        "doc": "Say what happened.",
        "fields": [{"name": key, "type": "string", "doc": "Say what it identifies."}],
    }
    example = {"event_id": "1", "event_time": "2026-01-01T00:00:00Z", "producer_id": "example", "epoch": 1, "seq": 0, key: "1"}
    files = {
        folder / f"{short}.avsc": _pretty(contract),
        folder / "examples" / f"{short}.first.pass.json": _pretty(example),
    }
    if not list(folder.glob("examples/*.fail.json")):
        refused = {"refused": f"{key} is missing", "event": {name: value for name, value in example.items() if name != key}}
        files[folder / "examples" / f"{short}.no_{key}.fail.json"] = _pretty(refused)
    module = f"producers.{short}" if _ours(root) else f"{domain}.{short}"
    record = "".join(part.capitalize() for part in (*domain.split("_"), *short.split("_")))
    records = "schemas.records" if _ours(root) else f"{domain}.records"
    values = {"topic": name, "name": short, "module": module, "key": key, "record": record, "records": records}
    files[root.joinpath(*module.split(".")).with_suffix(".py")] = PRODUCER.format(**values)
    entry = ENTRY.format(name=short, event=short, description="Say what the topic holds.", owner=owner or domain, key=key, producer=module)
    _refuse_declared(folder, short)
    if not _ours(root) and not (root / domain / "__init__.py").exists():
        files[root / domain / "__init__.py"] = f'"""What {owner or domain} runs."""\n'
    _write(files)
    _declare(folder, entry)
    declared = _load(root)
    mine = [event for event in declared.events.values() if _ours(root) or event.domain == domain]
    _renew(root / "schemas" / "records.pyi" if _ours(root) else root / domain / "records.py", typed.stub(mine))
    landed = root / "sinks" / "observability" / "landed.sql"
    if landed.is_file() and not re.search(rf"[(|]{domain}[|)]", landed.read_text()):
        _renew(landed, landed.read_text().replace(")_')", f"|{domain})_')"))


@app.command()
def job(
    name: Named,
    reads: Annotated[str, typer.Option(help="Topic to read; the domain's newest unless told.")] = "",
    writes: Annotated[str, typer.Option(help="Topic to write; one of the job's name unless told.")] = "",
) -> None:
    """Write a Flink SQL job that passes a topic's events on, and declare the topic that it writes."""
    domain, short = _split(name)
    root = _checkout()
    declared = _load(root)
    source = _source(declared, domain, reads)
    target_domain, target = _split(writes or name)
    folder = root / "schemas" / target_domain
    if target_domain != source.domain:
        words = f"{source.name} carries {source.event.full_name}, and a stub passes events on as they are"
        refuse(f"{words}: write to a topic of {source.domain} by --writes, or declare an event of your own and write the job by hand")
    _refuse_declared(folder, target)
    own = [f"`{item['name']}`" for item in source.event.fields[7:]]
    fields = ",\n  ".join(", ".join(own[i : i + 8]) for i in range(0, len(own), 8))
    values = {"name": short, "reads": source.name, "writes": f"{target_domain}.{target}", "key": source.key, "fields": fields}
    _write({root / "streams" / domain / f"{short}.sql": JOB.format(**values)})
    description = f"What {short} yields of {source.name}."
    producer = f"streams.{domain}.{short}"
    entry = ENTRY.format(
        name=target, event=source.event.name, description=description, owner=source.owner, key=source.key, producer=producer
    )
    _declare(folder, entry)
    topics = root / "schemas" / source.domain / "topics.yaml"
    _renew(topics, _with_consumer(topics.read_text(), source.short_name, producer))


@app.command()
def table(name: Named, reads: Annotated[str, typer.Option(help="Topic to read; the domain's newest unless told.")] = "") -> None:
    """Write a table or view; landing tables need no file, they are derived from the contract."""
    domain, short = _split(name)
    root = _checkout()
    source = _source(_load(root), domain, reads)
    _write({root / "sinks" / domain / f"{short}.sql": TABLE.format(name=short, table=source.table, key=source.key)})


@app.command()
def panel(
    name: Annotated[str, typer.Argument(help="<board>.<name>, such as quality_of_experience.seeks.")],
    reads: Annotated[str, typer.Option(help="Topic whose table it asks; unless told, the newest of the domain named like the board.")] = "",
) -> None:
    """Write a panel, as the last one of its board."""
    board, short = _split(name)
    root = _checkout()
    source = _source(_load(root), board, reads)
    folder = root / "sinks" / "dashboards" / board
    if taken := list(folder.glob(f"[0-9][0-9]_{short}.sql")):
        refuse(f"{taken[0]} is there already")
    number = 1 + max((int(file.name[:2]) for file in folder.glob("[0-9][0-9]_*.sql")), default=0)
    _write({folder / f"{number:02}_{short}.sql": PANEL.format(title=short.replace("_", " ").capitalize(), table=source.table)})


def _source(declared: Catalogue, domain: str, name: str) -> Topic:
    """The topic `name`, or the one that the domain declared last. Raises Refusal."""
    from schemas.catalogue import ContractError

    newest = [topic for topic in declared.landed() if topic.domain == domain][-1:]
    if not name and not newest:
        refuse(f"there is no domain {domain}: say by --reads which topic it reads; declared are {', '.join(sorted(declared.topics))}")
    try:
        return declared.topic(name) if name else newest[0]
    except ContractError as error:
        refuse(str(error))


def _split(name: str) -> tuple[str, str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", name):
        refuse(f"{name!r}: give two names in lower case with a dot between them, such as playback.seek")
    domain, _, short = name.partition(".")
    return domain, short


def _checkout() -> Path:
    """The checkout that is stood in. Raises Refusal elsewhere: an installed package is no place to write to."""
    from infra.base.settings import settings

    if not _ours(Path()) and Path.cwd() not in [checkout.resolve() for checkout in settings().contracts]:
        words = f"{Path.cwd()} is no checkout of Headrace, nor one that HEADRACE_CONTRACTS names"
        refuse(f"{words}: run this where README.md lies, or in a team's checkout after `export HEADRACE_CONTRACTS=$PWD`")
    return Path()


def _ours(root: Path) -> bool:
    return (root / "schemas" / "envelope.avsc").is_file()


def _load(root: Path) -> Catalogue:
    """The contracts of this checkout as its files are now, with the platform's where it is a team's. Raises Refusal."""
    from infra.base import rooms
    from schemas.catalogue import ContractError, load

    try:
        return load(root / "schemas") if _ours(root) else load(*rooms.everywhere("schemas"))
    except ContractError as error:
        refuse(str(error))


def _refuse_declared(folder: Path, short: str) -> None:
    topics = folder / "topics.yaml"
    if topics.exists() and re.search(rf"^{short}:", topics.read_text(), re.MULTILINE):
        refuse(f"{topics} declares {short} already")


def _declare(folder: Path, entry: str) -> None:
    topics = folder / "topics.yaml"
    _renew(topics, (topics.read_text() if topics.exists() else "") + entry)


def _with_consumer(topics: str, short: str, consumer: str) -> str:
    """The text of topics.yaml with one more consumer of a topic, if it declares the topic."""
    entry = re.compile(rf"(^{short}:\n(?:[ #].*\n)*?  consumers: \[)(.*)(\])", re.MULTILINE)
    return entry.sub(lambda m: f"{m[1]}{consumer}, {m[2]}{m[3]}", topics, count=1)


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _write(files: Mapping[Path, str]) -> None:
    """Write all files or, where one of them exists, none."""
    if taken := [file for file in files if file.exists()]:
        refuse(f"{taken[0]} is there already: nothing was written")
    for file, text in files.items():
        _renew(file, text)


def _renew(file: Path, text: str) -> None:
    """Write a file whose text is another now, and say so."""
    from infra.cli.words import out

    if file.is_file() and file.read_text() == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    out.print(file, markup=False)

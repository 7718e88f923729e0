"""`headrace new`: the first version of an event, a job, a table or a panel, in its place and under its name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    help="Write the first version of an event, a job, a table or a panel; docs/add-an-event.md is the whole way.", no_args_is_help=True
)

Named = Annotated[str, typer.Argument(help="<domain>.<name>, such as playback.seek.")]

ENTRY = """{name}:
  description: Say what the topic holds.
  event: {name}
  owner: {domain}
  key: {key}
  partitions: 2
  retention_days: 7
  compatibility: FULL_TRANSITIVE
  producers: []  # who writes it, such as edge.gateway
  consumers: [sinks.loader]
  order_by: [{key}, event_time]
"""

EMIT = """    from producers.emit import Emitter

    with Emitter("<who you are>") as emitter:
        emitter.send("{domain}.{name}", {record})
"""

JOB = """-- question: Say which question the job answers.
-- reads: {domain}.<topic>
-- writes: {domain}.<topic>
-- key: <field>
-- time: event_time, watermark of the topic
-- state: none
INSERT INTO `{domain}.<topic>`
SELECT
  event_id,
  event_time,
  '{name}' AS producer_id,
  0 AS epoch,
  CAST(-1 AS BIGINT) AS seq,
  correlation_id,
  marker
FROM `{domain}.<topic>`
"""

TABLE = """-- question: Say which question the table answers.
-- reads: {domain}_<topic>
-- key: <field>
-- time: event_time
CREATE OR REPLACE VIEW {name} AS
SELECT *
FROM {domain}_<topic>
WHERE NOT marker
"""

PANEL = """-- title: {title}
-- question: Say which question the panel answers.
-- show: number
-- unit: events
-- empty: nothing has happened in this range
SELECT count() AS value
FROM <table>
WHERE NOT marker AND event_time >= {{from:DateTime64(3, 'UTC')}} AND event_time < {{to:DateTime64(3, 'UTC')}}
"""


@app.command()
def event(name: Named, key: Annotated[str, typer.Option(help="Field that the topic is keyed by.")] = "sid") -> None:
    """Write a contract, an example and a topic entry; print the call that sends one."""
    from infra.cli.words import out

    domain, short = _split(name)
    folder = _checkout() / "schemas" / domain
    contract = {
        "type": "record",
        "name": "".join(part.capitalize() for part in short.split("_")),
        "namespace": f"headrace.{domain}",
        "doc": "Say what happened.",
        "fields": [{"name": key, "type": "string", "doc": "Say what it identifies."}],
    }
    example = {"event_id": "1", "event_time": "2026-01-01T00:00:00Z", "producer_id": "example", "epoch": 1, "seq": 0, key: "1"}
    topics = folder / "topics.yaml"
    before = topics.read_text() if topics.exists() else ""
    if re.search(rf"^{short}:", before, re.MULTILINE):
        _refuse(f"{topics} declares {short} already")
    _write({
        folder / f"{short}.avsc": json.dumps(contract, indent=2) + "\n",
        folder / "examples" / f"{short}.first.pass.json": json.dumps(example, indent=2) + "\n",
    })  # fmt: skip
    topics.write_text(before + ENTRY.format(domain=domain, name=short, key=key))
    out.print(f"{topics}: {short} added")
    out.print(f"\nThe producer sends it so:\n\n{EMIT.format(domain=domain, name=short, record=json.dumps({key: '1'}))}", markup=False)


@app.command()
def job(name: Named) -> None:
    """Write a Flink SQL job."""
    domain, short = _split(name)
    _write({_checkout() / "streams" / domain / f"{short}.sql": JOB.format(domain=domain, name=short)})


@app.command()
def table(name: Named) -> None:
    """Write a table or view; landing tables need no file, they are derived from the contract."""
    domain, short = _split(name)
    _write({_checkout() / "sinks" / domain / f"{short}.sql": TABLE.format(domain=domain, name=short)})


@app.command()
def panel(name: Annotated[str, typer.Argument(help="<board>.<name>, such as quality_of_experience.seeks.")]) -> None:
    """Write a panel, as the last one of its board."""
    board, short = _split(name)
    folder = _checkout() / "sinks" / "dashboards" / board
    if taken := list(folder.glob(f"[0-9][0-9]_{short}.sql")):
        _refuse(f"{taken[0]} is there already")
    number = 1 + max((int(file.name[:2]) for file in folder.glob("[0-9][0-9]_*.sql")), default=0)
    _write({folder / f"{number:02}_{short}.sql": PANEL.format(title=short.replace("_", " ").capitalize())})


def _split(name: str) -> tuple[str, str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", name):
        _refuse(f"{name!r}: give two names in lower case with a dot between them, such as playback.seek")
    domain, _, short = name.partition(".")
    return domain, short


def _checkout() -> Path:
    """The checkout that is stood in. Raises Refusal elsewhere: an installed package is no place to write to."""
    if not Path("schemas/envelope.avsc").is_file():
        _refuse(f"{Path.cwd()} is no checkout of Headrace: run this where README.md lies")
    return Path()


def _write(files: dict[Path, str]) -> None:
    """Write all files or, where one of them exists, none."""
    from infra.cli.words import out

    if taken := [file for file in files if file.exists()]:
        _refuse(f"{taken[0]} is there already: nothing was written")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        out.print(file)


def _refuse(words: str) -> NoReturn:
    from infra.cli.words import Refusal

    raise Refusal(words)

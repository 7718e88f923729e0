"""`headrace dead-letters`: what could not go on, from the warehouse; mended and sent again through the front door."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.refuse import refuse

if TYPE_CHECKING:
    from streams.letters import Letter

app = typer.Typer(help="List, show, repair and replay dead letters.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="Letters, by the ids that `list` shows; none: all that the options choose.")]
Topic_ = Annotated[str, typer.Option("--topic", help="Letters of one topic, such as playback.report.")]
Reason = Annotated[str, typer.Option(help="Letters of one reason, such as decode.")]
Since = Annotated[str, typer.Option(help="Letters from this time on, such as 2026-03-01T20:00.")]

SHOWN = 40
LETTERS = """
WITH replaceRegexpOne(topic, '\\\\.in$', '') AS meant_for
SELECT event_id AS letter_id, max(event_time) AS at, any(meant_for) AS meant, any(reason) AS why, any(component) AS refused_by,
  any(detail) AS words, any(hex(payload)) AS bytes_hex, any(hex(key_bytes)) AS key_hex
FROM observability_dead_letter
WHERE NOT marker AND ({topic:String} = '' OR meant_for = {topic:String}) AND ({reason:String} = '' OR reason = {reason:String})
  AND event_time >= {since:DateTime64(3, 'UTC')}
  AND (empty({ids:Array(String)}) OR has({ids:Array(String)}, event_id))
GROUP BY event_id
ORDER BY at DESC, letter_id
LIMIT {most:UInt32}
"""
MOST = 100_000
"""Letters that one command takes at most."""


@app.command("list")
def list_(
    topic: Topic_ = "",
    reason: Reason = "",
    since: Since = "",
    everything: Annotated[bool, typer.Option("--all", help=f"All of them, not the newest {SHOWN}.")] = False,
) -> None:
    """List dead letters: how many by topic and reason, then the newest, each with what has been done about it."""
    from infra.cli.words import out

    with _refusals():
        found = _letters(topic=topic, reason=reason, since=since)
        done = _done()
    for (meant, why), count in sorted(Counter((row["meant"], row["why"]) for row in found).items()):
        out.print(f"{count:7}  {meant}  {why}", markup=False)
    for row in found if everything else found[:SHOWN]:
        state = done.get(row["letter_id"], "open")
        out.print(f"{row['at']:%Y-%m-%d %H:%M:%S}  {row['letter_id']}  {row['why']}  {state}  {row['words'][:120]}", markup=False)
    if not found:
        out.print("no dead letters")
    elif not everything and len(found) > SHOWN:
        out.print(f"{len(found) - SHOWN} older ones are left out: --all, or narrow by --topic, --reason, --since")


@app.command()
def show(letter: Annotated[str, typer.Argument(help="A letter, by the id that `list` shows.")]) -> None:
    """Show one letter: why it was refused, its bytes as they came, what they decode to, and every step since."""
    from infra.base.registry import RegistryClient, RegistryError
    from infra.cli.words import out
    from schemas.codec import BadFraming, BadPayload, Decoder
    from streams.letters import Desk

    with _refusals(), RegistryClient() as registry:
        (row,) = _letters(ids=[letter]) or refuse(f"there is no letter {letter}: `headrace dead-letters list` shows them")
        payload = bytes.fromhex(row["bytes_hex"])
        try:
            decoded = json.dumps(Decoder(registry.schema)(payload), default=str, indent=2)
        except (BadFraming, BadPayload, RegistryError) as error:
            decoded = f"cannot be decoded: {error}"
        steps = [step for step in Desk(registry).steps() if step["letter_id"] == letter]
    out.print(f"{letter}\n{row['refused_by']} refused it for {row['meant']} at {row['at']}: {row['why']}, {row['words']}", markup=False)
    out.print(f"key      {bytes.fromhex(row['key_hex'] or '')!r}\npayload  {len(payload)} bytes", markup=False)
    for start in range(0, len(payload), 16):
        part = payload[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        out.print(f"  {start:06x}  {part.hex(' '):47}  {text}", markup=False)
    out.print(decoded, markup=False)
    for step in steps:
        where = f" to {step['sent_to']}" if step["sent_to"] else ""
        out.print(f"{step['event_time']:%Y-%m-%d %H:%M:%S}  {step['step']}{where} by {step['who']}: {step['how']}", markup=False)


@app.command()
def repair(
    ids: Ids = None,
    topic: Topic_ = "",
    reason: Reason = "",
    since: Since = "",
    put: Annotated[list[str] | None, typer.Option("--set", help="field=value: give a field this value, in JSON or as text.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave a field out, so that it has its default.")] = None,
    payload: Annotated[Path | None, typer.Option(help="A JSON file with the event, as examples have it, in place of the bytes.")] = None,
    reframe: Annotated[bool, typer.Option("--reframe", help="Keep the bytes and give them the topic's schema id of today.")] = False,
) -> None:
    """Mend letters, so that their door would let them pass; nothing is sent yet."""
    from infra.base.registry import RegistryClient
    from infra.cli.words import out
    from streams.letters import Desk, Repair

    event = None
    if payload is not None:
        try:
            event = json.loads(payload.read_text())
        except (OSError, ValueError) as error:
            refuse(f"{payload}: {error}")
    wanted = Repair(dict(map(_assignment, put or [])), drop or [], event, reframe)
    if not str(wanted):
        refuse("say what to do: --set field=value, --drop field, --reframe, or --payload FILE.json")
    if not (ids or topic or reason or since):
        refuse("say which letters: ids, --topic, --reason or --since")
    with _refusals(), RegistryClient() as registry:
        chosen = [_letter(row) for row in _letters(topic=topic, reason=reason, since=since, ids=ids or [])]
        if missing := set(ids or ()) - {letter.letter_id for letter in chosen}:
            refuse(f"there is no letter {', '.join(sorted(missing))}: `headrace dead-letters list` shows them")
        if event is not None and len(chosen) > 1:
            refuse(f"--payload is one event, and {len(chosen)} letters are chosen: name one")
        verdicts = Desk(registry).repair(chosen, wanted)
    refused = {letter_id: why for letter_id, why in verdicts.items() if why}
    out.print(f"{len(verdicts) - len(refused)} mended; `headrace dead-letters replay` sends them", markup=False)
    if refused:
        refuse("\n".join(f"{letter_id}: {why}" for letter_id, why in refused.items()))


@app.command()
def replay(ids: Ids = None) -> None:
    """Send mended letters through the front door, each once however often this runs."""
    from infra.base.registry import RegistryClient
    from infra.cli.words import out
    from streams.letters import Desk

    with _refusals(), RegistryClient() as registry:
        sent = Desk(registry).replay(lambda letter_id: not ids or letter_id in ids)
    for one in sent:
        if not one.refused:
            out.print(f"{one.letter_id}  sent to {one.topic}", markup=False)
    if refused := [one for one in sent if one.refused]:
        refuse("\n".join(f"{one.letter_id} was not sent to {one.topic}: {one.refused}; repair it again" for one in refused))
    if not sent:
        out.print("nothing is mended that has not been sent")


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        refuse(f"--set {text}: write field=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _letters(topic: str = "", reason: str = "", since: str = "", ids: list[str] | None = None) -> list[dict[str, Any]]:
    """Letters from the warehouse, the newest first; one that was written twice is one."""
    from infra.base import warehouse

    try:
        moment = datetime.fromisoformat(since or "1970-01-01")
    except ValueError:
        refuse(f"--since {since}: write a time as 2026-03-01T20:00, in UTC unless it says otherwise")
    at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    parameters = {"topic": topic, "reason": reason, "since": at, "ids": ids or [], "most": MOST}
    client = warehouse.reader()
    try:
        return list(client.query(LETTERS, parameters=parameters).named_results())
    finally:
        client.close()


def _letter(row: dict[str, Any]) -> Letter:
    from streams.letters import Letter

    return Letter(row["letter_id"], row["meant"], bytes.fromhex(row["bytes_hex"]))


def _done() -> dict[str, str]:
    """Letter → the last that was done about it."""
    from infra.base import warehouse

    client = warehouse.reader()
    try:
        rows = client.query("SELECT letter_id, argMax(step, (event_time, step)) FROM observability_letter_step GROUP BY letter_id")
        return {str(letter): str(step) for letter, step in rows.result_rows}
    finally:
        client.close()


@contextmanager
def _refusals() -> Iterator[None]:
    """Outages of what a command asks are refusals."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryError, RegistryUnavailable
    from infra.base.settings import settings
    from schemas.catalogue import ContractError

    try:
        yield
    except ClickHouseError as error:
        refuse(f"the warehouse at {settings().warehouse.dsn} refuses or does not answer: {error}")
    except KafkaException as error:
        refuse(f"Kafka at {settings().kafka.bootstrap}: {error.args[0].str()}; nothing was sent")
    except (RegistryError, RegistryUnavailable, ContractError, TimeoutError) as error:
        refuse(str(error))

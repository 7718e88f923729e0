"""`headrace dead-letters list`: by topic, reason and time, each letter once, with what was done about it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from infra.base import warehouse
from infra.cli import app
from infra.cli.words import Refusal
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from sinks import migrate

ENVELOPE = {
    "producer_id": "guard",
    "epoch": 0,
    "seq": -1,
    "topic_partition": 0,
    "topic_time": datetime.now(UTC),
    "ingested_at": datetime.now(UTC),
}
LETTER = {"component": "guard", "detail": "field x", "payload": b"\x00half"}


def headrace(*words: str) -> str:
    told = CliRunner().invoke(app, ["dead-letters", *words])
    if told.exception is not None:
        raise told.exception
    return told.output


def insert(topic: str, *rows: dict[str, object]) -> None:
    full = [{**ENVELOPE, "topic_offset": number, **row} for number, row in enumerate(rows)]
    warehouse.writer().insert(catalogue().topic(topic).table, [list(row.values()) for row in full], column_names=list(full[0]))


@pytest.fixture
def letters(world: Encoder) -> None:
    """Three letters on two topics, one of them written twice; the oldest has been sent again."""
    migrate.migrate(warehouse.writer("default"), [catalogue().topic("observability.letter_step")], [])
    at = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    door = {**LETTER, "topic": "playback.report.in"}
    insert(
        "observability.dead_letter",
        {"event_id": "a", "event_time": at[0], "reason": "decode", **door},
        {"event_id": "b", "event_time": at[1], "reason": "time_window", **door},
        {"event_id": "b", "event_time": at[1], "reason": "time_window", **door},
        {"event_id": "c", "event_time": at[2], "reason": "decode", **LETTER, "topic": "delivery.access"},
    )
    step = {"letter_id": "a", "who": "t", "how": "edited", "topic": "playback.report", "payload": b""}
    insert(
        "observability.letter_step",
        {"event_id": "1", "event_time": at[1], "step": "repaired", **step},
        {"event_id": "2", "event_time": at[2], "step": "replayed", **step},
    )


def test_letters_are_counted_and_listed(letters: None) -> None:
    assert headrace("list").splitlines() == [
        "      1  delivery.access  decode",
        "      1  playback.report  decode",
        "      1  playback.report  time_window",
        "2026-03-03 00:00:00  c  decode  open  field x",
        "2026-03-02 00:00:00  b  time_window  open  field x",
        "2026-03-01 00:00:00  a  decode  replayed  field x",
    ]
    for narrowed in (["--topic", "delivery.access"], ["--reason", "decode", "--since", "2026-03-02T12:00"]):
        assert [line.split()[2] for line in headrace("list", *narrowed).splitlines()[1:]] == ["c"]
    assert headrace("list", "--since", "2026-03-04") == "no dead letters\n"
    with pytest.raises(Refusal, match="write a time as"):
        headrace("list", "--since", "yesterday")
    with pytest.raises(Refusal, match="say which letters"):
        headrace("repair", "--set", "x=1")
    with pytest.raises(Refusal, match="there is no letter nothing"):
        headrace("repair", "nothing", "--set", "x=1")

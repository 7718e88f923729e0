"""The columnar encoder writes what the encoder of single events writes, whatever the columns hold."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Event
from schemas.codec import INT, LONG, Encoder, InvalidEvent
from schemas.columnar import Coded, Column, ColumnEncoder, Names, Ready, Text, Where, digits, numbers, of_table, table
from schemas.examples import example
from schemas.wire import long_bytes
from tests.schemas.contracts import events
from tests.schemas.test_compiled import plain

EVENTS = {event.full_name: event for event in events()}
BLANK: dict[str, Any] = {"int": 0, "long": 0, "timestamp-millis": 0, "double": 0.0, "boolean": False}
TYPES: dict[str, Any] = {"double": np.float64, "boolean": np.bool_}


def texts(values: Sequence[str]) -> Text:
    """In two pieces each, so that joining is seen to."""
    halves = [[value.encode()[: len(value) // 2] for value in values], [value.encode()[len(value) // 2 :] for value in values]]
    return Text([of_table(table(rows), np.arange(len(values))) for rows in halves])


def column(event: Event, item: dict[str, Any], values: Sequence[Any], random: Random) -> Column:
    """Some column that holds these values."""
    kind = item["type"]
    present = np.array([value is not None for value in values])
    nullable = isinstance(kind, list)
    inner = kind[1] if nullable else kind
    name = inner if isinstance(inner, str) else inner.get("logicalType", "")
    if name in BLANK:
        numbers_ = np.array([BLANK[name] if value is None else value for value in values], TYPES.get(name, np.int64))
        return Where(present, numbers_) if nullable else numbers_
    if name == "string" and random.random() < 0.5:
        known = sorted(set(values), key=str)
        return Coded(Names(known), np.array([known.index(value) for value in values]))
    if name == "string":
        joined = texts([value or "" for value in values])
        return Where(present, joined) if nullable else joined
    encode = Encoder(Event(event.domain, event.name, {**event.schema, "fields": [item]}), 0)
    return Ready(of_table(table([encode({item["name"]: value})[5:] for value in values]), np.arange(len(values))))


@given(random=st.randoms(use_true_random=False), name=st.sampled_from(sorted(EVENTS)), count=st.integers(1, 9))
def test_it_writes_what_the_encoder_of_single_events_writes(random: Random, name: str, count: int) -> None:
    event = EVENTS[name]
    records = [{field: plain(value) for field, value in example(event, random).items()} for _ in range(count)]
    constants: dict[str, Any] = {}
    for item in event.fields:
        if random.random() < 0.2:
            constants[item["name"]] = records[0][item["name"]]
            records = [record | {item["name"]: records[0][item["name"]]} for record in records]
    columns = {
        item["name"]: column(event, item, [record[item["name"]] for record in records], random)
        for item in event.fields
        if item["name"] not in constants
    }
    encode = Encoder(event, 77)
    assert ColumnEncoder(event, 77)(count, columns, constants) == [encode(record) for record in records]


@given(st.lists(st.integers(*LONG), min_size=1, max_size=20))
def test_numbers_of_every_size(values: list[int]) -> None:
    found = numbers(np.array(values, np.int64))
    assert [bytes(row[:length]) for row, length in zip(found.matrix, found.lengths, strict=True)] == [long_bytes(value) for value in values]


@given(st.lists(st.integers(*INT), min_size=1, max_size=20))
def test_numbers_of_half_the_width(values: list[int]) -> None:
    whole, half = numbers(np.array(values, np.int64)), numbers(np.array(values, np.int32))
    assert (whole.lengths == half.lengths).all()
    assert all((whole.matrix[i, :n] == half.matrix[i, :n]).all() for i, n in enumerate(whole.lengths.tolist()))


@given(st.lists(st.integers(0, INT[1]), min_size=1, max_size=20))
def test_digits_as_they_are_printed(values: list[int]) -> None:
    found = digits(np.array(values), 3)
    assert [bytes(row[:length]) for row, length in zip(found.matrix, found.lengths, strict=True)] == [b"%03d" % value for value in values]


def test_no_records_are_no_bytes() -> None:
    event = EVENTS["playback.report"]
    columns = {"event_id": Coded(Names(["x"]), np.empty(0, np.int64)), "sn": np.empty(0, np.int64)}
    constants = {"event_time": 0, "producer_id": "p", "epoch": 1, "seq": 0, "sid": "s", "e": "t"}
    assert ColumnEncoder(event, 1)(0, columns, constants) == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"weather": np.array([1])}, "no such field: weather"),
        ({"sn": np.array([1.5])}, "sn: is of type long, not float64"),
        ({"isp_asn": np.array([2**31])}, "isp_asn: is beyond int"),
        ({"bs": np.array([1])}, "bs: is of type boolean"),
        ({"bs": Where(np.array([False]), np.array([True]))}, "bs: cannot be null"),
        ({"sid": Coded(Names(["a", None]), np.array([0]))}, "sid: cannot be null"),
        ({"e": Coded(Names(["party"]), np.array([0]))}, "e: 'party': none of its symbols"),
        ({"sn": Text([])}, "sn: is of type long, not a text"),
        ({"sid": None}, "sid: is missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_the_field(columns: dict[str, Any], words: str) -> None:
    constants = {"event_id": "e", "event_time": 0, "producer_id": "p", "epoch": 1, "seq": 0, "sid": "s", "sn": 1, "e": "t"}
    constants = {name: value for name, value in constants.items() if name not in columns}
    with pytest.raises(InvalidEvent, match=words):
        ColumnEncoder(EVENTS["playback.report"], 1)(1, {n: c for n, c in columns.items() if c is not None}, constants)

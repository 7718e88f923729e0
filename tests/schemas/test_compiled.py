"""The compiled writer writes what fastavro writes, or says that it is not sure."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Event
from schemas.codec import INSTANT_MS, INT, LONG
from schemas.compiled import Unsure, Writer, compile_reader, compile_writer
from schemas.examples import example
from schemas.wire import long_bytes, string_bytes
from tests.schemas.contracts import events, every_type, topic

LIMITS = {"int": INT, "long": LONG, "timestamp-millis": INSTANT_MS}
EVENTS = {event.full_name: event for event in events()}
WRITERS = {name: compile_writer(event.schema, b"", LIMITS) for name, event in EVENTS.items()}
REPORT = {"event_id": "e", "event_time": 0, "producer_id": "p", "epoch": 1, "seq": 0, "sid": "s", "sn": 1, "e": "t"}


def by_fastavro(event: Event, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, event.parsed, record)
    return out.getvalue()


def of(name: str) -> Writer:
    writer = WRITERS[name]
    assert writer is not None
    return writer


def plain(value: Any) -> Any:
    """Times as the numbers they are on the wire."""
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def test_every_contract_of_ours_has_one() -> None:
    assert [name for name, writer in WRITERS.items() if writer is None] == []


@given(random=st.randoms(use_true_random=False), name=st.sampled_from(sorted(EVENTS)))
def test_it_writes_what_fastavro_writes(random: Random, name: str) -> None:
    record = {field: plain(value) for field, value in example(EVENTS[name], random).items()}
    for _ in range(random.randrange(5)):  # absent fields take their defaults
        field = random.choice(EVENTS[name].fields)
        if "default" in field:
            record.pop(field["name"], None)
    assert of(name)(record) == by_fastavro(EVENTS[name], record)


@given(sn=st.integers(*LONG), br=st.integers(*INT), time=st.integers(*INSTANT_MS), pr=st.floats(allow_nan=False), text=st.text())
def test_numbers_and_texts_of_every_size(sn: int, br: int, time: int, pr: float, text: str) -> None:
    record = {**REPORT, "event_time": time, "sn": sn, "br_kbps": br, "pr": pr, "sid": text, "ec": [text] * 3, "custom": {text: text}}
    assert of("playback.report")(record) == by_fastavro(EVENTS["playback.report"], record)


@pytest.mark.parametrize(
    "changes",
    [
        {"br_kbps": 2**31}, {"br_kbps": True}, {"br_kbps": 1.0}, {"br_kbps": "1"}, {"sn": 2**63}, {"sn": None}, {"sid": None},
        {"sid": b"s"}, {"sid": "\ud800"}, {"e": "zz"}, {"e": ["t"]}, {"e": None}, {"bs": 1}, {"bs": None}, {"ec": "abc"}, {"ec": [1]},
        {"ec": None}, {"custom": []}, {"custom": {"a": 1}}, {"custom": {1: "a"}}, {"pr": 1}, {"event_time": 2**60},
        {"event_time": datetime(2026, 1, 1, tzinfo=UTC)}, {"zz": 1},
    ],
)  # fmt: skip
def test_of_everything_else_it_is_not_sure(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsure):
        of("playback.report")({**REPORT, **changes})


@given(st.decimals(allow_nan=False, allow_infinity=False, places=0, min_value=-(10**38) + 1, max_value=10**38 - 1), st.dates())
def test_decimals_and_dates_are_fastavros(number: Decimal, day: date) -> None:
    record = {field: plain(value) for field, value in example(EVENTS["experiments.statistic"], Random(1)).items()}
    record |= {"sum_x": number, "day": day}
    assert of("experiments.statistic")(record) == by_fastavro(EVENTS["experiments.statistic"], record)


@pytest.mark.parametrize(
    "changes", [{"sum_x": Decimal("0.5")}, {"sum_x": Decimal(10**38)}, {"sum_x": Decimal("NaN")}, {"sum_x": 1}, {"day": 1}, {"day": None}]
)
def test_of_other_decimals_and_dates_it_is_not_sure(changes: dict[str, Any]) -> None:
    record = {field: plain(value) for field, value in example(EVENTS["experiments.statistic"], Random(1)).items()}
    with pytest.raises(Unsure):
        of("experiments.statistic")({**record, **changes})


CANDIDATE = {"oca_id": "oca-1", "tier": "ORIGIN", "rank": 1, "reason": "route"}


@pytest.mark.parametrize(
    "candidates",
    [CANDIDATE, [CANDIDATE, None], [[]], [{**CANDIDATE, "rank": True}], [{**CANDIDATE, "zz": 1}], [{"oca_id": "oca-1"}], ["oca-1"]],
)
def test_nor_of_a_record_in_a_list_that_is_none(candidates: Any) -> None:
    record = {field: plain(value) for field, value in example(EVENTS["delivery.steering"], Random(1)).items()}
    assert of("delivery.steering")({**record, "candidates": [CANDIDATE] * 3})
    with pytest.raises(Unsure):
        of("delivery.steering")({**record, "candidates": candidates})


def test_a_missing_field_is_not_written_as_anything() -> None:
    for name in REPORT:
        with pytest.raises(Unsure):
            of("playback.report")({field: value for field, value in REPORT.items() if field != name})


def test_a_contract_with_other_types_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert compile_writer(topic(tmp_path_factory.mktemp("lab"), *every_type()).event.schema, b"", LIMITS) is None


@given(st.integers(*LONG), st.text())
def test_numbers_and_strings_are_avros(number: int, text: str) -> None:
    for kind, value, ours in (("long", number, long_bytes(number)), ("string", text, string_bytes(text))):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, kind, value)
        assert ours == out.getvalue()


ROW = EVENTS["recommendations.feature_value"]


TOLD = st.fixed_dictionaries({
    "event_id": st.text(max_size=200), "epoch": st.integers(*INT), "seq": st.integers(*LONG), "marker": st.booleans(),
    "entity": st.text(max_size=70), "tiles": st.binary(max_size=300),
})  # fmt: skip


@given(TOLD, st.integers(0, 900))
def test_the_compiled_reader_reads_what_fastavro_reads_or_says_that_it_is_not_sure(told: dict[str, Any], cut: int) -> None:
    read = compile_reader(ROW.schema, tuple(told), 2)
    assert read is not None
    plain = {"event_time": 1_772_323_200_000, "producer_id": "features", "item": "title", "group": "title", "layout": "x", "texts": b""}
    framed = b"??" + by_fastavro(ROW, {**plain, **told})
    assert read(framed) == told
    for wrong in (framed[: 2 + cut % (len(framed) - 2)], framed + b"\0"):
        with pytest.raises(Unsure):
            read(wrong)


def test_a_field_that_the_compiled_reader_does_not_know_is_left_to_the_careful_way() -> None:
    assert compile_reader(EVENTS["recommendations.feature_served"].schema, ("group",), 0) is None
    assert compile_reader(ROW.schema, ("event_time",), 0) is None

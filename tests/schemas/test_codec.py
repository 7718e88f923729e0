"""Events to bytes and back: nothing is written that the contract does not say, and no bytes bring the decoder down."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Event
from schemas.codec import BadFraming, BadPayload, Decoder, Encoder, InvalidEvent, schema_id_of
from schemas.envelope import Stamp, fingerprint, marker
from schemas.examples import example
from tests.schemas.contracts import events, every_type, field, topic

EVENTS = events()


def a_record(event: Event, **changes: Any) -> dict[str, Any]:
    return {**example(event, Random(1)), **changes}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Event:
    return topic(tmp_path_factory.mktemp("lab"), *every_type()).event


@given(random=st.randoms(use_true_random=False), chosen=st.sampled_from(EVENTS))
def test_what_is_encoded_is_decoded_again(random: Random, chosen: Event) -> None:
    written = example(chosen, random)
    assert Decoder(lambda _: chosen.schema)(Encoder(chosen, 7)(written)) == written


def test_every_type_comes_back(lab: Event) -> None:
    for seed in range(200):
        written = example(lab, Random(seed))
        assert Decoder(lambda _: lab.schema)(Encoder(lab, 7)(written)) == written


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"an_int": 2**31}, r"lab.thing.an_int: 2147483648 is beyond int"),
        ({"an_int": 1.5}, r"an_int: 1.5 is not a whole number"),
        ({"an_int": True}, r"an_int: True is not a whole number"),
        ({"an_int": None}, r"an_int: None is not a whole number"),
        ({"a_long": 2**63}, r"a_long: 9223372036854775808 is beyond long"),
        ({"a_double": "1"}, r"a_double: '1' is not a number"),
        ({"a_boolean": "false"}, r"a_boolean: 'false' is not a boolean"),
        ({"a_boolean": 1}, r"a_boolean: 1 is not a boolean"),
        ({"a_string": b"x"}, r"a_string: b'x' is not string"),
        ({"a_string": "\ud800"}, r"surrogates not allowed"),
        ({"a_bytes": "x"}, r"a_bytes: 'x' is not bytes"),
        ({"a_date": datetime(2026, 1, 1, tzinfo=UTC)}, r"a_date: .* is not a whole number"),
        ({"an_instant": datetime(2026, 1, 1)}, r"an_instant: 2026-01-01 00:00:00 has no time zone"),  # noqa: DTZ001
        ({"an_optional_instant": datetime(2026, 1, 1)}, r"an_optional_instant: .* has no time zone"),  # noqa: DTZ001
        ({"an_instant": 2**60}, r"an_instant: .* is beyond the years 1 to 9999"),
        ({"a_decimal": Decimal("1.234")}, r"a_decimal: Decimal\('1.234'\) is not decimal\(9, 2\)"),
        ({"a_decimal": 1.5}, r"a_decimal: 1.5 is not decimal\(9, 2\)"),
        ({"an_array": "abc"}, r"an_array: 'abc' is not a list"),
        ({"optionals": [1, 2.5]}, r"2.5"),
        ({"a_map": {"x": 1.5}}, r"a_map: at 'x': 1.5 is not a whole number"),
        ({"a_record": {"depth": 1, "deep": 2}}, r"a_record: no such field: deep"),
        ({"a_record": {"depth": 2**40}}, r"a_record: depth: 1099511627776 is beyond int"),
        ({"a_symbol": "ON"}, r"a_symbol: 'ON' is none of on, off"),
        ({"a_symbol": ["on"]}, r"a_symbol: \['on'\] is none of on, off"),
        ({"an_optional_symbol": ""}, r"an_optional_symbol: '' is none of on, off"),
        ({"an_optional": 1.5}, r"an_optional: 1.5 is not long or null"),
        ({"colour": "red"}, r"no such field: colour"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(lab: Event, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        Encoder(lab, 7)(a_record(lab, **changes))


def test_a_missing_field_is_named(lab: Event) -> None:
    record = a_record(lab)
    del record["a_label"]
    with pytest.raises(InvalidEvent, match=r"lab.thing: a_label is missing"):
        Encoder(lab, 7)(record)


def test_absent_fields_take_their_defaults(lab: Event) -> None:
    record = {f["name"]: v for f, v in zip(lab.fields, a_record(lab).values(), strict=True) if "default" not in f}
    read = Decoder(lambda _: lab.schema)(Encoder(lab, 7)(record))
    assert (read["an_optional"], read["m"], read["correlation_id"]) == (None, False, "")


def test_dates_are_written_as_dates_or_days(lab: Event) -> None:
    decode, encode = Decoder(lambda _: lab.schema), Encoder(lab, 7)
    assert decode(encode(a_record(lab, a_date=date(1970, 1, 2))))["a_date"] == decode(encode(a_record(lab, a_date=1)))["a_date"]


@pytest.mark.parametrize("framed", [b"", b"\x00\x00\x00", b"\x01\x00\x00\x00\x07abc", b"{}"])
def test_bad_framing_is_refused(framed: bytes) -> None:
    with pytest.raises(BadFraming):
        schema_id_of(framed)


@given(body=st.binary(max_size=300), chosen=st.sampled_from(EVENTS))
def test_no_bytes_bring_the_decoder_down(body: bytes, chosen: Event) -> None:
    with contextlib.suppress(BadPayload):
        assert Decoder(lambda _: chosen.schema)(b"\x00\x00\x00\x00\x07" + body).keys() == {f["name"] for f in chosen.fields}


@given(random=st.randoms(use_true_random=False), cut=st.integers(1, 10_000))
def test_truncated_and_overlong_bytes_are_refused(random: Random, cut: int) -> None:
    event = EVENTS[0]
    framed = Encoder(event, 7)(example(event, random))
    with pytest.raises(BadPayload):
        Decoder(lambda _: event.schema)(framed[: max(5, len(framed) - cut)])
    with pytest.raises(BadPayload, match=r"1 bytes are left over"):
        Decoder(lambda _: event.schema)(framed + b"\x00")


def test_a_reader_reads_older_and_newer_versions_as_its_own(tmp_path: Path) -> None:
    old = topic(tmp_path, field("a", "int")).event
    new = topic(tmp_path, field("b", "string", default="none"), field("a", "long")).event
    written = Encoder(old, 1)(a_record(old, a=5))
    assert {k: v for k, v in Decoder(lambda _: old.schema, new)(written).items() if k in "ab"} == {"a": 5, "b": "none"}
    assert "b" not in Decoder(lambda _: old.schema)(written)


def test_an_unknown_id_raises_what_the_registry_raises() -> None:
    def unknown(_: int) -> dict[str, Any]:
        raise LookupError("no such id")

    with pytest.raises(LookupError):
        Decoder(unknown)(b"\x00\x00\x00\x00\x09abc")


def test_the_fingerprint_does_not_depend_on_the_schema_id() -> None:
    record = a_record(EVENTS[0])
    assert fingerprint(Encoder(EVENTS[0], 7)(record)) == fingerprint(Encoder(EVENTS[0], 8)(record))
    assert fingerprint(Encoder(EVENTS[0], 7)(record)) != fingerprint(Encoder(EVENTS[0], 7)({**record, "seq": record["seq"] ^ 1}))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.full_name)
def test_a_marker_fits_its_contract(event: Event) -> None:
    stamped = Stamp("p", 3)("topic", marker(event), event_time_ms=1_000)
    read = Decoder(lambda _: event.schema)(Encoder(event, 7)(stamped))
    assert (read["marker"], read["event_id"], read["event_time"]) == (True, "p-3-topic-0", datetime.fromtimestamp(1, UTC))


def test_a_marker_of_every_type_fits(lab: Event) -> None:
    Encoder(lab, 7)(Stamp("p", 1)("topic", marker(lab), event_time_ms=0))


def test_a_sequence_number_is_taken_when_used() -> None:
    stamp = Stamp("p", 1)
    assert [stamp("t", {}, 0)["seq"], stamp("t", {}, 0)["seq"]] == [0, 0]
    stamp.used("t")
    assert (stamp("t", {}, 0)["seq"], stamp("u", {}, 0)["seq"]) == (1, 0)


def test_the_bytes_are_plain_avro_after_the_header() -> None:
    event = EVENTS[0]
    record = a_record(event)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, event.parsed, record)
    assert Encoder(event, 258)(record) == b"\x00\x00\x00\x01\x02" + out.getvalue()

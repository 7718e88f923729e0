"""Bodies from strangers: bounded, unpacked with a bound, split into reports with the bytes they came as."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import body
from edge.body import BodyRefused, gunzip, json_reports, lines, read


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def refusal(*chunks: bytes, encoding: str = "") -> BodyRefused:
    with pytest.raises(BodyRefused) as refused:
        await read(stream(*chunks), encoding)
    return refused.value


async def test_a_body_is_read_as_its_encoding_says() -> None:
    assert await read(stream(b"a", b"b"), "") == b"ab"
    assert await read(stream(gzip.compress(b"ab")), "gzip") == b"ab"
    assert await read(stream(gzip.compress(b"a") + gzip.compress(b"b")), "x-gzip") == b"ab"


async def test_a_body_that_is_too_large_is_not_even_read() -> None:
    read_chunks = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read_chunks
        while True:
            read_chunks += 1
            yield b"x" * 65_536

    with pytest.raises(BodyRefused) as refused:
        await read(endless(), "")
    assert (refused.value.status, len(refused.value.received)) == (413, body.MAX_RECEIVED)
    assert read_chunks == body.MAX_RECEIVED // 65_536 + 1


async def test_a_gzip_bomb_costs_no_more_than_the_bound() -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), compresslevel=9)
    assert len(bomb) < body.MAX_RECEIVED
    refused = await refusal(bomb, encoding="gzip")
    assert (refused.status, refused.rule, refused.received) == (413, "size", bomb)


async def test_many_small_members_cannot_get_round_the_bound() -> None:
    member = gzip.compress(b"\0" * (1 << 20))
    assert (await refusal(member * 20, encoding="gzip")).status == 413


@pytest.mark.parametrize(
    "packed",
    [b"", b"plain", gzip.compress(b"a" * 1000)[:-9], gzip.compress(b"ab")[:5], zlib.compress(b"ab"), gzip.compress(b"ab") + b"tail"],
)
async def test_wrong_gzip_is_refused(packed: bytes) -> None:
    refused = await refusal(packed, encoding="gzip")
    assert (refused.status, refused.rule, refused.received) == (400, "gzip", packed)


async def test_an_unknown_encoding_is_refused() -> None:
    assert (await refusal(b"a", encoding="br")).status == 415


@given(st.binary(max_size=5_000))
def test_what_was_packed_is_unpacked(data: bytes) -> None:
    assert gunzip(gzip.compress(data)) == data


@given(st.binary(max_size=500))
def test_any_bytes_are_unpacked_or_refused(data: bytes) -> None:
    try:
        gunzip(b"\x1f\x8b\x08" + data)
    except BodyRefused as refused:
        assert refused.status == 400  # noqa: PT017 -- both outcomes are right


def test_lines_keep_their_numbers() -> None:
    assert lines(b"a\n\n  \r\nb\r\n\n") == [(1, b"a"), (4, b"b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', ['{"a": 1}']),
        (' [ {"a":  1} , {"b": "]"}\n] ', ['{"a":  1}', '{"b": "]"}']),
        ('{"a": 1}\n{"b": 2}', ['{"a": 1}', '{"b": 2}']),
        ("[]", []),
        ("", []),
        ("[1, true]", ["1", "true"]),
    ],
)
def test_json_reports_are_as_they_came(text: str, expected: list[str]) -> None:
    assert json_reports(text.encode()) == [(number, report.encode()) for number, report in enumerate(expected, 1)]


@pytest.mark.parametrize("text", ["[", '[{"a": 1}', "[1] 2", "{", "nope", "[" * 100_000, "\ufeff[]"])
def test_a_body_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(BodyRefused) as refused:
        json_reports(text.encode())
    assert refused.value.status == 400


def test_json_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BodyRefused, match="byte 1 is not UTF-8"):
        json_reports(b"[\xff]")


@pytest.mark.parametrize(("split", "text"), [(lines, b"\n" * 4_000_000), (json_reports, b"[" + b"1," * 1_000_000 + b"1]")])
def test_a_body_of_very_many_reports_is_refused(split: Callable[[bytes], object], text: bytes) -> None:
    with pytest.raises(BodyRefused) as refused:
        split(text)
    assert (refused.value.status, refused.value.rule, len(refused.value.received)) == (413, "size", body.MAX_RECEIVED)


@given(st.lists(st.dictionaries(st.text(), st.integers()), max_size=5))
def test_an_array_has_as_many_reports_as_members(reports: list[dict[str, int]]) -> None:
    assert [json.loads(report) for _, report in json_reports(json.dumps(reports).encode())] == reports

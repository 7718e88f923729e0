"""The judge: every key of CMCD refused by name and rule when it is wrong, and no player that lies or repeats itself does harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.judge import MAX_LINE, Judge, Rejected
from infra.base.settings import Edge, Settings
from schemas import cmcd
from schemas.catalogue import catalogue
from schemas.codec import Encoder

NOW_MS = 1_700_000_000_000
RULES = {"syntax", "unknown_key", "type", "token", "length", "range", "required", "forbidden", "version", "time_window", "size"}
ENVELOPE = {"event_id": "e", "event_time": NOW_MS, "producer_id": "p", "epoch": 1, "seq": 0}
encode = Encoder(catalogue().events["playback.report"], 1)

UNREADABLE = [
    *("", "\x00", "\x1b[2J", "\x7f", "\u00fc", "1 1", "(1", '"a', '"\x07"', '"\u00fc"'),
    *("1" * 16, "1" * 13 + ".5", "--1", "1e9", "?2", ":*:", "$"),
]
WRONG_TYPE = {
    "integer": ['"7"', "seven", "7.5", "?1", "(7)", ":AA==:", "@7", '%"7"'],
    "number": ['"7"', "seven", "?1", "(7)", ":AA==:", "@7"],
    "number[]": ["7", '"7"', "seven", "?1", "()", '("7")', "(seven)", "(7 ?1)", "(7 @7)", ":AA==:"],
    "string": ["7", "seven", "?1", '("a")', ":AA==:", "@7"],
    "string[]": ["?1", "(7)", "(seven)", "(?1)", ":AA==:", "7.5"],
    "token": ['"p"', "7", "?1", "(p)", ":AA==:"],
    "boolean": ["1", "0", "true", '"?1"', "(?1)"],
}
NEGATIVE = {"integer": "-1", "number[]": "(7 -1)"}
BIGGEST = {"integer": "9" * 15, "number": "9" * 15, "number[]": f"({'9' * 15})"}


def judged(raw: bytes, **edge: Any) -> cmcd.Report:
    return Judge(Settings(edge=Edge(**edge))).event(raw, False, NOW_MS, "default", {})


def refused(line: str) -> tuple[str, str]:
    """Key and rule."""
    with pytest.raises(Rejected) as refusal:
        judged(line.encode("latin-1"))
    assert str(refusal.value)
    return refusal.value.key, refusal.value.rule


def around(key: str, text: str | None) -> str:
    """A report that is right but for what `key` says; without it where that is None."""
    event = "rr" if key in cmcd.RESPONSE_KEYS else "ce" if key == "cen" else "t"
    members = {"e": event, "sid": '"s"', "sn": "1", "ts": str(NOW_MS), "v": "2"} | ({"url": '"/a"'} if event == "rr" else {})
    return ",".join(f"{name}={said}" for name, said in (members | {key: text}).items() if said is not None)


# --- one key wrong ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(cmcd.TYPES))
def test_each_key_is_refused_by_its_name_and_the_rule_it_breaks(key: str) -> None:
    kind = cmcd.TYPES[key]
    version = key == "v"  # whatever it says instead of 2, it is the version that is wrong
    for text in UNREADABLE:
        assert refused(around(key, text)) == (key, "syntax"), text
    for text in WRONG_TYPE[kind]:
        assert refused(around(key, text)) == (key, "version" if version else "type"), text
    if kind in NEGATIVE:
        assert refused(around(key, NEGATIVE[kind])) == (key, "version" if version else "range")
    if kind == "token":
        assert refused(around(key, "nonesuch")) == (key, "token")
    if key in cmcd.LENGTHS:
        assert refused(around(key, f'"{"a" * (cmcd.LENGTHS[key] + 1)}"')) == (key, "length")


@pytest.mark.parametrize("key", sorted(key for key, kind in cmcd.TYPES.items() if kind in BIGGEST))
def test_a_huge_number_is_kept_or_refused_by_its_key(key: str) -> None:
    line = around(key, BIGGEST[cmcd.TYPES[key]])
    try:
        report = judged(line.encode())
    except Rejected as refusal:
        assert refusal.key == key  # noqa: PT017 -- both outcomes are right
        assert refusal.rule in ("range", "time_window", "version")  # noqa: PT017
    else:
        assert encode({**ENVELOPE, **report.fields})


@pytest.mark.parametrize(
    ("key", "right"), [("bl", "(100)"), ("br", "(700)"), ("sta", "p"), ("sid", '"s"'), ("d", "4"), ("com.headrace-asn", "64500")]
)
def test_of_a_repeated_key_the_last_counts(key: str, right: str) -> None:
    assert judged(f"{key}=?0,{around(key, right)}".encode()) == judged(around(key, right).encode())
    assert refused(f"{around(key, right)},{key}=?0") == (key, "type")


@pytest.mark.parametrize("key", ["e", "ts", "sid"])
def test_what_no_report_may_lack_is_named(key: str) -> None:
    assert refused(around(key, None)) == (key, "required")


@given(
    st.sampled_from([*sorted(cmcd.TYPES), "com.headrace-asn", "com.headrace-bytes", "com.x-y"]),
    st.text(st.characters(max_codepoint=255), max_size=80),
)
def test_whatever_a_key_says_the_report_is_kept_whole_or_refused_in_words(key: str, text: str) -> None:
    try:
        report = judged(around(key, text).encode("latin-1"))
    except Rejected as refusal:
        assert refusal.rule in RULES  # noqa: PT017 -- both outcomes are right
        assert refusal.key  # noqa: PT017
        assert str(refusal)  # noqa: PT017
    else:
        assert encode({**ENVELOPE, **report.fields})


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(raw: bytes) -> None:
    try:
        judged(raw)
    except Rejected as refusal:
        assert refusal.rule in RULES  # noqa: PT017 -- both outcomes are right


# --- a player that lies, or says the same again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew_ms", "right"), [(0, True), (-7 * 86_400_000, True), (60_000, True), (-7 * 86_400_000 - 1, False), (60_001, False)]
)
def test_the_time_window_is_closed(skew_ms: int, right: bool) -> None:
    line = around("ts", str(NOW_MS + skew_ms))
    if right:
        assert judged(line.encode())
    else:
        assert refused(line) == ("ts", "time_window")


def test_a_report_sent_again_is_the_same_event_and_one_from_long_ago_is_refused() -> None:
    line = around("ts", str(NOW_MS)).encode()
    assert judged(line).event_id == judged(line).event_id
    with pytest.raises(Rejected, match="mend the clock"):
        Judge(Settings()).event(line, False, NOW_MS + 8 * 86_400_000, "default", {})


def test_a_report_that_is_too_long_is_refused() -> None:
    assert refused(around("cs", f'"{"a" * MAX_LINE}"')) == ("*", "size")


def test_the_cache_server_is_known_by_its_address() -> None:
    raw = around("url", '"http://127.0.0.1:81/bbb/v1/1.m4s?CMCD=x"').encode()
    fields = judged(raw, oca_urls=["http://127.0.0.1:80", "http://127.0.0.1:81"]).fields
    assert (fields["oca_id"], fields["url"]) == ("oca-2", "http://127.0.0.1:81/bbb/v1/1.m4s")
    assert "oca_id" not in judged(raw, oca_urls=[]).fields


def test_a_token_is_not_kept() -> None:
    fields = judged(
        around("url", '"http://127.0.0.1:81/~t.t/bbb/v1/1.m4s"').encode(), oca_urls=["http://127.0.0.1:80", "http://127.0.0.1:81"]
    ).fields
    assert (fields["oca_id"], fields["url"]) == ("oca-2", "http://127.0.0.1:81/bbb/v1/1.m4s")


def test_cache_servers_of_a_switch_are_known_by_their_hosts() -> None:
    switch = 'cen="com.headrace-switch",com.headrace-from="127.0.0.1:81",com.headrace-to="ix-7",com.headrace-cause="stall"'
    fields = judged(around("e", f"ce,{switch}").encode(), oca_urls=["http://127.0.0.1:80", "http://127.0.0.1:81"]).fields
    assert (fields["switched_from"], fields["switched_to"], fields["switch_cause"]) == ("oca-2", "ix-7", "stall")

"""CMCD against the outside vectors (key lists, types, tokens, limits, exact strings), rule by rule, and under fuzzing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import cmcd
from schemas import structured_fields as sf
from schemas.catalogue import catalogue
from schemas.cmcd import InvalidCmcd, Violation
from schemas.codec import Encoder
from schemas.structured_fields import NONE, Token
from tests.kit import vectors

TS = 1_700_000_000_000
EVENT = f'br=(3000;v 128;a),cid="bbb",d=4000,e=rr,ot=v,rc=200,sid="s-1",sn=7,sta=p,ts={TS},ttfb=20,url="http://h:1/bbb/v1/5.m4s?x=1",v=2'


def standard() -> dict[str, Any]:
    return dict(json.loads((vectors("cmcd") / "cmcd_vectors.json").read_text()))


def broken(text: str, mode: cmcd.Mode = "event") -> list[tuple[str, str]]:
    """(key, rule) of each violation."""
    with pytest.raises(InvalidCmcd) as refusal:
        cmcd.parse(text, mode)
    return [(violation.key, violation.rule) for violation in refusal.value.violations]


def event(rest: str, e: str = "t") -> str:
    return f'e={e},sid="s-1",sn=1,ts={TS},v=2' + (f",{rest}" if rest else "")


# --- outside vectors -------------------------------------------------------------------------------------------------------------------


def test_the_keys_are_those_of_the_standard() -> None:
    told = standard()
    assert set(cmcd.V1_TYPES) == set(told["v1_keys"])
    assert set(cmcd.TYPES) == set(told["v2_request_keys"] + told["v2_response_keys"] + told["v2_event_keys"])
    assert set(told["v2_response_keys"]) == cmcd.RESPONSE_KEYS
    assert set(told["v2_event_keys"]) == cmcd.EVENT_KEYS


def test_the_types_are_those_of_the_standard() -> None:
    told = standard()
    assert {key: told["v2_types"][key] for key in cmcd.TYPES} == cmcd.TYPES
    first = {**told["v2_types"], **told["v1_type_overrides"]}
    assert {key: first[key] for key in cmcd.V1_TYPES} == cmcd.V1_TYPES
    assert {key for key, kind in cmcd.TYPES.items() if kind == "number[]"} == set(told["inner_list_keys"])


def test_tokens_limits_headers_and_required_keys_are_those_of_the_standard() -> None:
    told = standard()
    assert {key: set(tokens) for key, tokens in told["tokens"].items()} == cmcd.TOKENS
    assert told["string_limits"] == {**cmcd.LENGTHS, "custom key value": cmcd.CUSTOM_LENGTH}
    assert {key: shard.lower() for key, shard in told["header_of_key"].items()} == cmcd.HEADERS
    assert told["state_event_required_key"] == cmcd.REQUIRED_BY_EVENT


@pytest.mark.parametrize("name", ["CMCD_STRING_V1", "CMCD_STRING_REQUEST", "CMCD_STRING_EVENT", "CMCD_STRING_RESPONSE"])
def test_a_string_of_the_standard_is_read_and_written_back(name: str) -> None:
    text = standard()["strings"][name]
    mode: cmcd.Mode = "event" if name.endswith(("EVENT", "RESPONSE")) else "request"
    members = cmcd.parse(text, mode)
    assert cmcd.serialise_members(members) == text
    assert cmcd.parse_query(f"a=b&CMCD={quote(text, safe='')}&c=d") == members if mode == "request" else True


def test_headers_of_the_standard_are_read_and_written_back() -> None:
    told = standard()
    members = cmcd.parse_headers(told["headers"])
    assert members is not None
    assert cmcd.serialise_members(members) == told["strings"]["CMCD_STRING_REQUEST"]
    where = {key: shard.lower() for shard, text in told["headers"].items() for key in sf.parse_dictionary(text) if "-" in key}
    assert cmcd.to_headers(members, where) == {shard.lower(): text for shard, text in told["headers"].items()}


# --- rules -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("v", "version")]),
        ("nonsense==", [("nonsense", "syntax")]),
        (event('cid="caf\u00e9"'), [("cid", "syntax")]),
        (event("bl=(1,2)"), [("bl", "syntax")]),
        (event("zz=1"), [("zz", "unknown_key")]),
        (event("nrr=1"), [("nrr", "unknown_key")]),
        (event("-x=1"), [("*", "syntax")]),
        (event("com.example-x=(1 2)"), [("com.example-x", "type")]),
        (event(f'com.example-x="{"a" * 65}"'), [("com.example-x", "length")]),
        (event("d=4.5"), [("d", "type")]),
        (event("d=-4"), [("d", "range")]),
        (event("d=99999999999"), [("d", "range")]),
        (event("bl=(-5)"), [("bl", "range")]),
        (event("bl=5"), [("bl", "type")]),
        (event("bl=()"), [("bl", "type")]),
        (event('bl=("a")'), [("bl", "type")]),
        (event("bg=1"), [("bg", "type")]),
        (event("sta=x"), [("sta", "token")]),
        (event('sta="p"'), [("sta", "type")]),
        (event("cid=a"), [("cid", "type")]),
        (event(f'cid="{"a" * 129}"'), [("cid", "length")]),
        (event("ec=(1)"), [("ec", "type")]),
        (event("", "ps"), [("sta", "required")]),
        (event("", "rr"), [("url", "required")]),
        (event("", "ce"), [("cen", "required")]),
        (event('cen="x"'), [("cen", "forbidden")]),
        (event("rc=200"), [("rc", "forbidden")]),
        (f'e=t,sid="s",ts={TS}', [("v", "version")]),
        (f'e=t,sid="s",ts={TS},v=1', [("v", "version")]),
        (f'e=t,sid="s",ts={TS},v=3', [("v", "version")]),
        ('sid="s",v=2', [("e", "required"), ("ts", "required")]),
        (event("d=-4,sta=x,zz"), [("d", "range"), ("sta", "token"), ("zz", "unknown_key")]),
    ],
)
def test_a_breach_names_key_and_rule(text: str, expected: list[tuple[str, str]]) -> None:
    assert broken(text) == expected


@pytest.mark.parametrize(
    "text", [EVENT, event("pr=-1.5"), event("ec=25", "e"), event('ec=("a" "b")', "e"), event("com.example-x=1"), event("bl=( 5 )")]
)
def test_what_is_right_passes(text: str) -> None:
    assert cmcd.parse(text)


def test_event_keys_are_refused_in_requests() -> None:
    assert broken(f"e=t,ts={TS},v=2", "request") == [("e", "forbidden"), ("ts", "forbidden")]
    assert broken("br=(200)", "request") == [("br", "type")]
    assert cmcd.parse("br=200", "request")


def test_a_key_in_the_wrong_header_is_refused() -> None:
    with pytest.raises(InvalidCmcd) as refusal:
        cmcd.parse_headers({"CMCD-Object": "br=200,bl=100"})
    assert refusal.value.violations == [Violation("bl", "header", "bl belongs into cmcd-request, not into cmcd-object")]
    assert cmcd.parse_headers({"accept": "*/*"}) is None


@pytest.mark.parametrize("query", ["", "CMC=1", "a=b", "xCMCD=br%3D200"])
def test_a_query_without_cmcd_has_none(query: str) -> None:
    assert cmcd.parse_query(query) is None


def test_a_plus_in_a_query_is_a_space_as_browsers_write_it() -> None:
    members = cmcd.parse('br=(693;v 100;a),cid="a+b",v=2', "request")
    assert cmcd.parse_query("CMCD=br%3D%28693%3Bv+100%3Ba%29%2Ccid%3D%22a%2Bb%22%2Cv%3D2") == members


def test_json_is_read_as_the_text_is() -> None:
    told = {"e": "ps", "sta": "p", "sid": "s-1", "sn": 1, "ts": TS, "v": 2, "br": [3000], "bg": True, "com.example-x": "y"}
    assert cmcd.parse_json(json.dumps(told)) == cmcd.parse(f'bg,br=(3000),com.example-x="y",e=ps,sid="s-1",sn=1,sta=p,ts={TS},v=2')


@pytest.mark.parametrize("text", ["[]", "1", '{"v": 2', '{"v": 2, "e": {}}', '{"v": 2, "e": null}', '{"v": NaN}', "[" * 100_000])
def test_json_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InvalidCmcd):
        cmcd.parse_json(text)


# --- the contract ----------------------------------------------------------------------------------------------------------------------


def test_a_report_has_the_contracts_names_and_units() -> None:
    report = cmcd.to_report(cmcd.parse(EVENT))
    assert report.event_time_ms == TS
    assert report.fields == {
        "target": "event:default", "br_kbps": 3000, "cid": "bbb", "d_ms": 4000, "e": "rr", "ot": "v", "rc": 200, "sid": "s-1", "sn": 7,
        "sta": "p", "ttfb_ms": 20, "url": "http://h:1/bbb/v1/5.m4s",
    }  # fmt: skip


def test_every_key_of_the_standard_fits_the_contract() -> None:
    report = cmcd.to_report(cmcd.parse(standard()["strings"]["CMCD_STRING_RESPONSE"]))
    envelope = {"event_id": report.event_id, "event_time": report.event_time_ms, "producer_id": "p", "epoch": 1, "seq": 0}
    assert Encoder(catalogue().events["playback.report"], 1)({**envelope, **report.fields})
    assert report.fields["custom"]["com.example-quote"] == '"Quote"'
    assert report.fields["custom"]["tpb"] == "(4000)"


def test_our_custom_keys_become_fields() -> None:
    ours = (
        'com.headrace-asn=64500,com.headrace-bytes=1000,com.headrace-cid="c-1",com.headrace-device="tv",com.headrace-member="m-1",'
        'com.headrace-oca="oca-2",com.headrace-player="p/1",com.headrace-region="eu"'
    )
    report = cmcd.to_report(cmcd.parse(event(ours)))
    assert report.correlation_id == "c-1"
    assert report.fields == {
        "target": "event:default", "e": "t", "sid": "s-1", "sn": 1, "isp_asn": 64500, "bytes": 1000, "device_type": "tv",
        "member_id": "m-1", "oca_id": "oca-2", "player": "p/1", "region": "eu",
    }  # fmt: skip


@pytest.mark.parametrize("value", ['"x"', "-1", "99999999999", "?1", "1.5", '""', ":AA==:"])
def test_a_number_of_ours_that_is_none_is_refused(value: str) -> None:
    members = cmcd.parse(event(f"com.headrace-asn={value}"))
    with pytest.raises(InvalidCmcd, match=r"com\.headrace-asn"):
        cmcd.to_report(members)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("br=(3000;v 128;a)", "br_kbps", 3000),
        ("br=(128;a 3000;v)", "br_kbps", 3000),
        ("br=(128;a 3000;v),ot=a", "br_kbps", 128),
        ("br=(128;a 3128)", "br_kbps", 3128),
        ("br=(3000.6)", "br_kbps", 3001),
        ("bl=(5000;v 4000;a)", "bl_ms", 4000),
        ("bl=(5000;v 4000;a),ot=v", "bl_ms", 5000),
        ("bsa=(1;v 2;a)", "bsa", 2),
        ("bsda=(900;v 200;a)", "bsda_ms", 900),
        ("ec=25", "ec", ["25"]),
        ('ec=("A" "B")', "ec", ["A", "B"]),
    ],
)
def test_of_an_inner_list_the_contract_keeps_one_number(text: str, field: str, value: object) -> None:
    assert cmcd.to_report(cmcd.parse(event(text))).fields[field] == value


def test_a_retry_keeps_its_id_and_another_report_has_another() -> None:
    def identity(text: str, target: str = "default") -> str:
        return cmcd.to_report(cmcd.parse(text), target).event_id

    assert identity(event("")) == identity(event("bl=(100)")) == cmcd.report_id("s-1", "event:default", 1)
    others = {
        identity(event("")),
        identity(event(""), "backup"),
        identity(event("").replace("sn=1", "sn=2")),
        identity(event("").replace("s-1", "s-2")),
    }
    assert len(others) == 4


def test_without_sn_the_same_report_is_the_same_event() -> None:
    unnumbered = event("").replace("sn=1,", "")
    report = cmcd.to_report(cmcd.parse(unnumbered))
    assert report.fields["sn"] == -1
    assert report.event_id == cmcd.to_report(cmcd.parse(unnumbered)).event_id
    assert report.event_id != cmcd.to_report(cmcd.parse(unnumbered.replace(str(TS), str(TS + 1)))).event_id


@pytest.mark.parametrize(
    ("url", "expected"), [("http://H:80/a", "h:80"), ("/a", ""), ("http://[::1", ""), ("http://[::1]:8/a", "[::1]:8"), ("", "")]
)
def test_an_origin_is_host_and_port(url: str, expected: str) -> None:
    assert cmcd.origin(url) == expected


def test_a_report_of_no_session_is_refused() -> None:
    with pytest.raises(InvalidCmcd, match="sid is missing"):
        cmcd.to_report(cmcd.parse(f"e=t,ts={TS},v=2"))


# --- writing ---------------------------------------------------------------------------------------------------------------------------


def test_our_players_write_what_the_standard_reads() -> None:
    told = {
        "e": "rr",
        "sid": "s-1",
        "sn": 7,
        "ts": TS,
        "br": 3000.4,
        "bl": 12_345,
        "mtp": [8249],
        "ot": "v",
        "bs": True,
        "url": "/a",
        "cid": None,
    }
    text = cmcd.serialise(told)
    assert text == f'bl=(12300),br=(3000),bs,e=rr,mtp=(8200),ot=v,sid="s-1",sn=7,ts={TS},url="/a",v=2'
    assert cmcd.parse(text)
    assert cmcd.serialise({"br": 200, "bl": 4950, "sid": "s", "nor": "a%2Fb"}, version=1) == 'bl=5000,br=200,nor="a%2Fb",sid="s"'
    assert cmcd.serialise({"br": [(3000, {"v": True}), (128, {"a": True})]}) == "br=(3000;v 128;a),v=2"
    assert cmcd.to_query('ot=v,sid="s"') == "CMCD=ot%3Dv%2Csid%3D%22s%22"


def test_what_would_break_the_standard_is_not_written() -> None:
    with pytest.raises(InvalidCmcd, match="a report with e=ps has sta"):
        cmcd.serialise({"e": "ps", "sid": "s", "ts": TS})


# --- fuzzing ---------------------------------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        *("e=rr", "e=t", f"ts={TS}", "v=2", 'sid="s"', "sn=1", "br=(1;v 2;a)", "bl=(-1)", "pr=1.5", 'url="http://[::1"', "ec=e1"),
        *("com.headrace-asn=1", "com.headrace-member=tok", "com.x-y=:AA==:", "com.x-y=@5", 'com.x-y=%"%c3%bc"', 'nor=("a";r="0-1")'),
        *("=", "(", '"', ";", "?1", "\x00", "\u00fc"),
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(pieces, max_size=12).map(",".join)))
def test_any_line_is_a_report_or_refused_in_words(line: str) -> None:
    try:
        report = cmcd.to_report(cmcd.parse(line))
    except InvalidCmcd as refusal:
        assert all(violation.key and violation.rule and violation.message for violation in refusal.violations)  # noqa: PT017 -- both outcomes are right
    else:
        envelope = {"event_id": report.event_id, "event_time": report.event_time_ms, "producer_id": "p", "epoch": 1, "seq": 0}
        Encoder(catalogue().events["playback.report"], 1)({**envelope, **report.fields})


values = {
    "integer": st.integers(0, cmcd.INT_MAX),
    "number": st.integers(0, 10_000).map(lambda n: n / 100),
    "boolean": st.booleans(),
    "string": st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=64),
    "string[]": st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(lambda s: (s, NONE)), max_size=3),
    "number[]": st.lists(
        st.tuples(st.integers(0, cmcd.INT_MAX), st.sampled_from([NONE, {"v": True}, {"a": True}])), min_size=1, max_size=3
    ),
}


@st.composite
def reports(draw: st.DrawFn) -> cmcd.Members:
    keys = draw(st.sets(st.sampled_from(sorted(set(cmcd.TYPES) - {"v", "e", "cen"} - cmcd.RESPONSE_KEYS)), max_size=12)) | {"sid", "ts"}
    members: cmcd.Members = {"v": (2, NONE), "e": (Token("t"), NONE)}
    for key in sorted(keys):
        kind = cmcd.TYPES[key]
        value = draw(st.sampled_from(sorted(cmcd.TOKENS[key])).map(Token) if kind == "token" else values[kind])
        members[key] = (value, NONE)
    return members


@given(reports())
def test_a_right_report_survives_writing_and_reading(members: cmcd.Members) -> None:
    assert cmcd.check(members, "event") == []
    read = cmcd.parse(cmcd.serialise_members(members))
    assert read == members
    assert cmcd.to_report(read) == cmcd.to_report(members)


odd = st.sampled_from(
    [
        *(" sn=2", "sn=2\t", "\tsn=2", "sn=2 ", "bs", "bs=", "bs;x=1", "bg=?0", "nr=?0", "tab=(0012)", "tab=(7)"),
        *("dl=100", "dl=-1", "d=007", "br=(1;v 2;a)", "br=( 5)", "br=(5.5)", "bl=()", "sta=p", "sta=x", "v=2.0"),
        *('cid="a,b"', 'cid="a\\""', 'cid="a"b"', 'cid="', 'cid=""', f'cid="{"a" * 129}"', 'cid="\x7f"', "ts=\u0663"),
        *("com.headrace-asn=4294967296", 'com.headrace-bytes="12"', 'com.headrace-cid="c"', "com.headrace-cid=5"),
        *("com.headrace-device=tv", "com.x-y", f'com.x-y="{"a" * 65}"', "e=rr", 'url="/a?b#c"', "rc=200", "cen=1"),
    ]
)


@given(st.lists(st.one_of(odd, pieces), max_size=8).map(lambda more: ",".join([event(""), *more])))
def test_a_glance_says_what_a_close_look_says(line: str) -> None:
    def outcome(read: Callable[[str], cmcd.Report]) -> object:
        try:
            return read(line)
        except InvalidCmcd as refusal:
            return refusal.violations

    assert outcome(cmcd.read) == outcome(lambda line: cmcd.to_report(cmcd.parse(line)))


def test_what_players_send_is_told_at_a_glance() -> None:
    """Or the collector would be as slow as the careful way."""
    assert cmcd._read_plain(EVENT, "default", {}) == cmcd.to_report(cmcd.parse(EVENT))

"""Content steering: the manifest rule by rule, what a player makes of it, and queries that are refused."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.steering.manifest import Asked, BadQuery, dash, hls, manifest, pathways
from schemas.network import is_pathway
from tests.edge.steering.standard import applied, violations
from tests.kit import vectors

RANKED = [("oca-1", "http://10.0.0.1:8001"), ("oca-2", "http://10.0.0.2:8001/"), ("cdn-b", "http://b.example")]
DASH = "{urn:mpeg:dash:schema:mpd:2011}"
names = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=8, unique=True), st.lists(names, min_size=1, max_size=3, unique=True), st.integers(1, 3_000))
def test_every_manifest_keeps_every_rule(ocas: list[str], known: list[str], ttl_s: int) -> None:
    told = manifest([(oca_id, f"http://{oca_id}.example:80") for oca_id in ocas], known, "steering.hls?sid=s", ttl_s)
    assert violations(told, set(known)) == []
    assert told["PATHWAY-PRIORITY"] == ocas


def test_a_manifest_in_full() -> None:
    assert manifest(RANKED, ("cdn-a", "cdn-b"), "steering.dash?sid=s", 300) == {
        "VERSION": 1,
        "TTL": 300,
        "RELOAD-URI": "steering.dash?sid=s",
        "PATHWAY-PRIORITY": ["oca-1", "oca-2", "cdn-b"],
        "PATHWAY-CLONES": [
            {"BASE-ID": "cdn-a", "ID": "oca-1", "URI-REPLACEMENT": {"HOST": "10.0.0.1:8001"}},
            {"BASE-ID": "cdn-a", "ID": "oca-2", "URI-REPLACEMENT": {"HOST": "10.0.0.2:8001"}},
        ],
    }
    assert "PATHWAY-CLONES" not in manifest(RANKED[2:], ("cdn-b",), "r", 300), "an empty list is not allowed"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"VERSION": 2}, "VERSION"), ({"TTL": 0}, "TTL"), ({"TTL": "300"}, "TTL"), ({"PATHWAY-PRIORITY": []}, "not empty"),
        ({"PATHWAY-PRIORITY": ["oca-1", "oca-1"]}, "each pathway once"), ({"PATHWAY-CLONES": []}, "not empty if"),
        ({"PATHWAY-PRIORITY": ["zz"]}, "names a pathway"), ({"RELOAD-URI": 5}, "RELOAD-URI"),
        ({"PATHWAY-CLONES": [{"BASE-ID": "zz"}]}, "BASE-ID"),
        ({"PATHWAY-CLONES": [{"BASE-ID": "cdn-a", "ID": "cdn-a", "URI-REPLACEMENT": {"HOST": "h"}}]}, "new pathway"),
        ({"PATHWAY-CLONES": [{"BASE-ID": "cdn-a", "ID": "x", "URI-REPLACEMENT": {}}]}, "dash.js wants a HOST"),
    ],
)  # fmt: skip
def test_the_rules_are_no_rubber_stamp(change: dict[str, Any], rule: str) -> None:
    told = {**manifest(RANKED, ("cdn-a", "cdn-b"), "r", 300), **change}
    assert [wrong for wrong in violations(told, {"cdn-a", "cdn-b"}) if rule in wrong]


@pytest.mark.parametrize("number", range(1, 9))
def test_the_mpds_of_others_can_be_steered(number: int) -> None:
    root = ElementTree.fromstring((vectors("content_steering") / "mpd" / f"{number}.mpd").read_text())
    urls = {element.attrib["serviceLocation"]: element.text or "" for element in root.iter(f"{DASH}BaseURL")}
    steering = list(root.iter(f"{DASH}ContentSteering"))
    assert steering
    for element in steering:
        default = element.attrib["defaultServiceLocation"]
        known = pathways(",".join([default, *(name for name in urls if name != default)]))
        told = manifest(RANKED, known, "steering.dash", 300)
        assert violations(told, set(urls)) == []
        assert list(applied(told, urls).items()) == [
            ("oca-1", "https://10.0.0.1:8001/bbb/"), ("oca-2", "https://10.0.0.2:8001/bbb/"), ("cdn-b", urls["cdn-b"]),
        ]  # fmt: skip
        assert dash([("_DASH_pathway", f'"{",".join(urls)}"'), ("_DASH_throughput", ",".join("5" for _ in urls))]).used == tuple(urls)


def test_what_hls_players_say() -> None:
    assert hls([]) == Asked()
    assert hls([("_HLS_pathway", "."), ("other", "x")]) == Asked((".",))
    assert hls([("_HLS_pathway", "oca-1"), ("_HLS_throughput", "5000000")]) == Asked(("oca-1",), {"oca-1": 5e6})
    assert hls([("_HLS_throughput", "5000000")]) == Asked()


def test_what_dash_players_say() -> None:
    assert dash([]) == dash([("_DASH_throughput", "")]) == Asked()
    assert dash([("_DASH_pathway", '"a,b"'), ("_DASH_throughput", "123,456")]) == Asked(("a", "b"), {"a": 123.0, "b": 456.0})
    assert dash([("_DASH_pathway", '"a,b"'), ("_DASH_throughput", ",456")]) == Asked(("a", "b"), {"b": 456.0})
    assert dash([("_DASH_pathway", '"a"'), ("_DASH_throughput", "")]) == Asked(("a",))


@pytest.mark.parametrize(
    ("parse", "query", "words"),
    [
        (hls, [("_HLS_pathway", "a b")], "no pathway"),
        (hls, [("_HLS_pathway", "")], "no pathway"),
        (hls, [("_HLS_pathway", "a"), ("_HLS_pathway", "b")], "_HLS_pathway is there twice"),
        (hls, [("_HLS_pathway", "a"), ("_HLS_throughput", "-5")], "whole number of bit/s"),
        (hls, [("_HLS_throughput", "1e6")], "whole number of bit/s"),
        (hls, [("_HLS_throughput", "５")], "whole number of bit/s"),
        (hls, [("_HLS_throughput", "99999999999999")], "whole number of bit/s"),
        (dash, [("_DASH_pathway", "a,b")], "double quotes"),
        (dash, [("_DASH_pathway", '"')], "double quotes"),
        (dash, [("_DASH_pathway", '""')], "no pathway"),
        (dash, [("_DASH_pathway", '"a,"')], "no pathway"),
        (dash, [("_DASH_pathway", '"' + ",".join("a" * 65) + '"')], "64 are the most"),
        (dash, [("_DASH_pathway", '"a,b"'), ("_DASH_throughput", "1")], "1 numbers for the 2 pathways"),
        (dash, [("_DASH_pathway", '"a"'), ("_DASH_throughput", "fast")], "whole number of bit/s"),
        (dash, [("_DASH_throughput", "1")], "whose throughput"),
    ],
)
def test_other_queries_are_refused_by_name(parse: Any, query: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(BadQuery, match=words):
        parse(query)


@pytest.mark.parametrize("text", ["", "a,a", "a,", "a b", ",".join(f"p{n}" for n in range(65))])
def test_pathways_of_the_players_manifest_are_checked(text: str) -> None:
    with pytest.raises(BadQuery, match="pathway"):
        pathways(text)
    assert pathways(None) == (".",)


def test_an_oca_id_can_be_a_pathway_or_not() -> None:
    assert is_pathway("oca-1.ams_2")
    assert not any(map(is_pathway, ("", "a/b", "é", "a" * 65, "a,b", 'a"')))

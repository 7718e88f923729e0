"""The catalogue as a file: what it tells, takes back and refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import pytest

from edge.home.search import found
from edge.home.titles import Titles, Viewer
from producers.catalogue.catalogue import TOPIC, BadCatalogue, changes, read
from producers.encoders.titles import TITLES
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from schemas.envelope import Stamp

OWN = files("producers.catalogue").joinpath("titles.yaml").read_text()


def told(records: Iterable[Mapping[str, Any]]) -> Titles:
    """A table at the edge after these, over the wire."""
    event = catalogue().topic(TOPIC).event
    encode, decode, stamp = Encoder(event, 1), Decoder(lambda _: event.schema), Stamp("catalogue", 1)
    table = Titles()
    for record in records:
        table.fold(decode(encode(stamp(TOPIC, record, 1_772_323_200_000))))
    return table


def test_our_own_are_the_titles_that_can_be_played() -> None:
    own = read(OWN)
    assert {(cid, one["runtime_ms"]) for cid, one in own.items()} == {(title.cid, 1_000 * title.seconds) for title in TITLES}
    assert all(one["genres"] and len(one["artwork_variants"]) > 1 for one in own.values())


def test_only_what_is_new_or_other_is_told_and_what_is_gone_is_withdrawn() -> None:
    own = read(OWN)
    assert list(changes(own, own)) == []
    other = {**own, "life": {**own["life"], "name": "Life"}}
    del other["bbb"]
    assert [(one["cid"], one["withdrawn"]) for one in changes(other, own)] == [("bbb", True), ("life", False)]
    assert list(changes(other, {**other, "bbb": {**own["bbb"], "withdrawn": True}})) == []


def test_the_edge_knows_it_and_finds_titles_by_words() -> None:
    table = told(changes(read(OWN), {}))
    assert table.genres("bbb") == ("animation", "comedy", "family")
    assert table.genres("unknown") == ()
    for query, cids in (
        ("BUN big", ["bbb"]), ("mathem", ["life", "mandelbrot"]), ("slow tv", ["mandelbrot"]), ("sacha", ["bbb"]), ("unny", []), (" ", []),
    ):  # fmt: skip
        assert [title.cid for title in found(table.table.values(), query, Viewer())] == cids, query


def test_a_withdrawn_title_is_not_found() -> None:
    own = read(OWN)
    without = {cid: one for cid, one in own.items() if cid != "life"}
    table = told([*changes(own, {}), *changes(without, own)])
    assert [title.cid for title in found(table.table.values(), "mathematics", Viewer())] == ["mandelbrot"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {cid: a, name: A}\n- {cid: a, name: B}", "2 titles are a"),
        ("- {cid: a, name: A, genres: [war, war]}", "a: genres: war is there twice"),
        ("- {cid: a, name: A, territories: [Germany]}", "0.territories.0: String should match"),
        ("- {cid: a, name: A, languages: [German]}", "0.languages.0: String should match"),
        ("- {cid: 'a b', name: A}", "0.cid: String should match"),
        ("- {cid: a, name: A, rating: PG}", "0.rating: Extra inputs are not permitted"),
        ("- {cid: a, name: A, released_at: 2020-01-01 00:00:00}", "0.released_at: Input should have timezone info"),
        ("titles: [", "this is no YAML"),
    ],
)
def test_what_is_no_catalogue_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadCatalogue, match=words):
        read(text)

"""The online table answers what the engine would, for many at once."""

from __future__ import annotations

import pytest

from schemas.recommendations.definition import features
from streams.recommendations.engine import Engine
from streams.recommendations.plan import Plan, plan
from streams.recommendations.table import Table, UnknownLayout
from streams.recommendations.tiles import as_mapping
from tests.recommendations.made import FROM_MS, TOPIC, events, every, feature

DAY_MS = 86_400_000
GENRES = ["Comedy", "Crime", "Drama", "War"]
ASKED_MS = FROM_MS + 10 * DAY_MS
SHIPPED = plan(features())


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = Engine(SHIPPED)
    for event, arrived in events(6, 3_000, "7d", members=20):
        made.take(TOPIC, event, min(arrived, ASKED_MS))
    return made


def table(engine: Engine, made: Plan = SHIPPED, *older: Plan) -> Table:
    found = Table(made, older)
    for group, rows in engine.rows.items():
        for key, row in rows.items():
            found.fold(group, key, engine.plan.layouts[group].id, *row.pack())
    return found


def test_a_lookup_is_what_the_engine_says_of_each(engine: Engine) -> None:
    titles = [f"t-{n}" for n in range(45)]
    found = table(engine).lookup(
        SHIPPED.values, {"member": "m-3", "title": titles, "previous": "t-0", "region": "r-1", "genre": GENRES}, ASKED_MS
    )
    for group, many, entity in (("title", titles, "title"), ("title.region", titles, "title"), ("member.genre", GENRES, "genre")):
        for n, one in enumerate(many):
            wanted = engine.values({"member": "m-3", "region": "r-1", entity: one}, ASKED_MS)
            for value in SHIPPED.of(group):
                told = found[value.name].of[n]
                assert (None if told != told else told) == wanted[value.name]
    assert as_mapping({value.name: found[value.name] for value in SHIPPED.of("member")}, 0) == engine.values({"member": "m-3"}, ASKED_MS)
    assert found["title_plays_30d"].of.sum() > 0
    assert found["title_plays_30d"].of[-1] == 0


def test_the_top_of_a_region(engine: Engine) -> None:
    names = [f"t-{n}" for n in range(40)]
    every_title = {one: engine.values({"title": one, "region": "r-2"}, ASKED_MS)["title_region_plays_7d"] for one in names}
    best = sorted(((one, n) for one, n in every_title.items() if n), key=lambda pair: (-pair[1], pair[0]))[:10]
    assert table(engine).ranked("title_region_plays_7d", 10, ASKED_MS, {"region": "r-2"}) == best
    assert len(best) == 10
    assert table(engine).ranked("title_plays_7d", 10, ASKED_MS + 40 * DAY_MS) == []


def test_the_keys_of_an_entity_are_found_whenever_they_were_folded(engine: Engine) -> None:
    found = Table(SHIPPED)
    rows = [(group, key, row) for group, rows in engine.rows.items() for key, row in rows.items()]
    for n, (group, key, row) in enumerate(rows):
        if n == len(rows) // 2:
            assert found.keys("title.region", {"region": "r-2"}) == []
            assert found.keys("member.genre", {"member": "m-3"})
        found.fold(group, key, SHIPPED.layouts[group].id, *row.pack())
    assert sorted(found.keys("title.region", {"region": "r-2"})) == sorted(
        key for key in engine.rows["title.region"] if key.endswith("\x1fr-2")
    )
    assert sorted(found.keys("member.genre", {"member": "m-3"})) == sorted(
        key for key in engine.rows["member.genre"] if key.startswith("m-3\x1f")
    )
    assert found.keys("member.genre", {"member": "m-3", "genre": "Drama"}) == ["m-3\x1fDrama"]
    assert found.keys("member.genre", {"member": "m-3", "genre": "none"}) == found.keys("title.region", {"region": "none"}) == []
    assert found.keys("title") == list(engine.rows["title"])


def test_what_is_watched_after_what_is_counted_by_pair() -> None:
    engine = Engine(SHIPPED)
    for n, (cid, before) in enumerate((("a", []), ("b", ["a"]), ("c", ["b", "a"]), ("b", ["c", "a", "b"]))):
        told = {"event_id": f"e-{n}", "event_time": FROM_MS + n, "member_id": "m", "cid": cid, "kind": "play", "previous_cids": before}
        engine.take(TOPIC, told, FROM_MS + n)
    after = table(engine).ranked("title_after_plays_7d", 10, FROM_MS + DAY_MS, {"previous": "a"})
    assert after == [("b", 2.0), ("c", 1.0)]
    assert engine.counts["no_key"] == 5  # the first play follows nothing, and none has a region


def test_rows_of_an_older_plan_are_recast_as_they_come() -> None:
    older, newer = plan(every("1d")), plan([*every("1d"), feature("b", key=["title"]), feature("c", windows=["30d"])])
    engine = Engine(older)
    for event, arrived in events(7, 300, "1d"):
        engine.take(TOPIC, event, arrived)
    found = table(engine, newer, older).lookup(newer.values, {"member": "m-0", "title": "t-0"}, FROM_MS + 2 * DAY_MS)
    told = {name: one.of.tolist()[0] for name, one in found.items()}
    assert told.items() >= engine.values({"member": "m-0"}, FROM_MS + 2 * DAY_MS).items()
    assert told["b_1d"] == told["c_30d"] == 0


def test_what_cannot_be_folded_or_found_is_refused_in_words(engine: Engine) -> None:
    found, row = Table(SHIPPED), engine.packed("title", "t-0")
    layout = SHIPPED.layouts["title"].id
    with pytest.raises(UnknownLayout, match="title 't-0': its row is of layout beef, which is none of"):
        found.fold("title", "t-0", "beef", *row)
    with pytest.raises(UnknownLayout, match="member 't-0': its row is of layout"):
        found.fold("member", "t-0", layout, *row)
    with pytest.raises(ValueError, match="0 bytes are not a row of layout"):
        found.fold("title", "t-0", layout, b"", b"")
    assert (len(found), found.bytes_kept) == (0, 0)
    with pytest.raises(ValueError, match=r"values of title\.region are asked for without saying which region"):
        found.lookup(["title_region_plays_1d"], {"title": "t"}, FROM_MS)
    with pytest.raises(ValueError, match=r"values of title\.region are asked for with lists of 1 and 2 names"):
        found.lookup(["title_region_plays_1d"], {"title": ["t"], "region": ["a", "b"]}, FROM_MS)

"""The page and the features behind it: what is in which row, who may see what, and what is served of features."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx2 as httpx
import orjson
import pytest

from edge.home.profile import profiles
from edge.home.rows import FALLBACK, VERSION, Page, Rankings, Row, draw
from edge.home.service import PROFILE, SERVED, Home, app
from edge.home.titles import Title, Titles, Viewer, may_see
from edge.outbox import Outbox
from edge.pseudonym import pseudonym
from producers.emit import Emitter
from producers.players.browsing import Shown
from producers.players.browsing import page as as_players_read_it
from schemas.recommendations.definition import features
from streams.folded import followed
from streams.recommendations.engine import Engine
from streams.recommendations.online import Online
from streams.recommendations.plan import plan
from streams.recommendations.table import Table
from tests.broker import FakeRegistry, MockCluster, records

NOW_MS = 1_772_323_200_000
DAY_MS = 86_400_000
PLAN = plan(features())
INTERACTION, IMPRESSION = "recommendations.interaction", "recommendations.impression"
ADA = pseudonym("ada")


def titled(*cids: str, **said: Any) -> dict[str, Title]:
    return {cid: Title(cid, f"The {cid}", **said) for cid in cids}


CATALOGUE = titled(*(f"t-{n:02}" for n in range(30)), released_ms=NOW_MS - 400 * DAY_MS)


def done(*events: Mapping[str, Any]) -> Engine:
    """The rows after events, each a second after the one before; the last a second ago."""
    engine = Engine(PLAN)
    for n, event in enumerate(events):
        at_ms = NOW_MS - 1000 * (len(events) - n)
        told = {"event_id": f"e-{n}", "event_time": at_ms, "member_id": "m", "cid": "t-00", "kind": "play", "region": "eu-1", **event}
        engine.take(INTERACTION if "row" not in event else IMPRESSION, told, at_ms)
    return engine


def folded(engine: Engine) -> Table:
    table = Table(PLAN)
    for group, rows in engine.rows.items():
        for key, row in rows.items():
            table.fold(group, key, PLAN.layouts[group].id, *row.pack())
    return table


def rows(table: Table | None, viewer: Viewer, titles: dict[str, Title] = CATALOGUE, seed: int = 1) -> dict[str, Row]:
    found = Page(table, titles, viewer, NOW_MS, Random(seed), Rankings()).rows()
    assert len({row.kind for row in found}) == len(found)
    return {row.kind: row for row in found}


def cids(row: Row) -> list[str]:
    return [item.cid for item in row.items]


def played(cid: str, times: int, **more: Any) -> list[dict[str, Any]]:
    return [{"cid": cid, "member_id": f"m-{n}", **more} for n in range(times)]


def test_rows_of_a_member() -> None:
    after = [event for n in range(4) for event in played(f"t-1{n}", 4 - n, previous_cids=["t-03"])]
    mine = [
        {"cid": "t-01", "kind": "skip"}, {"cid": "t-02", "kind": "completion"}, {"cid": "t-05", "kind": "list_add"},
        {"cid": "t-06", "kind": "list_add"}, {"cid": "t-05", "kind": "list_remove"}, {"cid": "t-07", "kind": "list_add"}, {"cid": "t-03"},
    ]  # fmt: skip
    events = [*after, *played("t-20", 1), *({**one, "member_id": ADA} for one in mine)]
    found = rows(folded(done(*events)), Viewer(ADA, "eu-1"))
    assert list(found) == ["continue_watching", "my_list", "because_you_watched", "trending", "top_10", "popular"]
    assert cids(found["continue_watching"]) == ["t-03", "t-01"]
    assert cids(found["my_list"]) == ["t-07", "t-06"]
    assert cids(found["because_you_watched"]) == ["t-10", "t-11", "t-12", "t-13"]
    assert (found["because_you_watched"].title, found["because_you_watched"].because) == ("Because you watched The t-03", "t-03")
    shown = [cid for kind, row in found.items() if kind not in ("top_10", "popular") for cid in cids(row)]
    assert len(set(shown)) == len(shown)


def test_what_hits_are_watched_after_everything_comes_behind() -> None:
    after = (
        played("t-10", 5, previous_cids=["t-03"]) + played("t-11", 4, previous_cids=["t-03"]) + played("t-12", 1, previous_cids=["t-03"])
    )
    found = rows(folded(done(*after, *played("t-10", 60), {"member_id": ADA, "cid": "t-03"})), Viewer(ADA))
    assert cids(found["because_you_watched"]) == ["t-11", "t-12", "t-10"]


def test_rankings_are_of_the_region_where_enough_is_watched_there() -> None:
    events = [event for n in range(12) for event in played(f"t-{n:02}", 12 - n, region="eu-1")] + played("t-20", 30, region="us-1")
    table = folded(done(*events))
    here, there = rows(table, Viewer(region="eu-1")), rows(table, Viewer(region="us-1"))
    assert cids(here["top_10"]) == cids(here["popular"])[1:11] == [f"t-{n:02}" for n in range(10)]
    assert here["top_10"].title == "Top 10 in eu-1 today"
    assert (there["top_10"].title, cids(there["top_10"])[0], cids(there["trending"])) == ("Top 10 today", "t-20", ["t-20"])
    assert "trending" not in rows(table, Viewer())


def test_new_titles_are_drawn_until_each_was_shown() -> None:
    titles = titled("n-1", "n-2", "n-3", released_ms=NOW_MS - DAY_MS, artwork_variants=("a", "b")) | CATALOGUE
    table = folded(done(*({"cid": "n-1", "row": 0, "member_id": f"m-{n}"} for n in range(9))))
    first = [rows(table, Viewer(), titles, seed)["new"].items[0] for seed in range(200)]
    often = {cid: sum(item.cid == cid for item in first) for cid in ("n-1", "n-2", "n-3")}
    assert often["n-1"] < 25 < 70 < min(often["n-2"], often["n-3"])
    assert {round(item.propensity or 0, 6) for item in first if item.cid != "n-1"} == {round(1 / 2.1 / 2, 6)}
    assert {item.artwork_variant for item in first} == {"a", "b"}


def test_what_is_drawn_tells_its_probability() -> None:
    found = draw({"a": 3.0, "b": 1.0}, 5, Random(1))
    assert {item.cid for item in found} == {"a", "b"}
    assert found[0].propensity == {"a": 0.75, "b": 0.25}[found[0].cid]
    assert found[1].propensity == 1.0


@pytest.mark.parametrize("table", [None, Table(PLAN)])
def test_the_last_row_is_never_empty(table: Table | None) -> None:
    found = rows(table, Viewer(ADA, "eu-1"))
    assert list(found) == ["popular"]
    assert (len(found["popular"].items), found["popular"].model_version) == (20, FALLBACK)
    assert rows(table, Viewer(), {}) == {}


@pytest.mark.parametrize(
    ("said", "viewer", "may"),
    [
        ({}, Viewer(), True),
        ({"withdrawn": True}, Viewer(), False),
        ({"territories": frozenset({"NL"})}, Viewer(country="NL"), True),
        ({"territories": frozenset({"NL"})}, Viewer(country="DE"), False),
        ({"territories": frozenset({"NL"})}, Viewer(), False),
        ({"maturity": "16"}, Viewer(), True),
        ({"maturity": "16"}, Viewer(maturities=frozenset({"all", "6"})), False),
        ({"maturity": "6"}, Viewer(maturities=frozenset({"all", "6"})), True),
        ({}, Viewer(maturities=frozenset({"all"})), False),
    ],
)
def test_who_may_see_what(said: dict[str, Any], viewer: Viewer, may: bool) -> None:
    titles = titled("x", **said)
    assert may_see(titles["x"], viewer) is may
    assert (rows(folded(done({"cid": "x", "member_id": ADA})), viewer, titles) != {}) is may


def test_the_newest_word_of_a_title_counts_in_whatever_order_it_came() -> None:
    told = {
        "marker": False, "cid": "x", "name": "X", "genres": [], "maturity": "", "territories": [], "artwork_variants": [],
        "actors": [], "directors": [], "released_at": None, "withdrawn": False, "event_time": 5,
    }  # fmt: skip
    titles = Titles()
    for more in ({"withdrawn": True, "event_time": 9}, {}):
        titles.fold(told | more)
    assert titles.table["x"].withdrawn


@asynccontextmanager
async def running(registry: FakeRegistry, engine: Engine | None, share: float = 0.0) -> AsyncIterator[httpx.AsyncClient]:
    """A home whose features are those of an engine; None: they have not been read."""
    values, titles = Online(PLAN), Titles()
    titles.table, titles.caught_up = CATALOGUE, True
    if engine is not None:
        values.table, values.caught_up = folded(engine), True
    with Emitter("home", registry=registry, background=True) as emitter:
        application = app(Home(values, titles, Outbox(emitter, SERVED), lambda: NOW_MS, share, random=Random(1)))
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://home") as client,
        ):
            yield client


async def test_a_page_over_http(registry: FakeRegistry, cluster: MockCluster) -> None:
    engine = done({"cid": "t-04", "member_id": ADA}, {"cid": "t-05"})
    async with running(registry, engine) as client:
        told = (await client.get("/home", params={"member": "ada", "region": "eu-1", "country": "nl"})).json()
        refused = await client.get("/home", params={"membr": "ada"})
        health = await client.get("/healthz")
        nowhere = await client.get("/nothing")
    assert [(row["row"], row["row_kind"]) for row in told["rows"]] == [
        (0, "continue_watching"), (1, "trending"), (2, "top_10"), (3, "popular"),
    ]  # fmt: skip
    assert (told["member_id"], told["features"]["ready"]) == (ADA, True)
    assert as_players_read_it(told).shown[0] == Shown("t-04", 0, 0, "continue_watching", VERSION)
    assert told["rows"][0]["items"][0].items() >= {"cid": "t-04", "title": "The t-04", "position": 0, "propensity": None}.items()
    assert (refused.status_code, "membr: member, region" in refused.json()["error"]) == (400, True)
    assert health.json()["answered"] == {"home 200": 1, "home 400": 1}
    assert (nowhere.status_code, "POST /features" in nowhere.text) == (404, True)


async def test_titles_by_what_was_typed(registry: FakeRegistry, cluster: MockCluster) -> None:
    async with running(registry, None) as client:
        some = (await client.get("/search", params={"query": "THE t-1", "member": "ada"})).json()
        refused = await client.get("/search", params={"query": "t" * 101})
    assert (some["results"], [(one["cid"], one["position"]) for one in some["items"][:2]]) == (10, [("t-10", 0), ("t-11", 1)])
    assert (refused.status_code, "100 characters at most" in refused.json()["error"]) == (400, True)


async def test_a_page_while_features_have_not_been_read(registry: FakeRegistry, cluster: MockCluster) -> None:
    async with running(registry, None) as client:
        told = (await client.get("/home", params={"member": "ada"})).json()
        lookup = await client.post("/features", json={"features": ["member_plays_1d"], "member": "ada"})
        health = await client.get("/healthz")
    assert [(row["row_kind"], row["model_version"]) for row in told["rows"]] == [("popular", FALLBACK)]
    assert told["features"]["ready"] is False
    assert (lookup.status_code, lookup.headers["retry-after"], health.status_code) == (503, "2", 503)


async def test_values_are_what_the_engine_says(registry: FakeRegistry, cluster: MockCluster) -> None:
    engine = done(
        {"member_id": ADA, "genres": ["War"], "device_type": "tv"}, {"member_id": ADA, "cid": "t-01", "kind": "rating", "rating_halves": 7}
    )
    names = [value.name for group in ("member", "title") for value in PLAN.of(group)]
    some = ["t-00", "t-01", "none"]
    async with running(registry, engine) as client:
        one = (await client.post("/features", json={"features": names, "member": "ada", "title": some})).json()
        other = (await client.get("/features", params={"features": ",".join(names), "member_id": ADA, "title": ",".join(some)})).json()
        later = (await client.post("/features", json={"features": names[:1], "member": "ada", "at_ms": NOW_MS + 40 * DAY_MS})).json()
    assert {**one, "age_ms": 0} == {**other, "age_ms": 0}
    wanted = orjson.loads(orjson.dumps(engine.values({"member": ADA}, NOW_MS)))
    assert {name: one["values"][name] for name in wanted} == wanted
    for n, cid in enumerate(some):
        assert {value.name: one["values"][value.name][n] for value in PLAN.of("title")} == engine.values({"title": cid}, NOW_MS)
    assert one["clock_ms"] == {"member": NOW_MS - 1000, "title": [NOW_MS - 2000, NOW_MS - 1000, None]}
    assert (one["at_ms"], one["over_cap"], later["values"][names[0]]) == (NOW_MS, {}, PLAN.values[names[0]].feature.default)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[", 400, "not JSON"),
        (b"[]", 400, "not an object"),
        (b'{"features": []}', 400, "a list of 1 to 500 values"),
        (b'{"features": ["member_plays_1d"]}', 400, "values of member are asked for without saying which member"),
        (b'{"features": ["member_plays"], "member": "a"}', 404, "the feature has member_plays_1h"),
        (b'{"features": ["nothing"], "member": "a"}', 404, "no value is called 'nothing'; there are"),
        (b'{"features": ["member_plays_1d"], "member": ""}', 400, "member: a name of 1 to 200 characters"),
        (b'{"features": ["member_plays_1d"], "member": ["a", 5]}', 400, "member: a name of 1 to 200 characters"),
        (b'{"features": ["member_plays_1d"], "member": "a", "member_id": "a"}', 400, "tell one of them"),
        (b'{"features": ["member_plays_1d"], "members": "a"}', 400, "members: nothing is called so"),
        (b'{"features": ["member_plays_1d"], "member": "a", "at_ms": "now"}', 400, "at_ms: milliseconds since 1970, not 'now'"),
        (b'{"features": ["title_region_plays_1d"], "title": ["a", "b"], "region": ["c"]}', 400, "with lists of 1 and 2 names"),
        (b'"' + b"a" * 300_000 + b'"', 413, "at most"),
    ],
)
async def test_a_lookup_that_gets_no_says_why(registry: FakeRegistry, cluster: MockCluster, body: bytes, status: int, words: str) -> None:
    async with running(registry, done({})) as client:
        answer = await client.post("/features", content=body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


async def test_what_was_served_is_told(registry: FakeRegistry, cluster: MockCluster) -> None:
    engine = done({"member_id": ADA}, {"cid": "t-01"})
    async with running(registry, engine, share=1.0) as client:
        asked = {"features": ["member_plays_1d", "title_heat_1d"], "member": "ada", "title": ["t-00", "none"]}
        await client.post("/features", json=asked)
        told = await asyncio.to_thread(records, cluster, registry, SERVED, 3)
    found = {(one["group"], one["entity"]): one for one in told}
    assert found.keys() == {("member", ADA), ("title", "t-00"), ("title", "none")}
    heat = engine.values({"title": "t-00"}, NOW_MS)["title_heat_1d"]
    assert orjson.loads(found["title", "t-00"]["values"]["title_heat_1d"]) == heat
    assert (found["title", "t-00"]["taken"], found["title", "none"]["taken"]) == (1, 0)
    assert found["member", ADA]["values"] == {"member_plays_1d": "1"}


def test_what_a_value_is_like_and_what_it_costs() -> None:
    table = folded(done(*played("t-00", 9), *played("t-01", 2), {"cid": "t-02", "kind": "skip", "watched_ms": 4_000}))
    of_titles = {one["value"]: one for one in profiles(table, "title", NOW_MS, Random(1))}
    plays = of_titles["title_plays_7d"]
    assert (plays["keys"], plays["looked_at"], plays["happened"]) == (3, 3, 2)
    assert plays["buckets"] == {"0": 1, "2^3": 1, "2^1": 1}
    assert of_titles["title_mean_rating_30d"]["buckets"] == {"null": 3}
    assert of_titles.keys() == {value.name for value in PLAN.of("title")}
    for group in ("title", "member", "member.title", "title.region"):
        found = list(profiles(table, group, NOW_MS, Random(1)))
        head_and_rest = found[0]["row_bytes"] - sum(one["value_bytes"] for one in found)
        assert 16 <= head_and_rest < 24, group
    states = {one["value"]: one for one in profiles(table, "member.title", NOW_MS, Random(1))}
    assert states["member_title_watching_30d"]["buckets"] == {"play": 11, "skip": 1}
    assert list(profiles(Table(PLAN), "title", NOW_MS, Random(1))) == []


async def test_it_follows_what_the_job_and_the_catalogue_tell(registry: FakeRegistry, cluster: MockCluster) -> None:
    engine = done(*played("t-01", 3, region="eu-1"), {"member_id": ADA, "cid": "t-01"})
    with Emitter("job", registry=registry) as emitter:
        for group, some in engine.rows.items():
            for key, row in some.items():
                tiles, texts = row.pack()
                about = {"item": f"{group}\x1f{key}", "group": group, "entity": key, "layout": PLAN.layouts[group].id}
                emitter.send("recommendations.feature_value", {**about, "tiles": tiles, "texts": texts}, event_time_ms=row.clock)
        for cid, gone in (("t-01", False), ("t-02", False), ("t-03", True)):
            emitter.send("recommendations.title", {"cid": cid, "name": f"The {cid}", "withdrawn": gone}, partition=0)
        assert emitter.flush(10) == 0
    values, titles = Online(PLAN), Titles()
    with followed([values, titles], registry.schema), Emitter("home", registry=registry) as emitter:
        application = app(Home(values, titles, Outbox(emitter, SERVED), lambda: NOW_MS, profiles=Outbox(emitter, PROFILE)))
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://home") as client,
        ):
            async with asyncio.timeout(20):
                while (await client.get("/healthz")).status_code != 200:
                    await asyncio.sleep(0.05)
            told = (await client.get("/home", params={"member": "ada", "region": "eu-1"})).json()
            found = (await client.get("/features", params={"features": "title_plays_1d", "title": "t-01"})).json()
            profiled = await asyncio.to_thread(
                records, cluster, registry, PROFILE, sum(len(PLAN.of(group)) for group in engine.rows if engine.rows[group])
            )
    assert {row["row_kind"]: [item["cid"] for item in row["items"]] for row in told["rows"]} == {
        "continue_watching": ["t-01"], "top_10": ["t-01"], "popular": ["t-01", "t-02"],
    }  # fmt: skip
    assert found["values"] == {"title_plays_1d": 4}
    assert {one["value"]: one["keys"] for one in profiled}["member_plays_1d"] == 4

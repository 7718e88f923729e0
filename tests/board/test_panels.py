"""Panels: each one's header is right, its SQL fits the declared tables, and it shows what is in them."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.base import warehouse as clients
from schemas.catalogue import catalogue
from sinks import dashboards, migrate
from sinks.dashboards import ANOMALOUS, ROBUST_Z, Panel, PanelError, panels, parse
from streams.playback.minute import RELATIVE_ERROR
from tests.board.rows import CAUSES, OCAS, PLACES, PLAYERS, TITLE_BYTES, TITLES, Evening, Row

HEADER = "-- title: T\n-- question: Q?\n-- show: number\n-- empty: nothing\n"


def window(minutes: int = 30) -> dict[str, datetime]:
    """A range of whole milliseconds, as a panel's bounds are: one of microseconds has other events in Python than in SQL."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return {"from": now - timedelta(minutes=minutes), "to": now}


def params(panel: Panel, sid: str) -> dict[str, object]:
    return {**window(), **({"sid": sid} if "sid" in panel.params else {})}


def a_sid(rows: Evening) -> str:
    """A session that failed in play, so that it has rows in every part."""
    return next(str(row["sid"]) for row in rows.rows["playback.qoe_session"] if row["in_play_failure"])


@pytest.mark.parametrize("panel", panels(), ids=lambda p: f"{p.board}/{p.name}")
def test_shows_rows_of_declared_tables(panel: Panel, warehouse: Evening) -> None:
    result = dashboards.run(panel, clients.reader(), params(panel, a_sid(warehouse)))
    if panel.name == "errors":
        assert {record["codes"] for record in result.records()} == {"media-decode"}
    assert result.rows > 0
    if panel.show == "number":
        assert result.rows == 1
        assert isinstance(result.values[0][0], int | float)
    if panel.show in ("line", "bar"):
        assert result.columns[0] == "t"
        assert list(result.values[0]) == sorted(result.values[0])


@pytest.mark.parametrize("panel", panels(), ids=lambda p: f"{p.board}/{p.name}")
def test_is_empty_where_nothing_happened(panel: Panel, warehouse: Evening) -> None:
    before = {"from": datetime(2020, 1, 1, tzinfo=UTC), "to": datetime(2020, 1, 2, tzinfo=UTC)}
    extra = {"sid": "nobody"} if "sid" in panel.params else {}
    assert dashboards.run(panel, clients.reader(), {**before, **extra}).rows == 0


@pytest.mark.parametrize("sql", ["SELECT 1 AS value FROM playback_reports", "SELECT startup AS value FROM closed_sessions"])
def test_unknown_tables_and_columns_are_refused(sql: str, warehouse: Evening) -> None:
    wrong = parse("b", "01_p.sql", HEADER + sql)
    with pytest.raises(DatabaseError, match=r"UNKNOWN_TABLE|UNKNOWN_IDENTIFIER"):
        clients.reader().query(f"EXPLAIN {wrong.sql}")


@pytest.mark.parametrize("name", dashboards.FILTERS)
@pytest.mark.parametrize("text", ["' OR 1=1 --", "'; DROP TABLE playback_report; --", "\\", "{oca:String}", "x') UNION ALL SELECT 1 --"])
def test_a_filter_is_a_value_never_sql(name: str, text: str, warehouse: Evening) -> None:
    plays = dashboards.panel("quality_of_experience", "plays")
    assert dashboards.run(plays, clients.reader(), {**window(), name: text}).rows == 0
    assert dashboards.run(plays, clients.reader(), window()).rows == 1


def test_filters_narrow(warehouse: Evening) -> None:
    by_title = dashboards.panel("quality_of_experience", "by_title")
    found = dashboards.run(by_title, clients.reader(), {**window(), "title": "mandelbrot"}).records()
    assert [row["title"] for row in found] == ["mandelbrot"]


@pytest.mark.parametrize("name", ["playing_now", "plays", "concurrent_plays", "newest_sessions", "failed_sessions"])
def test_every_filter_narrows_to_what_it_offers(name: str, warehouse: Evening) -> None:
    """The offers of a filter are all there is, and between them they share out the rows of a table and the plays of a number."""
    asked = window()  # one range: on a slow machine a session leaves the next one
    offered = dashboards.run(dashboards.panel("filters", "values"), clients.reader(), asked).records()
    assert {offer["filter"] for offer in offered} == set(dashboards.FILTERS)
    panel = dashboards.panel("quality_of_experience", name)
    whole = dashboards.run(panel, clients.reader(), asked)
    for filter_ in dashboards.FILTERS:
        offers = [offer["value"] for offer in offered if offer["filter"] == filter_]
        parts = [dashboards.run(panel, clients.reader(), asked | {filter_: value}) for value in offers]
        assert len(offers) > 1
        assert all(part.rows for part in parts) or panel.show == "table"
        if panel.show == "number":
            plays = [part.records()[0]["value"] for part in parts]
            assert sum(plays) <= whole.records()[0]["value"]
            assert max(plays) < whole.records()[0]["value"]
        if panel.name == "failed_sessions" and filter_ != "oca":  # some reached no cache server
            assert sum(part.rows for part in parts) == whole.rows


def test_figures_are_those_of_the_rows(warehouse: Evening) -> None:
    closed = warehouse.rows["playback.qoe_session"]
    result = dashboards.run(dashboards.panel("quality_of_experience", "rebuffer_ratio_now"), clients.reader(), window(120)).records()[0]
    stalled, played = sum(r["rebuffer_ms"] for r in closed), sum(r["playing_ms"] for r in closed)
    assert result["value"] == pytest.approx(stalled / (stalled + played))
    assert result["rebufferings"] == sum(r["rebuffer_count"] for r in closed)


def test_what_minutes_tell_is_what_reports_tell(warehouse: Evening) -> None:
    asked = window()
    chosen = {**asked, "player": PLAYERS[0], "oca": OCAS[1]}
    lines = dashboards.run(dashboards.panel("quality_of_experience", "time_to_first_byte"), clients.reader(), chosen).records()
    assert {line["series"] for line in lines} == {OCAS[1]}
    line = lines[len(lines) // 2]
    waited = sorted(
        report["ttfb_ms"] for report in warehouse.rows["playback.report"]
        if report["e"] == "rr" and report["player"] == PLAYERS[0] and report["oca_id"] == OCAS[1]
        and line["t"] <= report["event_time"].timestamp() * 1000 < line["t"] + 60_000
    )  # fmt: skip
    assert line["value"] == pytest.approx(waited[math.ceil(0.95 * len(waited)) - 1], rel=RELATIVE_ERROR)

    starts = dashboards.run(dashboards.panel("quality_of_experience", "starts"), clients.reader(), asked).records()
    known = [row for row in warehouse.rows["playback.playback_starts"] if asked["from"] <= row["minute"] < asked["to"]]
    assert sum(row["value"] for row in starts) == sum(row["starts"] for row in known) > 100


def records(name: str, **more: object) -> list[dict[str, Any]]:
    """A panel's rows of the board Delivery, over the range `more` gives, or the last half an hour."""
    return dashboards.run(dashboards.panel("delivery", name), clients.reader(), {**window(), **more}).records()


def in_range(rows: Evening, topic: str, asked: dict[str, datetime]) -> list[Row]:
    return [row for row in rows.rows[topic] if asked["from"] <= row["event_time"] < asked["to"]]


def test_edge_share_counts_what_players_got(warehouse: Evening) -> None:
    """What a parent sends another server has no session: with it the share would be lower."""
    asked = window()
    told = in_range(warehouse, "delivery.access", asked)
    of_players = [row for row in told if row["sid"] is not None]
    near = sum(row["bytes"] for row in of_players if row["hit"] and row["tier"] != "ORIGIN")
    (edge,) = records("edge_share", **asked)
    assert edge == {
        "value": pytest.approx(near / sum(row["bytes"] for row in of_players)),
        "to_players_bytes": sum(row["bytes"] for row in of_players),
    }
    assert len(of_players) < len(told)

    ratios = {oca: [row["hit"] for row in of_players if row["oca_id"] == oca] for oca in OCAS}
    sites = records("sites", **asked)
    assert {row["oca"]: row["hit_ratio"] for row in sites} == pytest.approx({oca: sum(hits) / len(hits) for oca, hits in ratios.items()})
    assert [(row["region"], row["site"], row["oca"]) for row in sites] == sorted((p["region"], p["site_id"], o) for o, p in PLACES.items())
    by_tier: Counter[str] = Counter()
    for point in records("bytes_by_tier", **asked):
        by_tier[point["series"]] += point["value"]
    assert by_tier.keys() == {"inside ISPs", "at exchanges", "origin"}


def test_first_plays_and_bytes_are_held_against_what_was_decided(warehouse: Evening) -> None:
    asked = window()
    decided = {row["sid"]: row for row in in_range(warehouse, "delivery.steering", asked)}
    first: dict[str, Row] = {}
    within: Counter[bool] = Counter()
    for row in sorted(in_range(warehouse, "delivery.access", asked), key=lambda row: row["event_time"]):
        if row["sid"] in decided:
            first.setdefault(row["sid"], row)
    everyone = {row["sid"]: row for row in warehouse.rows["delivery.steering"]}
    for row in in_range(warehouse, "delivery.access", asked):
        if row["sid"] is not None:
            within[PLACES[row["oca_id"]]["isp_asn"] == everyone[row["sid"]]["isp_asn"]] += row["bytes"]
    good = [sid for sid, row in first.items() if row["hit"] and row["oca_id"] in decided[sid]["best_ocas"]]
    assert records("first_play_hit", **asked) == [{"value": pytest.approx(len(good) / len(first)), "plays": len(first)}]
    assert records("inside_isp", **asked)[0]["value"] == pytest.approx(within[True] / within.total())


def test_misses_add_up_by_cause(warehouse: Evening) -> None:
    asked = window()
    told = in_range(warehouse, "delivery.miss", asked)
    found = records("misses_by_cause", **asked)
    expected = Counter(row["cause"] for row in told)
    assert {cause: sum(point[cause.lower()] for point in found) for cause in CAUSES} == expected
    assert min(expected.values()) > 0
    rows = records("misses", **asked)
    of = Counter((row["cid"], row["oca_id"]) for row in told)
    assert {(row["title"], row["oca"]): row["misses"] for row in rows if row["misses"]} == of
    worst = rows[0]
    causes = Counter(row["cause"].lower() for row in told if (row["cid"], row["oca_id"]) == (worst["title"], worst["oca"]))
    assert dict(cause.split() for cause in worst["causes"].split(", ")) == {cause: str(count) for cause, count in causes.items()}


def test_plays_of_an_isp_are_shared_out(warehouse: Evening) -> None:
    asked = window()
    told = in_range(warehouse, "delivery.steering", asked)
    found = records("steered", **asked)
    of = Counter((str(row["isp_asn"]), row["best_oca_id"]) for row in told)
    worse = Counter((str(row["isp_asn"]), row["best_oca_id"]) for row in told if row["cause"] != "NONE")
    shares = {(row["isp"], row["oca"]): (row["decisions"], row["not_the_best"]) for row in found}
    assert shares == {key: (of[key], worse[key]) for key in of}
    for isp in {row["isp"] for row in found}:
        assert sum(row["share_ratio"] for row in found if row["isp"] == isp) == pytest.approx(1)
    (one,) = records("steered", **asked, isp="3320", oca=OCAS[0])
    assert one == next(row for row in found if (row["isp"], row["oca"]) == ("3320", OCAS[0]))  # of all the ISP's plays still


def test_fill_plans_say_what_is_still_to_come(warehouse: Evening) -> None:
    """Two of four titles have come, the third has failed; one of the two had left the newest plan already."""
    plans = {row["oca"]: row for row in records("fill_plans", **window(60))}
    assert plans.keys() == {OCAS[0], OCAS[1]}
    for plan in plans.values():
        assert {name: plan[name] for name in ("to_fetch", "to_come_bytes", "to_let_go", "fetched", "failed")} == {
            "to_fetch": 2, "to_come_bytes": 2 * TITLE_BYTES, "to_let_go": 1, "fetched": 2, "failed": 1,
        }  # fmt: skip
    held = 2 * (2 * TITLE_BYTES + 5_000_000)
    assert records("filled") == [{"value": pytest.approx(held / (held + 4 * TITLE_BYTES)), "to_come_bytes": 4 * TITLE_BYTES}]
    fills = {(row["oca"], row["title"]): (row["step"], row["fetched_ratio"]) for row in records("fills")}
    steps = dict(zip(TITLES, (("completed", 1.0), ("completed", 1.0), ("failed", 0.0)), strict=True))
    assert fills == {(oca, title): steps[title] for oca in OCAS[:2] for title in TITLES}
    assert {row["title"]: row["why"] for row in records("fill_reasons", oca=OCAS[0])} == dict.fromkeys(TITLES, "worth") | {
        "sequel": "premiere"
    }


def test_a_premiere_is_held_planned_or_not_announced(warehouse: Evening) -> None:
    found = {(row["region"], row["title"]): row["status"] for row in records("premieres")}
    assert found == {("coast", "sequel"): "to come", ("coast", "gradients"): "to come", ("north", "gradients"): "to come"}
    assert [row["status"] for row in records("premieres", title="mandelbrot")] == ["nothing is announced"] * 2
    moment = window() | {"to": warehouse.rows["delivery.release"][0]["event_time"] - timedelta(minutes=1)}
    assert records("premieres", **moment) == []


def test_a_failed_play_can_be_opened_however_many_came_after(warehouse: Evening) -> None:
    def sids(name: str) -> list[str]:
        panel = next(panel for panel in panels() if panel.name == name)
        return [str(record["sid"]) for record in dashboards.run(panel, clients.reader(), window()).records()]

    kinds = ("failed_start", "exit_before_video_start", "in_play_failure")
    rows = [row for row in warehouse.rows["playback.qoe_session"] if any(row[kind] for kind in kinds)]
    failed = {str(row["sid"]) for row in rows if row["ended_at"] >= window()["from"]}
    assert set(sids("failed_sessions")) == failed
    assert failed - set(sids("newest_sessions"))


def test_every_landed_topic_counts_as_events(warehouse: Evening) -> None:
    merged = clients.reader().query("SELECT DISTINCT _table FROM landed WHERE NOT marker").result_columns[0]
    assert set(merged) == {catalogue().topic(name).table for name in warehouse.rows}
    pattern = next(item for item in migrate.objects() if item.name == "landed").sql
    domains = pattern.partition("'^(")[2].partition(")_")[0].split("|")
    assert {topic.domain for topic in catalogue().landed()} <= set(domains), "name the new domain in sinks/observability/landed.sql"


def test_a_player_that_became_bad_is_out_of_its_baseline(warehouse: Evening) -> None:
    found = dashboards.run(dashboards.panel("quality_of_experience", "by_player"), clients.reader(), window(5)).records()
    unusual = {row["player"] for row in found if (row["rebuffer_ratio_z"] or 0) >= ANOMALOUS or (row["startup_p95_ms_z"] or 0) >= ANOMALOUS}
    assert unusual == {PLAYERS[-1]}


@pytest.mark.parametrize(
    ("value", "before", "least", "z"),
    [
        (10, "[9, 10, 11, 10]", 1, None),  # four are too few
        (10, "[9, 10, 11, 10, 10]", 1, 0.0),
        (20, "[8, 9, 10, 11, 12, 900]", 1, pytest.approx((20 - 11) / (1.4826 * 2))),  # the bad one among those before moves nothing
        (20, "[10, 10, 10, 10, 10]", 2, 5.0),  # what never varies would make every difference endless
        (5, "[10, 10, 10, 10, 10]", 2, -2.5),
    ],
)
def test_robust_z(value: int, before: str, least: int, z: float | None, warehouse: Evening) -> None:
    answer = clients.reader().query(f"WITH {ROBUST_Z} SELECT robust_z({value}, {before}, {least})").result_rows
    assert answer[0][0] == z


def test_a_file_with_each_is_a_panel_for_each_word(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    text = HEADER.replace("T", "By {each}") + "-- each: OCA, title\nSELECT {each}, count() AS plays FROM t GROUP BY {each}"
    (tmp_path / "b" / "01_by.sql").write_text(text)
    oca, title = dashboards.load(tmp_path)
    assert (oca.name, oca.title, oca.sql) == ("by_oca", "By OCA", "SELECT oca, count() AS plays FROM t GROUP BY oca")
    assert (title.name, title.title, title.file) == ("by_title", "By title", "sinks/dashboards/b/01_by.sql")


def test_a_header_says_everything() -> None:
    panel = parse("b", "07_p.sql", HEADER + "-- unit: ms\n-- thresholds: warn 2, bad 4.5\nSELECT {from:DateTime64(3, 'UTC')} AS value;\n")
    assert (panel.name, panel.unit, panel.width) == ("p", "ms", 4)
    assert [(t.level, t.value) for t in panel.thresholds] == [("warn", 2.0), ("bad", 4.5)]
    assert panel.sql == "SELECT {from:DateTime64(3, 'UTC')} AS value"


def test_chosen_stands_for_every_filter() -> None:
    panel = parse("b", "07_p.sql", HEADER + "SELECT 1 AS value FROM closed_sessions WHERE {chosen}")
    assert set(panel.params) == set(dashboards.FILTERS)
    assert "{oca:String} = '' OR oca = {oca:String}" in panel.sql


@pytest.mark.parametrize(
    ("file_name", "text", "words"),
    [
        ("p.sql", HEADER, "named"),
        ("01_p.sql", HEADER.replace("-- question: Q?\n", ""), "question"),
        ("01_p.sql", HEADER.replace("number", "pie"), "show is one of"),
        ("01_p.sql", HEADER + "-- colour: red\n", "colour"),
        ("01_p.sql", HEADER + "-- thresholds: hot\n", "thresholds"),
        ("01_p.sql", HEADER + "SELECT {limit:UInt8}", "limit:UInt8"),
    ],
)
def test_a_wrong_file_is_refused_in_words(file_name: str, text: str, words: str) -> None:
    with pytest.raises(PanelError, match=words):
        parse("b", file_name, text)


def test_two_panels_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for number in ("01", "07"):
        (tmp_path / "b" / f"{number}_p.sql").write_text(HEADER + "SELECT 1 AS value")
    with pytest.raises(PanelError, match="two panels are called b/p"):
        dashboards.load(tmp_path)


def test_requests_for_what_is_not_there_are_refused_in_words(warehouse: Evening) -> None:
    with pytest.raises(PanelError, match="there are: "):
        dashboards.panel("quality_of_experience", "nonsense")
    plays = dashboards.panel("quality_of_experience", "plays")
    with pytest.raises(PanelError, match="needs from, to"):
        dashboards.run(plays, clients.reader(), {})
    with pytest.raises(PanelError, match="unknown parameter limit"):
        dashboards.run(plays, clients.reader(), {**window(), "limit": 3})


@pytest.mark.parametrize(("span", "step"), [(timedelta(minutes=2), 1), (timedelta(minutes=15), 10), (timedelta(hours=24), 600)])
def test_a_line_has_no_more_points_than_a_panel_has_room_for(span: timedelta, step: int) -> None:
    end = datetime(2026, 1, 1, tzinfo=UTC)
    assert dashboards.step_s(end - span, end) == step

"""The page in a real browser: it shows the rows, follows them, and keeps what the viewer has set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.board.browser import page, until
from tests.board.conftest import Worker
from tests.board.rows import PLAYERS, Evening

pytestmark = pytest.mark.browser

ANSWERED = "document.querySelectorAll('.panel').length > 30 && !document.body.innerText.includes('asking the warehouse')"
STICKS_OUT = """[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, .cards, .canvas, .reports, .graph, pre')
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 90))"""
"""What reaches beyond the right edge, although the page itself cuts it off."""


@pytest.fixture
def opened(chrome: Any, board: str, warehouse: Evening) -> Iterator[Any]:
    """The board over what has happened up to now, with every panel answered."""
    with page(chrome) as tab:
        tab.goto(board)
        until(tab, ANSWERED)
        yield tab


def figure(tab: Any, panel: str) -> str:
    return str(tab.inner_text(f"#quality_of_experience-{panel} .figure b"))


def test_every_panel_shows_rows_and_none_an_error(opened: Any) -> None:
    assert opened.locator(".panel.failed").count() == 0
    assert opened.locator(".panel .note:visible").all_inner_texts() == []
    assert opened.locator(".canvas canvas").count() == opened.locator(".panel.line, .panel.bar").count()
    assert re.fullmatch(r"\d+(\.\d+)?", figure(opened, "playing_now"))


def test_a_filter_narrows_and_stays_in_the_address(opened: Any) -> None:
    everything = int(figure(opened, "plays"))
    opened.select_option("[data-filter=title]", "mandelbrot")
    until(opened, f"document.querySelector('#quality_of_experience-plays .figure b').textContent !== '{everything}'")
    assert int(figure(opened, "plays")) < everything
    assert "title=mandelbrot" in opened.url
    opened.reload()
    until(opened, "document.querySelector('[data-filter=title]').value === 'mandelbrot'")


def test_what_a_table_names_narrows_the_page_and_lets_go(opened: Any) -> None:
    def rows() -> int:
        return int(opened.locator("#delivery-fills tbody tr").count())

    everything = rows()
    opened.locator("#delivery-sites tr", has_text="north-isp").locator("td button", has_text="oca-0").click()
    until(opened, f"document.querySelectorAll('#delivery-fills tbody tr').length < {everything}")
    assert "oca=oca-0" in opened.url
    until(opened, "document.querySelector('[data-filter=oca]').value === 'oca-0'")
    opened.locator("#delivery-sites td button", has_text="oca-0").click()
    until(opened, f"document.querySelectorAll('#delivery-fills tbody tr').length === {everything}")
    assert "oca=" not in opened.url


def test_a_zoom_holds_on_every_chart_while_updates_come(opened: Any) -> None:
    box = opened.locator("#quality_of_experience-startup_time .u-over").bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 50, steps=5)
    opened.mouse.up()
    opened.wait_for_selector("#unzoom:visible")
    before = opened.inner_text("#range")
    until(opened, f"document.getElementById('range').textContent !== {before!r}")
    assert opened.locator("#unzoom").is_visible()
    opened.click("#unzoom")
    assert opened.locator("#unzoom").is_hidden()


def test_a_session_opens_with_its_timeline(opened: Any, warehouse: Evening) -> None:
    row = opened.locator("tr:has([data-status=closed]) [data-opens]").first
    sid = row.inner_text()
    row.click()
    opened.wait_for_selector(".lanes rect")
    assert sid in opened.inner_text("#session header")
    assert "Startup time" in opened.inner_text("#session .facts")
    opened.keyboard.press("Escape")
    assert opened.locator("#session").is_hidden()


def test_who_plays_now_follows_the_worker(opened: Any, worker: Worker, warehouse: Evening) -> None:
    sid = str(warehouse.rows["playback.qoe_session"][-1]["sid"])
    playing = {"sid": sid, "sta": "p", "cid": "mandelbrot", "br_kbps": 2400, "bl_ms": 9000, "oca_id": "oca-0", "device_type": "tv"}
    worker.sessions = [playing]
    card = opened.locator("#playing [data-opens]")
    card.wait_for()
    assert (card.inner_text().split("\n"), card.get_attribute("data-state")) == (["mandelbrot", "tv", "2.40 Mbit/s"], "p")
    worker.sessions = [{**playing, "sta": "r"}]
    opened.wait_for_selector("#playing [data-state=r]:has-text('rebuffering')")
    card.click()
    opened.wait_for_selector("#session .lanes rect")
    assert sid in opened.inner_text("#session header")
    opened.keyboard.press("Escape")
    worker.sessions = []
    opened.wait_for_selector("#playing .words:has-text('nobody is playing now')")
    worker.sessions = None
    opened.wait_for_selector("#playing .words:has-text('being rebuilt')")
    assert card.count() == 0


def test_each_panel_shows_its_question_and_its_sql(opened: Any) -> None:
    opened.hover("#quality_of_experience-startup_time_p95")
    opened.click("#quality_of_experience-startup_time_p95 button")
    assert "FROM closed_sessions" in opened.inner_text("#sql pre")
    told = opened.inner_text("#sql")
    for words in ("first frame?", "warn from 2.00 s, bad from 4.00 s", "closed_sessions", "02_startup_time_p95.sql"):
        assert words in told


def test_what_is_out_of_its_baseline_is_marked(chrome: Any, board: str, warehouse: Evening) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/?span_s=300")
        cell = tab.locator("#quality_of_experience-by_player tr", has_text=PLAYERS[-1]).locator("[data-anomaly=high]").first
        cell.wait_for()
        assert re.fullmatch(r".+, expected .+: .+ too high, .+ times the usual spread", cell.get_attribute("title"))
        tab.goto(f"{board}/?span_s=21600")  # points of three minutes: of ten seconds each would rest on too few plays
        mark = tab.locator("#quality_of_experience-startup_time .anomaly.high").first
        mark.hover(force=True)
        assert "too high" in mark.get_attribute("aria-label")


def test_dark_and_light(chrome: Any, board: str) -> None:
    with page(chrome, color_scheme="dark") as tab:
        tab.goto(board)
        background = "getComputedStyle(document.documentElement).backgroundColor"
        dark = tab.evaluate(background)
        tab.click("#theme")
        assert tab.evaluate(background) != dark
        tab.reload()
        assert tab.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_catalogue_is_searched_and_followed_along_the_lineage(chrome: Any, board: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/catalogue")
        tab.fill("#search", "rebuffer_ratio playback")
        until(tab, "document.querySelectorAll('#topics a').length === 1")
        tab.click("#topics a")
        tab.wait_for_selector(".graph [data-node='topic playback.report']")
        assert "rebuffer_ratio" in tab.inner_text(".fields")
        assert "does not answer" in tab.inner_text("article")
        tab.click(".graph [data-node='topic playback.report']")
        until(tab, "document.querySelector('article h1').textContent === 'playback.report'")
        assert "topic=playback.report" in tab.url
        assert "mandelbrot" not in tab.inner_text("details.refused")
        tab.go_back()
        until(tab, "document.querySelector('article h1').textContent === 'playback.qoe_session'")
        assert tab.input_value("#search") == "rebuffer_ratio playback"


def test_a_thousand_topics_are_searched_as_one_types(chrome: Any, board: str) -> None:
    told = {"owner": "risk", "team": "risk", "description": "One of many.", "event": "fraud.kind", "deprecated": "", "fields": []}
    listed = {"topics": [{"topic": f"fraud.kind_{number}", **told} for number in range(1_000)]}
    with page(chrome) as tab:
        tab.route("**/api/catalogue", lambda route: route.fulfill(json=listed))
        tab.goto(f"{board}/catalogue")
        until(tab, "document.getElementById('found').textContent === 'the first 300 of 1000 topics: say more of what you look for'")
        tab.fill("#search", "kind_777")
        until(tab, "document.getElementById('found').textContent === '1 of 1000 topics'")


@pytest.mark.parametrize("width", [390, 820])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_catalogue_fits_a_phone_in_both_themes(chrome: Any, board: str, width: int, scheme: str) -> None:
    with page(chrome, viewport={"width": width, "height": 844}, color_scheme=scheme) as tab:
        tab.goto(f"{board}/catalogue?topic=playback.report")
        tab.wait_for_selector(".graph svg")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ink, card = tab.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.querySelector('.fields'))[name])")
        assert ink != card


@pytest.mark.parametrize("width", [390, 820, 1920])
@pytest.mark.parametrize("path", ["", "/watch", "/catalogue?topic=playback.qoe_session"])
def test_nothing_sticks_out_at_any_width(chrome: Any, board: str, warehouse: Evening, path: str, width: int) -> None:
    with page(chrome, viewport={"width": width, "height": 844}) as tab:
        tab.goto(board + path)
        if path:
            tab.wait_for_selector(".reports, .graph svg")
        else:
            until(tab, ANSWERED)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(STICKS_OUT) == []


def test_on_a_phone_tables_fold_and_charts_are_wide(chrome: Any, board: str, warehouse: Evening) -> None:
    with page(chrome, viewport={"width": 390, "height": 844}) as tab:
        tab.goto(board)
        until(tab, ANSWERED)
        assert tab.locator(".panel.table thead:visible").count() == 0
        assert tab.evaluate("[...document.querySelectorAll('.panel .scroll')].filter((e) => e.scrollWidth > e.clientWidth).length") == 0
        assert tab.evaluate("Math.min(...[...document.querySelectorAll('.u-over')].map((e) => e.clientWidth))") > 270

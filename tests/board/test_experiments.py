"""The board's experiments: the list and a read-out in a real browser, words where there is nothing, and the same as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import pytest

from infra.base import warehouse as clients
from schemas.allocation.definition import Experiment
from tests.board.browser import page, until
from tests.board.rows import Evening
from tests.board.test_page import STICKS_OUT
from tests.sinks.experiments import changes, insert, installed, sums

PUBLISHED = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def read(open_evening: Evening, board: str) -> str:
    """The board over a fortnight of one experiment and nothing yet of the others."""
    client = clients.writer()
    insert(client, changes(installed(), PUBLISHED), "experiments_change", first=1_000)
    (experiment,) = (one for one in installed() if isinstance(one, Experiment) and one.key == "fast_start")
    insert(client, sums(experiment, days=5, units_a_day=600), "experiments_statistic", first=1_000)
    return board


def test_every_answer_is_json_and_an_error_is_words(read: str) -> None:
    listed = {one["experiment"]: one for one in httpx.get(f"{read}/api/experiments").json()["experiments"]}
    assert listed["fast_start"]["units"] == 6_000
    assert listed["fast_start"]["verdict"] == "better"
    assert listed["same_or_same"]["words"].startswith("no data")
    one = httpx.get(f"{read}/api/experiments/fast_start").json()
    assert {point["units"] for line in one["over_time"] for point in line["points"]} == {1_200, 2_400, 3_600, 4_800, 6_000}
    nobody = httpx.get(f"{read}/api/experiments/nobody")
    assert nobody.status_code == 404
    assert "there is no experiment nobody" in nobody.json()["error"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_read_out_shows_intervals_over_time_and_stays_open(chrome: Any, read: str, width: int) -> None:
    with page(chrome, viewport={"width": width, "height": 900}) as tab:
        tab.goto(f"{read}/experiments?experiment=fast_start")
        until(tab, "document.querySelectorAll('#readout polygon.always').length > 4")
        assert tab.inner_text(".readout .badge") == "better"
        assert tab.evaluate(STICKS_OUT) == []
        assert tab.locator("#readout tbody td[data-level=good]").count() > 0
        tab.locator("#sql summary").click()
        assert "FROM experiments_statistic" in tab.inner_text("#sql pre")
        tab.locator("#measured summary").click()
        assert "mean of startup_ms, playback.qoe_session" in tab.inner_text("#measured")
        assert tab.evaluate(STICKS_OUT) == []
        tab.locator("#experiments a", has_text="same_or_same").click()
        until(tab, "document.querySelector('#readout h1').textContent === 'same_or_same'")
        assert "experiment=same_or_same" in tab.url
        assert "nobody has been exposed yet" in tab.inner_text("#readout")

"""On the whole stack: the tour comes true, and twenty sessions in a browser are in ClickHouse what the video element went through."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

import pytest

from tests.board import touring
from tests.board.browser import page, until
from tests.board.watching import Seen, acknowledged, assert_agree, network, press_play, quality, seen, to_the_end

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.timeout(1800)]

SESSIONS = 20
TABS = 5
NETWORKS_KBPS = (0, 3000, 800, 100)
NARROW_MS = 8_000


def test_twenty_sessions_agree_with_the_video_element(chrome: Any, published_board: str) -> None:
    witnessed: dict[str, Seen] = {}
    for round_ in range(SESSIONS // TABS):
        with ExitStack() as open_pages:
            tabs = [open_pages.enter_context(page(chrome)) for _ in range(TABS)]
            sids = [press_play(tab, published_board, "bbb") for tab in tabs]
            for tab in tabs:  # one network a round: what a narrow one has begun to fetch takes its time
                network(tab, NETWORKS_KBPS[round_ % len(NETWORKS_KBPS)])
            until(tabs[0], f"performance.timeOrigin + performance.now() > {tabs[0].evaluate('witness.at(-1)[1]')} + {NARROW_MS}")
            for tab in tabs:
                network(tab, 0)
                tab.evaluate("document.querySelector('video').playbackRate = 3")
            for sid, tab in zip(sids, tabs, strict=True):
                to_the_end(tab, within=240)
                acknowledged(tab)
                witnessed[sid] = seen(tab)
    assert len(witnessed) == SESSIONS
    assert sum(one.rebuffer_count for one in witnessed.values()) > 0, "the narrow networks provoked no rebuffering"
    for sid, one in witnessed.items():
        assert_agree(quality(sid), one)


def test_the_tour_comes_true(chrome: Any, published_board: str) -> None:
    """Comes second: the sessions of the first test are what the replayed recording is compared by."""
    with page(chrome, viewport={"width": 1600, "height": 1200}) as tab:
        touring.start(tab, published_board)
        said = {}
        for step in touring.STEPS:
            verdict, said[step] = touring.take(tab, step)
            assert verdict == "done", said[step]
        assert tab.locator("tr.mine").count() == 1
    assert re.search(r", 0 lost, 0 doubled", said["loader"][-1])
    refusal = " ".join(said["schema"])
    assert "job streams.playback.qoe_sessions" in refusal
    assert "quality_of_experience/startup_time" in refusal
    assert re.search(r"[1-9][0-9,]* rows equal", said["replay"][-1])

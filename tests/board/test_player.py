"""The web player tells the truth: what its reports come to is what the video element went through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from infra.base.ports import free_port
from infra.base.settings import environment
from producers.encoders import encode
from tests.board.browser import page, until
from tests.board.conftest import need_libraries, running
from tests.board.watching import (
    TOLERANCE_MS,
    WITNESS,
    assert_agree,
    assert_decided_alike,
    assert_played_as_decided,
    decisions,
    network,
    press_play,
    seen,
)
from tests.clip import CLIP
from tests.kit import eventually

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def titles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real clip."""
    folder = tmp_path_factory.mktemp("titles")
    encode.prepare([CLIP], folder)
    return folder


@pytest.fixture(scope="module")
def edge(titles: Path) -> Iterator[str]:
    """The address of a double of the request path that serves the clip."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "tests.board.edge_double", str(port), str(titles)])
    try:
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        yield url
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def board(edge: str, open_evening: Any) -> Iterator[str]:
    """A board whose gateway, cache server, collector and home are the double."""
    need_libraries()
    url = f"http://127.0.0.1:{free_port()}"
    addresses = {
        "HEADRACE_EDGE__BOARD_URL": url,
        "HEADRACE_EDGE__GATEWAY_URL": edge,
        "HEADRACE_EDGE__COLLECTOR_URL": edge,
        "HEADRACE_EDGE__HOME_URL": edge,
    }
    with environment(addresses), running("edge.board", f"{url}/healthz"):
        yield url


def session(edge: str, sid: str) -> dict[str, Any]:
    return dict(httpx.get(f"{edge}/sessions/{sid}").json())


def closed(edge: str, sid: str) -> dict[str, Any]:
    """The session once it has closed."""
    return eventually(lambda: (found := session(edge, sid))["quality"]["end_reason"] != "silence" and found)


def states(found: dict[str, Any]) -> list[str]:
    return [r["sta"] for r in sorted(found["reports"], key=lambda r: r["sn"]) if r["e"] == "ps"]


def test_a_session_to_its_end(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        until(tab, "witness.some(([name]) => name === 'ended')")
        found = closed(edge, sid)
        assert_agree(found["quality"], seen(tab))
    assert found["refused"] == []
    assert states(found)[:2] == ["s", "p"]
    kinds = {r["ot"] for r in found["reports"] if r["e"] == "rr"}
    assert kinds == {"m", "i", "v", "a"}
    videos = [r for r in found["reports"] if r["e"] == "rr" and r["ot"] == "v"]
    assert len({r["url"] for r in videos}) >= 8
    assert all(r["rc"] == 200 and r["bytes"] > 1000 and r["d_ms"] == 2000 and 0 <= r["ttfb_ms"] <= r["ttlb_ms"] for r in videos)
    assert sorted(r["sn"] for r in found["reports"]) == list(range(len(found["reports"])))
    assert {r["member_id"] for r in found["reports"]} == {next(r["member_id"] for r in found["reports"])}


def test_a_busy_page_does_not_shorten_the_startup(chrome: Any, board: str, edge: str) -> None:
    """A press counts from when the browser had it, not from when the page got to it."""
    with page(chrome) as tab:
        tab.goto(f"{board}/watch")
        tab.wait_for_selector("button.primary:enabled")
        tab.evaluate(
            "document.addEventListener('click', () => { const end = performance.now() + 500; while (performance.now() < end); }, true)"
        )
        sid = press_play(tab, board, "clip", opened=True)
        startup_ms = eventually(lambda: session(edge, sid)["quality"]["startup_ms"])
        assert abs(startup_ms - seen(tab).startup_ms) <= TOLERANCE_MS


def test_a_narrow_network_is_a_rebuffering_of_the_same_length(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        network(tab, 100)
        until(tab, "witness.filter(([name]) => name === 'waiting').length > 1", within=60)
        until(tab, f"performance.timeOrigin + performance.now() > {tab.evaluate('witness.at(-1)[1]')} + 2500")
        network(tab, 0)
        until(tab, "witness.some(([name]) => name === 'ended')", within=90)
        found = closed(edge, sid)
        assert_agree(found["quality"], seen(tab))
    assert found["quality"]["rebuffer_count"] >= 1
    assert found["quality"]["rebuffer_ms"] > 2000
    assert found["refused"] == []


def test_leaving_the_page_quits_the_session(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        tab.goto("about:blank")
        found = closed(edge, sid)
    assert found["quality"]["end_reason"] == "quit"
    assert states(found)[-1] == "q"


@pytest.mark.parametrize("sta", ["e", "f", "q"])
def test_the_state_that_closes_a_session_is_sent_at_once_with_all_that_waits(chrome: Any, board: str, sta: str) -> None:
    """Or a viewer who closes the tab at the end of a film would have fallen silent."""
    with page(chrome) as tab:
        tab.goto(f"{board}/watch")
        before, after = tab.evaluate(
            """async (sta) => {
              const { Reporter } = await import("/static/cmcd.js");
              const bodies = [];
              window.fetch = (url, { body }) => (bodies.push(body), new Promise(() => {}));
              const reporter = new Reporter("/cmcd", { sid: "s" });
              reporter.report("ps", 0, { sta: "p" });
              const before = [...bodies];
              reporter.report("ps", 1, { sta });
              return [before, bodies];
            }""",
            sta,
        )
    assert before == []
    assert [line.split(",")[-2] for line in after[0].splitlines()] == ["ts=0", "ts=1"]
    assert len(after) == 1


def test_a_pause_is_no_rebuffering(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        tab.evaluate("document.querySelector('video').pause()")
        until(tab, "witness.at(-1)[0] === 'pause'")
        tab.evaluate("document.querySelector('video').play()")
        until(tab, "witness.at(-1)[0] === 'playing'")
        tab.goto("about:blank")
        found = closed(edge, sid)
    assert "a" in states(found)
    assert found["quality"]["rebuffer_ms"] == 0


def test_a_video_that_is_paused_at_its_end_has_ended(chrome: Any, board: str, edge: str) -> None:
    """dash.js pauses there by itself, and where it is the first to notice the end, the element never says `ended`."""
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        tab.evaluate("document.addEventListener('ended', (event) => event.stopImmediatePropagation(), true)")
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        assert closed(edge, sid)["quality"]["end_reason"] == "ended"


def test_a_title_that_cannot_be_fetched_fails_to_start(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/watch")
        tab.wait_for_selector("button.primary:enabled")
        tab.evaluate("document.querySelector('select[aria-label=Title]').append(new Option('nothing'))")
        tab.select_option("select[aria-label=Title]", "nothing")
        tab.click("button.primary")
        until(tab, "document.querySelector('.facts').dataset.state === 'f'")
        sid = str(tab.get_attribute("#session-link", "href")).partition("sid=")[2]
        found = closed(edge, sid)
    assert found["quality"]["failed_start"]
    assert {r["rc"] for r in found["reports"] if r["e"] == "rr"} == {404}


def test_the_player_adapts_as_python_would(chrome: Any, board: str, edge: str, titles: Path) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "clip")
        until(tab, "witness.some(([name]) => name === 'ended')")
        found, told = closed(edge, sid), decisions(tab)
    assert_decided_alike(told)
    assert_played_as_decided(told, found["reports"])
    assert found["quality"]["rebuffer_count"] == 0
    assert {r["abr"] for r in found["reports"]} == {"headrace"}
    first, last = told[0]["state"], told[-1]["state"]
    assert (told[0]["by"], told[0]["level"], first["buffer_s"], first["previous"], first["left"]) == ("start", 0, 0, -1, 8)
    assert first["sizes"] == [[kbps * 125 * 2 for kbps in first["bitrates_kbps"]]] * 8
    assert (last["left"], len(last["throughputs_kbps"])) == (1, 7)
    assert last["sizes"] == [[(titles / "clip" / "v1" / rung.name / "007.m4s").stat().st_size for rung in CLIP.ladder]]


def ticket_with(tab: Any, **more: Any) -> None:
    """Let tickets say more than the double's do."""

    def answer(route: Any) -> None:
        answered = route.fetch()
        route.fulfill(response=answered, json={**answered.json(), **more})

    tab.route("**/play", answer)


@pytest.mark.parametrize(
    ("rule", "kbps", "level", "abr"), [("policy", 100_000, -1, "headrace"), ("bola", 1, 0, "bola"), ("magic", 0, 0, "headrace")]
)
def test_it_obeys_its_flags(chrome: Any, board: str, edge: str, rule: str, kbps: int, level: int, abr: str) -> None:
    with page(chrome) as tab:
        ticket_with(tab, flags={"abr_rule": rule, "start_bitrate_kbps": kbps})
        sid = press_play(tab, board, "clip")
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        until(tab, "witness.some(([name]) => name === 'ended')")
        found, told = closed(edge, sid), decisions(tab)
    video = sorted((r for r in found["reports"] if r["e"] == "rr" and r["ot"] == "v"), key=lambda r: r["event_time"])
    assert {r["abr"] for r in found["reports"]} == {abr}
    assert video[0]["br_kbps"] == sorted({r["tb_kbps"] for r in found["reports"] if r.get("tb_kbps")} | {video[0]["br_kbps"]})[level]
    assert_decided_alike(told)
    assert [one["by"] == "start" for one in told[:1]] == {"policy": [False], "bola": [], "magic": [True]}[rule]


def test_who_chooses_an_adaptation_is_in_no_experiment(chrome: Any, board: str) -> None:
    asked: list[bool] = []
    with page(chrome) as tab:
        tab.route("**/play", lambda route: (asked.append(route.request.post_data_json["experiments"]), route.continue_()))
        press_play(tab, board, "clip")
        press_play(tab, board, "clip", opened=True, abr="headrace")
    assert asked == [True, False]


def test_a_prior_takes_the_place_of_a_conservative_start(chrome: Any, board: str) -> None:
    prior = {"mean_log_kbps": 9.2, "sd_log_kbps": 0.3, "weight": 4.0}
    with page(chrome) as tab:
        ticket_with(tab, prior=prior)
        press_play(tab, board, "clip")
        told = decisions(tab)
    assert_decided_alike(told)
    assert (told[0]["by"], told[0]["level"], told[0]["prior"]) == ("plan", 1, prior)


def test_after_a_seek_the_plan_is_of_what_comes_there(chrome: Any, board: str) -> None:
    """dash.js asks no rule for the first segment after a seek, which keeps its level; the next is decided with what is buffered there."""
    with page(chrome) as tab:
        press_play(tab, board, "clip")
        tab.evaluate("document.querySelector('video').currentTime = 11")
        until(tab, "witness.some(([name]) => name === 'ended')")
        told = decisions(tab)
    assert_decided_alike(told)
    landed = next(one["state"] for one in told if one["state"]["left"] <= 2)
    assert (landed["left"], len(landed["sizes"])) == (2, 2)
    assert landed["buffer_s"] == pytest.approx(1.0, abs=0.2)


def test_dash_js_adapts_where_it_is_chosen(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/watch")
        tab.select_option("select[aria-label=Adaptation]", "dash.js")
        sid = press_play(tab, board, "clip", opened=True)
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        until(tab, "witness.some(([name]) => name === 'ended')")
        found = closed(edge, sid)
        assert decisions(tab) == []
    assert {r["abr"] for r in found["reports"]} == {"dash.js"}


def test_without_a_policy_the_player_still_plays(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.route("**/abr/policy.json", lambda route: route.fulfill(json={"schema_version": 2}))
        sid = press_play(tab, board, "clip")
        assert decisions(tab) == []
        assert {r["abr"] for r in eventually(lambda: session(edge, sid)["reports"])} == {"dash.js"}


def test_a_level_that_the_viewer_chose_stays(chrome: Any, board: str, edge: str) -> None:
    """dash.js asks no rule then; when it may adapt again, the level that was chosen is the one before."""
    with page(chrome) as tab:
        tab.goto(f"{board}/watch")
        tab.wait_for_selector("button.primary:enabled")
        tab.evaluate(WITNESS)
        sid = tab.evaluate(
            """async (gateway) => {
              const { Player } = await import("/static/player.js");
              window.player = new Player(document.querySelector("video"), gateway);
              return player.play("clip");
            }""",
            edge,
        )
        until(tab, "decisions.at(-1)?.state.throughputs_kbps.length === 3")
        tab.evaluate(
            """() => {
              player.session.dash.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: false } } } });
              player.session.dash.setRepresentationForTypeByIndex("video", 0);
              window.before = decisions.length;
            }"""
        )
        until(tab, "player.session.adaptation.throughputs.length >= 6")
        assert tab.evaluate("decisions.length === before")
        tab.evaluate("player.session.dash.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: true } } } })")
        until(tab, "witness.some(([name]) => name === 'ended')")
        after = decisions(tab)[tab.evaluate("before") :]
        videos = [r for r in closed(edge, sid)["reports"] if r["e"] == "rr" and r["ot"] == "v"]
    assert_decided_alike(after)
    assert after[0]["state"]["previous"] == 0
    assert len({r["br_kbps"] for r in sorted(videos, key=lambda r: r["sn"])[4:6]}) == 1

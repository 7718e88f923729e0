"""The board's API: rows, live updates, one session, and errors in words."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2 as httpx
import pytest

from schemas.catalogue import catalogue
from tests.board.conftest import Worker
from tests.board.rows import Evening


def last(minutes: int) -> dict[str, int]:
    now = time.time_ns() // 1_000_000
    return {"from": now - minutes * 60_000, "to": now}


def test_boards_tell_everything_about_their_panels(board: str) -> None:
    found = httpx.get(f"{board}/api/boards").json()["boards"]
    assert [b["name"] for b in found] == ["quality_of_experience", "delivery", "experiments", "features", "pipeline"]
    for panel in (p for b in found for p in b["panels"]):
        assert panel["title"]
        assert panel["question"].endswith(("?", "."))
        assert panel["sql"].startswith(("SELECT", "WITH"))


def test_a_panel_comes_column_by_column(board: str, warehouse: Evening) -> None:
    answer = httpx.get(f"{board}/api/panel/quality_of_experience/startup_time", params=last(15)).json()
    assert answer["columns"] == ["t", "p50", "p95", "p95_expected", "p95_z"]
    assert answer["step_s"] == 10
    assert answer["rows"] == len(answer["values"][0]) > 10


@pytest.mark.parametrize(
    ("path", "params", "status", "words"),
    [
        ("quality_of_experience/plays", {}, 400, "`from` is missing"),
        ("quality_of_experience/plays", {"from": "yesterday", "to": 1}, 400, "milliseconds since 1970"),
        ("quality_of_experience/plays", {"from": 10**20, "to": 1}, 400, "milliseconds since 1970"),
        ("quality_of_experience/plays", {"from": 2, "to": 1}, 400, "`from` is before `to`"),
        ("quality_of_experience/plays", {"from": 0, "to": 10**12}, 400, "31 days"),
        ("quality_of_experience/plays", {**last(5), "title": "x" * 201}, 400, "200 characters"),
        ("quality_of_experience/nonsense", last(5), 404, "there is no panel"),
        ("session/quality", last(5), 503, "needs sid"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(board: str, path: str, params: dict[str, Any], status: int, words: str) -> None:
    answer = httpx.get(f"{board}/api/panel/{path}", params=params)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_live_sends_each_panel_once_then_only_what_changed(board: str, warehouse: Evening) -> None:
    seen: list[str] = []
    ticks = 0
    with httpx.stream("GET", f"{board}/api/live/pipeline", params={"span_s": 3600}, timeout=30) as answer:
        for line in answer.iter_lines():
            if line == "event: tick":
                ticks += 1
                if ticks == 3:
                    break
            elif line.startswith("data: ") and ticks < 3 and "columns" in line:
                seen.append(json.loads(line.removeprefix("data: "))["name"])
    assert {"events_per_second", "dead_letters", "routes"} <= set(seen)
    assert seen.count("routes") == 1, "a panel whose rows stay the same is sent once"


def test_a_session_in_all_its_parts(board: str, warehouse: Evening) -> None:
    row = next(r for r in warehouse.rows["playback.qoe_session"] if r["in_play_failure"])
    parts = httpx.get(f"{board}/api/session/{row['sid']}").json()["parts"]
    assert list(parts) == ["quality", "states", "segments", "errors", "requests", "served"]
    states = dict(zip(parts["states"]["columns"], parts["states"]["values"], strict=True))
    assert states["state"][0] == "s"
    assert states["state"][-1] == "f"
    quality = dict(zip(parts["quality"]["columns"], parts["quality"]["values"], strict=True))
    assert quality["playing_ms"] == [row["playing_ms"]]
    assert httpx.get(f"{board}/api/session/nobody").json()["parts"]["states"]["rows"] == 0


def test_status_says_what_is_silent(board: str) -> None:
    answer = httpx.get(f"{board}/api/status").json()
    assert "no supervisor" in answer["supervisor"]["error"]
    assert "does not answer" in answer["loader"]["error"]


def test_who_plays_now_by_the_workers_word(board: str, worker: Worker) -> None:
    worker.sessions = [{"sid": "a", "sta": "p", "cid": "bbb"}]
    assert httpx.get(f"{board}/api/playing").json() == {"playing": 1, "sessions": worker.sessions}
    worker.sessions = None
    assert httpx.get(f"{board}/api/playing").json() == {"error": "being rebuilt"}


def test_a_worker_that_is_away_is_said_in_words(board: str) -> None:
    assert "live-sessions worker does not answer" in httpx.get(f"{board}/api/playing").json()["error"]


@pytest.mark.parametrize("path", ["static/..%2fapp.py", "static/app.py", "vendor/uplot", "vendor/..%2f..%2fapp.py", "api/nonsense"])
def test_only_listed_files_are_served(board: str, path: str) -> None:
    assert httpx.get(f"{board}/{path}").status_code == 404


def test_pages_may_load_our_scripts_only(board: str) -> None:
    answer = httpx.get(board)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


def test_another_site_cannot_take_the_tour(board: str) -> None:
    for headers in ({}, {"Origin": "http://example.org"}):
        assert httpx.post(f"{board}/api/tour/loader", headers=headers).status_code == 403
    answer = httpx.post(f"{board}/api/tour/nonsense", headers={"Origin": board})
    assert answer.status_code == 404
    assert "play, throttle, loader, schema, replay" in answer.json()["error"]


def test_a_step_that_cannot_come_true_says_so(board: str) -> None:
    lines = httpx.post(f"{board}/api/tour/loader", headers={"Origin": board}).text.splitlines()
    assert json.loads(lines[-1])["state"] == "failed"
    assert "headrace up" in json.loads(lines[-1])["words"]


def test_the_catalogue_tells_all_topics_and_everything_of_one(board: str) -> None:
    listed = httpx.get(f"{board}/api/catalogue").json()["topics"]
    assert [topic["topic"] for topic in listed] == sorted(catalogue().topics)
    card = httpx.get(f"{board}/api/catalogue/playback.report").json()
    assert (card["owner"], card["compatibility"], card["door"]) == ("playback", "FULL_TRANSITIVE", "playback.report.in")
    assert ["topic playback.report", "job streams.playback.qoe_sessions"] in card["lineage"]["edges"]
    assert "does not answer" in card["versions"]["error"]
    answer = httpx.get(f"{board}/api/catalogue/playback.reprot")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no topic playback.reprot"})

"""`headrace abr explain` against a real warehouse: sessions of the real player, drawn, as JSON, or refused in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from typer.testing import CliRunner

from infra.base import warehouse as clients
from infra.base.ports import free_port
from infra.base.settings import environment
from infra.cli import app
from infra.cli.abr_explain import bar, strip
from infra.cli.words import Refusal
from producers.abr.explain import Segment
from producers.abr.prior import Prior
from schemas.catalogue import catalogue
from schemas.cmcd import Report
from sinks import migrate
from tests.board.conftest import now_ms, running
from tests.board.rows import Evening
from tests.producers.abr.told import session

HOUR_MS = 3_600_000


@pytest.fixture(scope="module", autouse=True)
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running warehouse with sessions: ours, of which a report was sent twice, and BOLA's; one that told nothing of its grounds, one that
    is too short, one whose bitrates are not its ladder's.
    """
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        "HEADRACE_STATE_DIR": str(tmp_path_factory.mktemp("warehouse")), "HEADRACE_WAREHOUSE__DSN": url,
        "HEADRACE_WAREHOUSE__LOADER_PASSWORD": "rows",
    }  # fmt: skip
    with environment(env), running("sinks.warehouse", f"{url}/healthz"):
        migrate.migrate(clients.writer("default"), catalogue().landed(), migrate.objects())
        ours, bola, untold, short, strange = (
            session(sid, segments, prior=prior, abr=abr, epoch_ms=now_ms() - HOUR_MS)[0]
            for sid, segments, prior, abr in (
                ("ours", 24, Prior(8.0, 0.5, 2.0), "policy"), ("bola", 24, None, "bola"), ("untold", 24, None, "policy"),
                ("short", 5, None, "policy"), ("strange", 24, None, "policy"),
            )
        )  # fmt: skip
        for report in strange:
            if report.fields["e"] == "rr" and report.fields["ot"] == "v":
                report.fields["br_kbps"] += 1
        _insert([*ours, ours[30], *bola, *(report for report in untold if report.fields["e"] != "ps"), *short, *strange])
        yield


def _insert(reports: Sequence[Report]) -> None:
    """Into the landing table."""
    told = Evening()
    for report in reports:
        told.add("playback.report", report.event_time_ms, event_id=report.event_id, **report.fields)
    told.go_on(clients.writer(), now_ms())


def headrace(*words: str) -> tuple[int, str]:
    """Exit code and what it printed, or the refusal."""
    told = CliRunner().invoke(app, ["abr", "explain", *words])
    assert told.exception is None or isinstance(told.exception, Refusal), told.exception
    return told.exit_code, str(told.exception) if told.exception else told.stdout


def test_a_session_is_drawn_segment_by_segment() -> None:
    code, text = headrace("ours")
    lines = text.splitlines()
    assert code == 0
    assert lines[0] == "session ours of t: 24 segments on 300, 1000, 2500 kbit/s, chosen by headrace"
    assert "expected 8.00 ± 0.50 ln(kbit/s) at the begin" in lines[3]
    drawn = [line for line in lines if "●" in line and "expected in" not in line]
    assert len(drawn) == 24
    assert all("░" in line for line in drawn)
    assert max(len(line) for line in drawn) <= 80
    assert drawn[0].split()[0] == "0:00"
    assert {line.split()[1] for line in drawn} <= {"300", "1000", "2500"}
    assert any("█" in line for line in drawn)


def test_machines_get_the_same_as_json() -> None:
    ours, bola = (json.loads(headrace(name, "--json")[1]) for name in ("ours", "bola"))
    assert (ours["sid"], ours["abr"], ours["ladder_kbps"], len(ours["segments"])) == ("ours", "headrace", [300, 1000, 2500], 24)
    assert ours["prior"] == {"mean_log_kbps": 8.0, "sd_log_kbps": 0.5, "weight": 2.0}
    assert (bola["abr"], bola["prior"]) == ("bola", None)
    for found in (ours, bola):
        assert found["regret"] == pytest.approx(found["plan_reward"] - found["reward"])
        assert found["regret"] >= 0
    assert [segment["level"] for segment in ours["segments"]] != [segment["level"] for segment in bola["segments"]]


def test_where_nothing_was_told_the_ladder_is_what_the_title_was_fetched_in() -> None:
    found = json.loads(headrace("untold", "--json")[1])
    assert set(found["ladder_kbps"]) >= {300, 1000, 2500}


@pytest.mark.parametrize(
    ("sid", "words"),
    [
        ("nobody", "no session nobody is in the warehouse: `headrace query"),
        ("short", "session short cannot be explained: 5 segments of video are told of; 8 that say"),
        ("strange", "session strange cannot be explained: a session of another ladder: it fetched"),
        ("'; DROP TABLE playback_report --", "no session '; DROP"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_words(sid: str, words: str) -> None:
    code, text = headrace(sid)
    assert code == 1
    assert text.startswith(words)


def test_without_a_warehouse_it_says_so() -> None:
    with environment({"HEADRACE_WAREHOUSE__DSN": f"http://127.0.0.1:{free_port()}"}):
        code, text = headrace("ours")
    assert code == 1
    assert text.startswith("The warehouse at http://127.0.0.1:")


def test_a_strip_has_everything_in_its_place() -> None:
    def drawn(kbps: float, *expected: float) -> str:
        few = (expected[0], expected[1], expected[2])
        return strip(Segment(0.0, 0, 0.0, 1, 1.0, kbps, few, 0, "plan", 0, 0.0, 0.0), 100.0, 10_000.0, 21)

    assert drawn(1_000.0, 0.0, 0.0, 0.0) == " " * 10 + "●" + " " * 10
    assert drawn(100.0, 1.0, 1_000.0, 1e6) == "●" + "░" * 9 + "│" + "░" * 10
    assert [bar(share) for share in (0.0, 1 / 64, 1 / 8, 3 / 16, 1.0)] == ["", "▏", "█", "█▌", "████████"]

"""A new version of a job: it goes on from the state of the running one, or is refused before anything is stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.base.settings import Settings
from streams.cluster import Cluster
from streams.environment import jobs
from streams.playback import qoe
from tests.kit import eventually
from tests.playback.cases import CASES, events, reports
from tests.world import World, copy_of_tree, world

PLAYED = next(case for case in CASES if case["case"] == "one rebuffering")
HALF = 3
KEEPS_OTHER_STATE = """
SET 'table.exec.mini-batch.enabled' = 'false';

INSERT INTO `playback.report_late`
SELECT ${playback.report}
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY PROCTIME()) AS nth FROM `playback.report` WHERE NOT marker)
WHERE nth = 1;
"""


@pytest.fixture
def there(stack: Settings, tmp_path: Path) -> Iterator[World]:
    """A namespace whose jobs come from a copy of this tree, so that a test can change them."""
    with world("upgrade", copy_of_tree(tmp_path)) as there:
        yield there


def running() -> tuple[str, str]:
    """(job id, state) of qoe_sessions."""
    job = Cluster().jobs()[jobs()["qoe_sessions"].flink_name]
    return job.job_id, job.state


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_a_new_version_goes_on_from_the_state_or_is_refused(there: World) -> None:
    expected = qoe.session(map(qoe.Report.of, reports(PLAYED)))
    assert expected is not None
    file = there.tree / "streams" / "playback" / "qoe_sessions.sql"
    first = file.read_text()
    there.headrace("jobs", "deploy", "qoe_sessions")
    there.put("playback.report", events(PLAYED, "half")[:HALF])
    there.put("playback.report", events(PLAYED, "whole"))
    eventually(lambda: {row["sid"] for row in there.found("playback.qoe_session")} == {"whole"}, within=60)

    # Another projection keeps the state: of the session that was under way one whole row comes, and nothing is read again.
    file.write_text(first.replace("'qoe_sessions', 0,", "'second version', 0,"))
    assert file.read_text() != first
    there.headrace("jobs", "upgrade", "qoe_sessions")
    there.put("playback.report", events(PLAYED, "half")[HALF:])
    whole = ("half", expected["reports"])
    eventually(lambda: whole in {(row["sid"], row["reports"]) for row in there.found("playback.qoe_session")}, within=60)
    rows = there.found("playback.qoe_session")
    (half,) = (row for row in rows if (row["sid"], row["reports"]) == whole)
    assert (half["producer_id"], half["rebuffer_ms"], half["playing_ms"]) == (
        "second version", expected["rebuffer_ms"], expected["playing_ms"],
    )  # fmt: skip
    assert [row["producer_id"] for row in rows if row["sid"] == "whole"] == ["qoe_sessions"]

    # What keeps something else cannot take the state over: it is said so, and the running version goes on.
    file.write_text(KEEPS_OTHER_STATE)
    before = running()
    refused = there.run("headrace", "jobs", "upgrade", "qoe_sessions")
    assert refused.returncode != 0
    assert "cannot take over the state of the running one" in refused.stderr
    assert "--lose-state" in refused.stderr
    assert running() == before

    # Unless that is wanted: then it begins at the beginning of its topics.
    late = Counter(event["event_id"] for event in there.found("playback.report_late"))
    there.headrace("jobs", "upgrade", "qoe_sessions", "--lose-state")
    again = {event["event_id"]: late[event["event_id"]] + 1 for sid in ("half", "whole") for event in events(PLAYED, sid)}
    eventually(lambda: Counter(event["event_id"] for event in there.found("playback.report_late")) == again, within=60)

"""Jobs on a Flink cluster that `headrace up` did not start: deployed, upgraded from a savepoint, and going on when a TaskManager dies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.base.settings import Settings
from streams.cluster import Cluster
from streams.deploy import Ledger
from streams.environment import jobs
from streams.playback import qoe
from tests.kit import eventually
from tests.playback.cases import CASES, events, reports
from tests.streams.foreign_cluster import foreign_cluster
from tests.world import World, world

PLAYED = next(case for case in CASES if case["case"] == "one rebuffering")
HALF = 3


def play(world: World, sids: list[str], part: slice) -> None:
    """Put `part` of the reports of each of these sessions on the topic."""
    world.put("playback.report", [event for sid in sids for event in events(PLAYED, sid)[part]])


def rows(world: World) -> dict[str, int]:
    """How often each session's whole row has been committed. A row that is there twice, or is less than it should be, fails here."""
    found = world.found("playback.qoe_session")
    assert all(count == 1 for count in Counter(row["event_id"] for row in found).values()), "a row was written twice"
    expected = qoe.session(map(qoe.Report.of, reports(PLAYED)))
    assert expected is not None
    whole = [row for row in found if row["reports"] == expected["reports"]]
    for row in whole:
        assert (row["rebuffer_ms"], row["playing_ms"]) == (expected["rebuffer_ms"], expected["playing_ms"])
    return Counter(row["sid"] for row in whole)


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_jobs_deploy_upgrade_and_recover_on_a_cluster_with_two_taskmanagers(stack: Settings, tmp_path: Path) -> None:
    sids = [f"s-{n}" for n in range(80)]
    early, halves, later, last = (sids[n::4] for n in range(4))
    with foreign_cluster(tmp_path, "tm-one", "tm-two") as cluster, world("foreign", **cluster.settings) as there:
        names = {name: jobs()[name].flink_name for name in ("qoe_sessions", "session_states")}

        def job_ids() -> dict[str, str]:
            return {name: job.job_id for name, job in Cluster().alive().items()}

        there.headrace("jobs", "deploy", *names)
        deployed = job_ids()
        assert deployed.keys() == set(names.values())
        play(there, early, slice(None))
        play(there, halves, slice(HALF))
        eventually(lambda: rows(there).keys() == set(early), within=60)

        there.headrace("jobs", "upgrade", *names)
        upgraded = job_ids()
        assert upgraded.keys() == deployed.keys()
        assert not set(upgraded.values()) & set(deployed.values())
        for name, job_id in upgraded.items():
            restored = cluster.get(f"/jobs/{job_id}/checkpoints")["latest"]["restored"]
            assert restored["is_savepoint"], f"{name} began from nothing"
            assert str(tmp_path / "savepoints") in restored["external_path"]
        play(there, halves, slice(HALF, None))
        eventually(lambda: rows(there).keys() == {*early, *halves}, within=60)

        main = upgraded[names["qoe_sessions"]]
        assert cluster.at_work(main) == {"tm-one", "tm-two"}
        play(there, later, slice(None))
        play(there, last, slice(HALF))
        cluster.kill("tm-one")
        play(there, last, slice(HALF, None))
        eventually(lambda: cluster.at_work(main) == {"tm-two"}, within=90)
        eventually(lambda: rows(there).keys() == set(sids), within=60)
        assert job_ids() == upgraded

        states = {state["sid"] for state in there.found("playback.session_state")}
        assert states == set(sids)
        there.headrace("jobs", "stop", *names)
        assert job_ids() == {}
        assert rows(there).keys() == set(sids)
        assert all(Path(Ledger().get(name).savepoint.removeprefix("file:")).exists() for name in names.values())

"""Features on the real stack: from events to the online table."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import pytest

from infra.base import warehouse
from infra.base.ports import free_port
from infra.base.registry import RegistryClient
from infra.base.settings import Settings, environment
from infra.stack.local import LocalStack
from producers.ratings import interactions
from schemas.catalogue import catalogue
from sinks import migrate
from streams.folded import followed
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.online import Definitions, Online
from tests.kit import eventually, kill, vectors
from tests.recommendations.made import FROM_MS, TOPIC, events, text
from tests.sinks.loading import LETTERS, loading
from tests.world import World, copy_of_tree, world

DAYS = timedelta(days=30)
Log = list[tuple[dict[str, Any], int]]


@pytest.fixture(scope="module")
def there(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A namespace in which features are kept, those of a copy of this tree, so that a test can add one."""
    with world("features", copy_of_tree(tmp_path_factory.mktemp("tree"))) as there:
        there.headrace("feature", "deploy")
        yield there


@pytest.fixture(scope="module")
def online(there: World) -> Iterator[Online]:
    """A process's table."""
    table = Online()
    with followed([table, Definitions(table)], RegistryClient().schema):
        yield table


def log(seed: int, many: int) -> Log:
    """What members did, as it arrives; some of it twice."""
    envelope = {"producer_id": "test", "epoch": 0, "seq": 0}
    told = [({**envelope, **event, "event_id": f"{seed}-{event['event_id']}"}, arrived) for event, arrived in events(seed, many, "7d", 20)]
    return sorted([*told, *((event, arrived + 1_000) for event, arrived in told[::10])], key=lambda one: one[1])


class Rows:
    """What has been sent, and every key's row as an engine has it."""

    def __init__(self) -> None:
        self.told: Log = []

    def send(self, there: World, told: Log) -> None:
        self.told += told
        there.arrive(TOPIC, ((arrived, event) for event, arrived in told))

    def wrong(self, online: Online) -> list[tuple[str, str]]:
        """Keys whose row in the table is another than the engine's of the table's plan."""
        table = online.table
        engine = Engine(table.plan)
        for event, arrived_ms in self.told:
            engine.take(TOPIC, event, arrived_ms)
        rows = {(group, key): row.pack() for group, of in engine.rows.items() for key, row in of.items()}
        assert len(rows) > 100
        assert online.refused == 0
        return [(group, key) for (group, key), row in rows.items() if table.packed(group, key) != row] + [("", "")] * (
            len(table) != len(rows)
        )


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows()


def plays(online: Online) -> int:
    """Of all members together."""
    value = online.table.lookup(["member_plays_30d"], {"member": [f"m-{n}" for n in range(20)]}, FROM_MS)["member_plays_30d"]
    return int(value.of.sum())


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_rows_of_the_stream_are_the_engines(there: World, online: Online, rows: Rows) -> None:
    rows.send(there, log(3, 1_000))
    eventually(lambda: not rows.wrong(online), within=60, every=1)


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_they_are_after_a_kill_in_the_middle_and_no_value_goes_back(stack: Settings, there: World, online: Online, rows: Rows) -> None:
    told = log(4, 1_000)
    rows.send(there, told[:500])
    before = plays(online)
    kill(LocalStack(stack.state_dir), "taskmanager")
    rows.send(there, told[500:])
    seen = [before]

    def are_right() -> bool:
        seen.append(plays(online))
        return not rows.wrong(online)

    eventually(are_right, within=120, every=0.5)
    assert seen == sorted(seen)


@contextmanager
def running(module: str, *arguments: str) -> Iterator[None]:
    """A process of ours, until the end."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stderr=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, f"{module} has ended"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_a_new_feature_is_a_file_and_a_command(there: World, online: Online, rows: Rows) -> None:
    """It appears in the table, in a service that runs and in ClickHouse, with the values that it would have had from the beginning."""
    (there.tree / "schemas" / "recommendations" / "features" / "title_genre_skips.yaml").write_text(
        text("title_genre_skips", key=["title", "genre"], filter={"kind": "skip"}, windows=["7d"])
    )
    refused = there.run("headrace", "jobs", "upgrade", "features")
    assert refused.returncode != 0
    assert "`headrace feature deploy`" in refused.stderr
    before = plays(online)
    home = f"http://127.0.0.1:{free_port()}"
    stored = [catalogue().topic(f"recommendations.feature_{name}") for name in ("definition", "served")]
    migrate.migrate(warehouse.writer("default"), [*stored, LETTERS], [])
    with environment({"HEADRACE_EDGE__FEATURES_TOLD_SHARE": "1"}), running("edge.home", "--url", home), loading([*stored, LETTERS]):
        assert "new: title_genre_skips" in there.headrace("feature", "deploy")
        assert plays(online) >= before
        eventually(lambda: "title_genre_skips_7d" in online.table.plan.values and not rows.wrong(online), within=60, every=1)
        rows.send(there, log(5, 300))
        eventually(lambda: not rows.wrong(online), within=60, every=1)

        name, at_ms, keys = "title_genre_skips_7d", FROM_MS, online.table.keys("title.genre")
        title, genre = max(keys, key=lambda key: online.table.head("title.genre", key)[1]).split(BETWEEN)
        value = int(online.table.lookup([name], {"title": title, "genre": genre}, at_ms)[name].of[0])
        assert value > 0
        asked = {"features": name, "title": title, "genre": genre}

        def served(**when: int) -> int:
            found = httpx.get(f"{home}/features", params={**asked, **when}).raise_for_status().json()
            return int(found["values"][name])

        eventually(lambda: served(at_ms=at_ms) == value, within=60)
        assert served() == 0  # by now
        told = f"SELECT DISTINCT `values`['{name}'] FROM recommendations_feature_served WHERE mapContains(`values`, '{name}')"
        eventually(lambda: warehouse.reader().query(told).result_rows == [("0",)], within=60, every=1)
        documents = "SELECT count() FROM recommendations_feature_definition WHERE name = 'title_genre_skips'"
        eventually(lambda: warehouse.reader().query(documents).result_rows == [(1,)], within=60, every=1)
    assert "none of them is new" in there.headrace("feature", "deploy")


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_top_titles_of_months_long_past_are_those_of_a_batch(there: World, online: Online) -> None:
    """MovieLens' ratings as plays, at their own times; the last of the module, because its events are not those of `rows`."""
    ends = [datetime(2016, month, 1, tzinfo=UTC) for month in range(5, 12)]
    told = [one for one in interactions(vectors("recs")) if one.at_ms >= round(1_000 * (ends[0] - 2 * DAYS).timestamp())]
    envelope, n = {"producer_id": "ratings", "epoch": 0, "seq": 0}, 0
    for end in ends:
        ended_ms, first = round(1_000 * end.timestamp()) - 1, n
        while n < len(told) and told[n].at_ms < ended_ms:
            n += 1
        there.arrive(
            TOPIC,
            ((one.at_ms, {**envelope, **one.record, "event_id": one.event_id, "event_time": one.at_ms}) for one in told[first:n]),
        )
        begun = (end - timedelta(milliseconds=1) - DAYS).replace(hour=0, minute=0, second=0, microsecond=0)
        begun_ms = round(1_000 * begun.timestamp())
        often = Counter(one.record["cid"] for one in told[:n] if one.record["kind"] == "play" and one.at_ms >= begun_ms)
        best = sorted(often.items(), key=lambda one: (-one[1], one[0]))[:10]
        assert len(best) == 10

        def top(ended_ms: int = ended_ms) -> list[tuple[str, float]]:
            return [one for one in online.table.ranked("title_plays_30d", 1_000, ended_ms) if one[0].isdigit()][:10]

        eventually(lambda best=best, top=top: top() == best, within=60)

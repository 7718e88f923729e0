"""A simulated audience's interactions: what is drawn, and that it goes out as the contract wants."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from producers.emit import Emitter
from producers.simulator.interactions import DONE, NONE, STEP_MS, TOPIC, Audience, Columns, Doings, Sender, load, sent
from producers.simulator.outputs import ArrivalClock
from producers.simulator.world import BadWorld
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from schemas.columnar import ColumnEncoder
from schemas.recommendations.definition import MOST_A_DAY
from streams.recommendations.engine import Engine
from streams.recommendations.plan import plan
from tests.broker import FakeRegistry, MockCluster, records
from tests.recommendations.made import feature

FROM_MS = 1_772_323_200_000


def drawn(audience: Audience, seconds: int = 10, per_second: int = 1_010) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    doings = Doings(audience, 1, FROM_MS, per_second)
    return np.concatenate([doings.step(number) for number in range(1_000 * seconds // STEP_MS)])


def test_as_many_as_asked_for_in_order_and_the_same_again() -> None:
    rows = drawn(Audience())
    assert rows.dtype == DONE
    assert rows["number"].tolist() == list(range(10_100))
    assert (np.diff(rows["at_ms"]) >= 0).all()
    assert rows["at_ms"].min() >= FROM_MS
    assert rows["at_ms"].max() < FROM_MS + 10_000
    assert (rows["event_time"] == rows["at_ms"]).all()
    assert (rows == drawn(Audience())).all()


def test_titles_follow_zipfs_law_and_only_plays_have_been_watched() -> None:
    audience = Audience(titles=100)
    rows = drawn(audience)
    first, tenth = (np.mean(rows["title"] == n) for n in (0, 9))
    assert 8 < first / tenth < 12.5
    of_play = [list(audience.kinds).index(kind) for kind in ("completion", "skip")]
    assert (np.isin(rows["kind"], of_play) == (rows["watched_ms"] != NONE)).all()
    assert ((rows["kind"] == list(audience.kinds).index("rating")) == (rows["rating_halves"] != NONE)).all()


def test_bots_do_their_share_and_clocks_are_wrong_by_the_same_for_ever() -> None:
    rows = drawn(Audience(bots=2, bot_share=0.4, wrong_clocks=0.3, wrong_by_ms=60_000))
    assert 0.36 < np.mean(rows["member"] < 2) < 0.44
    wrong = rows["event_time"] - rows["at_ms"]
    assert 0 < np.abs(wrong).max() <= 60_000
    by_member: dict[int, set[int]] = {}
    for member, off in zip(rows["member"].tolist(), wrong.tolist(), strict=True):
        by_member.setdefault(member, set()).add(off)
    assert all(len(offs) == 1 for offs in by_member.values())


def test_some_come_twice_and_some_late() -> None:
    rows = drawn(Audience(duplicates=0.1, late=0.2, late_by_ms=3_600_000))
    times = Counter(rows["number"].tolist())
    assert 0.08 < sum(many == 2 for many in times.values()) / len(times) < 0.12
    late_ms = rows["at_ms"] - rows["event_time"]
    assert 0.18 < np.mean(late_ms > STEP_MS) < 0.22
    assert late_ms.max() <= 3_600_000 + STEP_MS


def test_they_go_out_under_their_members_with_markers(cluster: MockCluster, registry: FakeRegistry) -> None:
    clock = ArrivalClock(FROM_MS)
    audience = Audience(members=20, titles=30)
    with Emitter("audience", registry=registry, clock=clock) as emitter:
        doings = Doings(audience, 1, FROM_MS, 100)
        assert sum(sent(Sender(emitter, audience, 1), doings, FROM_MS, 2)) == 200
        assert emitter.flush() == 0
    done = records(cluster, registry, TOPIC, 200)
    assert len({one["event_id"] for one in done}) == 200
    assert {(one["region"], one["device_type"]) for one in done if one["member_id"] == done[0]["member_id"]} == {
        (done[0]["region"], done[0]["device_type"])
    }
    assert all(1 <= len(one["genres"]) <= 3 for one in done)
    assert all(len(one["previous_cids"]) == (one["kind"] in ("play", "rewatch")) for one in done)
    messages = cluster.messages(TOPIC, 208)
    assert {message.key().decode() for message in messages if message.key()} == {one["member_id"] for one in done}
    assert {message.timestamp()[1] for message in messages if not message.key()} == {FROM_MS + 1_000, FROM_MS + 2_000}


def counted(audience: Audience, rows: np.ndarray[tuple[int], np.dtype[np.void]]) -> Counter[str]:
    """What becomes of them at the door of features."""
    event = catalogue().topic(TOPIC).event
    columns, decode = Columns(audience, 1), Decoder(lambda _: event.schema, event)
    seqs = {"seq": np.arange(len(rows))}
    framed = ColumnEncoder(event, 1)(len(rows), columns(rows) | seqs, {"producer_id": "audience", "epoch": 1})
    engine = Engine(plan([feature("plays", filter={"kind": "play"})]))
    for body, arrived_ms in zip(framed, rows["at_ms"].tolist(), strict=True):
        engine.take(TOPIC, decode(body), arrived_ms)
    return engine.counts


def test_features_cap_what_never_sleeps_and_count_repeats_and_clocks_that_are_ahead() -> None:
    bots = Audience(members=500, bots=1, bot_share=0.6)
    rows = drawn(bots, 10, 2_500)
    beyond = int((rows["member"] == 0).sum()) - MOST_A_DAY
    assert beyond > 4_000
    assert counted(bots, rows) == {"taken": len(rows) - beyond, "beyond_most": beyond}
    wrong = Audience(members=500, duplicates=0.1, wrong_clocks=0.5, wrong_by_ms=86_400_000)
    rows = drawn(wrong, 5, 1_000)
    twice, ahead = len(rows) - len(set(rows["number"].tolist())), int((rows["event_time"] > rows["at_ms"]).sum())
    assert twice > 300
    assert ahead > 1_000
    assert counted(wrong, rows) == {"taken": len(rows) - twice, "twice": twice, "ahead": ahead}


def test_an_audience_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"members": 0}')
    with pytest.raises(BadWorld, match=r"a\.json: members: Input should be greater than 0"):
        load(tmp_path / "a.json")
    with pytest.raises(BadWorld, match="kinds: sleep: none of click"):
        Doings(Audience(kinds={"sleep": 1.0}), 1, FROM_MS, 10)

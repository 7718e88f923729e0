"""The consistency watch: what the log allows agrees, whatever was still on its way; what was lost, doubled or made up differs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random

import pytest

from edge import skew
from edge.skew import Served, Stored, Verdict, _left_out, judge, totals
from infra.bench.lagging import Lagging
from streams.recommendations.plan import plan
from tests.recommendations.made import TOPIC, events, every, feature

PLAN = plan([*every("1h"), *(replaced for name in ("count", "decayed") for replaced in [feature(
    f"t_{name}", key=["title"], aggregation=name, windows=["1d"], **({"half_life": "5h"} if name == "decayed" else {})
)])])  # fmt: skip


def run(seed: int, many: int = 400, spoil: dict[int, int] | None = None) -> tuple[Lagging, list[Served]]:
    """Events of a few members and titles, and what was served between them. `spoil`: what the job does to an event, by its number."""
    it, served = Lagging(PLAN, TOPIC, Random(seed)), []
    for n, (event, arrived) in enumerate(events(seed, many, "1h", members=6)):
        it.hear(arrived)
        it.take(event, arrived, (spoil or {}).get(n, 1))
        if n % 4 == 0:
            at_ms = arrived + it.random.randrange(800)
            served += [*it.served(at_ms, 2), *it.served(at_ms, 1, recent=True)]
    return it, served


def verdicts(it: Lagging, served: list[Served], whole: bool = True) -> list[Verdict]:
    since = None if whole else 0
    return [judge(PLAN, one, it.log.get((one.group, one.entity), ()), since) for one in served]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_the_log_allows_agrees(seed: int, whole: bool) -> None:
    it, served = run(seed)
    found = verdicts(it, served, whole)
    assert sum(len(one.differ) for one in found) == 0
    assert sum(one.undecided for one in found) <= (0 if whole else 0.02 * sum(len(one.values) for one in served))
    behind = [one for one in found if one.arrived != one.served.taken]
    assert len(behind) > 30, "rows were served while events were on their way"


@pytest.mark.parametrize("keep", [0, 2])
def test_an_event_that_was_lost_or_doubled_is_found(keep: int) -> None:
    """It is in every later value that could tell: of the member and the title whose event it was."""
    it, served = run(5, spoil={150: keep})
    (event, arrived) = events(5, 400, "1h", members=6)[150]
    found = [one for one in verdicts(it, served) if one.differ]
    assert {one.served.entity for one in found} <= {event["member_id"], event["cid"]}
    assert all(one.served.at_ms >= arrived for one in found)
    assert len(found) >= 3


@pytest.mark.parametrize("name", ["a_count_1h", "a_last_1h", "t_decayed_1d"])
def test_a_value_that_was_made_up_is_found(name: str) -> None:
    it, served = run(6)
    spoilt = [replace(one, values={**one.values, name: "7777"}) for one in served if name in one.values]
    found = verdicts(it, spoilt)
    assert all(len(one.differ) == 1 and one.differ[0][:2] == (name, "7777") for one in found if one.arrived == one.served.taken)
    assert totals(found)[spoilt[0].group]["skewed"] >= len(found)


def test_what_cannot_be_said_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    it, served = run(7)
    one = next(one for one in served if one.group == "member" and one.taken > 20)
    log = it.log["member", one.entity]
    assert judge(PLAN, replace(one, layout="beef"), log).undecided == len(one.values)
    assert judge(PLAN, one, log, since_ms=one.at_ms - 1000).undecided == len(one.values)
    ahead = judge(PLAN, one, log[:10], until_ms=one.at_ms - 1)
    assert (ahead.undecided, ahead.differ) == (len(one.values), ())
    assert judge(PLAN, one, log[:10], until_ms=one.at_ms + skew.ORDERED_MS).differ
    wrong = replace(one, values=dict.fromkeys(one.values, "7777"), taken=len(log) - 1)
    assert judge(PLAN, wrong, log, until_ms=one.at_ms - 1).undecided == len(one.values), "the one that it heard of may be another"
    monkeypatch.setattr(skew, "MOST_SETS", 0)
    assert judge(PLAN, one, log).undecided == len(one.values)


def test_a_row_that_nothing_was_heard_of() -> None:
    one = Served("title", "t", PLAN.layouts["title"].id, 10**12, 0, 0, {"t_count_1d": "0", "t_decayed_1d": "null"})
    assert judge(PLAN, one, ()).agree == 2
    event = Stored(TOPIC, 0, {"cid": "t", "member_id": "m", "kind": "play"}, 10**12 - 5_000, 10**12 - 5_000)
    assert judge(PLAN, one, [event]).agree == 2, "it had not heard of it yet"
    assert judge(PLAN, replace(one, values={"t_count_1d": "5"}), [event]).differ == (("t_count_1d", "5", "1"),)


@pytest.mark.parametrize(("tails", "missing"), [([], 0), ([2], 1), ([2, 3, 1], 3), ([2, 3, 1], 7), ([2, 2], -1), ([], 1)])
def test_what_may_be_left_out(tails: list[int], missing: int) -> None:
    every_way = list(product(*(range(n + 1) for n in tails)))
    assert sorted(_left_out(tails, missing)) == sorted(one for one in every_way if sum(one) == missing)
    assert sorted(_left_out(tails, None)) == sorted(every_way)

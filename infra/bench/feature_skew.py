"""Is what is served of features what the log says? A hundred thousand served values, computed again by the consistency watch.

The features of this installation over thirty days of events in four partitions that are read each at its own pace, so that rows are served
while more is on its way. Then the same with faults, so that a zero says something: an event in a thousand lost or counted twice, and how
many of those faults the watch finds among what was served of the same keys since. Beside it the leak test, in which everything that
arrived after a time is dealt out anew and no training row from before it may change, and a backfill, partition after partition, whose rows
must be those of the stream byte for byte.
"""

from __future__ import annotations

import random
from typing import Any

from edge.skew import Served, judge
from infra.bench.features import NOW_MS, TITLES, TOPIC, events
from infra.bench.harness import Figure, Options, say
from infra.bench.lagging import PARTITIONS, Lagging
from schemas.recommendations.definition import DAY_MS, features
from streams.recommendations.engine import Engine
from streams.recommendations.plan import Plan, plan
from streams.recommendations.training import Arrived, Asked, known

FIGURES = {
    "skewed_values": Figure("values", 0, 0, higher=False),
    "compared_values": Figure("values", 100_000, 100_000),
    "undecided_values": Figure("values"),
    "rows_served_behind": Figure("rows"),
    "faults_found": Figure("of those that can show", 1, 0.95),
    "leaked_rows": Figure("training rows", 0, 0, higher=False),
    "backfilled_rows_that_differ": Figure("rows", 0, 0, higher=False),
}
EVENTS, VALUES, QUERIES, MEMBERS = 20_000, 100_000, 2_000, 200
FROM_SHARE = 0.3
"""What is served before so much of the log has passed is little."""


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run; what is random comes from the seed."""
    return [_once(random.Random(options.seed + index), options.events or EVENTS) for index in range(options.runs)]


def _once(dice: random.Random, many: int) -> dict[str, float]:
    made, told = plan(features()), log(dice, many)
    sound, served = _run(made, told, dice, VALUES)
    skewed = compared = undecided = behind = 0
    for one in served:
        verdict = judge(made, one, sound.log.get((one.group, one.entity), ()))
        skewed, compared = skewed + len(verdict.differ), compared + verdict.agree + len(verdict.differ)
        undecided, behind = undecided + verdict.undecided, behind + (verdict.arrived != one.taken)
    say(f"{compared:,} values compared, {skewed} skewed, {undecided} undecided; {behind:,} of {len(served):,} rows had more on its way")
    found = {
        "skewed_values": skewed,
        "compared_values": compared,
        "undecided_values": undecided,
        "rows_served_behind": behind,
        "faults_found": _faults(made, told, dice),
        "leaked_rows": _leaked(made, told, dice),
        "backfilled_rows_that_differ": _backfilled(made, told),
    }
    say(", ".join(f"{name} {value:g}" for name, value in found.items()))
    return found


def log(dice: random.Random, many: int) -> list[tuple[dict[str, Any], int]]:
    """(event, when it arrived), by arrival: some late, some twice, each play after some others."""
    told = []
    for event, at_ms in events(dice, many):
        late_ms = dice.choice([0, 0, dice.randrange(2_000), dice.randrange(2 * DAY_MS)])
        before = [f"t-{dice.randrange(TITLES)}" for _ in range(dice.randrange(3))]
        told.append(({**event, "previous_cids": before}, min(at_ms + late_ms, NOW_MS)))
    told += [(event, min(arrived + 60_000, NOW_MS)) for event, arrived in dice.sample(told, many // 50)]
    return sorted(told, key=lambda one: one[1])


def _run(
    made: Plan, told: list[tuple[dict[str, Any], int]], dice: random.Random, values: int, spoil: dict[int, int] | None = None
) -> tuple[Lagging, list[Served]]:
    """The job and its table over a log, and at least so many values that were served of random rows meanwhile."""
    it, served, left = Lagging(made, TOPIC, dice), list[Served](), values
    each = len(told) * (1 - FROM_SHARE) / values
    for n, (event, arrived) in enumerate(told):
        it.hear(arrived)
        it.take(event, arrived, (spoil or {}).get(n, 1))
        while left > 0 and n > FROM_SHARE * len(told) and (len(told) - n) <= left * each:
            for one in it.served(arrived + dice.randrange(500), 1, recent=dice.random() < 0.5):
                served.append(one)
                left -= len(one.values)
    while left > 0:
        for one in it.served(NOW_MS, 1):
            served.append(one)
            left -= len(one.values)
    return it, served


def _faults(made: Plan, told: list[tuple[dict[str, Any], int]], dice: random.Random) -> float:
    """Share of lost and doubled events that the watch finds in their member's row, among those that changed any of its values."""
    counted = [n for n, (event, _) in enumerate(told) if event["kind"] == "play"]
    middle = counted[len(counted) // 3 : len(counted) * 2 // 3]  # the newest event that was lost is one that is still on its way
    spoil = {n: dice.choice([0, 2]) for n in dice.sample(middle, min(100, len(middle)))}
    seen = could = 0
    for n, keep in spoil.items():
        member = told[n][0]["member_id"]
        mine = [(m, one) for m, one in enumerate(told) if one[0]["member_id"] == member]
        it, right = Lagging(made.only("member"), TOPIC, dice, most_ms=1), Engine(made.only("member"))
        for m, (event, arrived) in mine:
            it.take(event, arrived, keep if m == n else 1)
            right.take(TOPIC, event, arrived)
        it.hear(NOW_MS + DAY_MS)
        at_ms = mine[-1][1][1] + 1
        (one,) = it.served(at_ms, 1)
        wrong = it.engine.values({"member": member}, at_ms) != right.values({"member": member}, at_ms)
        could += wrong
        seen += wrong and bool(judge(made, one, it.log.get((one.group, one.entity), ())).differ)
    return seen / could if could else 0.0


def _leaked(made: Plan, told: list[tuple[dict[str, Any], int]], dice: random.Random) -> int:
    cut = told[len(told) * 2 // 3][1]
    past = [Arrived(TOPIC, event, arrived) for event, arrived in told if arrived < cut]
    future = [Arrived(TOPIC, event, arrived) for event, arrived in told if arrived >= cut]
    bodies = dice.sample([one.event for one in future], len(future))
    shuffled = [one._replace(event=body) for one, body in zip(future, bodies, strict=True)]
    asked = [
        Asked({"member": f"m-{dice.randrange(MEMBERS)}", "title": f"t-{dice.randrange(TITLES)}"}, cut - dice.randrange(DAY_MS))
        for _ in range(QUERIES)
    ]
    rows = zip(known(made, past + future, asked), known(made, past + shuffled, asked), strict=True)
    return sum(one != other for one, other in rows)


def _backfilled(made: Plan, told: list[tuple[dict[str, Any], int]]) -> int:
    live, again = Engine(made), Engine(made)
    for event, arrived in told:
        live.take(TOPIC, event, arrived)
    for partition in range(PARTITIONS):
        for event, arrived in told:
            if int(event["member_id"][2:]) % PARTITIONS == partition:
                again.take(TOPIC, event, arrived)
    keys = {(group, key) for engine in (live, again) for group, rows in engine.rows.items() for key in rows}
    return sum(live.packed(*one) != again.packed(*one) for one in keys)

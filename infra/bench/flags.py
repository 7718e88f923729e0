"""How fast is a flag decided, one by one, a member's fifty experiments together, and in bulk?

The table is one of 50 experiments, each with a targeting condition of four operators (a regular expression among them), a slice of a
namespace, a holdout and two variations. Processor time of this one process; the smallest of many rounds, because whatever else the machine
does can only add.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from infra.bench.harness import Figure, Options, say
from schemas.allocation.definition import spans
from schemas.allocation.engine import Context, Table
from schemas.allocation.hashing import SPACE, allocate, bucketer
from schemas.allocation.pattern import Pattern

FIGURES = {
    "bulk_decisions_per_s": Figure("decisions/s", 2_000_000, 500_000),
    "decision_us": Figure("µs", 6, 15, higher=False),
    "condition_us": Figure("µs", 20, 20, higher=False),
    "fifty_experiments_us": Figure("µs", 200, 500, higher=False),
    "bucket_us": Figure("µs"),
    "hostile_pattern_us_per_kb": Figure("µs/kB"),
}
EXPERIMENTS, MEMBERS, BULK, ROUNDS = 50, 200, 500_000, 25


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run; what is random comes from the seed."""
    return [_once(random.Random(options.seed + index)) for index in range(options.runs)]


def experiment(index: int) -> dict[str, Any]:
    """One experiment of the table."""
    condition = {
        "country": {"$in": ["NL", "FI", "SE", "DE"]},
        "version": {"$vgte": "4.2.0"},
        "seconds_watched": {"$gt": 600 + index},
        "agent": {"$regexi": "(tv|stick|web)-[0-9]+"},
    }
    return {
        "id": f"e{index}",
        "experiment": f"e{index}",
        "filters": [{"salt": "holdout.h", "units": ["member_id"], "ranges": [[SPACE // 50, SPACE]]}],
        "entry": {"condition": condition, "filters": [{"salt": f"namespace.{index // 2}", "units": ["member_id"], "ranges": [[0, SPACE]]}]},
        "variations": [{"key": "control", "value": False}, {"key": "new", "value": True}],
        "split": {"salt": f"e{index}.0", "units": ["member_id"], "ranges": spans([0.5, 0.5])},
    }


def _once(dice: random.Random) -> dict[str, float]:
    plain = {**experiment(0), "filters": [], "entry": {}}
    flags = {f"f{index}": {"default": False, "rules": [experiment(index)]} for index in range(EXPERIMENTS)}
    table = Table({"flags": {"plain": {"default": False, "rules": [plain]}, "met": {"rules": [_met()]}}})
    fifty = Table({"flags": flags})
    known = {"country": "FI", "version": "5.0.1", "seconds_watched": 900, "agent": "x-TV-12"}
    contexts = [Context({"member_id": f"member-{dice.randrange(10**8):08d}", **known}) for _ in range(MEMBERS)]
    units = [f"member-{dice.randrange(10**8):08d}" for _ in range(BULK)]
    ranges = spans([0.5, 0.5], 0.8)
    bucket_of = bucketer("e1.0")
    hostile, text = Pattern("^(a+)+(.*)*(a|aa)+$"), "a" * 10_000 + "\n"
    figures = {
        "bulk_decisions_per_s": 1 / _seconds(lambda: allocate("e1.0", units, ranges), BULK, 5),
        "decision_us": 1e6 * _seconds(lambda: _each(lambda one: table.decide("plain", one), contexts), MEMBERS),
        "condition_us": 1e6 * _seconds(lambda: _each(lambda one: table.decide("met", one), contexts), MEMBERS),
        "fifty_experiments_us": 1e6 * _seconds(lambda: _each(fifty.decide_all, contexts), MEMBERS, 5),
        "bucket_us": 1e6 * _seconds(lambda: _each(bucket_of, units[:MEMBERS]), MEMBERS),
        "hostile_pattern_us_per_kb": 1e6 * _seconds(lambda: hostile.search(text), 10),
    }
    say(f"one decision {figures['decision_us']:.1f} µs, fifty {figures['fifty_experiments_us']:.0f} µs")
    return figures


def _each(ask: Callable[[Any], object], all_: Iterable[Any]) -> None:
    deque(map(ask, all_), maxlen=0)  # nothing is kept, as in a request: else the garbage collector is measured


def _met() -> dict[str, Any]:
    return {"id": "met", "entry": {"condition": experiment(0)["entry"]["condition"]}, "value": True}


def _seconds(work: Callable[[], object], times: int, rounds: int = ROUNDS) -> float:
    """Processor seconds of one of the `times` things that `work` does."""
    work()
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / times

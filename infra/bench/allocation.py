"""How fast is a flag decided, one by one, a member's fifty experiments together, and in bulk? And alike in Python, JavaScript and SQL?

The table is one of 50 experiments, each with a targeting condition of four operators (a regular expression among them), a slice of a
namespace, a holdout and two variations. Processor time of this one process; the smallest of many rounds, because whatever else the machine
does can only add. `play_us` is what the product's own definitions add to a press of play, `play_event_us` the writing of the exposure that
it leaves, `definitions_ms` what a definition costs that comes among 2,000 experiments, each on a flag of its own.

For `disagreements`, 100,000 units with names drawn from letters of one to four bytes are given their variation of an experiment with three
arms, of which a part is not used: by the engine, by `hashing.allocate`, by the page's engine under Node and by ClickHouse.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, cast

from edge.flags import TOPIC as EXPOSURE
from edge.flags import Definitions, Flags
from edge.outbox import Outbox
from infra.bench.harness import Figure, Options, say
from producers.experiments.publish import written
from schemas.allocation.definition import dump, spans
from schemas.allocation.engine import Context, Table
from schemas.allocation.hashing import SPACE, allocate, bucketer
from schemas.allocation.pattern import Pattern
from schemas.catalogue import catalogue
from schemas.codec import Encoder

FIGURES = {
    "bulk_decisions_per_s": Figure("decisions/s", 2_000_000, 500_000),
    "decision_us": Figure("µs", 6, 15, higher=False),
    "condition_us": Figure("µs", 20, 20, higher=False),
    "fifty_experiments_us": Figure("µs", 200, 500, higher=False),
    "bucket_us": Figure("µs"),
    "play_us": Figure("µs"),
    "play_event_us": Figure("µs"),
    "definitions_ms": Figure("ms"),
    "hostile_pattern_us_per_kb": Figure("µs/kB"),
    "disagreements": Figure("units", 0, 0, higher=False),
}
EXPERIMENTS, MEMBERS, BULK, ROUNDS = 50, 200, 500_000, 25
AT_MS = 1_795_600_000_000


UNITS, LETTERS = 100_000, "abcdefghijklmnop0123456789-äß漢😀"
FLAGS_JS = Path("edge/board/static/flags.js").resolve()
NODE = """
import { readFileSync } from "node:fs";
const { table, flag, units } = JSON.parse(readFileSync(0, "utf8"));
const { Table } = await import(process.argv[1]);
const read = new Table(table);
process.stdout.write(JSON.stringify(units.map((unit) => read.decide(flag, { attributes: { member_id: unit } }).value)));
"""
CLICKHOUSE = """
import sys, chdb
print(chdb.query(sys.argv[1], "TSV"), end="")
"""


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
        **_at_play([f"{dice.getrandbits(256):064x}" for _ in range(MEMBERS)]),
        "definitions_ms": 1e3 * _seconds(_news(), 1, 3),
        "disagreements": float(disagreements(["".join(dice.choices(LETTERS, k=dice.randrange(1, 40))) for _ in range(UNITS)])),
    }
    say(f"one decision {figures['decision_us']:.1f} µs, fifty {figures['fifty_experiments_us']:.0f} µs")
    return figures


class _Outbox:
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def put(self, record: Any, *_: object) -> None:
        self.told.append(record)


def _at_play(members: list[str]) -> dict[str, float]:
    """Of the gateway, with the product's own definitions."""
    definitions, outbox = Definitions(), _Outbox()
    for one in written():
        definitions.into(definitions.table, {"item": f"{one.kind}/{one.key}", "document": dump(one)})
    definitions.settle(definitions.table)
    definitions.caught_up = True
    flags = Flags(definitions, cast(Outbox, outbox))
    asked = [{"member_id": member, "device_type": "tv", "network_type": "fibre", "region": "eu-west"} for member in members]
    play_us = 1e6 * _seconds(lambda: _each(lambda of: flags.give(of, "s", AT_MS, "c"), asked), len(asked))
    encode = Encoder(catalogue().topic(EXPOSURE).event, 1)
    envelope = {"event_id": "e", "event_time": datetime.fromtimestamp(AT_MS / 1000, UTC), "producer_id": "gateway", "epoch": 1, "seq": 1}
    events = [{**envelope, "correlation_id": "c", "marker": False, **record} for record in outbox.told[: len(asked)]]
    return {"play_us": play_us, "play_event_us": 1e6 * _seconds(lambda: _each(encode, events), len(events))}


def _news() -> Callable[[], object]:
    """Take another version of one of 2,000 experiments."""
    definitions, version = Definitions(), count()
    both = [{"key": "control", "weight": 0.5, "value": False}, {"key": "new", "weight": 0.5, "value": True}]
    for index in range(2_000):
        flag = {"kind": "flag", "key": f"f{index}", "type": "boolean", "default": False}
        running = {"kind": "experiment", "key": f"e{index}", "flag": f"f{index}", "state": "running", "variations": both}
        for one in (flag, running):
            record = {"item": f"{one['kind']}/{one['key']}", "document": json.dumps({**one, "owner": "o", "unit": "member_id"})}
            definitions.into(definitions.table, record)
    definitions.settle(definitions.table)
    assert len(definitions.table) == 4_000

    def again() -> None:
        about = {**running, "owner": "o", "unit": "member_id", "about": str(next(version))}
        definitions.fold({"marker": False, "item": "experiment/e1999", "document": json.dumps(about)})

    return again


def disagreements(units: list[str]) -> int:
    """Units of which the four do not say the same variation: its index, -1 for none."""
    ranges = spans([0.5, 0.3, 0.2], 0.9)
    split = {"salt": "abr.1", "units": ["member_id"], "ranges": ranges}
    variations = [{"key": str(index), "value": index} for index in range(len(ranges))]
    table = {"flags": {"abr": {"default": -1, "rules": [{"id": "abr", "experiment": "abr", "split": split, "variations": variations}]}}}
    read = Table(table)
    engine = [read.decide("abr", Context({"member_id": unit})).value for unit in units]
    told = json.dumps({"table": table, "flag": "abr", "units": units})
    page = json.loads(_say([Path(sys.executable).with_name("node"), "--input-type=module", "-e", NODE, FLAGS_JS.as_uri()], told))
    place = "murmurHash3_32(concat('abr.1', ':', unit))"
    among = ", ".join(f"{place} >= {begin} AND {place} < {below}, {index}" for index, (begin, below) in enumerate(ranges))
    sql = f"SELECT multiIf({among}, -1) FROM file('/dev/stdin', 'TSVRaw', 'i UInt32, unit String') ORDER BY i"
    rows = "\n".join(f"{index}\t{unit}" for index, unit in enumerate(units))
    warehouse = [int(line) for line in _say([sys.executable, "-c", CLICKHOUSE, sql], rows).split()]
    bulk = allocate("abr.1", units, ranges).tolist()
    return sum(len(set(said)) > 1 for said in zip(engine, bulk, page, warehouse, strict=True))


def _say(command: list[str | Path], words: str) -> str:
    return subprocess.run(command, input=words, capture_output=True, text=True, check=True).stdout


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

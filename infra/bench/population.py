"""Is the quality of every session of a whole population what it truly was, through Kafka, Flink and ClickHouse?

The simulator plays the sessions of a world file and writes the truth, from the playback's state, to a file that no job sees. Its
reports go the whole way with the deployed jobs and loader. Then each row of the view `qoe_sessions` is compared with the truth: whole
numbers, texts and times exactly, the rest to 1e-9. A tenth of the sessions comes in good order first, then all of them with 5 % of the
reports twice and 10 % out of order.

The quantiles that `qoe_minute` has of all the minutes together are compared with those of the reports (`infra.bench.quantiles`).

And does a bad player version show? One goes bad: the first that the world file names among its faults, else the one with the least weight,
by a fault that is added to the world. How many simulated minutes pass from there, among all of the sessions, until it is the top anomaly of
a minute (`qoe_anomalies`, rank 1) is a figure; that it never is, is a failure.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from clickhouse_connect.driver.client import Client
from numpy.typing import NDArray

from infra.base import warehouse
from infra.base.settings import settings
from infra.bench.harness import OUT, Figure, Options, ground, say, world_argument
from infra.bench.quantiles import MINUTE_MS, worst_error
from infra.chaos.recompute import Recomputed, difference
from infra.stack import beside
from producers.simulator.world import PlayerFault, load
from streams.playback.minute import RELATIVE_ERROR

FIGURES = {
    "sessions": Figure("sessions"),
    "mismatches": Figure("sessions", 0, 0, higher=False),
    "missing": Figure("sessions", 0, 0, higher=False),
    "bad_player_top_after_min": Figure("simulated minutes", 3, 3, higher=False),
    "quantile_error": Figure("share", RELATIVE_ERROR, RELATIVE_ERROR, higher=False),
    "events_per_s": Figure("events/s"),
}
SESSIONS = 1_000_000
SHARE_IN_ORDER = 10
"""One in so many sessions is enough to see that good order is no harder than disorder."""
PER_SECOND = 20_000
LIVES_S, LIVES_ON_S = 1_500, 900
"""Of few sessions fewer reports come in a second, so that the population lives for so long, and for so long after the player goes bad."""
TRIED = 500
"""Sessions that are played to see how many reports there are to one."""
JOBS = ("qoe_sessions", "qoe_corrections", "qoe_minute")
START_MS = 1_767_225_600_000
"""When the first session starts."""
BAD_FROM_S, BAD_FOR_S, BAD_SHARE = 400, 1_800, 0.25
"""The fault that is added: when it begins, how long it lasts, and the share of one version's sessions that do not start."""
NEVER_MIN = 1_000.0
DISORDER = ("--duplicates", "0.05", "--out-of-order", "0.1")
ORDER = ("--duplicates", "0", "--out-of-order", "0")
WITHIN_S = 4 * 3_600.0
"""So long the last rows may take; a million sessions are some sixty million reports."""
CLOSE = 1e-9
TIMES = ("started_at", "ended_at")
SAID = re.compile(r"(\d+) reports")


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures: a population is played once."""
    sessions = options.sessions or SESSIONS
    total: dict[str, float] = dict.fromkeys(("sessions", "mismatches", "missing", "events", "seconds"), 0.0)
    with ground("kafka,registry,flink,warehouse", OUT / "population") as stack:
        world, bad = goes_bad(options.world, stack.state_dir / "world.json")
        density = _density(sessions, world, bad, stack.state_dir / "tried.jsonl")
        for name, count, disorder in (("in_order", max(1, sessions // SHARE_IN_ORDER), ORDER), ("disordered", sessions, DISORDER)):
            truth = stack.state_dir / f"{name}.parquet"
            events, seconds = _play(name, count, truth, options, world, density, disorder)
            with warehouse.reader(settings().within(name).database) as client:
                judged = judge(truth, client)
            say(f"{name}: {judged.compared:,} sessions, {judged.mismatches} wrong, {judged.missing} missing")
            say(f"{name}: {events:,} reports in {seconds:.0f} s")
            for words in judged.named:
                say(words)
            found = {"sessions": judged.compared, "mismatches": judged.mismatches, "missing": judged.missing, "events": events}
            total = {figure: total[figure] + value for figure, value in {**found, "seconds": seconds}.items()}
        with warehouse.reader(settings().within(name).database) as client:
            seen = {"bad_player_top_after_min": noticed(client, bad), "quantile_error": worst_error(client, _minutes(client))}
    return [total | seen | {"events_per_s": total["events"] / total["seconds"]}]


def goes_bad(path: Path | None, copy: Path) -> tuple[Path | None, PlayerFault]:
    """A world file in which a player version goes bad, and that fault: the world's own first one, else one that is added in `copy`.

    Raises BadWorld, OSError.
    """
    known = load(path)
    if own := [fault for fault in known.faults if isinstance(fault, PlayerFault)]:
        return path, min(own, key=lambda fault: fault.start_s)
    rarest = min(known.rigs, key=lambda rig: rig.weight)
    fault = PlayerFault(kind="player", player=rarest.player, start_s=BAD_FROM_S, duration_s=BAD_FOR_S, fails_to_start=BAD_SHARE)
    copy.write_text(known.model_copy(update={"faults": (*known.faults, fault)}).model_dump_json())
    load(copy)
    return copy, fault


def noticed(client: Client, fault: PlayerFault) -> float:
    """Minutes from the beginning of the fault to the end of the first minute whose top anomaly is the bad player; NEVER_MIN if none is."""
    since = START_MS / 1000 + fault.start_s
    found = client.query(
        "SELECT min(toUnixTimestamp(minute)) + 60, count() FROM qoe_anomalies"
        " WHERE rank = 1 AND dimension = 'player' AND member = {player:String} AND toUnixTimestamp(minute) + 60 > {since:Float64}",
        parameters={"player": fault.player, "since": since},
    ).result_rows[0]
    return (int(found[0]) - since) / 60 if found[1] else NEVER_MIN


def _minutes(client: Client) -> range:
    """Beginnings of all the minutes that there are, ms since 1970."""
    sql = "SELECT min(toUnixTimestamp(minute)), max(toUnixTimestamp(minute)) FROM qoe_minute_values"
    ((first_s, last_s),) = client.query(sql).result_rows
    return range(1000 * first_s, 1000 * last_s + 1, MINUTE_MS)


def _density(sessions: int, world_file: Path | None, bad: PlayerFault, scratch: Path) -> int:
    """Reports in a second of simulated time."""
    command = [sys.executable, "-m", "producers.simulator", "--sessions", str(TRIED), "--to", str(scratch), *world_argument(world_file)]
    reports = _reports(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return max(50, min(PER_SECOND, round(sessions * reports / TRIED / max(LIVES_S, bad.start_s + LIVES_ON_S))))


def _reports(said: str) -> int:
    """How many reports the simulator says that it wrote."""
    if (found := SAID.match(said)) is None:
        raise AssertionError(f"the simulator does not say how much it did: {said}")
    return int(found[1])


def _play(
    name: str, sessions: int, truth: Path, options: Options, world_file: Path | None, density: int, disorder: Sequence[str]
) -> tuple[int, float]:
    """Let a namespace live through the sessions; returns reports, and seconds from the first to the last row that came of them."""
    command = [sys.executable, "-m", "producers.simulator", "--sessions", str(sessions), "--seed", str(options.seed), "--namespace", name]
    when = ("--start", str(START_MS), "--per-second", str(density))
    with beside.world(name, say, JOBS) as place:
        say(f"world {name}: {sessions:,} sessions")
        began = time.monotonic()
        simulate = [*command, "--truth", str(truth), *when, *world_argument(world_file), *disorder]
        done = subprocess.run(simulate, check=True, stdout=subprocess.PIPE, text=True)
        say(done.stdout.strip())
        grown = [(0, began)]

        def tick(rows: int) -> None:
            if rows != grown[-1][0]:
                grown.append((rows, time.monotonic()))

        place.wait_until_still(WITHIN_S, tick)
    return _reports(done.stdout), grown[-1][1] - began


@dataclass
class Judged(Recomputed):
    """Sessions compared with their truth; those without a row are counted apart."""

    missing: int = 0


def judge(truth: Path, client: Client) -> Judged:
    """Compare the view `qoe_sessions` with the true figures in a Parquet file. Blocks."""
    result = Judged()
    true = pq.read_table(truth)
    of_piece = pc.utf8_slice_codeunits(true["sid"], 0, 1)
    for first in "0123456789abcdef":  # of the sid: pieces bound memory, on both sides
        compare(true.filter(pc.equal(of_piece, first)), _rows(client, true.column_names, first), result)
    return result


def _rows(client: Client, names: Sequence[str], first: str) -> pa.Table:
    columns = ", ".join(f"toUnixTimestamp64Milli({name}) AS {name}" if name in TIMES else name for name in names)
    return client.query_arrow(f"SELECT {columns} FROM (SELECT * FROM qoe_sessions WHERE startsWith(sid, '{first}'))")


def compare(true: pa.Table, found: pa.Table, result: Judged) -> None:
    """Compare two tables of the same columns by sid, and add to `result`. Raises AssertionError where `found` has a session twice."""
    found = found.set_column(found.schema.get_field_index("sid"), "sid", found["sid"].cast(pa.string()))
    there, known = (pc.is_in(a["sid"], value_set=b["sid"]) for a, b in ((true, found), (found, true)))
    result.missing += len(true) - (pc.sum(there).as_py() or 0)
    for sid in found.filter(pc.invert(known))["sid"].to_pylist():
        result.differs(f"session {sid}", "has a row, and never was")
    true, found = true.filter(there).sort_by("sid"), found.filter(known).sort_by("sid")
    if len(true) != len(found):
        raise AssertionError("the view qoe_sessions has more than one row of a session")
    result.compared += len(true)
    differs = np.zeros(len(true), np.bool_)
    for name in true.column_names:
        differs |= _differ(true[name], found[name])
    for number in np.flatnonzero(differs).tolist():
        expected, row = true.slice(number, 1).to_pylist()[0], found.slice(number, 1).to_pylist()[0]
        result.differs(f"session {expected['sid']}", difference(expected, row))


def _differ(expected: pa.ChunkedArray, found: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where two columns differ. Null equals null only."""
    found = found.cast(expected.type)
    if pa.types.is_floating(expected.type):
        unequal = pc.greater(pc.abs(pc.subtract(expected, found)), CLOSE)
    else:
        unequal = pc.not_equal(expected, found)
    either_null = pc.xor(expected.is_null(), found.is_null())
    answer: Any = pc.or_(pc.fill_null(unequal, False), either_null)
    return np.asarray(answer.to_numpy())

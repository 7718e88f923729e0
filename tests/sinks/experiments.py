"""Rows of experiments for tests: definitions as they are published, and sums as the stream would tell them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import schemas
from schemas.allocation.definition import AnyDefinition, Experiment, read_folder
from streams.experiments.read_outs import Totals
from streams.playback.minute import bucket

FIRST_DAY = date(2026, 11, 2)
DEVICES = ("phone", "tv", "web")

Row = dict[str, Any]


def installed() -> list[AnyDefinition]:
    """The product's own definitions."""
    return read_folder(Path(schemas.__file__).parent / "experiments" / "definitions")


def changes(definitions: Iterable[AnyDefinition], at: datetime) -> list[Row]:
    """Each made known; what runs was started a day later."""
    rows = []
    for one in definitions:
        told = [("PUBLISH", at)] + [("START", at + timedelta(days=1))] * (isinstance(one, Experiment) and one.state == "running")
        rows += [
            {
                "event_time": when, "item": f"{one.kind}/{one.key}", "kind": one.kind, "key": one.key, "version": version, "action": action,
                "document": one.model_dump_json(by_alias=True), "author": "ada", "reason": "a test", "undoes": None,
            }
            for version, (action, when) in enumerate(told, 1)
        ]  # fmt: skip
    return rows


def sums(experiment: Experiment, days: int, units_a_day: int, seed: int = 1, effect: float = 0.8) -> list[Row]:
    """What units drawn from a seed come to: the control's values around 1,000, the others' times `effect`; each unit in one session."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for number, variation in enumerate(experiment.variations):
        for day in range(days):
            for device in DEVICES:
                n = units_a_day // len(DEVICES)
                where: Row = {
                    "event_time": datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, 12, tzinfo=UTC) + timedelta(days=day),
                    "experiment": experiment.key, "phase": experiment.phase, "variation": variation.key,
                    "segment": {"device_type": device, "region": "eu-north"}, "day": FIRST_DAY + timedelta(days=day),
                }  # fmt: skip
                rows.append({**where, "metric": "", "n": n})
                u = rng.gamma(4, 250, n).astype(int)
                x = ((u / 2 + rng.gamma(4, 125, n)) * (effect if number else 1)).astype(int)
                for metric in experiment.measured:
                    rows += _of_metric(metric, {**where, "metric": metric}, x, u, rng)
    return rows


def _of_metric(metric: str, where: Row, x: Any, u: Any, rng: np.random.Generator) -> list[Row]:
    n = len(x)
    if metric == "first_rebuffering":
        hours = np.minimum(rng.geometric(0.01, n) - 1, 167)
        counts = np.bincount(hours, minlength=168)
        return [{**where, "n": n}, *({**where, "value_bucket": at, "n": int(count)} for at, count in enumerate(counts) if count)]
    if metric == "startup_p95_ms":
        each: dict[int, int] = {}
        for value in x.tolist():
            each[bucket(value)] = each.get(bucket(value), 0) + 1
        cells = [{**where, "value_bucket": at, "n": count, "sum_xx": count, "sum_xy": count} for at, count in each.items()]
        return [{**where, "n": n, "measured": n}, *cells]
    if metric == "failed_start":
        x, u = (x > 2_200).astype(int), (u > 2_200).astype(int)
    of = {"x": x, "y": 40 * u + 20_000, "u": u, "v": 38 * u + 20_000}
    totals = {f"sum_{name}": int(np.prod([of[letter] for letter in name], axis=0).sum()) for name in Totals._fields}
    return [{**where, "n": n, "measured": n, **totals}]


def insert(client: Any, rows: Iterable[Row], table: str, first: int = 0) -> None:
    """Rows into a landing table, at offsets from `first` on; as text, so that sums of 38 digits stay whole."""
    lines = []
    for offset, row in enumerate(rows, first):
        own = {"value_bucket": -1} if table == "experiments_statistic" else {}
        whole = {"topic_offset": offset, "topic_time": datetime.now(UTC), "event_id": f"{offset}", "marker": False, **own, **row}
        lines.append(json.dumps({name: _text(value) for name, value in whole.items()}))
    client.raw_insert(table, insert_block="\n".join(lines), fmt="JSONEachRow")


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if type(value) is int else value

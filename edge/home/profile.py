"""What features are like over all keys, and what they cost: `recommendations.feature_profile` of each value. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np

from streams.recommendations.plan import Layout, Value
from streams.recommendations.table import Table
from streams.recommendations.tiles import Found, evaluate, text_sizes

LOOKED_AT = 1_000
"""Keys of a group that are evaluated: a few milliseconds, of which requests wait."""
MOST_TEXTS = 20
"""Texts that are told one by one; the rest is `other`."""


def profiles(table: Table, group: str, at_ms: int, random: Random) -> Iterator[dict[str, Any]]:
    """Each value of a group's, none where the group has no row."""
    layout, keys = table.plan.layouts[group], table.keys(group)
    if not keys:
        return
    some = random.sample(keys, LOOKED_AT) if len(keys) > LOOKED_AT else keys
    rows = [table.packed(group, key) for key in some]
    values = table.plan.of(group)
    found = evaluate(layout, values, rows, at_ms)
    sizes = np.array([text_sizes(layout, row[1]) for row in rows], np.float64).reshape(len(rows), len(layout.texts)).mean(axis=0).tolist()
    used = Counter(part for value in values for part in parts(value))
    for value in values:
        mine = parts(value)
        default = value.feature.default
        buckets = spread(found[value.name])
        yield {
            "value": value.name,
            "feature": value.feature.name,
            "owner": value.feature.owner,
            "group": group,
            "keys": len(keys),
            "looked_at": len(some),
            "happened": len(some) - _as(default, found[value.name]),
            "over_cap": int(found[value.name].over_cap.sum()),
            "row_bytes": layout.form.size + sum(sizes),
            "value_bytes": sum(size(layout, part, sizes) / used[part] for part in mine),
            "columns": len(mine),
            "shared": sum(used[part] > 1 for part in mine),
            "buckets": buckets,
        }


def parts(value: Value) -> list[tuple[str, int]]:
    """The parts of a row that a value is made from: (kind, place)."""
    columns = {place for place in (value.count, value.sum, value.decay) if place >= 0}
    found = [("column", place) for place in sorted(columns)]
    return found + [(kind, place) for kind, place in (("last", value.last), ("texts", value.texts)) if place >= 0]


def size(layout: Layout, part: tuple[str, int], texts: Sequence[float]) -> float:
    """What a part takes, in bytes; `texts`: what each part of texts takes, mean."""
    kind, place = part
    if kind == "texts":
        return texts[place]
    if kind == "last":
        return 16.0
    column = layout.columns[place]
    return float(column.tiles * (4 if column.code == "I" else 8))


def _as(default: Any, found: Found) -> int:
    """How many are as where nothing happened."""
    if found.of.dtype == object:
        return sum(1 for one in found.of if one == default)
    return int(np.isnan(found.of).sum()) if default is None else int((found.of == default).sum())


def spread(found: Found) -> dict[str, int]:
    """How many values lie in which bucket."""
    if found.of.dtype == object:
        names = Counter(_text(one) for one in found.of)
        kept = dict(names.most_common(MOST_TEXTS))
        rest = len(found.of) - sum(kept.values())
        return kept | ({"other": rest + kept.get("other", 0)} if rest else {})
    numbers = found.of.astype(np.float64)
    told = Counter[str]()
    told["null"] = int(np.isnan(numbers).sum())
    told["0"] = int((numbers == 0).sum())
    told["negative"] = int((numbers < 0).sum())
    exponents = np.floor(np.log2(numbers[numbers > 0])).astype(np.int64)
    told.update({f"2^{exponent}": int(n) for exponent, n in zip(*np.unique(exponents, return_counts=True), strict=True)})
    return {name: n for name, n in told.items() if n}


def _text(value: Any) -> str:
    """Of a text itself; of a list of the most frequent, the first."""
    if isinstance(value, list):
        value = value[0][0] if value else None
    return "null" if value is None else str(value)

"""The row of one key: taking events, adding rows up, packing them, and what their values are at a time. Pure.

    row = Row(layout)
    row.take(uses, at_ms, number, texts)         an event; in any order
    row.merge(other)                             what two rows have taken, together
    evaluate(layout, values, rows, t)            values of many packed rows at once

What a row holds is a function of the set of events it has taken, not of their order, and so are its bytes. An event lies in the tile of its
time, also when it comes late. Tiles that no window reaches any more are overwritten or cut off when the row's clock, its newest event, has
moved on; what has left a window without a newer event is left out when it is asked for, so values expire by themselves.

Values at t: a window of length W holds what lies at or after the last hop at or before t − W. It holds nothing after t because nothing was
known then: a row is asked as of now, and an event counts no later than when it arrived (see engine). Asked for a time before its own
clock, by a server whose clock is behind, a row answers as of its clock.

- *count*, *sum*, *mean*: integers by tile. *last*: of the newest time, the greatest value.
- *decayed*: Σ v · 2^−((t − event_time) / half_life), times counted in 1024ths of the half-life. A tile holds integers relative to the
  half-life in which it begins (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009), weights in 65,536ths; tiles are added up
  from the oldest on, so that the result is the same to the last bit wherever it is computed. Negative values count as nothing.
- *distinct*: when each text was there last, the MOST_DISTINCT newest. *top_k*: how often each text was there, by tile; of a tile with
  more than MOST_IN_TILE texts those with the smallest hashes. Where that cut something off that the window holds, `over_cap` says so:
  distinct is then a lower bound, top_k a sample of the texts with exact counts.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.allocation.hashing import murmur3_32
from schemas.recommendations.definition import MOST_DISTINCT, MOST_IN_TILE, STEPS, WEIGHTS, Window
from streams.recommendations.plan import Column, Layout, Texts, Uses, Value

NEVER = -(1 << 50)
"""The clock of a row that has taken nothing, and the time of a number that never was."""
MOST_DECAYED = 2**63 - 1
"""Where a tile of *decayed* stops growing; `over_cap` says so."""
_WEIGHTS = np.array(WEIGHTS, np.float64)
HEAD = struct.Struct("<qq")
"""What every row begins with: its clock, and how many events it has taken."""
_HEAD = struct.Struct("<II")
_TOP = ("<i8", "<u4", "<u2")
"""Of top_k: an entry's tile, how often, and which text."""

Ints = np.ndarray[Any, np.dtype[np.int64]]
Truths = np.ndarray[Any, np.dtype[np.bool_]]


def begin_ms(window: Window, at_ms: int) -> int:
    """Where a window that ends at `at_ms` begins."""
    return (at_ms - window.length_ms) // window.hop_ms * window.hop_ms


def decay_weight(column: Column, at_ms: int) -> int:
    """What one counts at `at_ms` in its tile of a decaying sum, in SCALEths of what it counts at the begin of the tile's half-life."""
    step = at_ms * STEPS // column.half_life_ms
    return WEIGHTS[step % STEPS] << step // STEPS - _half_life(column, at_ms // column.hop_ms)


def _half_life(column: Column, tile: int) -> int:
    """The half-life since 1970 in which a tile begins."""
    return tile * column.hop_ms * STEPS // column.half_life_ms // STEPS


class Row:
    """What is kept of one key. See the module."""

    __slots__ = ("clock", "columns", "lasts", "layout", "taken", "texts")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.clock = NEVER
        self.taken = 0
        """Events that changed the row; whoever gives it one counts it once, whatever many selections it is in."""
        self.columns = [[0] * column.tiles for column in layout.columns]
        self.lasts = [(NEVER, 0)] * len(layout.lasts)
        self.texts: list[dict[Any, Any]] = [{} for _ in layout.texts]

    def take(self, uses: Uses, at_ms: int, number: int | None, texts: Sequence[str] = ()) -> None:
        """One event of a selection: its time, the number of its field (1 without a field, None where it has none), its texts."""
        self._advance(at_ms)
        if number is not None or texts:
            for place, column in uses.columns:
                self._add(place, column, at_ms, number or 0)
        if number is not None:
            for place in uses.lasts:
                self.lasts[place] = max(self.lasts[place], (at_ms, number))
        for place, part in uses.texts:
            self._note(self.texts[place], part, at_ms, texts)

    def _add(self, place: int, column: Column, at_ms: int, number: int) -> None:
        tile = at_ms // column.hop_ms
        if tile <= self.clock // column.hop_ms - column.tiles:
            return  # no window reaches so far back
        kept, slot = self.columns[place], tile % column.tiles
        if column.kind == "count":
            kept[slot] += 1
        elif column.kind == "sum":
            kept[slot] += number
        else:
            kept[slot] = min(kept[slot] + max(number, 0) * decay_weight(column, at_ms), MOST_DECAYED)

    def _note(self, kept: dict[Any, Any], part: Texts, at_ms: int, texts: Iterable[str]) -> None:
        for text in texts:
            if part.kind == "last":
                kept[None] = max(kept.get(None, (NEVER, "")), (at_ms, text))
            elif part.kind == "distinct":
                kept[text] = max(kept.get(text, NEVER), at_ms)
                if len(kept) > 2 * MOST_DISTINCT:
                    _cut_distinct(kept, part, self.clock)
            else:
                tile = at_ms // part.hop_ms
                often = kept.setdefault(tile, {})
                often[text] = often.get(text, 0) + 1
                if len(often) > 2 * MOST_IN_TILE:
                    _cut_tile(often)

    def _advance(self, at_ms: int) -> None:
        """Move the clock: tiles that take the places of old ones begin empty."""
        if at_ms <= self.clock:
            return
        for hop_ms, ring in self.layout.rings:
            old, new = self.clock // hop_ms, at_ms // hop_ms
            if old < new:
                for place, tiles in ring:
                    kept = self.columns[place]
                    for tile in range(max(old, new - tiles) + 1, new + 1):
                        kept[tile % tiles] = 0
        self.clock = at_ms

    def merge(self, other: Row) -> None:
        """Add what another row of this layout has taken; nothing that both have taken may be in either twice. `other` is used up."""
        self._advance(other.clock)
        other._advance(self.clock)
        self.taken += other.taken
        for column, kept, more in zip(self.layout.columns, self.columns, other.columns, strict=True):
            kept[:] = [a + b if column.kind != "decay" else min(a + b, MOST_DECAYED) for a, b in zip(kept, more, strict=True)]
        self.lasts = [max(pair) for pair in zip(self.lasts, other.lasts, strict=True)]
        for part, texts, others in zip(self.layout.texts, self.texts, other.texts, strict=True):
            for key, value in others.items():
                if part.kind == "top_k":
                    texts[key] = Counter(texts.get(key, {})) + Counter(value)
                else:
                    texts[key] = max(texts.get(key, value), value)

    def cut(self) -> None:
        """Cut off texts that no window reaches any more, and those beyond the caps."""
        for part, kept in zip(self.layout.texts, self.texts, strict=True):
            if part.kind == "distinct":
                _cut_distinct(kept, part, self.clock)
            elif part.kind == "top_k":
                for tile in [tile for tile in kept if tile <= self.clock // part.hop_ms - part.tiles]:
                    del kept[tile]
                for often in kept.values():
                    _cut_tile(often)

    def pack(self) -> tuple[bytes, bytes]:
        """(the fixed part, the texts)."""
        self.cut()
        numbers = [number for last in self.lasts for number in last] + [number for column in self.columns for number in column]
        return self.layout.form.pack(self.clock, self.taken, *numbers), b"".join(self._packed_texts())

    def _packed_texts(self) -> Iterator[bytes]:
        for part, kept in zip(self.layout.texts, self.texts, strict=True):
            if part.kind == "top_k":
                texts = sorted({text for often in kept.values() for text in often})
                place = {text: n for n, text in enumerate(texts)}
                often = [(tile, n, place[text]) for tile in sorted(kept) for text, n in sorted(kept[tile].items())]
                numbers = [np.array([one[column] for one in often], _TOP[column]).tobytes() for column in range(3)]
            else:
                held = sorted(kept.items()) if part.kind == "distinct" else [(text, at) for at, text in kept.values()]
                texts, often = [text for text, _ in held], []
                numbers = [np.array([at for _, at in held], "<i8").tobytes()]
            told = [text.encode() for text in texts]
            yield b"".join([_HEAD.pack(len(texts), len(often)), *numbers, np.array([*map(len, told)], "<u2").tobytes(), *told])

    @classmethod
    def unpack(cls, layout: Layout, fixed: bytes, texts: bytes) -> Row:
        """The row that was packed by this layout. Raises ValueError where the bytes are not of it."""
        try:
            row = cls(layout)
            row.clock, row.taken, *numbers = layout.form.unpack(fixed)
            row.lasts = [(numbers.pop(0), numbers.pop(0)) for _ in layout.lasts]
            for column, kept in zip(layout.columns, row.columns, strict=True):
                kept[:], numbers = numbers[: column.tiles], numbers[column.tiles :]
            row.texts = [section.held() for section in _sections(layout, texts)]
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            raise ValueError(f"not a row of layout {layout.id} of {layout.group}: {error}") from None
        return row

    def recast(self, layout: Layout) -> Row:
        """The row as another layout of the key keeps it: what both have goes over, what only that one has is empty until backfilled."""
        row = Row(layout)
        row.clock, row.taken = self.clock, self.taken
        columns = {column.name: (column, kept) for column, kept in zip(self.layout.columns, self.columns, strict=True)}
        for column, kept in zip(layout.columns, row.columns, strict=True):
            if column.name in columns:
                old, numbers = columns[column.name]
                newest = self.clock // column.hop_ms
                for tile in range(newest - min(old.tiles, column.tiles) + 1, newest + 1):
                    kept[tile % column.tiles] = numbers[tile % old.tiles]
        lasts = dict(zip(self.layout.lasts, self.lasts, strict=True))
        row.lasts = [lasts.get(selection, (NEVER, 0)) for selection in layout.lasts]
        texts = {part.name: kept for part, kept in zip(self.layout.texts, self.texts, strict=True)}
        row.texts = [dict(texts.get(part.name, {})) for part in layout.texts]
        row.cut()
        return row


def _cut_distinct(kept: dict[Any, Any], part: Texts, clock: int) -> None:
    """Leave the newest of those that a window reaches, and one more, which shows that there are more."""
    begin = begin_ms(Window(part.length_ms, part.hop_ms), clock)
    newest = sorted(((at, text) for text, at in kept.items() if at >= begin), reverse=True)[: MOST_DISTINCT + 1]
    kept.clear()
    kept.update((text, at) for at, text in newest)


def _cut_tile(often: dict[str, int]) -> None:
    """Leave the texts with the smallest hashes, and one more: whoever is left has been counted from the first time on, in any order."""
    if len(often) > MOST_IN_TILE + 1:
        for text in sorted(often, key=_hashed)[MOST_IN_TILE + 1 :]:
            del often[text]


@lru_cache(maxsize=65_536)
def _hashed(text: str) -> tuple[int, str]:
    return murmur3_32(text.encode()), text


@dataclass(frozen=True)
class _Section:
    """One part of a row's texts as it was packed; a text is decoded only where it is asked for.

    `tiles`, `often`, `places` (of texts): of top_k, one an entry; `newest`: of the others, one a text.
    """

    part: Texts
    newest: Ints
    tiles: Ints
    often: Ints
    places: Ints
    ends: Ints
    told: bytes

    def text(self, place: int) -> str:
        """One text."""
        return self.told[self.ends[place - 1] if place else 0 : self.ends[place]].decode()

    def held(self) -> dict[Any, Any]:
        """As a row holds it."""
        texts = [self.text(place) for place in range(len(self.ends))]
        if self.part.kind == "last":
            return {None: (int(self.newest[0]), texts[0])} if texts else {}
        if self.part.kind == "distinct":
            return dict(zip(texts, self.newest.tolist(), strict=True))
        kept: dict[Any, Any] = {}
        for tile, n, place in zip(self.tiles.tolist(), self.often.tolist(), self.places.tolist(), strict=True):
            kept.setdefault(tile, {})[texts[place]] = n
        return kept


def _sections(layout: Layout, data: bytes) -> list[_Section]:
    """The parts of a row's texts. Raises IndexError where the bytes are not of the layout."""
    found, at = [], 0

    def numbers(code: str, many: int) -> Ints:
        nonlocal at
        kind = np.dtype(code)
        if at + many * kind.itemsize > len(data):
            raise IndexError(f"{at + many * kind.itemsize - len(data)} bytes too few")
        read = np.frombuffer(data, kind, many, at)
        at += read.nbytes
        return read.astype(np.int64)

    for part in layout.texts:
        texts, entries = numbers("<u4", 2).tolist()
        tiles, often, places = (numbers(code, entries) for code in _TOP)
        newest = numbers("<i8", 0 if part.kind == "top_k" else texts)
        ends = np.cumsum(numbers("<u2", texts))
        size = int(ends[-1]) if texts else 0
        found.append(_Section(part, newest, tiles, often, places, ends, data[at : at + size]))
        at += size
    if at != len(data):
        raise IndexError(f"{len(data) - at} bytes too many")
    return found


def text_sizes(layout: Layout, texts: bytes) -> list[int]:
    """What each part of a row's texts takes, in bytes. Raises IndexError where they are not of the layout."""
    return [_HEAD.size + 14 * len(one.tiles) + 8 * len(one.newest) + 2 * len(one.ends) + len(one.told) for one in _sections(layout, texts)]


@dataclass(frozen=True)
class Found:
    """A value of many rows.

    `of`, shape (rows,): int64 of count, sum and distinct, float64 of mean and decayed (NaN where it is null), objects of last (int, text or
    None) and top_k (a list of (text, count), the most frequent first, equals by their texts). `over_cap`, shape (rows,): a rule cut it.
    """

    of: np.ndarray[Any, Any]
    over_cap: Truths


Packed = tuple[bytes, bytes, *tuple[int, ...]]
"""A row: its fixed part, its texts, and what whoever keeps it knows of it besides."""


def evaluate(layout: Layout, values: Iterable[Value], rows: Sequence[Packed], at_ms: int | Ints) -> dict[str, Found]:
    """Values by name of packed rows of `layout` at `at_ms`, one time for all or one for each; its defaults where nothing happened.

    `nothing(layout)` stands for a key that has no row. Raises ValueError where bytes are not of the layout.
    """
    return _Asked(layout, rows, at_ms).all(values)


def nothing(layout: Layout) -> tuple[bytes, bytes]:
    """The row of a key that nothing was heard of."""
    return Row(layout).pack()


class _Asked:
    """Many rows at a time, and what their values share: masks of tiles, sums over them, texts."""

    def __init__(self, layout: Layout, rows: Sequence[Packed], at_ms: int | Ints) -> None:
        self.layout, self.rows = layout, rows
        fixed = b"".join([row[0] for row in rows])
        if len(fixed) != len(rows) * layout.form.size:
            raise ValueError(f"not rows of layout {layout.id} of {layout.group}, which has {layout.form.size} bytes each")
        self.table = np.frombuffer(fixed, layout.dtype)
        self.clock: Ints = self.table["clock"].astype(np.int64)
        self.at: Ints = np.maximum(np.broadcast_to(np.asarray(at_ms, np.int64), self.clock.shape), self.clock)
        self._rings: dict[tuple[int, int], Ints] = {}
        self._in: dict[tuple[Window, int], Truths] = {}
        self._numbers: dict[int, Ints] = {}
        self._sums: dict[tuple[Window, int], Ints] = {}
        self._read: list[list[_Section]] | None = None

    def all(self, values: Iterable[Value]) -> dict[str, Found]:
        """Every value."""
        return {value.name: self.one(value) for value in values}

    def one(self, value: Value) -> Found:
        """One value."""
        match value.feature.aggregation:
            case "count" | "sum" | "mean":
                return Found(self._summed(value), np.zeros(len(self.rows), np.bool_))
            case "decayed":
                return self._decayed(value)
            case "last":
                return Found(self._last(value), np.zeros(len(self.rows), np.bool_))
            case "distinct":
                return self._distinct(value)
            case _:
                return self._top(value)

    def _begin(self, window: Window) -> Ints:
        return (self.at - window.length_ms) // window.hop_ms * window.hop_ms

    def _tiles(self, hop_ms: int, tiles: int) -> Ints:
        """The number of the tile at each place of a ring, shape (rows, tiles)."""
        if (hop_ms, tiles) not in self._rings:
            newest = (self.clock // hop_ms)[:, None]
            self._rings[hop_ms, tiles] = newest - (newest - np.arange(tiles)) % tiles
        return self._rings[hop_ms, tiles]

    def _mask(self, window: Window, tiles: int) -> Truths:
        """Which places of a ring hold tiles of the window, shape (rows, tiles)."""
        if (window, tiles) not in self._in:
            self._in[window, tiles] = self._tiles(window.hop_ms, tiles) >= (self._begin(window) // window.hop_ms)[:, None]
        return self._in[window, tiles]

    def _column(self, place: int) -> Ints:
        if place not in self._numbers:
            self._numbers[place] = self.table[f"c{place}"].astype(np.int64)
        return self._numbers[place]

    def _sum(self, window: Window, place: int) -> Ints:
        if (window, place) not in self._sums:
            mask = self._mask(window, self.layout.columns[place].tiles)
            self._sums[window, place] = np.einsum("ij,ij->i", self._column(place), mask, dtype=np.int64)
        return self._sums[window, place]

    def _summed(self, value: Value) -> np.ndarray[Any, Any]:
        count = self._sum(value.window, value.count)
        if value.feature.aggregation == "mean":
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(count > 0, self._sum(value.window, value.sum) / count, _number(value.feature.default))
        told = count if value.feature.aggregation == "count" else self._sum(value.window, value.sum)
        return np.where(count > 0, told, _whole(value.feature.default))

    def _decayed(self, value: Value) -> Found:
        column = self.layout.columns[value.decay]
        numbers = self._tiles(column.hop_ms, column.tiles)
        held = np.where(self._mask(value.window, column.tiles), self._column(value.decay), 0)
        step = self.at * STEPS // column.half_life_ms
        since = numbers * column.hop_ms * STEPS // column.half_life_ms // STEPS - (step // STEPS)[:, None]
        parts = np.ldexp(held.astype(np.float64), np.maximum(since, -1_000).astype(np.int32))
        places = ((self.clock // column.hop_ms)[:, None] + 1 + np.arange(column.tiles)) % column.tiles
        oldest_first = np.take_along_axis(parts, places, axis=1)
        total = np.zeros(len(self.rows))
        for place in range(column.tiles):
            total += oldest_first[:, place]
        told = total / _WEIGHTS[step % STEPS]
        happened = self._sum(value.window, value.count) > 0
        return Found(np.where(happened, told, _number(value.feature.default)), (held == MOST_DECAYED).any(axis=1))

    def _last(self, value: Value) -> np.ndarray[Any, Any]:
        begin = self._begin(value.window)
        found = np.empty(len(self.rows), object)
        found[:] = value.feature.default
        if value.texts >= 0:
            for n, section in enumerate(self._part(value.texts)):
                if len(section.newest) and section.newest[0] >= begin[n]:
                    found[n] = section.text(0)
        else:
            there = self.table[f"at{value.last}"] >= begin
            found[there] = self.table[f"last{value.last}"][there].astype(object)
        return found

    def _distinct(self, value: Value) -> Found:
        begins = self._begin(value.window).tolist()
        each = [np.count_nonzero(section.newest >= begin) for section, begin in zip(self._part(value.texts), begins, strict=True)]
        held = np.array(each, np.int64)
        return Found(np.where(held > 0, np.minimum(held, MOST_DISTINCT), _whole(value.feature.default)), held > MOST_DISTINCT)

    def _top(self, value: Value) -> Found:
        first = (self._begin(value.window) // value.window.hop_ms).tolist()
        found, over = np.empty(len(self.rows), object), np.zeros(len(self.rows), np.bool_)
        for n, section in enumerate(self._part(value.texts)):
            held = section.tiles >= first[n]
            if held.any() and np.unique(section.tiles[held], return_counts=True)[1].max() > MOST_IN_TILE:
                over[n] = True
                held &= _counted(section)
            total = np.bincount(section.places[held], section.often[held], len(section.ends)).astype(np.int64)
            best = np.lexsort((np.arange(len(total)), -total))[: value.feature.k].tolist()
            found[n] = [(section.text(place), int(total[place])) for place in best if total[place]]
        return Found(found, over)

    def _part(self, place: int) -> Iterator[_Section]:
        """One part of each row's texts."""
        if self._read is None:
            read = {row[1]: _sections(self.layout, row[1]) for row in self.rows}
            self._read = [read[row[1]] for row in self.rows]
        return (sections[place] for sections in self._read)


def _counted(section: _Section) -> Truths:
    """Which entries are among their tile's MOST_IN_TILE."""
    texts = [section.text(place) for place in range(len(section.ends))]
    rank = np.empty(len(texts), np.int64)
    rank[sorted(range(len(texts)), key=lambda place: _hashed(texts[place]))] = np.arange(len(texts))
    counted = np.zeros(len(section.tiles), np.bool_)
    for tile in np.unique(section.tiles):
        inside = np.flatnonzero(section.tiles == tile)
        counted[inside[np.argsort(rank[section.places[inside]])[:MOST_IN_TILE]]] = True
    return counted


def _whole(default: Any) -> int:
    return int(default)


def _number(default: Any) -> float:
    return float("nan") if default is None else float(default)


def as_mapping(found: Mapping[str, Found], row: int) -> dict[str, Any]:
    """The values of one row, as plain Python: null where there is none."""
    told = {name: value.of[row] for name, value in found.items()}
    plain = {name: one.item() if isinstance(one, np.generic) else one for name, one in told.items()}
    return {name: None if one != one else one for name, one in plain.items()}

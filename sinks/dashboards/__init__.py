"""The panels of the board: each one .sql file, found by its place, run with bound parameters only.

    sinks/dashboards/<board>/<NN>_<name>.sql

A file opens with comment lines `-- key: value`, and the statement follows. Keys:

    title       what the panel shows (required)
    question    the question it answers, one sentence (required)
    show        number | line | bar | table | timeline (required)
    unit        of the values; a table's columns say theirs in their names (`startup_ms`, `bitrate_kbps`)
    thresholds  from which value on the panel warns: `warn 2000, bad 4000`; `warn below 0.9` where less is worse
    empty       what to say when there are no rows (required)
    width       columns of twelve on a wide screen, 4 unless told
    opens       column whose value opens a session's timeline
    faults      `yes`: a row is a fault, so the panel is in order while it is empty
    each        words, `OCA, device, …`: the file is one panel for each of them, `<name>_oca`, `<name>_device`, …; `{each}` in title and
                question is the word, in the statement the column of that name in lower case

Shapes: number: one row, the value first, what it rests on after it. line and bar: `t`, then one column a series, or `t, series, value`.
table: any. timeline: `at`, then any. Beside a column `x` of a line or table there may be `x_expected` and `x_z`: what its baseline lets
expect, and how many times the usual spread it is off. They are not drawn; where `x_z` is ANOMALOUS or more, either way, `x` is marked.

Parameters: `{from:DateTime64(3, 'UTC')}`, `{to:…}`, `{step_s:UInt32}` (bucket of a line), `{title:String}` and the other filters with ''
for all, `{sid:String}` in the session board. Values are bound by ClickHouse, never pasted into the text. `{chosen}` stands for "as the
filters say", over columns that are named as they are; `{told}`, of reports by session, for these columns; `{robust_z}`, in a WITH, defines
the function robust_z(value, before, least) below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from infra.base import rooms

Show = Literal["number", "line", "bar", "table", "timeline"]

PARTS = ("filters", "session")
"""Folders that are no boards: what the filters offer, and what a session's view is made of."""
HEADER = re.compile(r"^--\s*([a-z]+):\s*(.*?)\s*$")
PARAMETER = re.compile(r"\{(\w+):([^{}]+)\}")
EACH = re.compile(r"^-- each: (.+)\n", re.MULTILINE)
FILE = re.compile(r"^(\d\d)_([a-z][a-z0-9_]*)\.sql$")
THRESHOLD = re.compile(r"^(warn|bad)( below)? (-?[\d.]+)$")
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
POINTS = 150
"""A line has at most about this many points: as many as a panel has room for."""

TYPES = {
    "from": "DateTime64(3, 'UTC')",
    "to": "DateTime64(3, 'UTC')",
    "step_s": "UInt32",
    "title": "String",
    "device": "String",
    "oca": "String",
    "isp": "String",
    "region": "String",
    "player": "String",
    "sid": "String",
}
FILTERS = ("title", "device", "oca", "isp", "region", "player")
CHOSEN = "\n  AND ".join(f"({{{name}:String}} = '' OR {name} = {{{name}:String}})" for name in FILTERS)
TOLD = ", ".join((
    "anyLast(cid) AS title", "anyLast(device_type) AS device", "argMaxIf(oca_id, event_time, oca_id IS NOT NULL) AS oca",
    "toString(anyLast(isp_asn)) AS isp", "anyLast(region) AS region", "anyLast(player) AS player",
))  # fmt: skip
ROBUST_Z = """(x, before, least) -> if(length(before) < 5, NULL,
    (x - arrayReduce('quantileExact', before)) / greatest(least, 1.4826 * arrayReduce('quantileExact',
      arrayMap(y -> abs(y - arrayReduce('quantileExact', before)), before)))) AS robust_z"""
"""How far a value lies from the median of those `before` it, in units of their usual spread, or of `least` where they spread less; NULL
where fewer than five are known. The spread is 1.4826 times the median of absolute deviations, which for a normal distribution is its
standard deviation (Iglewicz & Hoaglin 1993): a bad minute among those before does not move it."""
ANOMALOUS = 3.5
"""From which robust z on a value is out of its baseline, after the same authors."""


class PanelError(Exception):
    """A panel's file or a request for it breaks a rule; the message names the panel and the rule."""


class Queries(Protocol):
    """What a panel needs of a warehouse client: clickhouse-connect's `query`."""

    def query(self, query: str, parameters: dict[str, Any] | None = None) -> Any: ...


@dataclass(frozen=True)
class Threshold:
    """From `value` on (downwards if `below`) a panel shows `level`."""

    level: Literal["warn", "bad"]
    value: float
    below: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows and the statement behind it. `params` maps the names it binds to their ClickHouse types; one of `faults`
    is in order while it is empty.
    """

    board: str
    name: str
    file: str
    title: str
    question: str
    show: Show
    empty: str
    sql: str
    params: Mapping[str, str]
    unit: str = ""
    thresholds: tuple[Threshold, ...] = ()
    width: int = 4
    opens: str = ""
    faults: bool = False


@dataclass(frozen=True)
class Result:
    """A panel's rows, column by column. Times are milliseconds since 1970 UTC."""

    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.values[0]) if self.values else 0

    def records(self) -> list[dict[str, Any]]:
        """The same, row by row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.values, strict=True)]


@lru_cache(maxsize=1)
def panels() -> list[Panel]:
    """Every panel of this installation, by board and number, then those of teams. Raises PanelError."""
    return [panel for room in rooms.everywhere("sinks") if (room / "dashboards").is_dir() for panel in load(room / "dashboards")]


def panel(board: str, name: str) -> Panel:
    """The panel `name` of `board`. Raises PanelError with the names that exist."""
    for candidate in panels():
        if (candidate.board, candidate.name) == (board, name):
            return candidate
    known = ", ".join(f"{p.board}/{p.name}" for p in panels())
    raise PanelError(f"there is no panel {board}/{name}; there are: {known}")


def boards() -> list[str]:
    """The boards in the order they are shown: quality first, the pipeline's own health last, whatever there is between."""
    found = {panel.board for panel in panels()} - set(PARTS)
    return sorted(found, key=lambda name: (name != "quality_of_experience", name == "pipeline", name))


def board_title(name: str) -> str:
    """A board's name as a heading."""
    return name.replace("_", " ").capitalize()


def load(root: Traversable | Path) -> list[Panel]:
    """Read a folder laid out like this one. Raises PanelError."""
    found: list[Panel] = []
    for board in sorted((f for f in root.iterdir() if f.is_dir() and not f.name.startswith("_")), key=lambda f: f.name):
        for file in sorted((f for f in board.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
            found += [parse(board.name, file.name, text, suffix) for suffix, text in _copies(file.read_text(encoding="utf-8"))]
    if twice := [f"{board}/{name}" for (board, name), many in Counter((one.board, one.name) for one in found).items() if many > 1]:
        raise PanelError(f"two panels are called {', '.join(twice)}: one would never be answered")
    return found


def _copies(text: str) -> list[tuple[str, str]]:
    """A file's panels as (end of the name, text): one, or one for each word of `each`."""
    each = EACH.search(text)
    if each is None:
        return [("", text)]
    lines = text.replace(each[0], "").splitlines()
    return [
        (f"_{word.lower()}", "\n".join(line.replace("{each}", word if line.startswith("--") else word.lower()) for line in lines))
        for word in each[1].split(", ")
    ]


def parse(board: str, file_name: str, text: str, suffix: str = "") -> Panel:
    """The panel in one file's text; `suffix` ends its name. Raises PanelError."""
    where = f"{board}/{file_name}"
    named = FILE.match(file_name)
    if not named:
        raise PanelError(f"{where}: a panel's file is named <two digits>_<name>.sql")
    lines = text.splitlines()
    header: dict[str, str] = {}
    for line in lines:
        entry = HEADER.match(line)
        if not entry:
            break
        header[entry[1]] = entry[2]
    sql = "\n".join(lines[len(header) :]).strip().removesuffix(";")
    sql = sql.replace("{chosen}", CHOSEN).replace("{told}", TOLD).replace("{robust_z}", ROBUST_Z)
    for key in ("title", "question", "show", "empty"):
        if not header.get(key):
            raise PanelError(f"{where}: say `-- {key}: …` in the header")
    unknown = set(header) - {"title", "question", "show", "unit", "thresholds", "empty", "width", "opens", "faults"}
    if unknown:
        raise PanelError(f"{where}: unknown header {', '.join(sorted(unknown))}")
    if header["show"] not in get_args(Show):
        raise PanelError(f"{where}: show is one of {', '.join(get_args(Show))}")
    if header.get("faults", "yes") != "yes":
        raise PanelError(f"{where}: faults is yes, or not said")
    params = dict(PARAMETER.findall(sql))
    for name, kind in params.items():
        if TYPES.get(name) != kind:
            raise PanelError(f"{where}: parameter {{{name}:{kind}}} is none of {', '.join(f'{{{n}:{t}}}' for n, t in TYPES.items())}")
    return Panel(
        board=board,
        name=named[2] + suffix,
        file=f"sinks/dashboards/{board}/{file_name}",
        title=header["title"],
        question=header["question"],
        show=header["show"],  # type: ignore[arg-type]
        empty=header["empty"],
        sql=sql,
        params=params,
        unit=header.get("unit", ""),
        thresholds=_thresholds(where, header.get("thresholds", "")),
        width=int(header.get("width", "4")),
        opens=header.get("opens", ""),
        faults=header.get("faults") == "yes",
    )


def _thresholds(where: str, text: str) -> tuple[Threshold, ...]:
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        matched = THRESHOLD.match(part)
        if not matched:
            raise PanelError(f"{where}: thresholds read `warn 2000, bad 4000` or `warn below 0.9`, not {part!r}")
        found.append(Threshold(matched[1], float(matched[3]), bool(matched[2])))  # type: ignore[arg-type]
    return tuple(found)


def step_s(from_: datetime, to: datetime) -> int:
    """The bucket of a line over this range: the smallest round number of seconds that keeps it within POINTS points."""
    span_s = (to - from_).total_seconds()
    return next((step for step in STEPS_S if span_s / step <= POINTS), STEPS_S[-1])


def run(chosen: Panel, client: Queries, params: Mapping[str, Any]) -> Result:
    """Run a panel. `params` holds `from` and `to` (aware datetimes) and any filter; one left out means all, the step follows the range.

    Raises PanelError for a parameter that is missing or not known, and whatever the client raises for a query that fails. Blocks.
    """
    unknown = set(params) - set(TYPES)
    if unknown:
        raise PanelError(f"{chosen.board}/{chosen.name}: unknown parameter {', '.join(sorted(unknown))}; known are {', '.join(TYPES)}")
    given: dict[str, Any] = dict.fromkeys(FILTERS, "") | dict(params)
    if "step_s" in chosen.params and "step_s" not in given and {"from", "to"} <= set(given):
        given["step_s"] = step_s(given["from"], given["to"])
    missing = set(chosen.params) - set(given)
    if missing:
        raise PanelError(f"{chosen.board}/{chosen.name}: needs {', '.join(sorted(missing))}")
    bound = {name: _bind(given[name]) for name in chosen.params}
    answer = client.query(chosen.sql, parameters=bound)
    columns = answer.result_columns if answer.result_rows else [()] * len(answer.column_names)
    return Result(tuple(answer.column_names), tuple(tuple(plain(v) for v in column) for column in columns))


def _bind(value: Any) -> Any:
    """Times as UTC text: the type of the parameter says UTC, and the client would write local time."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if isinstance(value, datetime) else value


def plain(value: Any) -> Any:
    """What JSON can carry: times as milliseconds, NaN (an average of nothing) as null."""
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value

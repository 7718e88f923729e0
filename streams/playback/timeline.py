"""A session's reports as one compact string: what `qoe.session` needs of each report, packed in SQL, unpacked here.

A Flink job carries a session's reports in its state and gives them to Python once per session, so what is carried must be small and
cheap to add to. `PACKED` is the SQL expression that packs one report, Timelines.java joins them, `unpack` reads them.

The separators are control characters. CMCD strings are printable ASCII and the collector refuses anything else, so they cannot occur in
a value; a piece that has another number of fields nevertheless is skipped, because a row that raises would stop the job for ever.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest
from typing import Any, get_type_hints

from streams.playback.qoe import REQUESTED, Report

BETWEEN_FIELDS = "\x1f"
BETWEEN_REPORTS = "\x1e"
BETWEEN_TIMELINES = "\x1d"

FIELDS = Report._fields
"""Fields of playback.report in the order in which they are packed; a segment's end with IN_SHORT unless it says more about the playback."""

IN_SHORT = FIELDS[: FIELDS.index("msd_ms")]
ABOUT_THE_PLAYBACK = ("msd_ms", "bsa", "bsda_ms")

IS_REQUEST = "target LIKE 'request:%'"
"""SQL condition over the columns of playback.report: whether a report came in request mode."""

REQUIRED = frozenset(FIELDS) - Report._field_defaults.keys()
INTEGERS = frozenset(name for name, kind in get_type_hints(Report).items() if kind in (int, int | None))
OWN = FIELDS.index("e")
"""How many fields are each report's own; those after them repeat from report to report."""


def _sql(name: str) -> str:
    if name == "event_time":  # Flink has no cast from TIMESTAMP to milliseconds
        since = "TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', event_time)"
        return f"CAST({since} * CAST(1000 AS BIGINT) + EXTRACT(MILLISECOND FROM event_time) AS STRING)"
    if name == "e":
        return f"CASE WHEN {IS_REQUEST} THEN '{REQUESTED}' ELSE e END"
    if name == "sta":  # what else may carry it changes nothing
        return f"CASE WHEN e = 'ps' OR {IS_REQUEST} THEN COALESCE(sta, '') ELSE '' END"
    text = f"CAST({name} AS STRING)" if name in INTEGERS else name
    return text if name in REQUIRED else f"COALESCE({text}, '')"


def _packed() -> str:
    separator = f"U&'\\{ord(BETWEEN_FIELDS):04X}'"
    short = ", ".join(map(_sql, IN_SHORT))
    rest = ", ".join(map(_sql, FIELDS[len(IN_SHORT) :]))
    says_more = " OR ".join(["e <> 'rr'", IS_REQUEST, *(f"{name} IS NOT NULL" for name in ABOUT_THE_PLAYBACK)])
    return f"CONCAT_WS({separator}, {short}, CASE WHEN {says_more} THEN CONCAT_WS({separator}, {rest}) END)"


PACKED = _packed()
"""SQL expression over the columns of playback.report: one report, packed."""


SQL_BETWEEN_TIMELINES = "U&'\\001D'"
"""The separator as Flink SQL writes it."""


def unpack(timeline: str) -> list[Report]:
    """The reports in `timeline`: packed reports joined by BETWEEN_REPORTS."""
    reports = []
    for piece in timeline.split(BETWEEN_REPORTS):
        own = piece.split(BETWEEN_FIELDS, OWN)
        if len(own) > OWN and (repeated := _repeated(own[OWN])):
            reports.append(Report._make((own[0], int(own[1]), int(own[2]), *repeated)))
    return reports


@lru_cache(maxsize=10_000)
def _repeated(text: str) -> tuple[Any, ...] | None:
    """Values of all fields after a report's own; None where there are not as many as of a whole report or a short one."""
    values = text.split(BETWEEN_FIELDS)
    if len(values) + OWN not in (len(FIELDS), len(IN_SHORT)):
        return None
    named = zip_longest(FIELDS[OWN:], values, fillvalue="")
    return tuple((int(value) if value else None) if name in INTEGERS else value for name, value in named)

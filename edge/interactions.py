"""The judge of what members do with titles: one set of rules for the page and for every player. The collector asks it.

An event is a JSON object: `event` names the contract, `id` is unique to its member, `ts` is the client's clock (ms since 1970), `member` is
who it is, and the rest are the contract's own fields:

    {"event": "impression", "id": "4f…", "ts": 1772323200000, "member": "web-1", "cid": "bbb", "page_id": "p-1", "row": 0, "position": 2,
     "row_kind": "trending", "model_version": "fallback"}
    {"event": "interaction", "id": "50…", "ts": 1772323201000, "member": "web-1", "cid": "bbb", "kind": "click", "impression_id": "4f…"}
    {"event": "search", "id": "51…", "ts": 1772323202000, "member": "web-1", "query": "bunny", "results": 1}

Clients' clocks are not believed where a client says by what clock it sends: `?sent=` in the address, the same clock at the time of sending,
shifts all of a body's events by as much as it is off. What is not for clients to say they cannot say: member ids become pseudonyms, genres
are those of the catalogue, ids are kept apart by member, so that a retried event keeps its own and nobody can take another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from edge.home.search import MOST_QUERY
from edge.judge import MAX_LINE, Rejected
from edge.pseudonym import pseudonym
from infra.base.settings import Settings
from producers.standing import ENVELOPE
from schemas.catalogue import catalogue

TOPICS = {event: f"recommendations.{event}" for event in ("impression", "interaction", "search")}
"""By the word for it in `event`."""
OURS = frozenset({"member_id", "genres"})
"""Fields that the door fills."""
MAX_TEXT = 200
"""Characters."""
BOUNDS: dict[str, tuple[float, float]] = {
    "row": (0, 1_000), "position": (0, 10_000), "results": (0, 1_000_000), "rating_halves": (1, 10), "watched_ms": (0, 7 * 86_400_000),
    "propensity": (1e-9, 1),
}  # fmt: skip
PLAYS, PREVIOUS = ("play", "rewatch"), 5
OF_KIND = {"rating_halves": ("rating",), "watched_ms": ("completion", "skip")}
"""What only these kinds of interactions have, and must have."""


class Told(NamedTuple):
    """An event that is kept: its topic, the contract's own fields, which it is, and when it was."""

    topic: str
    fields: dict[str, Any]
    event_id: str
    event_time_ms: int


class Interactions:
    """Decides on one event at a time. `genres_of` says what the catalogue knows of a title. Pure but for the settings it was made with."""

    def __init__(self, config: Settings, genres_of: Callable[[str], Sequence[str]] = lambda _: ()) -> None:
        self._max_age_ms, self._max_ahead_ms = 1_000 * config.guard.max_age_s, 1_000 * config.guard.max_ahead_s
        self._genres_of = genres_of
        self._fields = {
            name: {item["name"]: item for item in catalogue().topic(topic).event.fields if item["name"] not in OURS | ENVELOPE}
            for name, topic in TOPICS.items()
        }

    def event(self, raw: bytes, arrival_ms: int, sent_ms: int | None = None) -> Told:
        """The event in `raw`, sent when the client's clock said `sent_ms`. Raises Rejected; types are left to the contract's encoder."""
        if len(raw) > MAX_LINE:
            raise Rejected("size", "*", "size", f"{len(raw)} bytes; an event has {MAX_LINE} at most")
        try:
            told = orjson.loads(raw)
        except ValueError as error:
            raise _wrong("*", "syntax", f"this is not JSON: {error}") from None
        if not isinstance(told, dict):
            raise _wrong("*", "syntax", "an event is a JSON object")
        if not (isinstance(name := told.pop("event", None), str) and name in TOPICS):
            raise _wrong("event", "value", f"event is one of {', '.join(TOPICS)}")
        own_id, member, at_ms = (told.pop(key, None) for key in ("id", "member", "ts"))
        for key, value in (("id", own_id), ("member", member)):
            if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
                raise _wrong(key, "value", f"{key} is a text of 1 to {MAX_TEXT} characters")
        if isinstance(at_ms, bool) or not isinstance(at_ms, int):
            raise _wrong("ts", "value", "ts is a whole number: ms since 1970")
        at_ms += 0 if sent_ms is None else arrival_ms - sent_ms
        ahead_ms = at_ms - arrival_ms
        if not -self._max_age_ms <= ahead_ms <= self._max_ahead_ms:
            words = f"ts is {abs(ahead_ms)} ms {'ahead' if ahead_ms > 0 else 'old'}: mend the clock, or say `?sent=`"
            raise Rejected("time_window", "ts", "time_window", words)
        who = pseudonym(member)
        fields = self._checked(name, told) | {"member_id": who}
        if name != "search":
            fields["genres"] = list(self._genres_of(fields["cid"]))
        if isinstance(seen := fields.get("impression_id"), str):
            fields["impression_id"] = identity(who, seen)
        return Told(TOPICS[name], fields, identity(who, own_id), at_ms)

    def _checked(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
        known = self._fields[name]
        if unknown := sorted(told.keys() - known.keys()):
            raise _wrong(unknown[0], "unknown", f"{name} has no field {unknown[0]}")
        for key, value in told.items():
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise _wrong(key, "length", f"{key} has {len(value)} characters; {MAX_TEXT} are the most")
            if key in BOUNDS and isinstance(value, int | float) and not BOUNDS[key][0] <= value <= BOUNDS[key][1]:
                raise _wrong(key, "value", f"{key} is {value}: from {BOUNDS[key][0]} to {BOUNDS[key][1]}")
        for key, item in known.items():
            if told.get(key) is None and "default" not in item:
                raise _wrong(key, "missing", f"{name} needs {key}")
            if key == "cid" and not (isinstance(told[key], str) and told[key]):
                raise _wrong(key, "value", "cid is the title's, a text that is not empty")
        for key, kinds in OF_KIND.items():
            if key in known and (told["kind"] in kinds) != (told.get(key) is not None):
                raise _wrong(key, "value", f"{key} goes with {' and '.join(kinds)}, and only with that: kind is {told['kind']}")
        if previous := told.get("previous_cids"):
            told["previous_cids"] = _previous(previous, told["kind"])
        if name == "search":
            told["query"] = _query(told["query"])
        if told.get("propensity") == 1:
            told["propensity"] = 1.0
        return told


def identity(pseudonym: str, own_id: str) -> str:
    """The event_id of what a member's client calls `own_id`: 32 hex digits."""
    return hashlib.blake2b(f"{pseudonym}\x1f{own_id}".encode(), digest_size=16).hexdigest()


def _previous(told: Any, kind: Any) -> list[str]:
    fits = isinstance(told, list) and len(told) <= PREVIOUS and all(isinstance(cid, str) and 0 < len(cid) <= MAX_TEXT for cid in told)
    if not fits or len(set(told)) < len(told) or kind not in PLAYS:
        raise _wrong("previous_cids", "value", f"previous_cids are {PREVIOUS} titles at most, none twice, of {' and '.join(PLAYS)} only")
    found: list[str] = told
    return found


def _query(told: Any) -> str:
    if not isinstance(told, str) or not (query := " ".join(told.lower().split())) or len(query) > MOST_QUERY:
        raise _wrong("query", "value", f"query is what was typed: a text of 1 to {MOST_QUERY} characters")
    return query


def _wrong(key: str, rule: str, message: str) -> Rejected:
    return Rejected("decode", key, rule, message)

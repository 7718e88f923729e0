"""How much of what players say does a CMCD parser get right?

The same bodies through ours and through a parser of the common kind: split at commas, `key=value`, quotes stripped, digits made numbers.
A field is recovered when it is there with the right type and the right value; a report that ours refuses is recovered in no field. Bodies
are what players were recorded to send, and generated ones for every key, every event, every inner list and both versions, as event
lines, percent-encoded queries and headers. What is right comes from neither parser: for recordings from another implementation,
for the rest from the generator, which wrote the text. Where the outside vectors are beside the checkout, keys, types, tokens and
limits that it writes by are theirs.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_plus

from infra.bench.harness import Figure, Options, say
from infra.bench.recordings import recordings
from schemas import cmcd
from schemas.structured_fields import Bare, Item, Token

FIGURES = {
    "recovered": Figure("share", 1.0, 1.0),
    "regex_recovered": Figure("share"),
}
BODIES = 1_000
VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cmcd" / "cmcd_vectors.json"
OBJECTS = ["m", "a", "v", "av", "i", "c", "tt", "k", "o"]
NUMBER = re.compile(r"-?\d+(\.\d+)?")
TS = 1_700_000_000_000


class Body(NamedTuple):
    """One report by its way (`event`, `query`, `headers`), and what it says: by key, as `infra.bench.recordings` has it."""

    way: str
    sent: str | Mapping[str, str]
    said: Mapping[str, Any]


class Standard(NamedTuple):
    """What the generator writes by: each key's type by version, tokens, longest strings, each key's header, and what an event must have."""

    types: Mapping[int, Mapping[str, str]]
    tokens: Mapping[str, list[str]]
    lengths: Mapping[str, int]
    headers: Mapping[str, str]
    needed: Mapping[str, str]
    event_keys: frozenset[str]
    response_keys: frozenset[str]


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures: there is nothing to repeat, since nothing in it is chance."""
    bodies = [Body(told.way, told.sent, told.expected) for told in recordings()]
    recorded = len(bodies)
    bodies += [generated(random.Random(f"{options.seed}-{n}"), standard()) for n in range((options.events or BODIES) - recorded)]
    fields = sum(len(body.said) for body in bodies)
    ours = sum(recovered(body.said, by_us(body)) for body in bodies)
    regex = sum(recovered(body.said, by_regex(body), tokens=False) for body in bodies)
    say(f"{len(bodies)} bodies, {recorded} of them recorded, {fields} fields: ours {ours}, regex {regex}")
    return [{"recovered": ours / fields, "regex_recovered": regex / fields, "bodies": len(bodies), "recorded": recorded, "fields": fields}]


# --- the two parsers -------------------------------------------------------------------------------------------------------------------


def by_us(body: Body) -> Mapping[str, Any]:
    """What our parser reads; nothing where it refuses."""
    try:
        if isinstance(body.sent, str):
            members = cmcd.parse(body.sent) if body.way == "event" else cmcd.parse_query(body.sent)
        else:
            members = cmcd.parse_headers(body.sent)
    except cmcd.InvalidCmcd:
        return {}
    return {key: _as_said(value) for key, (value, _) in (members or {}).items()}


def by_regex(body: Body) -> Mapping[str, Any]:
    """What a parser of the common kind reads."""
    text = body.sent if isinstance(body.sent, str) else ",".join(body.sent.values())
    if body.way == "query":
        text = unquote_plus(text.partition("CMCD=")[2])
    read: dict[str, Any] = {}
    for pair in text.split(","):
        key, is_given, value = pair.strip().partition("=")
        if not is_given:
            read[key] = True
        elif NUMBER.fullmatch(value):
            read[key] = float(value) if "." in value else int(value)
        else:
            read[key] = value.strip('"')
    return read


def _as_said(value: Bare | list[Item]) -> Any:
    if isinstance(value, list):
        return {"list": [[_as_said(item), {name: _as_said(bare) for name, bare in params.items()}] for item, params in value]}
    return {"token": str(value)} if isinstance(value, Token) else value


def recovered(said: Mapping[str, Any], read: Mapping[str, Any], tokens: bool = True) -> int:
    """Fields of `said` that were read with the right type and value; without `tokens`, a token may have become a string."""
    return sum(key in read and _same(value, read[key], tokens) for key, value in said.items())


def _same(said: Any, read: Any, tokens: bool) -> bool:
    if isinstance(said, Mapping) and "token" in said and not tokens:
        return bool(said["token"] == read)
    return (type(said) is bool) == (type(read) is bool) and bool(said == read)


# --- the generator ---------------------------------------------------------------------------------------------------------------------


def standard() -> Standard:
    """By the outside vectors where they are, else as `schemas.cmcd` has it."""
    if not VECTORS.exists():
        types, first, headers = cmcd.TYPES, cmcd.V1_TYPES, cmcd.HEADERS
        tokens = {key: sorted(known) for key, known in cmcd.TOKENS.items()}
        return Standard({1: first, 2: types}, tokens, cmcd.LENGTHS, headers, cmcd.REQUIRED_BY_EVENT, cmcd.EVENT_KEYS, cmcd.RESPONSE_KEYS)
    told = json.loads(VECTORS.read_text())
    every = told["v2_types"] | told["v1_type_overrides"]
    second = [*told["v2_request_keys"], *told["v2_response_keys"], *told["v2_event_keys"]]
    return Standard(
        {1: {key: every[key] for key in told["v1_keys"]}, 2: {key: told["v2_types"][key] for key in second}},
        told["tokens"], told["string_limits"], told["header_of_key"], told["state_event_required_key"],
        frozenset(told["v2_event_keys"]), frozenset(told["v2_response_keys"]),
    )  # fmt: skip


def generated(chance: random.Random, by: Standard) -> Body:
    """A right report with a third of the keys it may have, in any order, with spaces where the standard lets them be."""
    way = chance.choice(["event", "event", "query", "headers"])
    version = 2 if way == "event" else chance.choice([1, 2])
    kinds = by.types[version]
    event = chance.choice(by.tokens["e"]) if way == "event" else ""
    needed = {"e", "ts", by.needed.get(event, "e")} if way == "event" else set()
    barred = ({"cen"} - needed if way == "event" else by.event_keys) | (frozenset() if event == "rr" else by.response_keys)
    keys = {key for key in kinds if key not in barred and chance.random() < 1 / 3} | needed | {"sid"}
    said: dict[str, Any] = {key: value(chance, key, kinds[key], by) for key in keys - {"v"}}
    said |= {"com.example-x": text(chance, 64)} if chance.random() < 0.3 else {}
    fixed = {"e": {"token": event}, "ts": TS + chance.randrange(10**9), "v": version}
    said |= {key: fixed[key] for key in fixed if key in said or (key == "v" and (version == 2 or chance.random() < 0.3))}
    members = [(key, written(key, said[key], chance)) for key in chance.sample(sorted(said), len(said))]
    if way == "headers":
        return Body(way, {name: ",".join(pieces) for name, pieces in _sharded(members, by.headers).items()}, said)
    line = chance.choice([",", ", "]).join(member for _, member in members)
    return Body(way, f"CMCD={quote(line, safe='')}" if way == "query" else line, said)


def value(chance: random.Random, key: str, kind: str, by: Standard) -> Any:
    """Something that the key may say."""
    match kind:
        case "integer":
            return chance.choice([0, 1, chance.randrange(100_000), 2**31 - 1])
        case "number":
            return chance.choice([0, 1, 1.5, 0.125, chance.randrange(10_000)])
        case "boolean":
            return chance.random() < 0.7
        case "string":
            return text(chance, min(by.lengths.get(key, 80), 80))
        case "token":
            return {"token": chance.choice(by.tokens[key])}
        case "string[]":
            return {"list": [[text(chance, 40), chance.choice([{}, {"r": "0-99"}])] for _ in range(chance.randint(1, 3))]}
        case "number[]":
            types = chance.sample(OBJECTS, chance.randint(1, 3))
            return {"list": [[value(chance, key, "number", by), {name: True} if len(types) > 1 else {}] for name in types]}
    raise ValueError(f"{key} has the type {kind}, of which nothing is known here")


def text(chance: random.Random, longest: int) -> str:
    """Printable ASCII, with what is hard in a third of it: commas, quotes, backslashes, equals signs."""
    alphabet = chance.choice(["abcxyz0189-./:", "abcxyz0189-./:", ' ,="\\();?aA0'])
    return "".join(chance.choice(alphabet) for _ in range(chance.randint(1, longest)))


def written(key: str, said: Any, chance: random.Random) -> str:
    """A member as RFC 9651 writes it; a true boolean may stand alone or be spelt out."""
    if said is True:
        return chance.choice([key, key, f"{key}=?1"])
    return f"{key}={_bare(said)}"


def _bare(said: Any) -> str:
    if isinstance(said, bool):
        return "?1" if said else "?0"
    if isinstance(said, str):
        return '"' + said.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(said, Mapping):
        return str(said["token"]) if "token" in said else f"({' '.join(_item(*item) for item in said['list'])})"
    return str(said)


def _item(said: Any, params: Mapping[str, Any]) -> str:
    return _bare(said) + "".join(f";{name}" if bare is True else f";{name}={_bare(bare)}" for name, bare in params.items())


def _sharded(members: list[tuple[str, str]], headers: Mapping[str, str]) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = {}
    for key, member in members:
        shards.setdefault(headers.get(key, "CMCD-Session"), []).append(member)
    return shards

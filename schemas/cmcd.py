"""Common Media Client Data, CTA-5004 (v1) and CTA-5004-B (v2), on strict structured fields: parse, check, map to a report, write. Pure.

A parsed report is a dictionary of members `key → (value, params)` as `schemas.structured_fields` has them. Where text, query, headers or
JSON break the standard, `InvalidCmcd` names the first key and the rule; `check` lists all of them.

Rules: `syntax`, `unknown_key`, `type`, `token`, `length`, `range`, `required`, `forbidden`, `version`, `header`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes, urlsplit

from schemas import structured_fields as sf
from schemas.structured_fields import NONE, Member, Token

Mode: TypeAlias = Literal["request", "event"]
Members: TypeAlias = dict[str, Member]


def _by_key(keys_of: Mapping[str, str]) -> dict[str, str]:
    """Group → keys, as a table reads best, turned into key → group, as it is used."""
    return {key: group for group, keys in keys_of.items() for key in keys.split()}


TYPES = _by_key(
    {
        "number[]": "ab bl br bsa bsd bsda lab lb mtp pb tab tb tbl tpb",
        "string[]": "ec nor",
        "integer": "d dfa dl ltc msd pt rc rtp sn ts ttfb ttfbb ttlb v",
        "number": "pr",
        "boolean": "bg bs nr su",
        "string": "cdn cen cid cmsdd cmsds cs h sid smrt url",
        "token": "e ot sf st sta",
    }
)
"""Every key of v2 with its type."""
V1_TYPES = _by_key(
    {"integer": "bl d dl mtp rtp v", "number": "br pr tb", "string": "cid nor nrr sid", "token": "ot sf st", "boolean": "bs su"}
)
"""Every key of v1 with its type."""
EVENT_KEYS = frozenset({"cen", "e", "h", "ts"})
RESPONSE_KEYS = frozenset({"cmsdd", "cmsds", "rc", "smrt", "ttfb", "ttfbb", "ttlb", "url"})
HEADERS = _by_key(
    {
        "cmcd-object": "ab br d lab lb ot tab tb tpb",
        "cmcd-request": "bl cs dfa dl ltc mtp nor nrr pb sn sta su tbl",
        "cmcd-session": "cid msd sf sid st v",
        "cmcd-status": "bg bs bsa bsd bsda cdn ec nr pr pt rtp",
    }
)
SHARDS = frozenset(HEADERS.values())
_TOKENS = {
    "e": "bc ps pr e t c b m um pe pc rr as ae abs abe sk ce",
    "ot": "m a v av i c tt k o",
    "sf": "d h s o",
    "st": "v l ll",
    "sta": "s p k r a w e f q d",
}
TOKENS = {key: frozenset(tokens.split()) for key, tokens in _TOKENS.items()}
LENGTHS = {"sid": 64, "cid": 128, "cdn": 128, "h": 128, "cen": 64}
CUSTOM_LENGTH = 64
REQUIRED_BY_EVENT = {"ps": "sta", "pr": "pr", "c": "cid", "b": "bg", "bc": "br", "e": "ec", "rr": "url", "ce": "cen"}
ROUNDED = {"bl": 100, "dl": 100, "mtp": 100, "rtp": 100, "tbl": 100, "br": 1, "d": 1, "tb": 1}
"""What the standard wants rounded, and to what."""

INT_MAX = 2**31 - 1
CUSTOM_KEY = re.compile(r"[a-z][a-z0-9.]*-[a-z0-9.\-]+")


class Violation(NamedTuple):
    """One breach: the key it is about (`*` for the whole text), the rule, and words."""

    key: str
    rule: str
    message: str


class InvalidCmcd(ValueError):
    """A report that breaks the standard; `violations` has at least one."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(v.message for v in violations))
        self.violations = violations


class Report(NamedTuple):
    """A report in the words of `playback.report`: what belongs into the envelope, and the contract's own fields."""

    event_id: str
    event_time_ms: int
    correlation_id: str
    fields: dict[str, Any]
    """`member_id`, where there is one, is as the player sent it: pseudonymise it before it goes anywhere."""


# --- parsing ---------------------------------------------------------------------------------------------------------------------------


def parse(text: str, mode: Mode = "event") -> Members:
    """One report as in a line of an event body, or a decoded query argument. Raises InvalidCmcd."""
    try:
        members = sf.parse_dictionary(text)
    except sf.SyntaxViolation as error:
        raise InvalidCmcd([Violation(error.key or _key_at(text, error.position), "syntax", str(error))]) from None
    return _checked(members, mode)


def parse_query(query: str) -> Members | None:
    """The `CMCD` argument of a raw query string (still percent-encoded), in request mode; None without one. Raises InvalidCmcd."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == "CMCD":
            # A plus is a space: browsers' URLSearchParams, which dash.js, hls.js and Shaka use, write it so.
            return parse(unquote_to_bytes(value.replace("+", " ")).decode("latin-1"), "request")
    return None


def parse_headers(headers: Mapping[str, str]) -> Members | None:
    """The four `CMCD-*` headers (names in any case) as one report in request mode; None without any. Raises InvalidCmcd."""
    shards = {name.lower(): text for name, text in headers.items() if name.lower() in SHARDS}
    if not shards:
        return None
    merged: Members = {}
    for shard, text in shards.items():
        try:
            members = sf.parse_dictionary(text)
        except sf.SyntaxViolation as error:
            raise InvalidCmcd([Violation(error.key or _key_at(text, error.position), "syntax", f"{shard}: {error}")]) from None
        astray = [key for key in members if HEADERS.get(key, shard) != shard]
        if astray:
            raise InvalidCmcd([Violation(key, "header", f"{key} belongs into {HEADERS[key]}, not into {shard}") for key in astray])
        merged |= members
    return _checked(merged, "request")


def parse_json(text: str | bytes, mode: Mode = "event") -> Members:
    """One report as a JSON object of keys: numbers, strings (tokens too), booleans, and lists for inner lists. Raises InvalidCmcd."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidCmcd([Violation("*", "syntax", f"not JSON: {error}")]) from None
    if not isinstance(value, dict):
        raise InvalidCmcd([Violation("*", "syntax", f"a report is a JSON object, not {_shown(value)}")])
    members: Members = {}
    for key, found in value.items():
        if isinstance(found, list):
            members[key] = ([(_json_bare(key, item), NONE) for item in found], NONE)
        else:
            members[key] = (_json_bare(key, found), NONE)
    return _checked(members, mode)


def custom(pairs: Iterable[tuple[str, str]]) -> Members:
    """Custom keys that reach us beside a report, as in the collector's own address. Raises InvalidCmcd."""
    members: Members = {key: (value, NONE) for key, value in pairs}
    violations = [broken for key, (value, _) in members.items() if (broken := _check_unknown(key, value, 2)) is not None]
    if violations:
        raise InvalidCmcd(violations)
    return members


def _json_bare(key: str, value: object) -> sf.Bare:
    if isinstance(value, str):
        return Token(value) if key in TOKENS else value
    if isinstance(value, (bool, int, float)):
        return value
    raise InvalidCmcd([Violation(key, "type", f"{key} is {_shown(value)}, which CMCD has no type for")])


def _key_at(text: str, position: int) -> str:
    """The key of the member that begins around a position, as well as text that cannot be parsed shows it."""
    match = re.match(r"[ \t]*([a-z*][a-z0-9_\-.*]*)", text[text.rfind(",", 0, position) + 1 :])
    return match[1] if match else "*"


# --- checking --------------------------------------------------------------------------------------------------------------------------


def check(members: Members, mode: Mode) -> list[Violation]:
    """Every breach of CTA-5004 in a report; empty when it is right."""
    version = members["v"][0] if "v" in members else 1
    if version != 2 and (version != 1 or mode == "event"):
        right = "an event report has v=2" if mode == "event" else "v is 1 or 2"
        return [Violation("v", "version", f"{right}, not {_shown(members['v'][0]) if 'v' in members else 'none'}")]
    found: list[Violation] = []
    rules = _RULES[version]
    for key, (value, _) in members.items():
        rule = rules.get(key)
        if rule is None:
            if broken := _check_unknown(key, value, version):
                found.append(broken)
        elif (broken := rule(value)) is not None:
            found.append(broken)
    if mode == "event":
        _check_event(members, found)
    else:
        found += [Violation(k, "forbidden", f"{k} is for event reports only") for k in members if k in EVENT_KEYS or k in RESPONSE_KEYS]
    return found


def _checked(members: Members, mode: Mode) -> Members:
    violations = check(members, mode)
    if violations:
        raise InvalidCmcd(violations)
    return members


def _check_event(members: Members, found: list[Violation]) -> None:
    for key in ("e", "ts"):
        if key not in members:
            found.append(Violation(key, "required", f"an event report has {key}"))
    event: Any = members.get("e", _ABSENT)[0]
    needed = REQUIRED_BY_EVENT.get(event) if isinstance(event, str) else None
    if needed is not None and needed not in members:
        found.append(Violation(needed, "required", f"a report with e={event} has {needed}"))
    if event != "ce" and "cen" in members:
        found.append(Violation("cen", "forbidden", "cen is for reports with e=ce only"))
    if event != "rr" and not RESPONSE_KEYS.isdisjoint(members):
        found += [Violation(k, "forbidden", f"{k} is for reports with e=rr only") for k in members if k in RESPONSE_KEYS]


def _check_unknown(key: str, value: object, version: object) -> Violation | None:
    if not CUSTOM_KEY.fullmatch(key):
        hint = "a custom key is a reverse DNS name, a hyphen and a name" if "-" in key else f"CMCD v{version} does not have it"
        return Violation(key, "unknown_key", f"{key}: {hint}")
    if isinstance(value, (str, bytes)) and len(value) > CUSTOM_LENGTH:
        return Violation(key, "length", f"{key} has {len(value)} characters; a custom value has {CUSTOM_LENGTH} at most")
    if isinstance(value, list):
        return Violation(key, "type", f"{key} is an inner list; a custom value is one item")
    return None


_ABSENT: tuple[None, sf.Params] = (None, NONE)
Rule: TypeAlias = Callable[[Any], Violation | None]


def _shown(value: object) -> str:
    return repr(value)[:80]


def _rule(key: str, kind: str) -> Rule:
    """The check of one key's value."""

    def wrong(value: object, what: str) -> Violation:
        return Violation(key, "type", f"{key} is {what}, not {_shown(value)}")

    def negative(value: float) -> Violation:
        return Violation(key, "range", f"{key} is {value}; it cannot be negative")

    def too_large(value: float) -> Violation:
        return Violation(key, "range", f"{key} is {value}; the largest that is kept is {limit}")

    limit = INT_MAX if key in _INT_FIELDS else sf.INTEGER_MAX

    def integer(value: object) -> Violation | None:
        if type(value) is not int:
            return wrong(value, "an integer")
        if value < 0:
            return negative(value)
        return None if value <= limit else too_large(value)

    def number(value: object) -> Violation | None:
        if type(value) is not int and type(value) is not float:
            return wrong(value, "a number")
        if value < 0 and key != "pr":
            return negative(value)
        return None if value <= limit else too_large(value)

    def number_list(value: object) -> Violation | None:
        if type(value) is not list:
            return wrong(value, "an inner list of numbers")
        for item, _ in value:
            if broken := number(item):
                return broken
        return None if value else Violation(key, "type", f"{key} is an inner list with nothing in it")

    def string(value: object) -> Violation | None:
        if type(value) is not str and type(value) is not sf.DisplayString:
            return wrong(value, "a string")
        if len(value) > length:
            return Violation(key, "length", f"{key} has {len(value)} characters; {length} at most")
        return None

    length = LENGTHS.get(key, 1 << 30)

    def string_list(value: object) -> Violation | None:
        if type(value) is not list:
            # dash.js 5.2 sends the bare number of its error (its issue 5111); losing errors over it would help nobody.
            return None if key == "ec" and type(value) in (int, str, Token) else wrong(value, "an inner list of strings")
        for item, _ in value:
            if broken := string(item):
                return broken
        return None

    def boolean(value: object) -> Violation | None:
        return None if value is True or value is False else wrong(value, "a boolean")

    def token(value: object) -> Violation | None:
        if type(value) is not Token:
            return wrong(value, "a token")
        return None if value in tokens else Violation(key, "token", f"{key} is {_shown(str(value))}, none of {', '.join(sorted(tokens))}")

    tokens = TOKENS.get(key, frozenset())
    checks: dict[str, Rule] = {
        "integer": integer, "number": number, "number[]": number_list, "string": string, "string[]": string_list,
        "boolean": boolean, "token": token,
    }  # fmt: skip
    return checks[kind]


# --- mapping to the contract -----------------------------------------------------------------------------------------------------------


def _whole(value: float, kind: str | None) -> int:
    return round(value)


def _same(value: Any, kind: str | None) -> Any:
    return value


def _text(value: Any, kind: str | None) -> str:
    return str(value)


def _without_query(value: Any, kind: str | None) -> str:
    return str(value).partition("?")[0].partition("#")[0]


def _texts(value: Any, kind: str | None) -> list[str]:
    return [str(item) for item, _ in value] if isinstance(value, list) else [str(value)]


def _of_list(otherwise: Callable[[list[float]], float], *preferred: str) -> Callable[[Any, str | None], int]:
    """One number of an inner list: the one without an object type, else that of the report's own type, of a preferred type, `otherwise`."""

    def pick(value: Any, kind: str | None) -> int:
        if not isinstance(value, list):
            return _whole(value, kind)
        if len(value) == 1:
            return _whole(value[0][0], kind)
        typed: dict[str | None, float] = {}
        for item, params in reversed(value):
            typed |= dict.fromkeys(params or (None,), item)
        found = next((typed[wanted] for wanted in (None, kind, *preferred) if wanted in typed), None)
        return _whole(otherwise([item for item, _ in value]) if found is None else found, kind)

    return pick


Place: TypeAlias = tuple[str, Callable[[Any, Any], Any]]
PLACES: dict[str, Place] = {
    "sid": ("sid", _text), "e": ("e", _text), "sta": ("sta", _text), "cid": ("cid", _text), "sn": ("sn", _same),
    "br": ("br_kbps", _of_list(max, "v", "av")), "tb": ("tb_kbps", _of_list(max, "v", "av")), "bl": ("bl_ms", _of_list(min)),
    "mtp": ("mtp_kbps", _of_list(max)), "d": ("d_ms", _same), "ot": ("ot", _text), "url": ("url", _without_query), "rc": ("rc", _same),
    "ttfb": ("ttfb_ms", _same), "ttlb": ("ttlb_ms", _same), "pt": ("pt_ms", _same), "msd": ("msd_ms", _same), "bs": ("bs", _same),
    "bsa": ("bsa", _of_list(max)), "bsda": ("bsda_ms", _of_list(max)), "dfa": ("dfa", _same), "pr": ("pr", _same), "ec": ("ec", _texts),
    "bg": ("bg", _same), "sf": ("sf", _text), "st": ("st", _text),
}  # fmt: skip
"""Where the contract has a standard key. Of per-type lists it keeps the video bitrate, the shortest buffer, the most stalls."""

LIFTED: dict[str, Place] = {
    "com.headrace-member": ("member_id", _text), "com.headrace-device": ("device_type", _text), "com.headrace-player": ("player", _text),
    "com.headrace-region": ("region", _text), "com.headrace-oca": ("oca_id", _text), "com.headrace-asn": ("isp_asn", _whole),
    "com.headrace-bytes": ("bytes", _whole), "com.headrace-from": ("switched_from", _text), "com.headrace-to": ("switched_to", _text),
    "com.headrace-cause": ("switch_cause", _text), "com.headrace-network": ("network_type", _text),
    "com.headrace-abr": ("abr", _text),
}  # fmt: skip
"""Custom keys of ours that have a field of their own."""
CUSTOM = "com.headrace-"
"""What our own keys begin with: those of `LIFTED`, `cid` (the correlation id), and what players tell once of ladder, buffer and prior."""
CORRELATION = f"{CUSTOM}cid"
_LIFTED_MAX = {"com.headrace-asn": INT_MAX, "com.headrace-bytes": sf.INTEGER_MAX}
_FIELDS = {key: field for key, (field, _) in (PLACES | LIFTED).items()} | dict.fromkeys(("v", "ts", CORRELATION), "")
"""Where each key goes: a field of the contract, or, where that is empty, the envelope or nowhere. What is not here goes into `custom`."""
ALWAYS = frozenset({"e", "sn", "ts", "v"})
"""What an event report has; `sn` may lack, but is hardly ever left out."""
LONGEST_KNOWN = 1024
"""Characters of a member that is told at a glance or remembered: what strangers send must not fill the memory."""
_INT_FIELDS = frozenset(PLACES) - {"sid", "sn", "pt", "bsda"}
_RULES: dict[Any, dict[str, Rule]] = {
    1: {key: _rule(key, kind) for key, kind in V1_TYPES.items()},
    2: {key: _rule(key, kind) for key, kind in TYPES.items()},
}


class _PerType(NamedTuple):
    """A list of several numbers, and which one is kept of it by the report's own `ot`."""

    items: list[sf.Item]
    pick: Callable[[Any, Any], Any]


Told: TypeAlias = dict[str, Any]
"""What the members of a report say: by key, the value as the contract has it."""


def to_report(members: Members, target: str = "default") -> Report:
    """A checked event report as the contract has it. `target` names the report target within which the player counts `sn`.

    Standard keys without a field, and custom keys, go into `custom` as text. Raises InvalidCmcd where what the contract needs is missing.
    """
    told = {key: _tell(key, member) for key, member in members.items()}
    return _report(told, {"target": f"event:{target}"}, told["ts"], lambda: serialise_members(members))


def to_request_report(members: Members, target: str, asked_at_ms: int, asked: str) -> Report:
    """A checked request report as the contract has it: `e` is `rr`, because who tells of it is the server that gives the response.

    `target` is that server, `asked_at_ms` its clock when the request came, `asked` what it was for. A report without `sn`, as in
    version 1, is known by its text and `asked`: a request that is sent again as it was is the same report. Raises InvalidCmcd.
    """
    told = {key: _tell(key, member) for key, member in members.items()}
    fields = {"target": f"request:{target}", "e": "rr"}
    return _report(told, fields, asked_at_ms, lambda: f"{asked}\x1f{serialise_members(members)}")


def read(text: str, target: str = "default", beside: Mapping[str, Member] = MappingProxyType({})) -> Report:
    """`to_report` of `parse` of one line of an event body, `beside` (of `custom`) standing in for keys that it lacks. Raises InvalidCmcd.

    Nearly every member is a plain number, string or token, which is told at a glance. Where a line's members are right one by one, its
    commas part them, and the rules between keys hold, nothing is left to check. Of any other line this says nothing: the careful way
    has the verdict, and the words for it.
    """
    return _read_plain(text, target, beside) or to_report({**beside, **parse(text)}, target)


def _read_plain(text: str, target: str, beside: Mapping[str, Member]) -> Report | None:
    """The report in a line of plain members that is right; None where one is not plain, or something is not right."""
    if not text.isascii():
        return None
    told = {key: _tell(key, member) for key, member in beside.items()} if beside else {}
    for piece in text.split(","):
        key, given, value = piece.partition("=")
        plain = _PLAIN.get(key)
        said = None if plain is None else plain(value if given else "?1")
        if said is None:
            if (alone := _said_alone(piece)) is None:
                return None
            key, said = alone
        told[key] = said
    if not told.keys() >= ALWAYS or told["v"] != 2:
        return None
    event = told["e"]
    needed = REQUIRED_BY_EVENT.get(event)
    if needed is not None and needed not in told:
        return None
    if (event != "rr" and not RESPONSE_KEYS.isdisjoint(told)) or (event != "ce" and "cen" in told):
        return None
    return _report(told, {"target": f"event:{target}"}, told["ts"], str)


@lru_cache(maxsize=4096)
def _said_alone(piece: str) -> tuple[str, Any] | None:
    """Key and what it says of one member that is right in version 2; None where it is not, or is no member. Players repeat themselves."""
    if len(piece) > LONGEST_KNOWN:
        return None
    try:
        members = sf.parse_dictionary(piece)
        if len(members) != 1:
            return None
        ((key, member),) = members.items()
        rule = _RULES[2].get(key)
        broken = _check_unknown(key, member[0], 2) if rule is None else rule(member[0])
        return None if broken else (key, _tell(key, member))
    except (sf.SyntaxViolation, InvalidCmcd):
        return None


def _tell(key: str, member: Member) -> Any:
    """What a checked member says. Raises InvalidCmcd for one of our own keys that is not as it should be."""
    value = member[0]
    if place := PLACES.get(key):
        several = isinstance(value, list) and len(value) > 1 and key != "ec"
        return _PerType(value, place[1]) if several else place[1](value, None)  # type: ignore[arg-type]
    if key in LIFTED:
        return _lift(key, value)
    if key in ("v", "ts"):
        return value
    return str(value) if isinstance(value, str) or key == CORRELATION else sf.serialise_member(member)


def _report(told: Told, fields: dict[str, Any], event_time_ms: int, unnumbered: Callable[[], str]) -> Report:
    """The report of what was told, `fields` before it; `unnumbered` is what it is known by where it has no `sn`. Raises InvalidCmcd."""
    custom: dict[str, str] = {}
    for key, value in told.items():
        field = _FIELDS.get(key)
        if field is None:
            custom[key] = value
        elif value.__class__ is _PerType:
            fields[field] = value.pick(value.items, told.get("ot"))
        elif field:
            fields[field] = value
    if custom:
        fields["custom"] = custom
    if "sid" not in told:
        raise InvalidCmcd([Violation("sid", "required", "a report that belongs to no session cannot be kept: sid is missing")])
    sn = fields.setdefault("sn", -1)
    event_id = report_id(told["sid"], fields["target"], sn) if sn >= 0 else _digest(unnumbered())
    return Report(event_id, event_time_ms, told.get(CORRELATION, ""), fields)


def _plain(key: str, kind: str) -> Callable[[str], Any]:
    """What reads the text of one key's value at a glance, as `_tell` has it; None where that takes a closer look."""
    limit = _LIFTED_MAX.get(key) or (INT_MAX if key in _INT_FIELDS else sf.INTEGER_MAX)
    length = LENGTHS.get(key, CUSTOM_LENGTH if "-" in key else LONGEST_KNOWN)
    kept = key in _FIELDS
    convert = PLACES[key][1] if key in PLACES else _text

    def integer(text: str) -> Any:
        if not text.isdigit() or len(text) > 15 or (number := int(text)) > limit:
            return None
        return number if kept else str(number)

    def number_list(text: str) -> Any:
        if text[:1] != "(" or text[-1:] != ")" or (number := integer(text[1:-1])) is None:
            return None
        return number if kept else f"({number})"

    def string(text: str) -> Any:
        inner = text[1:-1]
        plain = text[:1] == '"' == text[-1:] and text != '"' and '"' not in inner and "\\" not in inner and inner.isprintable()
        return convert(inner, None) if plain and len(inner) <= length else None

    if kind == "boolean":
        return {"?1": True, "?0": False}.get if kept else {"?1": "?1", "?0": "?0"}.get
    if kind == "token":
        return {token: token for token in TOKENS[key]}.get
    return {"integer": integer, "number[]": number_list, "string": string}.get(kind, lambda text: None)


def report_id(sid: str, target: str, sn: int) -> str:
    """The event_id of a report: the same for every retry of it. `target` is mode:target."""
    return _digest(f"{sid}\x1f{target}\x1f{sn}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


_PLAIN = {
    **{key: _plain(key, kind) for key, kind in TYPES.items()},
    **{key: _plain(key, "integer" if key in _LIFTED_MAX else "string") for key in (*LIFTED, CORRELATION)},
}


def _lift(key: str, value: Any) -> Any:
    if key not in _LIFTED_MAX:
        return _text(value, None)
    if not (type(value) is int or (isinstance(value, str) and value.isdecimal() and value.isascii())):
        raise InvalidCmcd([Violation(key, "type", f"{key} is an integer, not {_shown(value)}")])
    number = int(value)
    if not 0 <= number <= _LIFTED_MAX[key]:
        raise InvalidCmcd([Violation(key, "range", f"{key} is {number}; it cannot be negative or that large")])
    return number


# --- writing ---------------------------------------------------------------------------------------------------------------------------


def serialise(data: Mapping[str, Any], version: int = 2) -> str:
    """A report as text, keys in alphabetical order, for a line of an event body or (`to_query`) a query argument.

    Values are plain Python: numbers, strings (tokens too), booleans, and for inner lists a value, a list of values or of (value, params)
    pairs; None is left out. What the standard wants rounded is rounded. Raises InvalidCmcd where the result would break the standard.
    """
    types = TYPES if version == 2 else V1_TYPES
    members = {key: _member(key, value, types.get(key, "")) for key, value in sorted({**data, "v": version}.items()) if value is not None}
    if version == 1:
        del members["v"]  # version 1 is what a report without v has
    _checked(members, "event" if "e" in members else "request")
    return serialise_members(members)


def serialise_members(members: Members) -> str:
    """Members as text in alphabetical order."""
    return sf.serialise_dictionary(dict(sorted(members.items())), separator=",")


def to_query(text: str) -> str:
    """The query argument `CMCD=…`, percent-encoded."""
    return f"CMCD={quote(text, safe='')}"


def to_headers(members: Members, custom: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The four headers by lower-case name; `custom` says which one a custom key goes into, CMCD-Request where it does not."""
    shards: dict[str, Members] = {}
    for key, member in sorted(members.items()):
        shards.setdefault(HEADERS.get(key) or custom.get(key, "cmcd-request"), {})[key] = member
    return {shard: sf.serialise_dictionary(found, separator=",") for shard, found in shards.items()}


def _member(key: str, value: Any, kind: str) -> Member:
    if kind.endswith("[]"):
        items: Iterable[Any] = value if isinstance(value, list) else [value]
        pairs = [item if isinstance(item, tuple) else (item, NONE) for item in items]
        return ([(_rounded(key, item), params) for item, params in pairs], NONE)
    if kind == "token" and isinstance(value, str):
        return (Token(value), NONE)
    return (_rounded(key, value), NONE)


def _rounded(key: str, value: Any) -> Any:
    step = ROUNDED.get(key)
    return value if step is None or isinstance(value, str) else round(value / step) * step


def origin(url: str) -> str:
    """`host:port` of a URL, lower case, empty where it has none: how the cache server of a report is recognised."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""

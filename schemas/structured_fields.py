"""Structured Field Values for HTTP (RFC 9651): strict parsing and canonical serialisation. Pure.

A member of a dictionary or list, and a lone item, is a pair `(value, params)`:

    value     int | float | str | Token | bytes | bool | Date | DisplayString, or, for an inner list, a list of such pairs
    params    parameter name → bare value, in order; an empty mapping that is shared, never to be written to

Parsing refuses what the RFC refuses and raises `SyntaxViolation`, which says at which character and why.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import unquote_to_bytes


class SyntaxViolation(ValueError):
    """Text that RFC 9651 does not allow; `position` is the index of the first character that does not fit, `key` its dictionary member."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position}")
        self.position = position
        self.key = ""


class Token(str):
    """A token: a bare word, as in `ot=v`."""

    __slots__ = ()


class DisplayString(str):
    """A string of any Unicode, as in `%"f%c3%bc%c3%bc"`."""

    __slots__ = ()


class Date(int):
    """Seconds since 1970, as in `@1659578233`."""

    __slots__ = ()


Bare: TypeAlias = int | float | str | bytes | bool
Params: TypeAlias = Mapping[str, Bare]
Item: TypeAlias = tuple[Bare, Params]
Member: TypeAlias = tuple[Bare | list[Item], Params]

NONE: Params = MappingProxyType({})
INTEGER_MAX = 999_999_999_999_999
DECIMAL_MAX = Decimal("999999999999.999")

_KEY = r"[a-z*][a-z0-9_\-.*]*"
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*"
_STRING = r'(?:[ !#-\[\]-~]|\\["\\])*'
_BARE = (
    r"(?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3})|(?P<integer>-?[0-9]{1,15})"
    rf'|"(?P<string>{_STRING})"|(?P<token>{_TOKEN})|\?(?P<boolean>[01])'
    r"|:(?P<binary>[A-Za-z0-9+/=]*):|@(?P<date>-?[0-9]{1,15})"
    r'|%"(?P<display>(?:[ !#$&-~]|%[0-9a-f]{2})*)"'
)
_bare = re.compile(_BARE)
_value = re.compile(rf"{_BARE}|(?P<list>\()")
_member = re.compile(rf"(?P<key>{_KEY})(?:=(?:{_BARE}|\((?P<one>-?[0-9]{{1,15}})\)|(?P<list>\()))?")
_next_member = re.compile(r",[^ \t]")
_param = re.compile(rf";[ ]*(?P<key>{_KEY})(?:=(?:{_BARE}))?")
_comma = re.compile(r"[ \t]*(?:(?P<comma>,)[ \t]*)?")
_spaces = re.compile(" *")
_whole_key = re.compile(_KEY)
_whole_token = re.compile(_TOKEN)


def parse_dictionary(text: str) -> dict[str, Member]:
    """Members by key, in the order of their first appearance; of a repeated key the last value counts. Raises SyntaxViolation.

    The frequent kinds are told apart here rather than in `_bare_of`: cache servers read every request's CMCD by it.
    """
    members: dict[str, Member] = {}
    position, end = _bounds(text)
    value: Bare | list[Item]
    match: re.Match[str] | None = None
    try:
        while position < end:
            match = _member.match(text, position)
            if match is None:
                raise SyntaxViolation("a dictionary key begins with a lower-case letter or an asterisk", position)
            kind = match.lastgroup
            position = match.end()
            if kind == "integer":
                value = int(match[kind])
            elif kind == "token":
                value = Token(match[kind])
            elif kind == "one":
                value = [(int(match[kind]), NONE)]
            elif kind == "list":
                value, position = _inner_list(text, position)
            elif kind == "key":
                if text.startswith("=", position):
                    raise SyntaxViolation(f"{match[1]} has no value that RFC 9651 knows", position + 1)
                value = True
            else:
                value = _bare_of(match)
            params = NONE
            if text.startswith(";", position):
                params, position = _params(text, position)
            members[match[1]] = (value, params)
            position = position + 1 if _next_member.match(text, position, end) else _separator(text, position, end)
    except SyntaxViolation as error:
        error.key = match[1] if match else ""
        raise
    return members


def parse_list(text: str) -> list[Member]:
    """Members in order. Raises SyntaxViolation."""
    members: list[Member] = []
    position, end = _bounds(text)
    while position < end:
        match = _value.match(text, position)
        if match is None:
            raise SyntaxViolation("a list member is an item or an inner list", position)
        position = match.end()
        value: Bare | list[Item]
        if match.lastgroup == "list":
            value, position = _inner_list(text, position)
        else:
            value = _bare_of(match)
        params, position = _params(text, position)
        members.append((value, params))
        position = _separator(text, position, end)
    return members


def parse_item(text: str) -> Item:
    """One item. Raises SyntaxViolation."""
    position, end = _bounds(text)
    item, position = _item(text, position)
    if position < end:
        raise SyntaxViolation("an item ends here, and something follows", position)
    return item


def serialise_dictionary(members: Mapping[str, Member], separator: str = ", ") -> str:
    """Canonical text. Raises ValueError on what the RFC cannot express."""
    return separator.join(
        _key(name) + _serialise_params(params) if value is True else f"{_key(name)}={serialise_member((value, params))}"
        for name, (value, params) in members.items()
    )


def serialise_list(members: Sequence[Member]) -> str:
    """Canonical text. Raises ValueError on what the RFC cannot express."""
    return ", ".join(serialise_member((value, params)) for value, params in members)


def serialise_item(item: Item) -> str:
    """Canonical text. Raises ValueError on what the RFC cannot express."""
    return _serialise_bare(item[0]) + _serialise_params(item[1])


def _bounds(text: str) -> tuple[int, int]:
    """Where the value begins and ends: spaces around it do not count."""
    end = len(text.rstrip(" "))
    return min(end, len(text) - len(text.lstrip(" "))), end


def _separator(text: str, position: int, end: int) -> int:
    """Past the comma between two members; `end` after the last."""
    match = _comma.match(text, position)
    assert match is not None  # the pattern matches the empty string too
    if match.end() >= end:
        if match["comma"]:
            raise SyntaxViolation("a comma with nothing after it", match.start("comma"))
        return end
    if not match["comma"]:
        raise SyntaxViolation("a comma or the end was expected", position)
    return match.end()


def _item(text: str, position: int) -> tuple[Item, int]:
    match = _bare.match(text, position)
    if match is None:
        raise SyntaxViolation("an item was expected", position)
    params, position = _params(text, match.end())
    return (_bare_of(match), params), position


def _inner_list(text: str, position: int) -> tuple[list[Item], int]:
    """The items after an opening parenthesis, and the position after the closing one."""
    items: list[Item] = []
    while True:
        after = _spaces.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith(")", after):
            return items, after + 1
        if items and after == position:
            raise SyntaxViolation("items of an inner list are parted by spaces", position)
        item, position = _item(text, after)
        items.append(item)


def _params(text: str, position: int) -> tuple[Params, int]:
    if not text.startswith(";", position):
        return NONE, position
    params: dict[str, Bare] = {}
    while text.startswith(";", position):
        match = _param.match(text, position)
        if match is None:
            raise SyntaxViolation("a parameter was expected", position + 1)
        position = match.end()
        if match.lastgroup == "key":
            if text.startswith("=", position):
                raise SyntaxViolation(f"parameter {match['key']} has no value that RFC 9651 knows", position + 1)
            params[match["key"]] = True
        else:
            params[match["key"]] = _bare_of(match)
    return params, position


def _bare_of(match: re.Match[str]) -> Bare:
    kind = match.lastgroup
    assert kind is not None  # every alternative is named
    return _BY_KIND[kind](match[kind], match.start(kind))


def _string(text: str, position: int) -> str:
    return re.sub(r"\\(.)", r"\1", text) if "\\" in text else text


def _binary(text: str, position: int) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise SyntaxViolation(f"bytes that are not base64 ({error})", position) from None


def _display(text: str, position: int) -> DisplayString:
    try:
        return DisplayString(unquote_to_bytes(text).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SyntaxViolation(f"a display string that is not UTF-8 ({error.reason})", position) from None


_BY_KIND: dict[str, Callable[[str, int], Bare]] = {
    "decimal": lambda text, position: float(text),
    "integer": lambda text, position: int(text),
    "string": _string,
    "token": lambda text, position: Token(text),
    "boolean": lambda text, position: text == "1",
    "binary": _binary,
    "date": lambda text, position: Date(text),
    "display": _display,
}


def _key(name: str) -> str:
    if not _whole_key.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a key")
    return name


def serialise_member(member: Member) -> str:
    """Canonical text of one member. Raises ValueError on what the RFC cannot express."""
    value, params = member
    if isinstance(value, list):
        return f"({' '.join(map(serialise_item, value))}){_serialise_params(params)}"
    return _serialise_bare(value) + _serialise_params(params)


def _serialise_params(params: Params) -> str:
    return "".join(f";{_key(k)}" if v is True else f";{_key(k)}={_serialise_bare(v)}" for k, v in params.items())


def _serialise_bare(value: Bare) -> str:
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"{value} has more than 15 digits")
        return f"@{int(value)}" if isinstance(value, Date) else str(value)
    if isinstance(value, float):
        return _serialise_decimal(value)
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, Token):
        if not _whole_token.fullmatch(value):
            raise ValueError(f"{value!r} cannot be a token")
        return str(value)
    if isinstance(value, DisplayString):
        escaped = (f"%{b:02x}" if b in b'%"' or not 0x20 <= b < 0x7F else chr(b) for b in value.encode("utf-8"))
        return f'%"{"".join(escaped)}"'
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} has characters that a string cannot hold")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _serialise_decimal(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{value} is not a number that can be written")
    rounded = Decimal(repr(value)).quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)
    if abs(rounded) > DECIMAL_MAX:
        raise ValueError(f"{value} has more than 12 digits before the point")
    text = f"{rounded:f}".rstrip("0")
    return text + "0" if text.endswith(".") else text

"""What a statement is, without running it: tokens, the inline data of an INSERT, and what a reader may ask. Pure functions.

A reader's statement is judged on the text that the engine's own parser gives back (`formatQuerySingleLine`), where comments,
here-documents and odd quoting are gone and a second statement is a syntax error. So this lexer and the engine cannot disagree
about where a string ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    rb"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<string>'[^'\\]*(?:(?:\\.|'')[^'\\]*)*')
    |(?P<quoted>"[^"\\]*(?:(?:\\.|"")[^"\\]*)*"|`[^`\\]*(?:(?:\\.|``)[^`\\]*)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][A-Za-z0-9_.]*)
    |(?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)

READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS"})
HARMLESS_SOURCES = frozenset(
    {
        "numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series",
        "values", "view", "format", "merge", "null", "primes",
    }
)  # fmt: skip
"""Table functions that reach nothing outside the tables; some share their name with an ordinary function."""
NAMES_TABLES = frozenset({"merge", "joinget", "joingetornull"})
"""Functions that read tables which their arguments name as text."""
ABOUT_TABLES = frozenset({"tables", "columns", "databases", "settings", "functions", "one", "numbers", "data_type_families", "formats"})
"""System tables that clients ask to find their way; they hold no rows of anyone."""
READS_FILES = frozenset({"file"})
"""Ordinary functions that reach outside."""


class Refused(Exception):
    """A statement that is not allowed; `code` is ClickHouse's own for this kind of refusal."""

    def __init__(self, message: str, code: int = 164) -> None:
        super().__init__(message)
        self.code = code


class Token(NamedTuple):
    """A token that is neither white space nor comment: kind, text, and where it stands."""

    kind: str
    text: bytes
    start: int
    end: int

    @property
    def word(self) -> str:
        """Upper case of a bare word, else empty."""
        return self.text.decode().upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """Lower case of a name, quoted or not, else empty."""
        if self.kind == "word":
            return self.text.decode().lower()
        return self.text[1:-1].decode(errors="replace").lower() if self.kind == "quoted" else ""


class Insert(NamedTuple):
    """An INSERT that brings its data along: the statement, the format, where the data begin, and the `input(...)` it reads, if any."""

    statement: bytes
    format: str
    data_start: int
    input_span: tuple[int, int] | None
    structure: bytes


def tokens(sql: bytes) -> Iterator[Token]:
    """The tokens of `sql`, lazily: bytes behind the last token that was asked for are never looked at."""
    position = 0
    while match := TOKEN.match(sql, position):
        position = match.end()
        kind = match.lastgroup or "mark"
        if kind != "space":
            yield Token(kind, match.group(), match.start(), position)


def first_word(sql: bytes) -> str:
    """The first word in upper case, empty where there is none."""
    return next((t.word for t in tokens(sql)), "")


def insert_with_data(sql: bytes) -> Insert | None:
    """Take an `INSERT ... FORMAT name` apart from the data behind it; None for anything else (VALUES and SELECT carry no data)."""
    stream = tokens(sql)
    first = next(stream, None)
    if first is None or first.word != "INSERT":
        return None
    span: tuple[int, int] | None = None
    structure = b"''"
    previous: Token | None = None
    for token in stream:
        if token.word == "VALUES":
            return None
        if token.text == b"(" and previous is not None and previous.word == "INPUT":
            argument, close = next(stream, None), next(stream, None)
            if argument is None or close is None or argument.kind != "string" or close.text != b")":
                raise Refused("input() takes one string: the structure of the data", 36)
            span, structure = (previous.start, close.end), argument.text
        if token.word == "FORMAT":
            name = next(stream, None)
            if name is None or name.kind != "word":
                raise Refused("FORMAT is followed by the name of a format", 62)
            return Insert(sql[: token.start], name.text.decode(), _data_start(sql, name.end), span, structure)
        previous = token
    return None


def _data_start(sql: bytes, position: int) -> int:
    """As ClickHouse has it: blanks and one line break behind the format's name do not belong to the data."""
    while sql[position : position + 1] in (b" ", b"\t", b"\r", b";"):
        position += 1
    return position + 1 if sql[position : position + 1] == b"\n" else position


def check_sources(sql: bytes, table_functions: frozenset[str]) -> None:
    """Refuse what reaches out of the warehouse: table functions beyond the harmless, file(), INTO OUTFILE, FROM INFILE. Raises Refused."""
    previous: Token | None = None
    for token in tokens(sql):
        if previous is not None:
            called = previous.name if token.text == b"(" else ""
            if (called in table_functions and called not in HARMLESS_SOURCES) or called in READS_FILES:
                raise Refused(f"{called}() reaches out of the warehouse and is not allowed here", 497)
            if (previous.word, token.word) in (("INTO", "OUTFILE"), ("FROM", "INFILE")):
                raise Refused(f"{previous.word} {token.word} is not allowed: results travel in the answer only", 497)
            if (previous.word, token.word) == ("PARALLEL", "WITH"):
                raise Refused("one statement at a time", 62)
        previous = token


def check_read(canonical: bytes, table_functions: frozenset[str]) -> None:
    """Refuse everything but a plain read. `canonical` is the statement as the engine's parser writes it. Raises Refused."""
    if (verb := first_word(canonical)) not in READS:
        raise Refused(f"{verb or 'this'} is not a read: this user may only read")
    check_sources(canonical, table_functions)
    previous: Token | None = None
    for token in tokens(canonical):
        if previous is not None and previous.text == b"SETTINGS" and token.kind == "word" and token.text not in (b"FROM", b"FORMAT"):
            raise Refused("SETTINGS in a statement are not allowed to this user: give them as URL parameters")
        previous = token


def check_tables(canonical: bytes, existing: frozenset[str], allowed: frozenset[str], team: str) -> None:
    """Refuse a read of any table but `allowed` ones and what ClickHouse says of tables in general. Raises Refused.

    Every name counts, wherever it stands: a column or alias that is called like somebody's table is refused too. What names tables in
    another way than by their name is refused as such.
    """
    before = previous = Token("mark", b"", 0, 0)
    for token in tokens(canonical):
        if token.name in existing and token.name not in allowed:
            words = f"{token.name} is not for readers of team {team}, who may read {', '.join(sorted(allowed)) or 'nothing yet'}"
            raise Refused(f"{words}; its owner can make it public in topics.yaml", 497)
        if token.text == b"(" and (previous.name in NAMES_TABLES or previous.name.startswith("dictget")):
            raise Refused(f"{previous.name}() names tables by text and is not allowed to readers of a team", 497)
        if previous.text == b":" and token.word == "IDENTIFIER":
            raise Refused("a parameter of type Identifier is not allowed to readers of a team: write the table's name", 497)
        if ((before.name, previous.text) == ("system", b".") and token.name not in ABOUT_TABLES) or token.word == "PROCESSLIST":
            raise Refused(f"{token.name} tells of what others ask and is not allowed to readers of a team", 497)
        before, previous = previous, token


def literal(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def escaped(text: str) -> str:
    """`text` as the value of a query parameter, which is read like a TabSeparated field."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")

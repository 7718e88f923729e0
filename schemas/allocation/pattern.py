"""Regular expressions that cannot hang: matched in time proportional to the text, whatever the pattern.

R. Cox, "Regular Expression Matching Can Be Simple And Fast" (2007), after K. Thompson, CACM 11(6), 1968: the pattern becomes a
non-deterministic automaton, the text is read once with all its states at the same time, and sets of states that were seen are kept as a
deterministic automaton. There is no backtracking, so `(a+)+$` costs what `a+$` costs. What such an automaton cannot do (back references,
look-around) and what would make it huge (`(x{500}){500}`) is refused when the pattern is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

LONGEST_PATTERN = 1_000
"""Characters; longer is no condition but a list that wants to be a group."""
MOST_STEPS = 5_000
"""Instructions of the automaton after `{m,n}` has been written out."""
MOST_STATES = 500
"""Sets of states that are remembered; when there are more, remembering starts afresh, so memory is bounded, too."""
MOST_CHARACTERS = 1_000
"""Characters whose way is remembered in a set of states."""

_DIGIT, _SPACE = frozenset("0123456789"), frozenset(" \t\n\r\f\v\u00a0\ufeff\u2028\u2029")
_WORD = _DIGIT | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_LINE_ENDS = frozenset("\n\r\u2028\u2029")
_CLASSES: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROL: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}

Accepts = Callable[[str], bool]
Node = tuple[object, ...]


class PatternError(ValueError):
    """The pattern is no regular expression, or one that cannot be matched in linear time; the text says what and where."""


class _State:
    """Standing at `steps` after a character of kind `before` (^ begin, w word character, o other), and where each character leads."""

    __slots__ = ("after", "before", "steps")

    def __init__(self, steps: frozenset[int], before: str) -> None:
        self.steps, self.before = steps, before
        self.after: dict[str, _State] = {}


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str, ignore_case: bool = False) -> None:
        """Raises PatternError."""
        if not isinstance(text, str):
            raise PatternError(f"a pattern is a text, not {text!r}")
        if len(text) > LONGEST_PATTERN:
            raise PatternError(f"a pattern of {len(text)} characters; the longest allowed has {LONGEST_PATTERN}")
        self.text = text
        self._steps: list[tuple[object, ...]] = []
        self._emit(_Reader(text, ignore_case).whole())
        self._add("match")
        self._found = _State(frozenset(), "o")
        self._forget()

    def search(self, text: str) -> bool:
        """Whether the pattern is found anywhere in `text`. Linear in the length of `text`."""
        state, found = self._first, self._found
        for char in text:
            state = state.after.get(char) or self._follow(state, char)
            if state is found:
                return True
        return (state.after.get("") or self._follow(state, "")) is found

    def _forget(self) -> None:
        self._states: dict[tuple[frozenset[int], str], _State] = {}
        self._first = self._state(frozenset({0}), "^")

    def _state(self, steps: frozenset[int], before: str) -> _State:
        state = self._states.get((steps, before))
        if state is None:
            state = self._states[steps, before] = _State(steps, before)
        return state

    def _follow(self, state: _State, char: str) -> _State:
        """The state after reading `char`, "" for the end."""
        if len(self._states) > MOST_STATES:
            self._forget()
            state = self._state(state.steps, state.before)
        kind = "w" if char in _WORD else "o"
        reading, found = self._reach(state.steps, state.before, char, kind)
        if found:
            after = self._found
        else:
            moved = {at + 1 for at in reading if char and self._steps[at][1](char)}  # type: ignore[operator]
            after = self._state(frozenset(moved | {0}), kind)  # {0}: the match may begin at any character
        if len(state.after) >= MOST_CHARACTERS:
            state.after.clear()
        state.after[char] = after
        return after

    def _reach(self, steps: Iterable[int], before: str, char: str, kind: str) -> tuple[list[int], bool]:
        """The character steps that are reached from `steps` without reading, and whether the end of the pattern is."""
        waiting, seen, reading = list(steps), set[int](), []
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            step = self._steps[at]
            if step[0] == "match":
                return [], True
            elif step[0] == "char":
                reading.append(at)
            elif step[0] == "split":
                waiting += step[1:]  # type: ignore[arg-type]
            else:
                at_edge = (before == "w") != (kind == "w")
                holds = {"^": before == "^", "$": char == "", "b": at_edge, "B": not at_edge}[str(step[1])]
                if holds:
                    waiting.append(at + 1)
        return reading, False

    def _add(self, *step: object) -> int:
        if len(self._steps) >= MOST_STEPS:
            raise PatternError(f"the pattern {self.text!r} is too large once its repetitions are written out")
        self._steps.append(step)
        return len(self._steps) - 1

    def _emit(self, node: Node) -> None:
        kind = node[0]
        if kind in ("char", "assert"):
            self._add(*node)
        elif kind == "sequence":
            for part in node[1]:  # type: ignore[attr-defined]
                self._emit(part)
        elif kind == "either":
            split = self._add("split")
            self._emit(node[1])  # type: ignore[arg-type]
            jump = self._add("split")
            self._or_past(split)
            self._emit(node[2])  # type: ignore[arg-type]
            self._steps[jump] = ("split", len(self._steps))
        else:
            self._repeat(node[1], node[2], node[3])  # type: ignore[arg-type]

    def _repeat(self, node: Node, least: int, most: int | None) -> None:
        for _ in range(least):
            self._emit(node)
        if most is None:
            split = self._add("split")
            self._emit(node)
            self._add("split", split)
            self._or_past(split)
        else:
            splits = []
            for _ in range(most - least):
                splits.append(self._add("split"))
                self._emit(node)
            for split in splits:
                self._or_past(split)

    def _or_past(self, split: int) -> None:
        """Let step `split` go on, or to what is added next."""
        self._steps[split] = ("split", split + 1, len(self._steps))


class _Reader:
    """Reads a pattern's text: the syntax that JavaScript and Python have in common, without what needs backtracking."""

    def __init__(self, text: str, ignore_case: bool) -> None:
        self.text, self.at, self.ignore_case, self.depth = text, 0, ignore_case, 0

    def whole(self) -> Node:
        node = self.either()
        if self.at < len(self.text):
            raise self.error("a closing bracket without an opening one")
        return node

    def error(self, what: str) -> PatternError:
        return PatternError(f"{what} at character {self.at} of the pattern {self.text!r}")

    def take(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.text):
            raise self.error("the pattern ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def either(self) -> Node:
        node: Node = self.sequence()
        while self.take("|"):
            node = ("either", node, self.sequence())
        return node

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.repeated())
        return ("sequence", parts)

    def repeated(self) -> Node:
        node = self.one()
        bounds = self.bounds()
        if bounds is None:
            return node
        if node[0] == "assert":
            raise self.error("nothing to repeat")
        self.take("?")  # lazy or greedy: the same texts match
        if self.at < len(self.text) and self.text[self.at] in "*+?":
            raise self.error("a repetition of a repetition")
        return ("repeat", node, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        begin = self.at
        if not self.take("{"):
            return None
        inside, closed, _ = self.text[self.at :].partition("}")
        least, comma, most = inside.partition(",")
        if not closed or not _number(least) or not (most == "" or _number(most)):
            self.at = begin  # a brace that is no repetition is a brace
            return None
        self.at += len(inside) + 1
        highest = (int(most) if most else None) if comma else int(least)
        if highest is not None and highest < int(least):
            raise self.error("a repetition whose bounds are in the wrong order")
        return int(least), highest

    def one(self) -> Node:
        char = self.next()
        if char == "(":
            if self.take("?") and not self.take(":"):
                raise self.error("look-around, flags and named groups are not supported")
            self.depth += 1
            if self.depth > 50:
                raise self.error("brackets nested too deeply")
            node = self.either()
            self.depth -= 1
            if not self.take(")"):
                raise self.error("an opening bracket without a closing one")
            return node
        if char == "[":
            return ("char", self.cased(self.char_class()))
        if char == ".":
            return ("char", lambda c: c not in _LINE_ENDS)
        if char in "^$":
            return ("assert", char)
        if char in "*+?":
            self.at -= 1
            raise self.error("nothing to repeat")
        if char == "\\":
            if self.take("b"):
                return ("assert", "b")
            if self.take("B"):
                return ("assert", "B")
            return ("char", self.cased(self.escape(inside=False)))
        return ("char", self.cased(_equals(char)))

    def cased(self, accepts: Accepts) -> Accepts:
        return (lambda c: accepts(c) or accepts(c.lower()) or accepts(c.upper())) if self.ignore_case else accepts

    def escape(self, inside: bool) -> Accepts:
        """What a backslash begins: a class, or one character."""
        char = self.next()
        if char.lower() in _CLASSES:
            members = _CLASSES[char.lower()]
            return members.__contains__ if char.islower() else lambda c: c not in members
        self.at -= 1
        return _equals(self.escaped(inside))

    def escaped(self, inside: bool) -> str:
        char = self.next()
        if char in "xu":
            digits = self.text[self.at : self.at + (2 if char == "x" else 4)]
            if len(digits) < (2 if char == "x" else 4) or not all(d in "0123456789abcdefABCDEF" for d in digits):
                raise self.error(f"\\{char} without its hexadecimal digits")
            self.at += len(digits)
            return chr(int(digits, 16))
        if inside and char == "b":
            return "\b"
        if char in _CONTROL:
            return _CONTROL[char]
        if char.isalnum():
            raise self.error(f"\\{char} is not supported (a back reference cannot be matched in linear time)")
        return char

    def char_class(self) -> Accepts:
        negated = self.take("^")
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        others: list[Accepts] = []
        while not self.take("]"):
            low = self.class_item()
            if callable(low):
                others.append(low)
            elif self.at + 1 < len(self.text) and self.text[self.at] == "-" and self.text[self.at + 1] != "]":
                self.at += 1
                high = self.class_item()
                if callable(high) or high < low:
                    raise self.error("a range in the wrong order")
                ranges.append((low, high))
            else:
                singles.add(low)

        def accepts(c: str) -> bool:
            return c in singles or any(low <= c <= high for low, high in ranges) or any(other(c) for other in others)

        inner = self.cased(accepts)
        return (lambda c: not inner(c)) if negated else inner

    def class_item(self) -> str | Accepts:
        char = self.next()
        if char != "\\":
            return char
        if self.at < len(self.text) and self.text[self.at].lower() in _CLASSES:
            return self.escape(inside=True)
        return self.escaped(inside=True)


def _equals(char: str) -> Accepts:
    return char.__eq__


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4

"""Regular expressions: the same texts as Python's `re` where both can, refusals in words where ours cannot, and time that is linear."""

from __future__ import annotations

import random
import re
import time

import pytest

from schemas.allocation.pattern import MOST_CHARACTERS, MOST_STATES, Pattern, PatternError


@pytest.mark.parametrize("ignore_case", [False, True])
def test_it_finds_what_backtracking_finds(ignore_case: bool) -> None:
    dice = random.Random(1)
    parts = [*"abcA.*+?|()^$", "[ab]", "[^a]", "[a-c1]", r"\b", r"\B", "{1,2}", "{2,}", r"\w", r"\d", r"\S", "(?:", r"\.", r"[\w.]"]
    compared = 0
    for _ in range(20_000):
        text = "".join(dice.choices(parts, k=dice.randint(1, 8)))
        try:
            theirs, ours = re.compile(text, re.ASCII | (re.IGNORECASE if ignore_case else 0)), Pattern(text, ignore_case)
        except (re.error, PatternError):
            continue
        for _ in range(3):
            value = "".join(dice.choices("abcABC1. ", k=dice.randint(1, 8)))  # 1: Python 3.11 is alone in that "" has no \\B
            compared += 1
            assert ours.search(value) is bool(theirs.search(value)), (text, value)
    assert compared > 15_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(a", "an opening bracket without a closing one at character 2"),
        ("a)", "a closing bracket without an opening one at character 1"),
        ("[a", "the pattern ends too early"),
        ("a\\", "the pattern ends too early"),
        ("*a", "nothing to repeat at character 0"),
        ("^*", "nothing to repeat"),
        ("a**", "a repetition of a repetition"),
        ("a{3,2}", "bounds are in the wrong order"),
        ("[z-a]", "a range in the wrong order"),
        (r"(a)\1", "a back reference cannot be matched in linear time"),
        ("(?=a)", "look-around"),
        ("(?P<n>a)", "named groups"),
        (r"\x1", "without its hexadecimal digits"),
        ("(a{1000}){1000}", "too large once its repetitions are written out"),
        ("(" * 51 + ")" * 51, "nested too deeply"),
        ("a" * 1001, "a pattern of 1001 characters"),
    ],
)
def test_what_it_cannot_be_is_said(text: str, words: str) -> None:
    with pytest.raises(PatternError) as error:
        Pattern(text)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["(a+)+$", "(a|aa)+$", "(a|a)*b", "^(.*)*(.*)*(.*)*x$", "(a?){30}a{30}b", "([a-z]+)*[0-9]"])
def test_time_grows_with_the_text_only(text: str) -> None:
    pattern = Pattern(text)

    def seconds(length: int) -> float:
        value = "a" * length + "!"
        began = time.process_time()
        assert not pattern.search(value)
        return time.process_time() - began

    seconds(1_000)
    assert min(seconds(100_000) for _ in range(3)) < 1


def test_memory_is_bounded() -> None:
    pattern = Pattern("(a|b)*a(a|b){12}c")  # its deterministic automaton has thousands of states
    dice = random.Random(2)
    text = "".join(dice.choices("ab", k=20_000))
    assert not pattern.search(text)
    assert pattern.search(text + "abbbbbbbbbbbbc")
    assert len(pattern._states) <= MOST_STATES + 2
    every = Pattern("ab")
    assert not every.search("".join(map(chr, range(0x4E00, 0x9000))))
    assert len(every._first.after) <= MOST_CHARACTERS

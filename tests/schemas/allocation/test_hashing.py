"""The hashes: published values, and what a bucket has to be: uniform, independent of other salts, the same in every language."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.allocation.definition import spans
from schemas.allocation.engine import choose
from schemas.allocation.hashing import SPACE, Lanes, allocate, bucket, bucketer, buckets, fnv1a_32, murmur3_32

UNITS = [f"member-{i:08d}" for i in range(200_000)]
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [  # the values that implementations of MurmurHash3_x86_32 test themselves with
        (b"", 0, 0),
        (b"", 1, 0x514E28B7),
        (b"\xff\xff\xff\xff", 0, 0x76293B50),
        (b"\x21\x43\x65\x87", 0, 0xF55B516B),
        (b"\x21\x43\x65", 0, 0x7E4A8634),
        (b"\x21\x43", 0, 0xA0F7B07A),
        (b"\x21", 0, 0x72661CF4),
        (b"test", 0, 0xBA6BD213),
        (b"Hello, world!", 0x9747B28C, 0x24884CBA),
    ],
)
def test_murmur3(data: bytes, seed: int, expected: int) -> None:
    assert murmur3_32(data, seed) == expected


@pytest.mark.parametrize(("text", "expected"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_fnv1a(text: str, expected: int) -> None:
    assert fnv1a_32(text) == expected


@given(NAMES, st.lists(NAMES, max_size=5))
def test_one_by_one_with_the_salt_at_hand_and_all_at_once_are_the_same(salt: str, units: list[str]) -> None:
    expected = [bucket(salt, unit) for unit in units]
    assert list(map(bucketer(salt), units)) == expected
    assert buckets(salt, units).tolist() == expected
    assert [Lanes(["other", salt])(unit)[1] for unit in units] == expected
    assert all(0 <= one < SPACE for one in expected)


@given(st.lists(NAMES, max_size=30), NAMES)
def test_many_salts_at_once_are_the_same(salts: list[str], unit: str) -> None:
    assert Lanes(salts)(unit) == [bucket(salt, unit) for salt in salts]


@given(st.lists(NAMES, min_size=1, max_size=20), st.integers(0, 100))
def test_all_at_once_are_allocated_as_one_by_one(units: list[str], coverage: int) -> None:
    ranges = spans([0.2, 0.3, 0.5], coverage / 100)
    assert allocate("s", units, ranges).tolist() == [choose(bucket("s", unit), [(a, b) for a, b in ranges]) for unit in units]


def test_half_a_surrogate_pair_is_a_replacement_character_as_in_a_browser() -> None:
    for unit in ("\ud800", "member-\udc00-1"):
        expected = bucket("s", unit.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
        assert [bucket("s", unit), bucketer("s")(unit), buckets("s", [unit])[0]] == [expected] * 3


def test_a_name_with_a_nul_is_refused_in_bulk() -> None:
    with pytest.raises(ValueError, match="NUL"):
        buckets("s", ["a\0"])


@pytest.mark.parametrize("salt", ["abr_hybrid.0", "", "a", "holdout.winter_2026"])
def test_buckets_are_uniform(salt: str) -> None:
    """Pearson's χ² over 1,000 equal cells: mean 999, standard deviation 44.7; five deviations are one false alarm in millions."""
    counts = np.bincount(buckets(salt, UNITS) // np.uint32(SPACE // 1000 + 1), minlength=1000)
    expected = len(UNITS) / 1000
    assert abs(((counts - expected) ** 2 / expected).sum() - 999) < 5 * 44.7


@pytest.mark.parametrize("salts", [("a", "b"), ("abr.0", "abr.1"), ("test-1", "test-10"), ("x", "xx")])
def test_salts_are_independent(salts: tuple[str, str]) -> None:
    """Pearson's χ² of a 20 × 20 table: 361 degrees of freedom, standard deviation 26.9."""
    one, other = (buckets(salt, UNITS).astype(np.uint64) * 20 // SPACE for salt in salts)
    counts = np.bincount((one * 20 + other).astype(np.int64), minlength=400)
    expected = len(UNITS) / 400
    assert abs(((counts - expected) ** 2 / expected).sum() - 361) < 5 * 26.9 + 38  # 38: the margins are not fixed


def test_clickhouse_says_the_same() -> None:
    dice = random.Random(11)
    units = ["".join(dice.choices("abcdefghijklmnop0123456789-äß漢😀", k=dice.randrange(1, 30))) for _ in range(100_000)]
    program = """
import sys, chdb
query = "SELECT murmurHash3_32(concat('abr_hybrid.0', ':', unit)) FROM file('/dev/stdin', 'TSVRaw', 'i UInt32, unit String') ORDER BY i"
print(chdb.query(query, "TSV"), end="")
"""
    lines = "\n".join(f"{index}\t{unit}" for index, unit in enumerate(units))
    done = subprocess.run([sys.executable, "-c", program], input=lines, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == buckets("abr_hybrid.0", units).tolist()

"""What the population benchmark calls a mismatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.bench.population import BAD_FROM_S, Judged, compare, goes_bad
from producers.simulator.world import load

TRUE = {"sid": ["a", "b", "c"], "startup_ms": [100, None, 300], "rebuffer_ratio": [0.1, 0.0, 0.5], "failed_start": [False, True, False]}
KINDS = pa.schema([("sid", pa.string()), ("startup_ms", pa.int64()), ("rebuffer_ratio", pa.float64()), ("failed_start", pa.bool_())])
STORED = pa.schema([("sid", pa.binary()), ("startup_ms", pa.int32()), ("rebuffer_ratio", pa.float64()), ("failed_start", pa.bool_())])


def judged(**changed: list[Any]) -> Judged:
    """As found by a client, which has narrower types and texts as bytes, in another order."""
    columns = {name: list(reversed(values)) for name, values in {**TRUE, **changed}.items()}
    result = Judged()
    compare(pa.table(TRUE, KINDS), pa.table({**columns, "sid": [sid.encode() for sid in columns["sid"]]}, STORED), result)
    return result


def test_equal_rows_are_equal_in_whatever_order() -> None:
    assert (judged().compared, judged().mismatches, judged().missing) == (3, 0, 0)
    assert judged(rebuffer_ratio=[0.1 + 1e-12, 0.0, 0.5]).mismatches == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"startup_ms": [101, None, 300]}, "session a: startup_ms is 101, recomputed 100"),
        ({"startup_ms": [100, 0, 300]}, "session b: startup_ms is 0, recomputed None"),
        ({"startup_ms": [100, None, None]}, "session c: startup_ms is None, recomputed 300"),
        ({"rebuffer_ratio": [0.1, 0.0, 0.5 + 1e-8]}, "session c: rebuffer_ratio is"),
        ({"failed_start": [True, True, False]}, "session a: failed_start is True, recomputed False"),
    ],
)
def test_one_that_differs_is_named_by_what_differs(changed: dict[str, Any], words: str) -> None:
    found = judged(**changed)
    assert (found.mismatches, found.missing) == (1, 0)
    assert found.named[0].startswith(words)


def test_sessions_that_are_missing_or_never_were_are_told_apart() -> None:
    found = judged(sid=["a", "b", "x"])
    assert (found.compared, found.mismatches, found.missing) == (2, 1, 1)
    assert found.named == ["session x: has a row, and never was"]


def test_two_rows_of_one_session_are_no_view_of_sessions() -> None:
    with pytest.raises(AssertionError, match="more than one row"):
        judged(sid=["a", "a", "b"])


def test_a_world_without_a_bad_player_gets_one(tmp_path: Path) -> None:
    path, fault = goes_bad(None, tmp_path / "world.json")
    assert path is not None
    assert fault in load(path).faults
    assert (fault.player, fault.start_s) == ("headrace-ios/7.1", BAD_FROM_S)
    assert goes_bad(path, tmp_path / "other.json") == (path, fault)
    assert not (tmp_path / "other.json").exists()

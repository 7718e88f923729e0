"""States from outside: what a network or a clock does is borne, what only a wrong caller does is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from infra.bench.abr_logs import REFERENCES
from producers.abr.state import BadState, checked
from tests.producers.abr.examples import state, video

NAN, INFINITE = float("nan"), float("inf")


def test_a_sound_state_goes_through_unchanged() -> None:
    assert checked(state()) == state()


@pytest.mark.parametrize("throughput", [0.0, -1.0, 1e-300, 1e300, INFINITE, NAN])
def test_a_throughput_that_is_none_is_left_out(throughput: float) -> None:
    odd = state(throughputs_kbps=(1500.0, throughput, 1600.0), delays_s=(3.0, 2.0, 1.0))
    assert checked(odd) == state(throughputs_kbps=(1500.0, 1600.0), delays_s=(3.0, 1.0))


@pytest.mark.parametrize("delay_s", [0.0, 5e-324, -86_400.0, 86_400.0, NAN])
def test_a_download_that_a_jumping_clock_timed_is_left_out(delay_s: float) -> None:
    assert checked(state(throughputs_kbps=(900.0, 800.0), delays_s=(delay_s, 2.0))).throughputs_kbps == (800.0,)


@pytest.mark.parametrize(("buffer_s", "taken_for"), [(75.0, 60.0), (INFINITE, 60.0), (-3.0, 0.0), (-INFINITE, 0.0)])
def test_a_buffer_beyond_what_it_can_hold_is_taken_for_full_or_empty(buffer_s: float, taken_for: float) -> None:
    assert checked(state(buffer_s=buffer_s)).buffer_s == taken_for


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bitrates_kbps": (), "sizes": ()}, "no level"),
        ({"bitrates_kbps": (300.0, NAN, 1200.0, 1850.0, 2850.0, 4300.0)}, "not a positive number"),
        ({"bitrates_kbps": (300.0, 300.0, 1200.0, 1850.0, 2850.0, 4300.0)}, "does not ascend"),
        ({"sizes": ((1.0, 2.0, 3.0, NAN, 5.0, 6.0),)}, "size of the segment 0 ahead is not a positive number"),
        ({"sizes": ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (0.0, 2.0, 3.0, 4.0, 5.0, 6.0))}, "segment 1 ahead"),
        ({"sizes": ((1.0, 2.0),)}, "2 sizes of the segment 0 ahead, on a ladder of 6"),
        ({"sizes": ()}, "sizes of 0 segments, where 38 are left"),
        ({"left": 0}, "nothing to choose"),
        ({"previous": 6}, "the level before was 6"),
        ({"buffer_s": NAN}, "the buffer holds nan"),
        ({"buffer_max_s": 0.0}, "of 0.0 s"),
        ({"segment_s": INFINITE}, "a segment lasts inf"),
        ({"throughputs_kbps": (1.0,), "delays_s": ()}, "1 throughputs, 0 delays"),
        ({"utilities": ((1.0,),)}, "utilities of 1 segments, sizes of 38"),
        ({"sizes": ((1.0,) * 6,), "utilities": ((1.0, 2.0, 3.0, 4.0, 5.0, NAN),)}, "not 6 numbers"),
        ({"previous_utility": NAN}, "was worth nan"),
    ],
)
def test_what_only_a_wrong_caller_does_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadState, match=said):
        checked(state(**changes))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_ladder_of_one_level_is_a_ladder(name: str) -> None:
    one = video(48, (800.0,))
    assert REFERENCES[name](checked(state(bitrates_kbps=one.bitrates_kbps, sizes=one.sizes[10:], previous=0))) == 0

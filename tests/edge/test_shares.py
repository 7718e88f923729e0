"""Shares of what may wait: never more than there is, and always something for a newcomer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.shares import Shares


def test_one_sender_alone_fills_half() -> None:
    shares = Shares(100)
    assert shares.fits("a", 50)
    assert not shares.fits("a", 51)
    shares.take("a", 50)
    assert shares.fits("b", 25)
    assert not shares.fits("b", 26)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 400)), max_size=100))
def test_floods_leave_room_for_a_newcomer(asked: list[tuple[str, int]]) -> None:
    shares = Shares(10_000)
    held = []
    for sender, amount in asked:
        if shares.fits(sender, amount):
            shares.take(sender, amount)
            held.append((sender, amount))
    assert shares.taken == sum(amount for _, amount in held) <= shares.size
    assert shares.fits("newcomer", shares.size // (2 * (len("abcdef") + 1)))
    for sender, amount in held:
        shares.give_back(sender, amount)
    assert shares == Shares(10_000)

"""What may wait at once, shared out so that one sender never takes the place of all the others. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Shares:
    """Up to `size` in all, and of each sender up to as much as all of them leave free: one alone can fill half, the next a quarter.

    Dynamic thresholds, after Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
    Transactions on Networking 6(2), 1998: nobody must say beforehand how many senders there will be.
    """

    size: int
    taken: int = 0
    by_sender: Counter[str] = field(default_factory=Counter)

    def fits(self, sender: str, amount: int) -> bool:
        """Whether `sender` may take so much more."""
        return self.by_sender[sender] + amount <= self.size - self.taken - amount

    def take(self, sender: str, amount: int) -> None:
        """`sender` holds so much more."""
        self.taken += amount
        self.by_sender[sender] += amount

    def give_back(self, sender: str, amount: int) -> None:
        """`sender` holds so much less. Who holds nothing is forgotten."""
        self.taken -= amount
        self.by_sender[sender] -= amount
        if not self.by_sender[sender]:
            del self.by_sender[sender]

"""Which object leaves a full cache: LRU, FIFO, LFU and SIEVE over objects of any size. Pure, exact, one small class each.

What a cache does that is filled by its misses. Cache servers here are filled by plan and keep no miss: these are what plans are compared
with. Sizes are bytes. An object keeps the size it came with; one that is larger than the cache is passed on without being kept, and counts
as a miss. That is how libCacheSim (Yang et al., HotStorage 2020) counts, and the miss counts are equal to its, object for object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable


class Policy(ABC):
    """A cache of `capacity_bytes`. Raises ValueError if that is not positive."""

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes <= 0:
            raise ValueError(f"a cache of {capacity_bytes} bytes holds nothing: give it a positive capacity")
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.evicted: list[Hashable] = []
        """Keys that left since whoever owns the bytes last emptied this list."""

    def request(self, key: Hashable, size_bytes: int) -> bool:
        """Ask for an object, and keep it if it was not there; whether it was. Raises ValueError for a negative size."""
        if size_bytes < 0:
            raise ValueError(f"{key!r} has {size_bytes} bytes")
        if key in self:
            self._hit(key)
            return True
        if size_bytes <= self.capacity_bytes:
            while self.used_bytes + size_bytes > self.capacity_bytes:
                victim, freed = self._evict()
                self.used_bytes -= freed
                self.evicted.append(victim)
            self._insert(key, size_bytes)
            self.used_bytes += size_bytes
        return False

    @abstractmethod
    def __contains__(self, key: Hashable) -> bool: ...

    @abstractmethod
    def _hit(self, key: Hashable) -> None: ...

    @abstractmethod
    def _insert(self, key: Hashable, size_bytes: int) -> None: ...

    @abstractmethod
    def _evict(self) -> tuple[Hashable, int]:
        """The key that leaves, and its size. Never called on an empty cache."""


class Fifo(Policy):
    """First in, first out."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self._sizes: OrderedDict[Hashable, int] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sizes

    def _hit(self, key: Hashable) -> None:
        pass

    def _insert(self, key: Hashable, size_bytes: int) -> None:
        self._sizes[key] = size_bytes

    def _evict(self) -> tuple[Hashable, int]:
        return self._sizes.popitem(last=False)


class Lru(Fifo):
    """Least recently used."""

    def _hit(self, key: Hashable) -> None:
        self._sizes.move_to_end(key)


class Lfu(Policy):
    """Least frequently used since it came, of those the one that reached its count first (Shah, Mitra, Matani, 2010: constant time)."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self._counts: dict[Hashable, int] = {}
        self._by_count: dict[int, OrderedDict[Hashable, int]] = {}
        self._least = 1

    def __contains__(self, key: Hashable) -> bool:
        return key in self._counts

    def _hit(self, key: Hashable) -> None:
        count = self._counts[key]
        size_bytes = self._by_count[count].pop(key)
        if not self._by_count[count]:
            del self._by_count[count]
            self._least += self._least == count
        self._put(key, size_bytes, count + 1)

    def _insert(self, key: Hashable, size_bytes: int) -> None:
        self._put(key, size_bytes, 1)
        self._least = 1

    def _put(self, key: Hashable, size_bytes: int, count: int) -> None:
        self._counts[key] = count
        self._by_count.setdefault(count, OrderedDict())[key] = size_bytes

    def _evict(self) -> tuple[Hashable, int]:
        alike = self._by_count[self._least]
        key, size_bytes = alike.popitem(last=False)
        del self._counts[key]
        if not alike:
            del self._by_count[self._least]
            self._least = min(self._by_count, default=1)
        return key, size_bytes


class Sieve(Policy):
    """SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): a queue, a mark on what was asked for again, and a hand that spares the
    marked once. Objects never move; the hand goes from the oldest to the newest and around.
    """

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self._nodes: dict[Hashable, _Node] = {}
        self._head: _Node | None = None  # the newest
        self._tail: _Node | None = None  # the oldest
        self._hand: _Node | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._nodes

    def _hit(self, key: Hashable) -> None:
        self._nodes[key].marked = True

    def _insert(self, key: Hashable, size_bytes: int) -> None:
        node = self._nodes[key] = _Node(key, size_bytes, older=self._head)
        if self._head is not None:
            self._head.newer = node
        self._head = node
        if self._tail is None:
            self._tail = node

    def _evict(self) -> tuple[Hashable, int]:
        node = self._hand or self._tail
        assert node is not None
        while node.marked:
            node.marked = False
            node = node.newer or self._tail
            assert node is not None
        self._hand = node.newer
        if node.older is not None:
            node.older.newer = node.newer
        else:
            self._tail = node.newer
        if node.newer is not None:
            node.newer.older = node.older
        else:
            self._head = node.older
        del self._nodes[node.key]
        return node.key, node.size_bytes


class _Node:
    """An object in SIEVE's queue."""

    __slots__ = ("key", "marked", "newer", "older", "size_bytes")

    def __init__(self, key: Hashable, size_bytes: int, older: _Node | None) -> None:
        self.key, self.size_bytes, self.older = key, size_bytes, older
        self.newer: _Node | None = None
        self.marked = False


POLICIES: dict[str, type[Policy]] = {"LRU": Lru, "FIFO": Fifo, "LFU": Lfu, "SIEVE": Sieve}
"""By the names of their papers."""

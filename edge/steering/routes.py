"""Routes: which cache servers announced the prefixes that an address lies in. A longest-prefix table for IPv4 and IPv6. Pure.

One dictionary a prefix length, asked from the longest to the shortest (Waldvogel et al., "Scalable High Speed IP Routing Lookups", 1997,
without their binary search, because all covering prefixes are wanted, not only the longest). Servers of a cluster get the same
announcements (Open Connect), so most prefixes have the same paths, and each set of paths is held once.

One thread may announce and withdraw while others look up.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

V4_BITS, V6_BITS = 32, 128
MAX_ASN = MAX_MED = 2**32 - 1
"""Both are unsigned 32 bits wide on the wire (RFC 6793, RFC 4271)."""
_MAPPED = b"\0" * 10 + b"\xff\xff"
"""How an IPv6 socket shows an IPv4 peer: ::ffff:0:0/96 (RFC 4291, 2.5.5.2)."""


class PathClass(IntEnum):
    """How a server reaches a prefix, best first."""

    EMBEDDED = 0
    PRIVATE_PEERING = 1
    PUBLIC_PEERING = 2
    TRANSIT = 3


class BadRoute(ValueError):
    """An address, a prefix or an announcement that is none; the message says why."""


class Address(NamedTuple):
    """An IP address: 32 or 128 bits wide."""

    bits: int
    number: int


class Prefix(NamedTuple):
    """A network: the first `length` of `bits` bits are those of `head`."""

    bits: int
    length: int
    head: int

    def __str__(self) -> str:
        family = socket.AF_INET if self.bits == V4_BITS else socket.AF_INET6
        return f"{socket.inet_ntop(family, (self.head << self.bits - self.length).to_bytes(self.bits // 8, 'big'))}/{self.length}"


class Path(NamedTuple):
    """One server's way to a prefix."""

    oca_id: str
    path_class: PathClass
    as_path: tuple[int, ...]
    med: int


class Paths:
    """All ways to a prefix, one a server, by oca_id. Equal sets of a table are one object, so `is` tells whether two are equal."""

    __slots__ = ("paths", "prefixes")

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self.prefixes = 0
        """How many prefixes have it."""

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)


Match = tuple[int, Paths]
"""Length of a prefix that an address lies in, and the ways to it."""


def address(text: str) -> Address:
    """An address in text; one of IPv4 in IPv6's clothes (::ffff:192.0.2.1) is that of IPv4. Raises BadRoute."""
    try:
        if ":" not in text:
            return Address(V4_BITS, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):  # ValueError: a null character, or what is no text for the system
        raise BadRoute(f"{text[:60]!r} is no IPv4 or IPv6 address") from None
    if packed.startswith(_MAPPED):
        return Address(V4_BITS, int.from_bytes(packed[12:], "big"))
    return Address(V6_BITS, int.from_bytes(packed, "big"))


def prefix(text: str) -> Prefix:
    """A prefix in CIDR notation. Raises BadRoute: no CIDR, too long, host bits set."""
    network, slash, digits = text.partition("/")
    bits = V6_BITS if ":" in network else V4_BITS
    if not (slash and digits.isascii() and digits.isdigit() and len(digits) <= 3):
        raise BadRoute(f"{text[:60]!r} is no prefix: 192.0.2.0/24 and 2001:db8::/32 are")
    length = int(digits)
    if length > bits:
        raise BadRoute(f"{text[:60]!r}: a prefix of IPv{4 if bits == V4_BITS else 6} has {bits} bits at most")
    found = address(network)
    if found.bits != bits:
        raise BadRoute(f"{text[:60]!r} is IPv4 in IPv6's clothes: announce it as IPv4")
    head = found.number >> bits - length
    if head << bits - length != found.number:
        raise BadRoute(f"{text[:60]!r} has host bits set: {Prefix(bits, length, head)} is the network")
    return Prefix(bits, length, head)


def around(inside: Address, length: int) -> Prefix:
    """The prefix of `length` bits that an address lies in."""
    return Prefix(inside.bits, length, inside.number >> inside.bits - length)


class RouteTable:
    """Announcements and withdrawals, folded. Holds one dictionary entry a prefix and each set of paths once."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, Paths]] = {}
        self._lengths: dict[int, list[tuple[int, int, dict[int, Paths]]]] = {V4_BITS: [], V6_BITS: []}
        """Bits of an address → (bits to shift off it, length, prefixes of that length by head), longest first."""
        self._pool: dict[tuple[Path, ...], Paths] = {}
        self._prefixes = 0

    def __len__(self) -> int:
        """How many prefixes there are."""
        return self._prefixes

    @property
    def path_sets(self) -> int:
        """How many different sets of paths there are."""
        return len(self._pool)

    def fold(self, record: Mapping[str, Any]) -> None:
        """Take one `delivery.route`. Raises BadRoute, and then has changed nothing."""
        if record["withdrawn"]:
            self.withdraw(record["oca_id"], prefix(record["prefix"]))
        else:
            self.announce(prefix(record["prefix"]), path(record))

    def announce(self, to: Prefix, by: Path) -> None:
        """A server can reach a prefix, in place of how it did before. Raises BadRoute for a default prefix of an embedded one."""
        refuse_default(to, by)
        self._change(to, by.oca_id, by)

    def withdraw(self, oca_id: str, from_: Prefix) -> None:
        """A server no longer reaches a prefix; that it never did is no error."""
        self._change(from_, oca_id, None)

    def lookup(self, wanted: Address) -> tuple[Match, ...]:
        """Every prefix that has the address, the longest first. A few microseconds."""
        number = wanted.number
        return tuple([(length, found) for shift, length, heads in self._lengths[wanted.bits] if (found := heads.get(number >> shift))])

    def prefixes(self) -> Iterator[tuple[Prefix, Paths]]:
        """Everything in the table, in no order."""
        for (bits, length), heads in self._by_length.items():
            for head, paths in heads.items():
                yield Prefix(bits, length, head), paths

    def _change(self, to: Prefix, oca_id: str, by: Path | None) -> None:
        heads = self._by_length.get(to[:2])
        if heads is None:
            if by is None:
                return
            heads = self._by_length[to[:2]] = {}
            lengths = [*self._lengths[to.bits], (to.bits - to.length, to.length, heads)]
            self._lengths[to.bits] = sorted(lengths, key=lambda entry: entry[0])  # replaced whole: somebody may be looking up
        before = heads.get(to.head)
        kept = () if before is None else tuple([path for path in before.paths if path[0] != oca_id])
        after = kept if by is None else tuple(sorted((*kept, by)))
        if before is not None and after == before.paths:
            return
        if after:
            paths = self._pool.get(after)
            if paths is None:
                paths = self._pool[after] = Paths(after)
            paths.prefixes += 1
            heads[to.head] = paths
            self._prefixes += before is None
        elif before is not None:
            del heads[to.head]
            self._prefixes -= 1
        if before is not None:
            before.prefixes -= 1
            if not before.prefixes:
                del self._pool[before.paths]


def path(record: Mapping[str, Any]) -> Path:
    """The path in a `delivery.route`. Raises BadRoute."""
    as_path, med = tuple(record["as_path"]), record["med"]
    if record["path_class"] not in PathClass.__members__:
        raise BadRoute(f"path_class {record['path_class']!r} is none of {', '.join(PathClass.__members__)}")
    if not all(0 < asn <= MAX_ASN for asn in as_path):
        raise BadRoute(f"as_path {list(as_path)}: the numbers of autonomous systems go from 1 to {MAX_ASN}")
    if not 0 <= med <= MAX_MED:
        raise BadRoute(f"med {med}: it goes from 0 to {MAX_MED}")
    return Path(record["oca_id"], PathClass[record["path_class"]], as_path, med)


def refuse_default(to: Prefix, by: Path) -> None:
    """Raises BadRoute where a server inside an ISP would take everybody: its operator has leaked a full table into its session."""
    if to.length == 0 and by.path_class is PathClass.EMBEDDED:
        raise BadRoute(f"{to} from the embedded server {by.oca_id}: it serves its own ISP's prefixes, never the default one")

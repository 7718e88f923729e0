"""The prefixes that a cache server advertises: whom it serves. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

EVERYWHERE = ("0.0.0.0/0", "::/0")


class Prefixes:
    """A set of IPv4 and IPv6 prefixes; whether an address is in one costs as much as there are different lengths."""

    def __init__(self, prefixes: Iterable[str] = EVERYWHERE) -> None:
        """Raises ValueError naming what is no prefix."""
        self._masked: dict[tuple[int, int], set[int]] = {}
        for prefix in prefixes:
            network = ipaddress.ip_network(prefix)
            shift = network.max_prefixlen - network.prefixlen
            self._masked.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self.has = lru_cache(maxsize=4_096)(self._has)

    def _has(self, address: str) -> bool:
        """Whether an address is in one of them; no address is in none. One of IPv4 that came over IPv6 is one of IPv4."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(version == found.version and int(found) >> shift in known for (version, shift), known in self._masked.items())

"""Loopback ports that are free."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType

LOOPBACK = "127.0.0.1"


def free_ports(names: list[str], preferred: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
    """A free loopback port for each name: the preferred one if it is, else one below the range the kernel gives to outgoing connections,
    which might take one in between.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = (secrets.randbelow(first_ephemeral - 15_000) + 15_000 for _ in range(10_000))
    chosen: dict[str, int] = {}
    for name in names:
        for port in chain([preferred[name]] if name in preferred else [], candidates):
            if port not in chosen.values() and is_free(port):
                chosen[name] = port
                break
    return chosen


def free_port() -> int:
    """One of them."""
    return free_ports(["it"])["it"]


def is_free(port: int) -> bool:
    """Whether a service could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only lingers in TIME_WAIT is free
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True

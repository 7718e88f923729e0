"""Faults that an operator may ask of a cache server, to see what its clients make of them. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, cast, get_args
from urllib.parse import parse_qs

Mode: TypeAlias = Literal["refuse", "slow", "hang", "corrupt"]
MODES: tuple[Mode, ...] = get_args(Mode)
SLOW_SHARE = 0.05
"""What a slow server is left of its egress."""


class BadFault(ValueError):
    """A fault that cannot be had; the message says why."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a server."""

    mode: Mode
    rate: float = 1.0
    """refuse: the share of requests that get 503."""
    bytes_per_s: int = 0
    """slow: what all bodies together get."""

    @property
    def told(self) -> dict[str, object]:
        """As JSON has it: the mode, and what it was asked with."""
        own = {"refuse": ("rate",), "slow": ("bytes_per_s",)}.get(self.mode, ())
        return {name: value for name, value in asdict(self).items() if name == "mode" or name in own}


def read(query: str, egress_bps: int) -> Fault:
    """The fault that a query asks for, of a server that can send `egress_bps`. Raises BadFault, also for a parameter that its mode has not
    got: who asks for a tenth of a hang would get a whole one.
    """
    said = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    mode = said.pop("mode", "refuse")
    if mode not in MODES:
        raise BadFault(f"mode={mode!r}: one of {', '.join(MODES)}")
    allowed = {"refuse": {"rate"}, "slow": {"share", "bytes_per_s"}}.get(mode, set())
    if strange := sorted(said.keys() - allowed):
        raise BadFault(f"mode={mode} has no {strange[0]}")
    if len(said) > 1:
        raise BadFault("either share or bytes_per_s")
    if mode == "refuse":
        return Fault("refuse", rate=_number("rate", said.get("rate", "1"), 0.0, 1.0, "a number from 0 to 1"))
    if mode == "slow" and "bytes_per_s" in said:
        return Fault("slow", bytes_per_s=int(_number("bytes_per_s", said["bytes_per_s"], 1.0, 1e12, "bytes per second, 1 at least")))
    if mode == "slow":
        share = _number("share", said.get("share", str(SLOW_SHARE)), 1e-9, 1.0, "a number from 0 to 1, and not 0")
        return Fault("slow", bytes_per_s=max(1, round(share * egress_bps / 8)))
    return Fault(cast(Mode, mode))


def _number(name: str, said: str, least: float, most: float, words: str) -> float:
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise BadFault(f"{name}={said!r}: {words}")
    return number

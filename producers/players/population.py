"""Who watches, on what, over which network, and what they do: drawn from a seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from producers.players.network import Markov
from producers.players.player import Action, Device

DEVICES = {"tv": 720, "tablet": 720, "web": 720, "phone": 480}
"""Kind of device → the tallest picture it plays, in lines."""
REGIONS = ("eu-west", "eu-north", "us-east", "sa-east")

NETWORKS = {
    64496: Markov((9_000, 14_000, 20_000), stay=0.9, rtt_ms=12),
    64497: Markov((2_200, 3_500, 6_000), stay=0.85, rtt_ms=28),
    64498: Markov((900, 1_700, 3_000), stay=0.8, rtt_ms=45),
    64499: Markov((60, 450, 1_100, 2_600), stay=0.75, rtt_ms=70, jitter=0.4),
}
"""Autonomous system of an ISP (numbers reserved for documentation, RFC 5398) → its network: fibre, cable, DSL, mobile."""


NETWORK_TYPES = {64496: "fibre", 64497: "cable", 64498: "dsl", 64499: "cellular"}
"""What its players call it."""
PREFIXES = {64496: "198.18.0", 64497: "192.0.2", 64498: "198.51.100", 64499: "203.0.113"}
"""The /24 of each ISP, a quarter of it for each of `REGIONS`: what producers/topology/laptop.yaml has its servers serve."""


@dataclass(frozen=True)
class Viewer:
    """A member with one device at one place."""

    device: Device
    network: Markov
    seed: int


def viewer(number: int, seed: int) -> Viewer:
    """The member with this number; the same for the same seed."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choice(tuple(DEVICES))
    asn = 64499 if kind == "phone" and rng.random() < 0.7 else rng.choice(tuple(NETWORKS))
    region, own = rng.choice(REGIONS), rng.getrandbits(32)
    address = f"{PREFIXES[asn]}.{64 * REGIONS.index(region) + 1 + own % 62}"
    device = Device(f"member-{number:04d}", kind, region, asn, DEVICES[kind], network_type=NETWORK_TYPES[asn], address=address)
    return Viewer(device, NETWORKS[asn], own)


def actions(rng: random.Random) -> list[Action]:
    """What the member does in one session: some leave early, even before the first frame; some pause, some seek, most just watch."""
    chance = rng.random()
    if chance < 0.04:
        return [Action(rng.randrange(150, 600), "quit")]
    if chance < 0.16:
        return [Action(rng.randrange(4_000, 30_000), "quit")]
    if chance < 0.28:
        at_ms = rng.randrange(5_000, 20_000)
        return [Action(at_ms, "pause"), Action(at_ms + rng.randrange(2_000, 8_000), "resume")]
    if chance < 0.40:
        return [Action(rng.randrange(5_000, 20_000), "seek", to_ms=rng.randrange(0, 40_000))]
    return []

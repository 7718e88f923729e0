"""Messages that nobody should be able to choke on, made from good ones. Pure: everything follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from schemas.catalogue import Topic
from schemas.codec import HEADER

HUGE_BYTES = 3 << 20
"""More than the guard lets through, less than the broker refuses."""
LONG_STRING = b"\xfe\xff\xff\xff\x0f"
"""A length of 2 GiB, as Avro writes it."""
UNKNOWN_IDS = range(900_000_000, 900_000_100)


@dataclass(frozen=True)
class Poison:
    """One message, and what is wrong with it."""

    name: str
    payload: bytes


def within_reach(landed: Iterable[Topic]) -> list[Topic]:
    """The landed topics that poison gets to past the guard: those that only the loader reads, and no job writes."""
    return [topic for topic in landed if topic.consumers == ("sinks.loader",) and not from_jobs(topic)]


def from_jobs(topic: Topic) -> bool:
    """Whether jobs write a topic: what they write is checked by recomputation."""
    return any(producer.startswith("streams.") for producer in topic.producers)


def poisons(seed: int, good: Callable[[], bytes], foreign_id: int) -> Iterator[Poison]:
    """Poison for a topic, for ever. `good` gives framed bytes that the topic takes; `foreign_id` is the schema id of another subject."""
    rng = random.Random(f"{seed}/poison")
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "wrong magic byte": lambda framed: bytes([rng.randint(1, 255)]) + framed[1:],
        "too short for framing": lambda framed: framed[: rng.randint(0, HEADER.size - 1)],
        "unknown schema id": lambda framed: HEADER.pack(0, rng.choice(UNKNOWN_IDS)) + framed[HEADER.size :],
        "schema id of another subject": lambda framed: HEADER.pack(0, foreign_id) + framed[HEADER.size :],
        "truncated body": lambda framed: framed[: rng.randint(HEADER.size, len(framed) - 1)],
        "string longer than the message": lambda framed: framed[: HEADER.size] + LONG_STRING + framed[HEADER.size + 1 :],
        "bytes left over": lambda framed: framed + rng.randbytes(rng.randint(1, 40)),
        "noise": lambda framed: b"\xff" + rng.randbytes(rng.randint(5, 400)),
        "huge": lambda framed: framed[: HEADER.size] + LONG_STRING + bytes(HUGE_BYTES),
    }
    names = sorted(kinds)
    while True:
        rng.shuffle(names)
        for name in names:
            yield Poison(name, kinds[name](good()))

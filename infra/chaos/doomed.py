"""`python -m infra.chaos.doomed WHEN STEP [--sleep]`: a loader that is killed at one step of its protocol, or falls asleep there.

It is a member of the group like any other and loads for real; only its lanes are watched. One that is to die over poison reads only
topics that some gets to: a group in which nothing else changes leaves it the same partitions for good. The first lane that comes to the
step ends the process with SIGKILL, or, with --sleep, stops it with SIGSTOP after printing its member id: a zombie, once somebody wakes it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from infra.base import log
from infra.chaos.poison import within_reach
from schemas.catalogue import catalogue
from sinks.loader import lane
from sinks.loader.ranges import Committed
from sinks.loader.shell import Shell

WITHIN_S = 0.004
"""How long after a step has begun it is broken off: an insert takes a few times as long, a commit about as long."""


class When(StrEnum):
    """Where in a step."""

    BEFORE = "before"  # the lane asks for it, nobody has begun it
    WITHIN = "within"  # the store, the group or the broker is at it
    AFTER = "after"  # it is done, and nobody knows


@dataclass(frozen=True)
class Point:
    """One place to die at: a step of the lane, by the name of its effect."""

    when: When
    step: str

    def __str__(self) -> str:
        return f"{self.when} {self.step}"


OVER_POISON = (lane.Screen, lane.Bury)
STEPS = (lane.Highest, lane.Fetch, lane.Intend, lane.Insert, lane.Stored, lane.Screen, lane.Bury, lane.Done)
"""`Mend` is not among them: no landing table feeds a view today."""
POINTS = tuple(Point(when, step.__name__) for step in STEPS for when in (When.BEFORE, When.AFTER)) + tuple(
    Point(When.WITHIN, step.__name__) for step in (lane.Intend, lane.Insert, lane.Stored, lane.Bury)
)
SLEEPS = (
    Point(When.AFTER, "Intend"),
    Point(When.WITHIN, "Insert"),
    Point(When.AFTER, "Insert"),
    Point(When.AFTER, "Stored"),
    Point(When.WITHIN, "Bury"),
)
"""Where a zombie is dangerous: it has an intent, or its insert is on the way."""


@dataclass
class Doomed(lane.Protocol):
    """The loader's protocol, with an end. `end` is called at `point`; it returns only to somebody who was asleep."""

    point: Point | None = None
    end: Callable[[], None] = lambda: None

    def run(self, committed: Committed) -> lane.Lane:
        """The same effects in the same order."""
        running = super().run(committed)
        result: Any = None
        try:
            while True:
                effect = running.send(result)
                self._pass(When.BEFORE, effect)
                if self.point == Point(When.WITHIN, type(effect).__name__):
                    threading.Timer(WITHIN_S, self.end).start()
                result = yield effect
                self._pass(When.AFTER, effect)
        finally:
            running.close()

    def _pass(self, when: When, effect: lane.Effect) -> None:
        if self.point == Point(when, type(effect).__name__):
            self.end()


def main() -> None:
    """Load, until the point is reached or SIGTERM comes."""
    parser = argparse.ArgumentParser(prog="python -m infra.chaos.doomed", description=__doc__)
    parser.add_argument("when", choices=[when.value for when in When])
    parser.add_argument("step", choices=[step.__name__ for step in STEPS])
    parser.add_argument("--sleep", action="store_true", help="SIGSTOP instead of SIGKILL")
    given = parser.parse_args()
    log.configure("doomed")
    slept = threading.Event()

    def end() -> None:
        if slept.is_set():
            return
        slept.set()
        if given.sleep:
            sys.stdout.write(f"{shell.member_id()}\n")
            sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSTOP if given.sleep else signal.SIGKILL)

    point = Point(When(given.when), given.step)
    landed = catalogue().landed()
    over_poison = point.step in {step.__name__ for step in OVER_POISON}
    shell = Shell(within_reach(landed) if over_poison else landed, protocol=partial(Doomed, point=point, end=end))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    shell.run(stop)


if __name__ == "__main__":
    main()

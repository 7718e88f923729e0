"""A schedule drawn ahead of who sends it, in a second process: drawing needs nothing of what sending needs, and there is a second core."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, Queue
from threading import Thread
from typing import Any

from infra.base.children import die_with_parent
from producers.simulator.schedule import Plan, Schedule, Second
from producers.simulator.world import World
from schemas.allocation.definition import AnyDefinition

DEPTH = 32
"""Seconds of simulated time that are drawn ahead: more than are sent while the next minute is drawn."""


class Killed(Exception):
    """The second process ended before it had drawn everything."""


def ahead(
    world: World, seed: int, plan: Plan, truths: bool = True, definitions: Sequence[AnyDefinition] | None = None, does: bool = False
) -> Iterator[Second]:
    """The seconds of `Schedule` with these arguments; drawing begins at once. They raise what drawing raises, and Killed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_draw, args=(theirs, world, seed, plan, truths, definitions, does), name="simulator-draws", daemon=True
    )
    process.start()
    theirs.close()  # or the end of the process would not be the end of the pipe
    coming: Queue[Second | Exception | None] = Queue(DEPTH)
    receiving = Thread(target=_receive, args=(ours, coming), name="simulator-receives", daemon=True)
    receiving.start()
    return _taken(process, receiving, coming)


def _taken(process: BaseProcess, receiving: Thread, coming: Queue[Second | Exception | None]) -> Iterator[Second]:
    try:
        while (second := coming.get()) is not None:
            if isinstance(second, Exception):
                raise second
            yield second
    finally:
        process.kill()
        process.join()
        while receiving.is_alive():
            with suppress(Empty):
                coming.get(timeout=0.01)


def _receive(pipe: Connection, coming: Queue[Second | Exception | None]) -> None:
    with pipe:
        while True:
            try:
                second = pipe.recv()
            except (EOFError, OSError):
                second = Killed("the process that draws sessions was killed; what came before is whole. Is memory short?")
            coming.put(second)
            if not isinstance(second, Second):
                return


def _draw(pipe: Connection, *of: Any) -> None:
    """The second process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the first process, which ends this one
    for_bulk()
    try:
        for second in Schedule(*of):
            pipe.send(second)
    except Exception as error:
        pipe.send(error)
    else:
        pipe.send(None)


def for_bulk() -> None:
    """Spare this process what costs time only where much is made.

    Nothing here is a cycle, and Python's collector would walk through what is in flight again and again. glibc gives numpy's large arrays
    back to the system, and each of their pages comes anew: have it keep them.
    """
    gc.set_threshold(1_000_000)
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another libc has none
    for parameter, size in ((m_mmap_threshold, 1 << 30), (m_trim_threshold, (1 << 31) - 1), (m_top_pad, 1 << 28)):
        if mallopt:
            mallopt(parameter, size)

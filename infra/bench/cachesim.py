"""libCacheSim, the reference for caches, as benchmarks ask it: installed apart on first use, run as a program of its own.

It is GPL-3.0-or-later, so nothing of ours imports it: `simulate` starts a Python that knows the folder it was put into and nothing of
ours, and reads what that printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.base.settings import settings
from infra.bench.harness import say

LOCK = Path(__file__).with_name("cachesim.lock")
TRACE = np.dtype([("time_s", "<u4"), ("object", "<u8"), ("bytes", "<u4"), ("next", "<i8")])
"""libCacheSim's oracleGeneral format: a request, and the number of the next one for the same object, -1 if there is none."""
PROGRAM = """
import json, sys
import libcachesim
path, begin, count, *asked = sys.argv[1:]
def reader():
    kind = libcachesim.TraceType.ORACLE_GENERAL_TRACE
    options = libcachesim.ReaderInitParam(ignore_obj_size=False)
    return libcachesim.TraceReader(trace=path, trace_type=kind, reader_init_params=options)
for words in asked:
    policy, capacity = words.split(":")
    cache = getattr(libcachesim, policy)(cache_size=int(capacity))
    if int(begin):
        cache.process_trace(reader(), 0, int(begin))
    print(json.dumps(cache.process_trace(reader(), int(begin), int(count))), flush=True)
"""


class NoPeer(Exception):
    """libCacheSim cannot be had; the message says why."""


@dataclass(frozen=True)
class Missed:
    """What a policy missed of a trace: requests, and the share of the bytes asked for."""

    requests: int
    share_of_bytes: float


def next_requests(objects: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each request the number, from 1, of the next one for the same object; -1 if there is none. What Belady's policy looks at."""
    order = np.argsort(objects, kind="stable")
    same = objects[order[1:]] == objects[order[:-1]]
    found = np.full(len(objects), -1, np.int64)
    found[order[:-1][same]] = order[1:][same] + 1
    return found


def simulate(trace: Path, asked: Sequence[tuple[str, int]], begin: int = 0) -> list[Missed]:
    """What each (policy, capacity in bytes) misses of a trace in the format TRACE, from request number `begin` on; those before warm it.

    Policies: LRU, FIFO, LFU, Sieve, S3FIFO, WTinyLFU, Belady.

    Blocks. Raises NoPeer.
    """
    requests = trace.stat().st_size // TRACE.itemsize - begin
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(trace.resolve()),
        str(begin),
        str(requests),
        *(f"{policy}:{capacity}" for policy, capacity in asked),
    ]
    environment = {**os.environ, "PYTHONPATH": str(installed())}
    done = subprocess.run(command, env=environment, cwd=trace.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPeer(f"libCacheSim ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return [Missed(round(of_requests * requests), of_bytes) for of_requests, of_bytes in answers]


def installed() -> Path:
    """The folder that libCacheSim lies in, put there on first use. Raises NoPeer."""
    folder = settings().cache / "peers" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    if not (folder / "libcachesim").is_dir():
        say("installing libCacheSim, the peer, apart from everything of ours")
        quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder), "-r", str(LOCK)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoPeer(f"libCacheSim could not be installed: {done.stderr.strip()[-500:]}")
    return folder

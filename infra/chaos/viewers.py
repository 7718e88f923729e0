"""Members who watch and report over HTTP while everything breaks: small sessions of CMCD reports, each sent again until it is taken."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator

import httpx2 as httpx

from infra.base.settings import settings
from schemas import cmcd

TARGET = "torture"
PAUSE_S = (0.1, 0.6)
AGAIN_S = 0.5


class Viewers:
    """`count` viewers on threads of their own. `taken` are the reports that the collector has answered 202 for, by sid and sn.

    `refused` says in words which right reports it did not want; their viewers watch no more.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.taken: set[tuple[str, int]] = set()
        self.refused: list[str] = []
        self._stop = threading.Event()
        names = [f"viewer-{seed}-{number}" for number in range(count)]
        self._threads = [threading.Thread(target=self._watch, args=(name, random.Random(name)), daemon=True) for name in names]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each report under way be taken, then stop. Blocks while the collector is away."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, name: str, rng: random.Random) -> None:
        with httpx.Client(timeout=15.0) as http:
            for number in itertools.count():
                sid = f"{name}-{number}"
                for sn, keys in enumerate(_session(rng)):
                    taken = self._report(http, sid, sn, {**keys, "sid": sid, "sn": sn, "ts": time.time_ns() // 1_000_000})
                    if not taken or self._stop.wait(rng.uniform(*PAUSE_S)):
                        return

    def _report(self, http: httpx.Client, sid: str, sn: int, keys: dict[str, object]) -> bool:
        """Send one report until it is taken, even when told to stop: what was never answered may have been stored or not.

        False where it is refused for good.
        """
        url, line = f"{settings().edge.collector_url}/cmcd?target={TARGET}", cmcd.serialise(keys)
        while True:
            try:
                answer = http.post(url, content=line.encode(), headers={"Content-Type": "application/cmcd"})
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.taken.add((sid, sn))
                return True
            if answer is not None and answer.status_code not in (408, 429) and answer.status_code < 500:
                self.refused.append(f"the collector refuses report {sn} of {sid} ({answer.status_code}): {answer.text[:500]}")
                return False
            time.sleep(AGAIN_S)


def _session(rng: random.Random) -> Iterator[dict[str, object]]:
    """A session's reports in order: it starts, plays with a stall now and then, and ends one way or the other."""
    kbps = rng.choice((800, 2400, 4800))
    yield {"e": "ps", "sta": "s", "cid": f"title-{rng.randint(1, 9)}"}
    yield {"e": "ps", "sta": "p", "msd": rng.randint(200, 3000), "br": kbps}
    for _ in range(rng.randint(2, 20)):
        if rng.random() < 0.1:
            yield {"e": "ps", "sta": "r", "br": kbps}
            yield {"e": "ps", "sta": "p", "br": kbps}
        yield {"e": "rr", "ot": "v", "br": kbps, "d": 4000, "rc": 200, "url": "http://127.0.0.1/title/segment.m4s"}
    if rng.random() < 0.8:
        yield {"e": "ps", "sta": rng.choice("eqf"), "br": kbps}

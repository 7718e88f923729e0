"""What does strictness cost? The real collector against the same server splitting keys and producing the same Avro without validation.

Batches of 20 lines, as players send them, over real HTTP to real processes of one worker each that wait for real Kafka. The peer is
the collector but for the judge: that one splits at commas and at `=`, strips quotes, makes numbers of digits, and believes the rest.
It is given what it needs to be as fast as that can be: a table with a reader for each key, and lines that it reads right, which is
checked, report by report, before anything is measured. Both are up at once and take turns of a second, so that what the machine does
meanwhile meets both. Lines are recordings of the five players (infra/bench/recordings.json), every kind of event among them, each
batch under a session of its own and at the time of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from edge.collector import Collector, app
from edge.interactions import TOPICS as DOINGS
from edge.interactions import Interactions
from edge.judge import Judge
from edge.pseudonym import pseudonym
from edge.serve import serve
from infra.base.settings import settings
from infra.bench.harness import Figure, Options, cpu_seconds, ground, namespace, say, served
from infra.bench.recordings import recordings
from producers.emit import Emitter
from schemas import cmcd
from schemas.catalogue import catalogue
from schemas.publish import publish
from schemas.structured_fields import Member

FIGURES = {
    "of_unvalidated": Figure("share", 0.60, 0.40),
    "lines_per_s": Figure("lines/s"),
    "unvalidated_lines_per_s": Figure("lines/s"),
}
LINES = 20
"""Reports in a batch."""
BATCHES = 400
"""Different ones; they are sent over and over."""
CONNECTIONS = 24
TURN_S = 1.0
SECONDS = 30.0
"""Measured time of each in a run."""
WARM_UP_S = 3.0
TOPICS = ("playback.report", "observability.dead_letter", *DOINGS.values())


class Splitter(Judge):
    """The peer's judge: believes what it is told."""

    def event(self, raw: bytes, is_json: bool, arrival_ms: int, target: str, beside: Mapping[str, Member]) -> cmcd.Report:
        """The report in a line."""
        fields: dict[str, Any] = {"target": f"event:{target}"}
        custom: dict[str, str] = {}
        envelope: dict[str, Any] = {cmcd.CORRELATION: ""}
        several: dict[str, str] = {}
        for pair in raw.decode().split(","):
            key, _, text = pair.partition("=")
            place = READERS.get(key)
            if place is None:
                custom[key] = text[1:-1] if text[:1] == '"' else text or "?1"
            elif place[1] is _first and " " in text:
                several[place[0]] = text
            elif place[0]:
                fields[place[0]] = place[1](text)
            else:
                envelope[key] = place[1](text)
        for field, text in several.items():
            fields[field] = _one_of(field, text, fields.get("ot"))
        if custom:
            fields["custom"] = custom
        if "member_id" in fields:
            fields["member_id"] = pseudonym(fields["member_id"])
        if "url" in fields and "oca_id" not in fields:
            oca_id = self._oca_by_origin.get(cmcd.origin(fields["url"]))
            if oca_id is not None:
                fields["oca_id"] = oca_id
        event_id = cmcd.report_id(fields["sid"], fields["target"], fields["sn"])
        return cmcd.Report(event_id, envelope["ts"], envelope[cmcd.CORRELATION], fields)


def _unquoted(text: str) -> str:
    return text[1:-1]


def _address(text: str) -> str:
    return text[1:-1].partition("?")[0]


def _first(text: str) -> int:
    return round(float(text.strip("()").partition(";")[0]))


def _one_of(field: str, text: str, kind: str | None) -> int:
    """Of a list of several numbers by object type, the one that ours keeps."""
    typed = {name: round(float(number)) for number, _, name in (item.partition(";") for item in text[1:-1].split(" "))}
    wanted = kind if kind in typed else "v" if field in ("br_kbps", "tb_kbps") else None
    return typed[wanted] if wanted in typed else (min if field == "bl_ms" else max)(typed.values())


def _codes(text: str) -> list[str]:
    return [code.strip('"') for code in text.strip("()").split()]


BY_TYPE: dict[str, Callable[[str], Any]] = {
    "integer": int, "number": float, "string": _unquoted, "token": str, "boolean": lambda text: text in ("", "?1"), "number[]": _first,
    "string[]": _codes,
}  # fmt: skip
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **{key: (field, BY_TYPE[cmcd.TYPES[key]]) for key, (field, _) in cmcd.PLACES.items()},
    **{key: (field, _unquoted) for key, (field, _) in cmcd.LIFTED.items()},
    "url": ("url", _address), "com.headrace-asn": ("isp_asn", int), "com.headrace-bytes": ("bytes", int),
    "ts": ("", int), "v": ("", int), cmcd.CORRELATION: ("", _unquoted),
}  # fmt: skip
"""By key: the field that it goes into, empty for the envelope, and what reads its text."""


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; both servers are up throughout."""
    runs = []
    with ground("kafka,registry"), namespace("bench"):
        publish(catalogue().topic(name) for name in TOPICS)
        with served("edge.collector") as our, served("infra.bench.collector") as their:
            ours, theirs = Server(*our), Server(*their)
            for number in range(options.runs):
                bodies = batches(random.Random(options.seed + number), time.time_ns() // 1_000_000)
                check(bodies)
                ours.take(bodies, WARM_UP_S)
                theirs.take(bodies, WARM_UP_S)
                ours.reset()
                theirs.reset()
                for _ in range(round((options.seconds or SECONDS) / TURN_S)):
                    ours.take(bodies, TURN_S)
                    theirs.take(bodies, TURN_S)
                figures = {
                    "of_unvalidated": ours.lines_per_s / theirs.lines_per_s,
                    "lines_per_s": ours.lines_per_s,
                    "unvalidated_lines_per_s": theirs.lines_per_s,
                    "cpu_us_per_line": ours.cpu_us_per_line,
                    "unvalidated_cpu_us_per_line": theirs.cpu_us_per_line,
                }
                say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
                runs.append(figures)
    return runs


def batches(chance: random.Random, now_ms: int) -> list[list[str]]:
    """Batches of lines: a player's reports in their order, from anywhere in its session on, under a new sid."""
    sessions: dict[tuple[str, str], list[str]] = {}
    for told in recordings():
        if told.way == "event":
            sessions.setdefault((told.player, told.expected["sid"]), []).append(str(told.sent))
    made = []
    for n, (_, sid) in zip(range(BATCHES), cycle(sessions), strict=False):
        again = cycle(next(lines for (_, known), lines in sessions.items() if known == sid))
        for _ in range(chance.randrange(LINES)):
            next(again)
        made.append([_anew(next(again), sid, f"{sid[:-6]}{n:06}", now_ms + i) for i in range(LINES)])
    return made


def _anew(line: str, sid: str, new: str, ts: int) -> str:
    members = [f"ts={ts}" if member.startswith("ts=") else member for member in line.replace(f'"{sid}"', f'"{new}"').split(",")]
    return ",".join(members)


def check(bodies: Sequence[Sequence[str]]) -> None:
    """Raises AssertionError for a line of which the two do not make the same report, or which ours refuses."""
    ours, theirs, now_ms = Judge(settings()), Splitter(settings()), time.time_ns() // 1_000_000
    for line in {line for body in bodies for line in body}:
        strict, loose = (judge.event(line.encode(), False, now_ms, "default", {}) for judge in (ours, theirs))
        if strict != loose:
            raise AssertionError(f"the peer reads {line} as {loose}, ours as {strict}")


class Server:
    """One server under load: what it has answered in how long."""

    def __init__(self, url: str, pid: int) -> None:
        self._address = urlsplit(url)
        self._pid = pid
        self.reset()

    def reset(self) -> None:
        """Forget what was so far."""
        self._lines = 0
        self._seconds = self._cpu_s = 0.0

    @property
    def lines_per_s(self) -> float:
        """Lines answered a second of its turns."""
        return self._lines / self._seconds

    @property
    def cpu_us_per_line(self) -> float:
        """CPU microseconds of its process, Kafka's client included, per line."""
        return self._cpu_s / self._lines * 1e6

    def take(self, bodies: Sequence[Sequence[str]], seconds: float) -> None:
        """Its turn: every connection sends one batch after the other. Raises AssertionError for another answer than 202 to all of it."""
        requests = [self._request("\n".join(body).encode()) for body in bodies]
        started, cpu_s = time.perf_counter(), cpu_seconds([self._pid])
        answered = asyncio.run(self._load(requests, started + seconds))
        self._lines += answered * LINES
        self._seconds += time.perf_counter() - started
        self._cpu_s += cpu_seconds([self._pid]) - cpu_s

    def _request(self, body: bytes) -> bytes:
        head = ["POST /cmcd HTTP/1.1", f"Host: {self._address.netloc}", "Content-Type: application/cmcd", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", ""]).encode() + body

    async def _load(self, requests: Sequence[bytes], until: float) -> int:
        return sum(await asyncio.gather(*(self._connection(requests[n::CONNECTIONS], until) for n in range(CONNECTIONS))))

    async def _connection(self, requests: Sequence[bytes], until: float) -> int:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        answered = 0
        for request in cycle(requests):
            if time.perf_counter() >= until:
                break
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"http/1.1 202") or b'"accepted":%d,' % LINES not in body:
                raise AssertionError(f"a batch was answered {(head + body)[:500].decode()}")
            answered += 1
        writer.close()
        await writer.wait_closed()
        return answered


def main() -> None:
    """The peer: serve until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m infra.bench.collector", description="The collector's peer, which validates nothing.")
    parser.add_argument("--url", required=True, help="address to serve at")
    with Emitter("bench-peer", background=True) as emitter:
        serve(app(Collector(emitter, Splitter(settings()), Interactions(settings()))), parser.parse_args().url)


if __name__ == "__main__":
    main()

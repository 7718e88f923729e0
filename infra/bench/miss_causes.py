"""Is each miss called one, and by its right cause?

Seven real cache servers, filled from an origin, with steering, health and the job `misses` as they run anywhere. A script plays viewers
and, while they watch, drains one server, kills another, withdraws a prefix, fills a third up to its egress and takes a title from a fourth.
So it knows of each answer whether it is a miss and why (infra/bench/miss_truth.py), without asking anybody; only which server steering
named first it takes from the answer that a viewer gets. Everything goes on at once, on networks beside each other
(infra/bench/worlds/miss_causes.yaml): what tells causes apart is the join of decision, answer and health. Many sessions begin before a
change and go on after it.

`right`: of the misses that were found, those with the right cause. `found`: of the misses by construction, those that are in delivery_miss.
`invented`: of all other answers, refusals among them, those that are there too. What was asked in the midst of a change is `unclear` and
not counted, nor what went elsewhere when a server's own reports show that it had no core to run on. `row_p50_s`, `row_p99_s`: from a miss
to its row in the warehouse.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import httpx2 as httpx
import numpy as np

from infra.base import warehouse
from infra.base.clock import WallClock
from infra.base.ports import LOOPBACK, free_port
from infra.base.registry import RegistryClient
from infra.base.settings import environment, settings
from infra.bench.harness import OUT, Figure, Options, ground, say
from infra.bench.live import HEADRACE, Probe, quantile
from infra.bench.miss_truth import ALWAYS, CAUSES, NO_MISS, Answer, Change, Facts, Span, Told, causes, compare, strains, table
from producers.emit import Emitter
from producers.topology.publish import publish as tell
from producers.topology.topology import Topology, read
from schemas.assets import AssetId, publish

FIGURES = {
    "right": Figure("share", 0.99, 0.99),
    "found": Figure("share", 0.99, 0.99),
    "invented": Figure("share", 0.01, 0.01, higher=False),
    **{f"right_{cause.lower()}": Figure("share") for cause in CAUSES},
    **{f"{cause.lower()}_misses": Figure("answers") for cause in CAUSES},
    "no_misses": Figure("answers"),
    "unclear": Figure("answers"),
    "twice": Figure("rows"),
    "row_p50_s": Figure("s"),
    "row_p99_s": Figure("s"),
}
SERVICES = "kafka,registry,flink,topics,warehouse,tables,loader,oca-health,steering"
NETWORK = Path(__file__).parent / "worlds" / "miss_causes.yaml"
SERVERS = 7
SECONDS = 60.0
READY_WITHIN_S = 60.0
ROWS_WITHIN_S = 40.0
"""After the last answer, how long its row may take before it counts as not found."""
ROWS_MORE_S = 5.0
"""And how long what should not be there is waited for."""
UNCLEAR = 0.2
"""Share of the answers that may be unclear."""
MISS = "delivery_miss"
CLOCK = WallClock()

PREFIXES = {
    "pair": "198.18.1.0/24",
    "small": "198.18.2.0/24",
    "one": "198.18.3.0/25",
    "gone": "198.18.3.128/25",
    "exchange": "198.18.4.0/24",
    "nobody": "203.0.113.0/24",
}
"""The viewers' networks."""
BEST = {
    "pair": ("oca-1", "oca-2"),
    "small": ("oca-3",),
    "one": ("oca-4",),
    "gone": ("oca-4",),
    "exchange": ("oca-5",),
    "nobody": ("oca-7",),
}
EXCHANGES = ("oca-5", "oca-6")
PARENT = {"oca-1": "oca-5", "oca-2": "oca-5", "oca-3": "oca-6", "oca-4": "oca-6", "oca-5": "oca-7", "oca-6": "oca-7"}
HELD = {
    "left": ("oca-1", *EXCHANGES),
    "right": ("oca-2", *EXCHANGES),
    "both": ("oca-1", "oca-2", *EXCHANGES),
    "crowd": ("oca-3", *EXCHANGES),
    "held": ("oca-4", *EXCHANGES),
    "leaving": ("oca-4", *EXCHANGES),
    "absent": EXCHANGES,
    "rare": (),
    "bulk": ("oca-3",),
}
"""Who is filled with each title. In a site of two, a title is on one of them, as fill plans have it, or on both."""
DRAINED, KILLED, SMALL, FORGETFUL = "oca-2", "oca-1", "oca-3", "oca-4"
WITHDRAWN = f"oca-4 {PREFIXES['gone']}"
DRAIN, WITHDRAW, CROWD, FORGET, FULL, KILL = 0.20, 0.27, 0.33, 0.40, 0.50, 0.63
"""When each change begins, as a share of the measured time."""
SEGMENTS, SEGMENT_BYTES, BULK_BYTES = 10, 8_000, 40_000_000
GAP_S = 0.5
SHORT, LONG, LONG_SHARE = (3, 7), 25, 0.10
"""Segments of a session: few, or so many that it lives through some change."""
READERS = 5
NEARLY, FILLED = 0.78, 1.03
"""Share of the small server's egress that its `READERS` take: first so much that some sessions are sent elsewhere, then all of it. Viewers
take up to a tenth more."""
PAUSED, BURST_S, PAUSE_S = 0.3, 2.4, 0.6
"""A full server's readers pause for more than one report now and then. To have room it must be well for three seconds."""
KNOWN_MS, MEASURED_MS = 500, 1_000
"""How long an announcement takes to be known everywhere, and a load to fill the half second that a report is of."""

Viewer = Literal["follows", "strays", "insists", "flees"]


@dataclass(frozen=True)
class Lane:
    """Sessions of one kind, `per_s` of them begin a second.

    All go through steering's answer in its order, one further when one refuses. Some stray to a server that is not best, for no reason;
    some insist on the best one though steering named another; some flee from a server that is full.
    """

    network: str
    title: str
    viewer: Viewer
    per_s: float

    @property
    def name(self) -> str:
        return f"{self.network}-{self.title}-{self.viewer}"


LANES = (
    Lane("pair", "right", "follows", 2.1),
    Lane("pair", "left", "follows", 2.1),
    Lane("pair", "left", "strays", 2.1),
    Lane("pair", "both", "follows", 2.1),
    Lane("small", "crowd", "follows", 2.9),
    Lane("small", "crowd", "flees", 2.9),
    Lane("small", "crowd", "strays", 2.0),
    Lane("one", "held", "follows", 1.0),
    Lane("one", "held", "strays", 1.6),
    Lane("one", "absent", "follows", 1.0),
    Lane("one", "absent", "insists", 1.0),
    Lane("one", "leaving", "follows", 1.5),
    Lane("gone", "held", "follows", 6.5),
    Lane("exchange", "held", "follows", 1.0),
    Lane("exchange", "rare", "follows", 1.0),
    Lane("nobody", "held", "follows", 0.8),
)


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run: a new fleet each, on the same services."""
    seconds = options.seconds or SECONDS
    urls = [f"http://{LOOPBACK}:{free_port()}" for _ in range(SERVERS)]
    with ground(SERVICES, OUT / "miss_causes") as stack, environment({"HEADRACE_EDGE__OCA_URLS": json.dumps(urls)}):
        say("deploying the job misses")
        subprocess.run([HEADRACE, "jobs", "deploy", "misses"], check=True, stdin=subprocess.DEVNULL)
        bucket = stack.state_dir / "origin"
        topology = read(NETWORK.read_text(), urls)
        with Emitter("bench-topology") as emitter, _origin(bucket) as origin_url:
            for event in titles(bucket / "titles"):
                emitter.send("encoding.published", event)
            runs = []
            for number in range(options.runs):
                tell(topology, emitter, RegistryClient().schema)
                with Probe((MISS,)) as probe, fleet(stack.state_dir / f"fleet-{number}", topology, origin_url) as servers:
                    script = Script(
                        f"r{options.seed}-{number}", seconds, random.Random(f"{options.seed}/{number}"), topology, servers, emitter
                    )
                    wait_until_as_built()
                    say(f"{seconds:.0f} s of {sum(lane.per_s for lane in LANES):.0f} sessions a second")
                    asyncio.run(script.play())
                    runs.append(judge(script, probe))
                    say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:,.4g}" for name, value in runs[-1].items()))
        return runs


def titles(bucket: Path) -> Iterator[dict[str, Any]]:
    """Write every title's files, whole, into the origin's bucket; gives each as `encoding.published` has it."""
    for cid in HELD:
        folder = bucket / cid / "v1"
        folder.mkdir(parents=True)
        files = {f"{n}.m4s": SEGMENT_BYTES for n in range(SEGMENTS)} if cid != "bulk" else {"0.m4s": BULK_BYTES}
        for name, size in {**files, "manifest.mpd": 100}.items():
            (folder / name).write_bytes(random.Random(f"{cid}/{name}").randbytes(size))
        size = publish(folder, AssetId(cid, 1), 1_700_000_000).size_bytes
        paths = {"dash_path": f"{cid}/v1/manifest.mpd", "hls_path": f"{cid}/v1/master.m3u8"}
        yield {"cid": cid, "version": 1, "title": cid, "duration_ms": 20_000, "rungs": 1, "bytes": size, "sha256": "", **paths}


def lacking() -> dict[tuple[str, str], Change]:
    """Who has not been filled with what; the origin has everything."""
    return {(oca_id, cid): ALWAYS for oca_id in PARENT for cid, holders in HELD.items() if oca_id not in holders}


# --- the fleet -------------------------------------------------------------------------------------------------------------------------


@dataclass
class Servers:
    """Cache servers that run: by oca_id their addresses and processes."""

    urls: Mapping[str, str]
    processes: Mapping[str, subprocess.Popen[bytes]]

    def kill(self, oca_id: str) -> None:
        """End one at once."""
        self.processes[oca_id].kill()


@contextmanager
def _origin(root: Path) -> Iterator[str]:
    """The bucket's address at an origin that serves below `root`."""
    url = f"http://{LOOPBACK}:{free_port()}"
    process = subprocess.Popen([sys.executable, "-m", "edge.origin", "--url", url, "--root", str(root)], stderr=subprocess.DEVNULL)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _wait("the origin", lambda: httpx.get(f"{url}/").status_code == 200)
        yield f"{url}/titles"
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def fleet(root: Path, topology: Topology, origin_url: str) -> Iterator[Servers]:
    """The network's cache servers, each with what it is to hold."""
    urls = {oca_id: str(oca["url"]) for oca_id, oca in topology.ocas.items()}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for n, (oca_id, oca) in enumerate(topology.ocas.items()):
            parent = urls[PARENT[oca_id]] if oca_id in PARENT else origin_url
            told = {"index": n, "root": root / oca_id, "site": oca["site_id"], "tier": oca["tier"], "parent": parent,
                    "capacity-bytes": oca["disk_bytes"], "egress-bps": oca["egress_bps"]}  # fmt: skip
            words = [str(word) for name, value in told.items() for word in (f"--{name}", value)]
            processes[oca_id] = subprocess.Popen([sys.executable, "-m", "edge.oca", *words], stderr=subprocess.DEVNULL)
        say(f"filling {len(processes)} cache servers")
        for oca_id, url in urls.items():
            wanted = [cid for cid, holders in HELD.items() if oca_id in holders]
            _wait(oca_id, lambda url=url: httpx.get(f"{url}/healthz").status_code == 200)  # type: ignore[misc]
            for cid in wanted:
                httpx.post(f"{url}/admin/fill", params={"asset": f"{cid}/v1", "source": origin_url}).raise_for_status()
        for oca_id, url in urls.items():
            count = sum(oca_id in holders for holders in HELD.values())
            _wait(f"{oca_id}'s titles", lambda url=url, count=count: httpx.get(f"{url}/healthz").json().get("assets", 0) == count)  # type: ignore[misc]
        yield Servers(urls, processes)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(30)


def wait_until_as_built() -> None:
    """Block until steering answers as the network is built. Raises AssertionError."""

    def wrong() -> str:
        for lane in LANES:
            answer = httpx.post(f"{settings().edge.steering_url}/steer", json={"cid": lane.title}, headers=viewer(lane.network, 7))
            if answer.status_code != 200:
                return f"{lane.name}: {answer.text}"
            told = answer.json()
            words = [reason["reason"] for reason in (*told["candidates"], *told["rejected"])]
            if ill := [reason for reason in words if "health" in reason or "DEGRADED" in reason]:
                return f"{lane.name}: {ill[0]}"
            first, holders = told["candidates"][0]["oca_id"], {*HELD[lane.title], "oca-7"} & {*BEST[lane.network]}
            if not told["contents_known"] or (holders and first not in holders):
                return f"{lane.name}: {first} comes first of {sorted(holders)}"
        return ""

    _wait("steering", lambda: not wrong(), wrong)


def _wait(what: str, ready: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    deadline = CLOCK.now_ms() + 1000 * READY_WITHIN_S
    while True:
        with suppress(httpx.HTTPError):
            if ready():
                return
        if CLOCK.now_ms() > deadline:
            raise AssertionError(f"{what}: not ready in {READY_WITHIN_S:g} s; {why()}")
        CLOCK.sleep(0.2)


def viewer(network: str, host: int) -> dict[str, str]:
    """Headers that say from where a question comes."""
    return {"x-forwarded-for": str(ipaddress.ip_network(PREFIXES[network])[host])}


# --- the script ------------------------------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """What happens in a run: viewers, changes, and what is known of both afterwards."""

    name: str
    seconds: float
    chance: random.Random
    topology: Topology
    servers: Servers
    emitter: Emitter
    answers: list[Answer] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    """Requests that nobody answered, by server."""
    facts: Facts = field(default_factory=lambda: Facts(BEST, lacking()))
    http: aiohttp.ClientSession = field(init=False)
    _crowd: list[asyncio.Task[None]] = field(default_factory=list)

    async def play(self) -> None:
        """Everything, from the first session to the last answer."""
        changes = (
            (DRAIN, self.drain),
            (WITHDRAW, self.withdraw),
            (CROWD, self.crowd),
            (FORGET, self.forget),
            (FULL, self.fill_up),
            (KILL, self.kill),
        )
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self.http, _background() as aside:
            self._aside = aside
            await asyncio.gather(
                *(self._lane(lane) for lane in LANES),
                *(self._at(share * self.seconds, change) for share, change in changes),
            )
            for task in aside:
                task.cancel()

    async def _at(self, at_s: float, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(at_s)
        say(f"{at_s:3.0f} s: {(change.__doc__ or '').splitlines()[0]} {len(self.answers):,} answers so far")
        await change()

    # What is done to the network. Each writes down when it began before it begins.

    async def drain(self) -> None:
        """A server drains, while somebody still reads from it."""
        slow = f"{self.servers.urls[DRAINED]}/right/v1/0.m4s?narrow_kbps=1"
        self._aside.append(asyncio.create_task(self._read(slow)))
        await asyncio.sleep(0.3)
        async with self._changing(self.facts.ill, DRAINED):
            await self._post(DRAINED, "/admin/drain")

    async def kill(self) -> None:
        """A server is killed."""
        async with self._changing(self.facts.ill, KILLED):
            self.servers.kill(KILLED)

    async def withdraw(self) -> None:
        """A server withdraws one of its announcements."""
        routes = {route: event for route, event in self.topology.routes.items() if route != WITHDRAWN}
        async with self._changing(self.facts.withdrawn, "gone", KNOWN_MS):
            await asyncio.to_thread(tell, replace(self.topology, routes=routes), self.emitter, RegistryClient().schema)

    async def forget(self) -> None:
        """A server loses a title."""
        async with self._changing(self.facts.lacks, (FORGETFUL, "leaving")):
            await self._post(FORGETFUL, "/admin/pull?asset=leaving/v1")

    async def crowd(self) -> None:
        """A server comes near its egress."""
        async with self._changing(self.facts.nearly_full, SMALL, MEASURED_MS):
            self._read_at(NEARLY)

    async def fill_up(self) -> None:
        """It is full, and stays so; what it sends comes and goes in bursts."""
        async with self._changing(self.facts.full, SMALL, MEASURED_MS):
            self._read_at(FILLED)
        self._aside.append(asyncio.create_task(self._waver()))

    async def _waver(self) -> None:
        while True:
            await asyncio.sleep(BURST_S)
            self._read_at(PAUSED)
            await asyncio.sleep(PAUSE_S)
            self._read_at(FILLED)

    @contextlib.asynccontextmanager
    async def _changing(self, facts: dict[Any, Change], what: Any, takes_ms: int = 0) -> AsyncIterator[None]:
        """Write down when a change began, and, `takes_ms` after it was made, when it was done."""
        begun_ms = CLOCK.now_ms()
        facts[what] = Change(begun_ms, sys.maxsize)
        yield
        await asyncio.sleep(takes_ms / 1000)
        facts[what] = Change(begun_ms, CLOCK.now_ms())

    def _read_at(self, share: float) -> None:
        """Have the crowd at the small server take this share of its egress, in place of what it took."""
        for task in self._crowd:
            task.cancel()
        kbps = round(share * self.topology.ocas[SMALL]["egress_bps"] / READERS / 1000)
        url = f"{self.servers.urls[SMALL]}/bulk/v1/0.m4s?narrow_kbps={kbps}"
        self._crowd = [asyncio.create_task(self._read(url)) for _ in range(READERS)]
        self._aside += self._crowd

    async def _read(self, url: str) -> None:
        """Read something, and again, without being a session."""
        while True:
            async with self.http.get(url) as answer:
                async for _ in answer.content.iter_any():
                    pass

    async def _post(self, oca_id: str, path: str) -> None:
        async with self.http.post(self.servers.urls[oca_id] + path) as answer:
            answer.raise_for_status()

    # Viewers.

    async def _lane(self, lane: Lane) -> None:
        """Sessions of one kind, at random times, until the end; returns when the last of them has ended."""
        sessions: list[asyncio.Task[None]] = []
        chance = random.Random(f"{self.name}/{lane.name}/{self.chance.random()}")
        end_ms = CLOCK.now_ms() + 1000 * self.seconds
        while CLOCK.now_ms() < end_ms:
            sessions.append(asyncio.create_task(self._session(lane, f"{self.name}-{lane.name}-{len(sessions)}", chance)))
            await asyncio.sleep(chance.expovariate(lane.per_s))
        await asyncio.gather(*sessions)

    async def _session(self, lane: Lane, sid: str, chance: random.Random) -> None:
        count = LONG if chance.random() < LONG_SHARE else chance.randint(*SHORT)
        leaves_at = chance.randint(0, 2)
        where = viewer(lane.network, chance.randint(1, 120))
        decided, order = await self._decision(lane, sid, where)
        first, best = order[0], BEST[lane.network]
        if lane.viewer == "insists":
            order = [*best, *order]
        for n in range(count):
            fled = lane.viewer == "flees" and SMALL in self.facts.full and self.facts.full[SMALL].done_ms <= CLOCK.now_ms()
            if fled or (lane.viewer == "strays" and n == leaves_at):
                order = [oca_id for oca_id in order if oca_id not in best]
            while not await self._segment(lane, sid, n, order[0], first, decided):
                order.pop(0)
                if not order:
                    self.lost["all"] += 1
                    return
            await asyncio.sleep(GAP_S * chance.uniform(0.8, 1.2))

    async def _decision(self, lane: Lane, sid: str, where: Mapping[str, str]) -> tuple[Span, list[str]]:
        """Where steering sends a session, and when it was asked for that; asked again while it knows nobody."""
        while True:
            asked_ms = CLOCK.now_ms()
            question = {"cid": lane.title, "sid": sid}
            async with self.http.post(f"{settings().edge.steering_url}/steer", json=question, headers=where) as found:
                told = await found.json()
            if order := [candidate["oca_id"] for candidate in told["candidates"]]:
                return Span(asked_ms, CLOCK.now_ms()), order
            await asyncio.sleep(1.0)

    async def _segment(self, lane: Lane, sid: str, n: int, oca_id: str, first: str, decided: Span) -> bool:
        """Ask a server for a segment; whether it was served."""
        key = f"{sid}/{n}/{oca_id}"
        cmcd = quote(f'bl=(4000),br=(8000),cid="{lane.title}",d=2000,ot=v,sid="{sid}",sn={n},sta=p,v=2')
        url = f"{self.servers.urls[oca_id]}/{lane.title}/v1/{n % SEGMENTS}.m4s?CMCD={cmcd}"
        asked_ms = CLOCK.now_ms()
        try:
            async with self.http.get(url, headers={"x-correlation-id": key}) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError):
            self.lost[oca_id] += 1
            return False
        served = answer.status == 200 and len(body) == SEGMENT_BYTES
        span = Span(asked_ms, CLOCK.now_ms())
        self.answers.append(Answer(key, lane.network, lane.title, oca_id, span, not served, first, decided))
        return served


@contextlib.asynccontextmanager
async def _background() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that are ended at the end of the context. Raises what one of them raised."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def judge(script: Script, probe: Probe) -> dict[str, float]:
    """Figures of a run, when its rows are there."""
    CLOCK.sleep(2.0)  # the last reports are there
    script.facts.strained = strains(reports(min(answer.decided.asked_ms for answer in script.answers) - 5_000))
    truths = {answer.key: causes(script.facts, answer) for answer in script.answers}
    if unclear := {oca_id: len(spans) for oca_id, spans in script.facts.strained.items()}:
        say(f"servers that were not themselves, though nothing was done to them, and how often: {unclear}")
    missing = {key for key, may_be in truths.items() if NO_MISS not in may_be}
    say(f"{len(truths):,} answers, {len(missing):,} of them misses; {sum(script.lost.values())} times nobody answered: waiting for rows")
    deadline = CLOCK.now_ms() + 1000 * ROWS_WITHIN_S
    while missing - {key for key, *_ in rows(script.name)} and CLOCK.now_ms() < deadline:
        CLOCK.sleep(1.0)
    CLOCK.sleep(ROWS_MORE_S)
    told = rows(script.name)
    figures, pairs = compare(truths, ((key, cause) for key, cause, *_ in told))
    for line in table(pairs):
        say(line)
    if figures["unclear"] > UNCLEAR * len(truths):
        raise AssertionError(f"{figures['unclear']:,.0f} of {len(truths):,} answers prove nothing: the machine has too much else to do")
    if probe.failure:
        raise AssertionError(probe.failure)
    answered_s = {answer.key: answer.at.answered_ms / 1000 for answer in script.answers}
    known = [row for row in told if row[0] in answered_s]
    partitions, offsets = (np.array([row[n] for row in known], np.int64) for n in (2, 3))
    after_s = probe.sights[MISS].visible_at(partitions, offsets) - np.array([answered_s[row[0]] for row in known])
    sessions = {cause: {answer.key.partition("/")[0] for answer in script.answers if truths[answer.key] == {cause}} for cause in CAUSES}
    figures |= {f"{cause.lower()}_sessions": float(len(sids)) for cause, sids in sessions.items()}
    return {**figures, "row_p50_s": quantile(after_s, 0.5), "row_p99_s": quantile(after_s, 0.99), "answers": float(len(truths))}


def reports(from_ms: int) -> list[Told]:
    """What servers have told of themselves since then, in the order in which it came."""
    sql = (
        "SELECT oca_id, toUnixTimestamp64Milli(topic_time), ttfb_p99_us, bytes * 8000 / interval_ms / egress_bps FROM delivery_oca_report "
        f"WHERE NOT marker AND topic_time >= fromUnixTimestamp64Milli({from_ms}) ORDER BY topic_time"
    )
    with warehouse.reader() as client:
        return [Told(*row) for row in client.query(sql).result_rows]


def rows(name: str) -> list[tuple[str, str, int, int]]:
    """What the warehouse has of a run: the answer's key, the cause, and where the row comes from."""
    sql = f"SELECT correlation_id, cause, topic_partition, topic_offset FROM {MISS} WHERE NOT marker AND startsWith(sid, {{name: String}})"
    with warehouse.reader() as client:
        return [(key, cause, partition, offset) for key, cause, partition, offset in client.query(sql, {"name": f"{name}-"}).result_rows]

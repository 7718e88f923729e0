"""What may happen to a delivery network: each scenario as what is done to a running stack and undone again, and what is watched for.

A scenario runs against the real fleet of a stack on which players watch. `Run` goes through it: a calm span to compare with, the fault, the
time until all is as before; each span's outcome is read from the warehouse (`infra.chaos.outcome`).
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx

from infra.base import warehouse
from infra.base.children import die_with_parent
from infra.base.clock import WallClock
from infra.base.settings import settings
from infra.chaos.fleet import CannotDo, Fleet
from infra.chaos.outcome import Outcome, outcome
from infra.chaos.waiting import until
from producers.emit import Emitter
from producers.encoders import cache, events
from producers.encoders.titles import TITLES
from producers.topology.topology import local_network
from schemas.assets import CHECKSUMS, AssetId, publish

SLOW_SHARE = 0.05
"""What a server that is slowed has left of what it was sending."""
CONGESTED_SHARE = 0.3
LEAST_BYTES_PER_S = 20_000.0
HEALED_WITHIN_S = 120.0
PRESS_EVERY_S = 0.1
"""Presses of play beside those of the players, so that where new sessions go is seen at every moment."""
CALM_S = 15.0
PREMIERE_PLAYERS = 8
PEAK_PLAYERS = 24


@dataclass(frozen=True)
class Scenario:
    """One scenario. `begin` does it and returns what undoes it; `victims` are the servers that it meets."""

    name: str
    what: str
    """What happens, as a sentence."""
    begin: Callable[[Stage], Callable[[], None]]
    leave_alone_s: float | None = None
    """After so long no new session should be sent to a victim any more; None: nobody has to be left alone."""
    victims: tuple[str, ...] = ("oca-1",)
    for_s: float = 25.0


@dataclass
class Stage:
    """What a scenario is played on."""

    fleet: Fleet
    victims: Sequence[str]
    say: Callable[[str], None]
    beside: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Players that came for the scenario."""

    def watch(self, count: int, titles: str, seed: int) -> None:
        """Let more players watch until the scenario is over."""
        command = [sys.executable, "-m", "producers.players", "--count", str(count), "--titles", titles, "--seed", str(seed)]
        players = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.beside.append(players)

    def leave(self) -> None:
        """Send them home."""
        for process in self.beside:
            process.terminate()
        for process in self.beside:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
        self.beside.clear()


@dataclass(frozen=True)
class Result:
    """What a scenario came to. Times are ms since 1970."""

    scenario: Scenario
    began_ms: int
    healed_ms: int
    calm: Outcome
    during: Outcome

    @property
    def left_alone_after_s(self) -> float:
        """How long after the begin a new session was sent to a victim for the last time; 0 where none was."""
        last = self.during.last_to_victims_ms
        return 0.0 if last is None else (last - self.began_ms) / 1000


def run(scenario: Scenario, fleet: Fleet, victims: Sequence[str] = (), say: Callable[[str], None] = lambda words: None) -> Result:
    """Play a scenario. Blocks for a minute or two. Raises CannotDo, TimeoutError; whatever was done is undone in any case."""
    now_ms = WallClock().now_ms
    stage = Stage(fleet, tuple(victims) or scenario.victims, say)
    with pressing():
        say(f"{CALM_S:.0f} s of calm, to compare with")
        calm_ms = now_ms()
        time.sleep(CALM_S)
        say(scenario.what.replace("{victims}", ", ".join(stage.victims)))
        began_ms = now_ms()
        undo = scenario.begin(stage)
        try:
            time.sleep(scenario.for_s)
            healed_ms = now_ms()
        finally:
            say("undoing it")
            stage.leave()
            undo()
        say("reading what became of viewers")
        during = outcome(began_ms, healed_ms, stage.victims)
        calm = outcome(calm_ms, began_ms, stage.victims)
    if scenario.leave_alone_s is not None:
        say(f"waiting until {', '.join(stage.victims)} may take sessions again, or has been told why not")
        healthy(stage.victims)
    return Result(scenario, began_ms, healed_ms, calm, during)


def healthy(victims: Sequence[str]) -> None:
    """Wait until nobody of `victims` is DOWN. Raises TimeoutError."""
    found: dict[str, str] = {}

    def is_up() -> bool:
        found.update(states())
        return all(found.get(victim) in ("UP", "DEGRADED") for victim in victims)

    until(is_up, HEALED_WITHIN_S, lambda: f"{', '.join(f'{victim} is {found.get(victim)}' for victim in victims)} after it was healed")


def states() -> dict[str, str]:
    """What is thought of each server now, by oca_id."""
    return dict(
        warehouse.reader()
        .query("SELECT oca_id, argMax(state, (event_time, topic_offset)) FROM delivery_oca_health WHERE NOT marker GROUP BY oca_id")
        .result_rows
    )


@contextmanager
def pressing() -> Iterator[None]:
    """Press play again and again, from each network of the local stack in turn, without watching."""
    ended = threading.Event()
    prefixes = sorted({str(route["prefix"]) for route in local_network().routes.values()})
    homes = [ipaddress.ip_network(prefix).network_address + 9 for prefix in prefixes if prefix.endswith("/26")]
    addresses = [str(home) for home in sorted(homes, key=lambda home: int(home) % 256)]  # another ISP each time

    def press() -> None:
        with httpx.Client(timeout=2.0) as client:
            turn = 0
            while not ended.wait(PRESS_EVERY_S):
                asked = {"title": TITLES[turn % len(TITLES)].cid, "member": "scenario"}
                with suppress(httpx.HTTPError):  # the gateway is what some scenario is about
                    client.post(
                        f"{settings().edge.gateway_url}/play", json=asked, headers={"X-Forwarded-For": addresses[turn % len(addresses)]}
                    )
                turn += 1

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _each(stage: Stage, do: Callable[[str], object], undo: Callable[[str], object]) -> Callable[[], None]:
    """Do something to each victim; what is returned undoes it for all it was done to."""
    done: list[str] = []

    def undo_all() -> None:
        for victim in done:
            undo(victim)

    try:
        for victim in stage.victims:
            do(victim)
            done.append(victim)
    except Exception:
        undo_all()
        raise
    return undo_all


def _death(stage: Stage) -> Callable[[], None]:
    return _each(stage, stage.fleet.kill, stage.fleet.start)


def _freeze(stage: Stage) -> Callable[[], None]:
    return _each(stage, stage.fleet.freeze, stage.fleet.thaw)


def _mute(stage: Stage) -> Callable[[], None]:
    return _each(stage, lambda victim: stage.fleet.fail(victim, mode="hang"), stage.fleet.heal)


def _slow(share: float) -> Callable[[Stage], Callable[[], None]]:
    def begin(stage: Stage) -> Callable[[], None]:
        def slow(victim: str) -> None:
            left = max(LEAST_BYTES_PER_S, share * stage.fleet.bytes_per_s(victim))
            stage.say(f"{victim} has {left / 1e3:.0f} kB/s left for all of its viewers")
            stage.fleet.fail(victim, mode="slow", bytes_per_s=round(left))

        return _each(stage, slow, stage.fleet.heal)

    return begin


def _corrupt(stage: Stage) -> Callable[[], None]:
    def corrupt(victim: str) -> None:
        files = stage.fleet.corrupt(victim)
        if not files:
            raise CannotDo(f"{victim} holds nothing that could be corrupted: wait until it has been filled (`headrace fill status`)")
        stage.say(f"a byte of {files} files of {victim} is another one now")

    return _each(stage, corrupt, lambda victim: None)  # it heals itself: what players say makes it read its disks


def _withdraw(stage: Stage) -> Callable[[], None]:
    return _each(stage, stage.fleet.withdraw, lambda victim: stage.fleet.withdraw(victim, withdrawn=False))


def _pull(stage: Stage) -> Callable[[], None]:
    """A version turns out to be bad: it is taken off every server at once, and filled again."""
    bad = f"{TITLES[0].cid}/v{TITLES[0].version}"
    servers = [oca_id for oca_id, told in stage.fleet.servers().items() if told["tier"] != "ORIGIN"]
    for server in servers:
        stage.fleet.pull(server, bad, "a bad version, says a scenario")
    stage.say(f"{bad} was taken off {', '.join(servers)}")
    return lambda: None


def _peak(stage: Stage) -> Callable[[], None]:
    stage.watch(PEAK_PLAYERS, ",".join(title.cid for title in TITLES), seed=77)
    return lambda: None


def _premiere(stage: Stage) -> Callable[[], None]:
    """A title that nobody has seen is announced, filled, and then watched."""
    model = cache.load(TITLES[0])
    if model is None:
        raise CannotDo(f"{TITLES[0].cid} is not in the cache: `headrace demo` encodes it")
    cid = f"premiere-{uuid4().hex[:8]}"
    folder = cache.root() / cid
    _link(cache.home(TITLES[0]), folder / "v1")
    publish(folder / "v1", AssetId(cid, 1), model.encoded_at_ms // 1000, without=(cache.DIGEST_FILE,))
    release = {
        "cid": cid, "unit": cid, "regions": [], "from_time": datetime.now(UTC) + timedelta(hours=12), "expected_plays": 1_000.0,
        "premiere": True,
    }  # fmt: skip
    with Emitter("scenario") as emitter:
        emitter.send("delivery.release", {**release, "withdrawn": False})
        events.emit([replace(model, cid=cid, version=1, name=f"Premiere {cid}")], emitter)
    stage.say(f"{cid} is announced and published; it is filled")
    until(lambda: _holders(cid) >= 2, HEALED_WITHIN_S, lambda: f"{cid} is on {_holders(cid)} servers: `headrace fill status` says why")
    stage.say(f"{cid} is on {_holders(cid)} servers; {PREMIERE_PLAYERS} players come for it")
    stage.watch(PREMIERE_PLAYERS, cid, seed=78)

    def undo() -> None:
        with Emitter("scenario") as emitter:
            emitter.send("delivery.release", {**release, "withdrawn": True})
        shutil.rmtree(folder)

    return undo


def _link(source: Path, target: Path) -> None:
    """Another directory with the same files."""
    shutil.copytree(source, target, copy_function=os.link, ignore=shutil.ignore_patterns(CHECKSUMS))


def _holders(cid: str) -> int:
    rows = warehouse.reader().query(
        "SELECT countIf(is_held) FROM (SELECT argMax(held, (event_time, topic_offset)) AS is_held FROM delivery_content "
        "WHERE NOT marker AND cid = {cid:String} GROUP BY oca_id)",
        {"cid": cid},
    )
    return int(rows.result_rows[0][0])


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("oca-death", "{victims} is killed, and stays dead", _death, 3.0),
        Scenario("oca-freeze", "{victims} is stopped: its connections stay open and nothing comes", _freeze, 3.0),
        Scenario("oca-mute", "{victims} accepts every connection and answers none", _mute, 3.0),
        Scenario("oca-slow", f"{{victims}} sends {SLOW_SHARE:.0%} of what it was sending", _slow(SLOW_SHARE), 10.0),
        Scenario("silent-corruption", "{victims} has rotten segments, and does not know", _corrupt, 3.0),
        Scenario("withdrawn-prefix", "the ISP withdraws every prefix from {victims}", _withdraw, 3.0),
        Scenario(
            "congested-peering", f"the paths to {{victims}} carry {CONGESTED_SHARE:.0%} of what they did", _slow(CONGESTED_SHARE), None,
            ("oca-3",), 40.0,
        ),
        Scenario("bad-asset-version", "a bad version is pulled from all servers, and filled again", _pull, None, (), 40.0),
        Scenario("region-loss", "every server of a region is killed: {victims}", _death, 3.0, ("oca-1", "oca-3"), 40.0),
        Scenario("peak-hour", f"{PEAK_PLAYERS} more players come at once", _peak, None, (), 60.0),
        Scenario("premiere", "a title that nobody has seen is announced, filled and watched", _premiere, None, (), 60.0),
    )
}  # fmt: skip

"""`python -m edge.oca`: serve segments and manifests until asked to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.judge import Judge
from edge.oca.access import ACCESS, TOPICS, Teller, access_log
from edge.oca.answers import Oca
from edge.oca.content import Content, Memory, NoRoom
from edge.oca.filler import Filler, TokenBucket, Window
from edge.oca.fills import Fills
from edge.oca.nginx import Agent, Plane
from edge.oca.parent import Parent
from edge.oca.prefixes import EVERYWHERE, Prefixes
from edge.oca.telling import HEALTH, PLAN, Own, Telling, blamed
from edge.oca.vitals import EGRESS_BPS, report
from edge.oca.wire import serve
from edge.outbox import Outbox
from edge.serve import free_address
from edge.sign import Keys, Lend, lender
from edge.store import Store
from infra.base import log
from infra.base.clock import WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter
from schemas.network import window_min
from streams.folded import followed


def main() -> None:
    """Serve until asked to end."""
    config = settings()
    parser = argparse.ArgumentParser(prog="python -m edge.oca", description="Serve segments and manifests.")
    parser.add_argument("--index", type=int, default=0, help="which of edge.oca_urls to serve at, from 0; its oca_id is oca-<index + 1>")
    parser.add_argument("--root", type=Path, default=config.cache / "titles", help="directory of the titles")
    parser.add_argument("--site", default="local", help="site_id in its events")
    parser.add_argument("--tier", default="EMBEDDED_FLASH", choices=["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"], help="tier in its events")
    parser.add_argument("--prefixes", nargs="*", default=EVERYWHERE, help="whom it serves")
    parser.add_argument("--parent", default="", help="address below which a miss is fetched; without, it is refused")
    parser.add_argument("--capacity-bytes", type=int, default=0, help="hold assets, so many bytes at most, and serve those only")
    parser.add_argument("--memory", type=Path, help="directory in memory (tmpfs) for copies of the assets that are asked for most")
    parser.add_argument("--memory-bytes", type=int, default=0, help="how much of it")
    parser.add_argument("--fill-window", type=_window, default="00:00-24:00", help="local time of fills: 02:00-14:00")
    parser.add_argument("--zone", type=_zone, default="UTC", help="time zone of the fill window")
    parser.add_argument("--fill-bytes-per-s", type=float, default=150e6, help="fills go no faster")
    parser.add_argument("--egress-bps", type=int, default=EGRESS_BPS, help="most that it can send, bit/s")
    parser.add_argument("--data-plane", default="own", choices=["own", "nginx"], help="what moves the bytes; nginx has to be installed")
    arguments = parser.parse_args()
    log.configure("oca")
    if not 0 <= arguments.index < len(config.edge.oca_urls):
        raise SystemExit(f"--index {arguments.index}: edge.oca_urls has {len(config.edge.oca_urls)} addresses")
    try:
        prefixes = Prefixes(arguments.prefixes)
    except ValueError as error:
        raise SystemExit(f"--prefixes: {error}") from None
    keys = Keys.of(config.edge.url_keys)
    if keys is not None and arguments.data_plane == "nginx":
        raise SystemExit(
            "--data-plane nginx: it cannot verify what edge.url_keys sign, and would serve whoever asks; leave out the option, or the keys"
        )
    lend = lender(keys, WallClock().now_ms)
    oca_id = f"oca-{arguments.index + 1}"
    arguments.root.mkdir(parents=True, exist_ok=True)
    with (
        access_log(config.state_dir / "logs" / f"{oca_id}.access.jsonl") as write_line,
        Emitter(oca_id, background=True) as emitter,
        _stock(arguments, oca_id, emitter, lend) as (store, fills),
    ):
        outboxes = {topic: Outbox(emitter, topic, marks=topic == ACCESS) for topic in TOPICS}
        teller = Teller(oca_id, arguments.site, arguments.tier, Judge(config), outboxes, write_line)
        parent = Parent(arguments.parent, arguments.root, lend) if arguments.parent else None
        url = config.edge.oca_urls[arguments.index]
        if arguments.data_plane == "own":
            oca = Oca(store, teller, emitter.clock.now_ms, prefixes, keys, parent, fills, egress_bps=arguments.egress_bps)
            asyncio.run(serve(oca, url, report(emitter, oca.tally, oca.vitals, url)))
        else:
            folder = (config.state_dir / "nginx" / oca_id).resolve()
            whom = () if arguments.prefixes == EVERYWHERE else tuple(arguments.prefixes)
            plane = Plane(store.root, *free_address(url), folder, getpass.getuser(), whom, parent is not None)
            oca = Oca(store, teller, emitter.clock.now_ms, parent=parent, fills=fills, egress_bps=arguments.egress_bps, modes=("refuse",))
            asyncio.run(Agent(plane, oca, emitter.counts).serve(report(emitter, oca.tally, oca.vitals, url)))


@contextlib.contextmanager
def _stock(arguments: argparse.Namespace, oca_id: str, emitter: Emitter, lend: Lend) -> Iterator[tuple[Store, Fills | None]]:
    """The store, and of one that holds assets what fills it and tells of it. Raises SystemExit in words."""
    if not arguments.capacity_bytes:
        yield Store(arguments.root), None
        return
    telling, plans, verdicts, clock = Telling(oca_id, emitter), Own(PLAN, oca_id), Own(HEALTH, oca_id), WallClock()
    try:
        memory = Memory(arguments.memory, arguments.memory_bytes) if arguments.memory else None
        content = Content(arguments.root, arguments.capacity_bytes, telling.changed, memory)
        window = Window(arguments.fill_window[0], arguments.fill_window[1], arguments.zone)
    except (NoRoom, ValueError) as error:
        raise SystemExit(str(error)) from None
    filler = Filler(content, window, TokenBucket(arguments.fill_bytes_per_s), clock, telling.stepped, lend)

    def failed(error: Exception) -> None:
        log.get("edge.oca").error("a fill failed", error=repr(error))

    with followed((telling.told, plans, verdicts), RegistryClient().schema), contextlib.closing(telling):
        telling.start(content)
        fills = Fills(content, filler, clock, failed, plans.newest, telling.ordered, lambda: blamed(verdicts.newest()))
        with contextlib.closing(fills):
            yield content, fills


def _window(text: str) -> tuple[int, int]:
    """Minutes of the day of `02:00-14:00`."""
    window = window_min(text)
    if window is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of day: 02:00-14:00 is")
    return window


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone: Europe/Berlin is") from None


if __name__ == "__main__":
    main()

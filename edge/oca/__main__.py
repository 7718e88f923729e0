"""`python -m edge.oca`: serve segments and manifests until asked to end."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from edge.judge import Judge
from edge.oca.access import ACCESS, TOPICS, Teller, access_log
from edge.oca.answers import Oca
from edge.oca.vitals import report
from edge.oca.wire import serve
from edge.outbox import Outbox
from edge.serve import run
from edge.store import Store
from infra.base import log
from infra.base.settings import settings
from producers.emit import Emitter


def main() -> None:
    """Serve until asked to end."""
    config = settings()
    parser = argparse.ArgumentParser(prog="python -m edge.oca", description="Serve segments and manifests.")
    parser.add_argument("--index", type=int, default=0, help="which of edge.oca_urls to serve at, from 0; its oca_id is oca-<index + 1>")
    parser.add_argument("--root", type=Path, default=config.cache / "titles", help="directory of the titles")
    parser.add_argument("--site", default="local", help="site_id in its events")
    parser.add_argument("--tier", default="EMBEDDED_FLASH", choices=["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"], help="tier in its events")
    arguments = parser.parse_args()
    log.configure("oca")
    if not 0 <= arguments.index < len(config.edge.oca_urls):
        raise SystemExit(f"--index {arguments.index}: edge.oca_urls has {len(config.edge.oca_urls)} addresses")
    oca_id = f"oca-{arguments.index + 1}"
    arguments.root.mkdir(parents=True, exist_ok=True)
    with access_log(config.state_dir / "logs" / f"{oca_id}.access.jsonl") as write_line, Emitter(oca_id, background=True) as emitter:
        outboxes = {topic: Outbox(emitter, topic, marks=topic == ACCESS) for topic in TOPICS}
        teller = Teller(oca_id, arguments.site, arguments.tier, Judge(config), outboxes, write_line)
        oca = Oca(Store(arguments.root), teller, emitter.clock.now_ms)
        url = config.edge.oca_urls[arguments.index]
        asyncio.run(serve(oca, url, report(emitter, oca.tally, oca.vitals, url)))


if __name__ == "__main__":
    run(main)

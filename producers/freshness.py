"""How fresh is the warehouse? `python -m producers.freshness`: every five seconds an event goes the whole way and is looked for at its end.

The event is a time marker of playback.report, by this producer: markers are stored like reports and skipped by everything that counts, so
it is nowhere taken for a member's. What came of it goes to observability.freshness.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.base import log, warehouse
from infra.base.clock import Clock, WallClock
from producers.emit import Emitter
from schemas.catalogue import catalogue
from schemas.records import ObservabilityFreshness

TOPIC = catalogue().topic("playback.report")
EVERY_S = 5.0
LOOK_EVERY_S = 0.2
GIVE_UP_S = 60.0
FOUND = (
    f"SELECT count() FROM {TOPIC.table} "
    "WHERE sid = '' AND event_time = fromUnixTimestamp64Milli({at:Int64}) AND marker AND producer_id = {producer:String}"
)


def measure(emitter: Emitter, reader: Client, clock: Clock) -> ObservabilityFreshness:
    """Send one marker to every partition and wait until all of them can be queried, for a minute at most. Blocks.

    A warehouse that does not answer shows nothing. Raises what `Emitter.mark` raises.
    """
    produced_ms = clock.now_ms()
    emitter.mark(TOPIC.name, produced_ms)
    while clock.now_ms() < produced_ms + 1000 * GIVE_UP_S:
        emitter.poll()
        with suppress(ClickHouseError):
            ((found,),) = reader.query(FOUND, parameters={"at": produced_ms, "producer": emitter.producer_id}).result_rows
            if found >= TOPIC.partitions:
                return {"target": TOPIC.table, "produced_at": produced_ms, "queryable_after_ms": clock.now_ms() - produced_ms}
        clock.sleep(LOOK_EVERY_S)
    return {"target": TOPIC.table, "produced_at": produced_ms, "queryable_after_ms": None}


def main() -> None:
    """Measure until SIGTERM or SIGINT."""
    log.configure("freshness")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    clock = WallClock()
    with Emitter("freshness") as emitter:
        reader = warehouse.reader()
        while True:
            began_ms = clock.now_ms()
            emitter.send("observability.freshness", measure(emitter, reader, clock))
            emitter.poll()
            clock.sleep(EVERY_S - (clock.now_ms() - began_ms) / 1000)


if __name__ == "__main__":
    main()

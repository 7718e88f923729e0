"""Which sessions play now, and in what state? A Faust agent with a table, the pattern of every control loop here.

    reads     playback.session_state   (key sid, compacted, condensed by session_states)
    keeps     a table sid -> last state, in memory, changelogged to Kafka and rebuilt from there after a crash
    answers   GET /sessions?limit=N    the sessions playing now, newest first; 503 while the table is being rebuilt
              GET /sessions/{sid}      one of them, or 404
              GET /healthz             200 once the table is rebuilt, else 503

At least once and in any order: of two states of a session the one with the later event_time stands, so a state that is read again
changes nothing. A session leaves when it closed or has said nothing for SILENT_MS. Its last state stays until then, or an older
report that comes late would bring it back to life.

One worker: it holds all partitions. Run as `python -m streams.playback.live_sessions`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import faust

from infra.base import log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from streams import worker

TOPIC = "playback.session_state"
SILENT_MS = 90_000
CLOSED = frozenset("efq")
SHOWN = ("sid", "sta", "cid", "br_kbps", "bl_ms", "oca_id", "device_type", "region", "isp_asn", "player")

State = dict[str, Any]
"""A session's last state: the fields SHOWN, `event_time_ms`, and the `partition` it came from."""


def state_of(event: Mapping[str, Any], partition: int) -> State:
    """What is kept of a playback.session_state event."""
    event_time_ms = round(event["event_time"].timestamp() * 1000)
    return {**{name: event[name] for name in SHOWN}, "event_time_ms": event_time_ms, "partition": partition}


def later(known: State | None, new: State) -> State | None:
    """`new` if it happened after what is known, else None. Of two states of one instant a closing one stands."""
    if known is None or (new["event_time_ms"], new["sta"] in CLOSED) > (known["event_time_ms"], known["sta"] in CLOSED):
        return new
    return None


def plays(state: State, now_ms: int) -> bool:
    """Whether a session with this last state is playing now: not closed, not silent."""
    return state["sta"] not in CLOSED and now_ms - state["event_time_ms"] <= SILENT_MS


class Live:
    """The table's rules, over any mapping from sid to state.

    A change goes to the changelog partition of the message at hand, so a message makes room only among sessions of its own partition.
    """

    def __init__(self, table: Any, clock: Clock) -> None:
        self.table = table
        self._clock = clock
        self._by_age: dict[int, OrderedDict[str, None]] = {}

    def take(self, state: State) -> None:
        """Put a state in, if it is news, and forget sessions of its partition that have been silent for too long."""
        sid, partition = state["sid"], state["partition"]
        if later(self.table.get(sid), state) and self._clock.now_ms() - state["event_time_ms"] <= SILENT_MS:
            self.table[sid] = state
            ages = self._by_age.setdefault(partition, OrderedDict())
            ages[sid] = None
            ages.move_to_end(sid)
        self._forget(partition)

    async def rebuilt(self) -> None:
        """After the table was rebuilt from its changelog: put what is in it in order of age."""
        self._by_age.clear()
        for sid, state in sorted(self.table.items(), key=lambda item: item[1]["event_time_ms"]):
            self._by_age.setdefault(state["partition"], OrderedDict())[sid] = None

    def playing(self) -> Iterator[State]:
        """Sessions playing now, newest state first."""
        now_ms = self._clock.now_ms()
        newest = sorted(self.table.values(), key=lambda state: -state["event_time_ms"])
        return (state for state in newest if plays(state, now_ms))

    def one(self, sid: str) -> State | None:
        """The state of one session that plays now."""
        state = self.table.get(sid)
        return state if state is not None and plays(state, self._clock.now_ms()) else None

    def _forget(self, partition: int) -> None:
        ages = self._by_age.get(partition, OrderedDict())
        while ages:
            oldest = next(iter(ages))
            state = self.table.get(oldest)
            if state is not None and self._clock.now_ms() - state["event_time_ms"] <= SILENT_MS:
                return
            ages.popitem(last=False)
            if state is not None:
                del self.table[oldest]


def application(clock: Clock | None = None, decoder: Decoder | None = None) -> faust.App:
    """The Faust app, not started."""
    declared = catalogue().topic(TOPIC)
    app = worker.application(
        "live_sessions",
        settings().edge.live_sessions_url,
        "faust",
        topic_partitions=declared.partitions,
        consumer_auto_offset_reset="earliest",
    )
    decode = decoder or Decoder(RegistryClient().schema)
    table = app.Table("live_sessions", key_type=str, partitions=declared.partitions, help="last state of each session")
    live = Live(table, clock or WallClock())
    table.on_recover(live.rebuilt)

    @app.agent(worker.topic(app, TOPIC), concurrency=1)  # type: ignore[untyped-decorator]
    async def live_sessions(stream: Any) -> None:
        async for message in stream.events():
            event = worker.read(message, decode)
            if event is not None and not event["marker"]:
                live.take(state_of(event, message.message.partition))

    def rebuilt() -> bool:
        return app.tables.recovery.completed.is_set() and not app.rebalancing

    @app.page("/sessions")  # type: ignore[untyped-decorator]
    async def sessions(web: Any, request: Any) -> Any:
        if not rebuilt():
            return web.json({"error": "the table of sessions is being rebuilt from its changelog"}, status=503)
        limit = request.query.get("limit", "1000")
        if not limit.isdigit():
            return web.json({"error": f"limit is a number, not {limit!r}"}, status=400)
        playing = list(live.playing())
        return web.json({"playing": len(playing), "sessions": playing[: int(limit)]})

    @app.page("/sessions/{sid}")  # type: ignore[untyped-decorator]
    async def session(web: Any, request: Any, sid: str) -> Any:
        state = live.one(sid)
        return web.json({"error": f"no session {sid!r} is playing now"}, status=404) if state is None else web.json(state)

    @app.page("/healthz")  # type: ignore[untyped-decorator]
    async def healthz(web: Any, request: Any) -> Any:
        return web.json({"ready": rebuilt()}, status=200 if rebuilt() else 503)

    app.live = live
    return app


def main() -> None:
    """Run the worker until SIGTERM."""
    log.configure("live-sessions")
    worker.run(application())


if __name__ == "__main__":
    main()

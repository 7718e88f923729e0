"""What steering knows: the control topics folded into memory, one table each, and how old each is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from edge.steering.priors import Priors
from edge.steering.rank import EMBEDDED, ORIGIN, Health, Plan, Server, plan, salt
from edge.steering.routes import BadRoute, Match, Paths, RouteTable
from edge.steering.throughput import Evidence, Throughput
from edge.titles import Titles
from schemas.network import unfit
from streams.folded import Folded, Unfit, followed

STALE_AFTER_MS = 5_000
"""A table that has not been known to be complete for so long is stale, and answers say so."""
MAX_PLANS = 50_000
"""Plans that are kept; each is what all prefixes with the same announcements share."""
MAX_LOG_BPS = 30.0
"""Of a throughput, ln(bit/s): 10 Tbit/s."""
STATES = frozenset({"UP", "DEGRADED", "DRAINING", "DOWN"})


class Bits:
    """A bit for each server, the same in every mask; a server keeps its bit for good."""

    def __init__(self) -> None:
        self._next = count()
        self._bits: dict[str, int] = {}

    def __getitem__(self, oca_id: str) -> int:
        bit = self._bits.get(oca_id)
        # Two threads may ask for the same server at once: one number goes unused, and both get the other.
        return self._bits.setdefault(oca_id, next(self._next)) if bit is None else bit


class Fleet:
    """The servers that are installed, and the plans that were made of them."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.origins: dict[str, Server] = {}
        self.origins_mask = 0
        self._exchanges: dict[str, int] = {}
        """Region → mask of its storage servers."""
        self._plans: dict[tuple[bool, tuple[Paths, ...]], Plan] = {}

    def plan(self, matches: tuple[Match, ...]) -> Plan:
        """The servers for everybody with these routes."""
        plans = self._plans  # a change puts another dictionary in its place, and what is made of the servers before it is not kept
        announced = tuple([paths for _, paths in matches])
        has_default = bool(matches) and matches[-1][0] == 0
        found = plans.get((has_default, announced))
        if found is None:
            found = plan(announced, has_default, self.servers, tuple(self.origins.values()))
            if len(plans) >= MAX_PLANS:
                plans.clear()
            plans[has_default, announced] = found
        return found

    def parents(self, server: Server) -> int:
        """Mask of the servers that a server is filled from: an embedded one from its region's exchanges, all from the origin."""
        exchanges = self._exchanges.get(server.region, 0) if server.tier == EMBEDDED else 0
        return 0 if server.tier == ORIGIN else exchanges | self.origins_mask

    def put(self, server: Server) -> None:
        """A server is there, in place of what it was before."""
        self.remove(server.oca_id)
        if server.tier == ORIGIN:
            self.origins_mask |= 1 << server.bit
            self.origins = {**self.origins, server.oca_id: server}
        elif server.tier != EMBEDDED:
            self._exchanges[server.region] = self._exchanges.get(server.region, 0) | 1 << server.bit
        self.servers[server.oca_id] = server
        self._plans = {}

    def remove(self, oca_id: str) -> None:
        """A server is no longer there."""
        server = self.servers.pop(oca_id, None)
        if server is not None:
            self.origins = {known: origin for known, origin in self.origins.items() if known != oca_id}
            self.origins_mask &= ~(1 << server.bit)
            if server.region in self._exchanges:
                self._exchanges[server.region] &= ~(1 << server.bit)
            self._plans = {}


class Ocas(Folded[Fleet]):
    """The servers as they are installed."""

    topic = "delivery.oca"

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        super().__init__()

    def new(self) -> Fleet:
        """No server."""
        return Fleet()

    def into(self, table: Fleet, record: Mapping[str, Any]) -> None:
        """Take one `delivery.oca`. Raises Unfit."""
        if record["retired"]:
            table.remove(record["oca_id"])
            return
        if wrong := unfit(record):
            raise Unfit(f"delivery.oca {record['oca_id']!r}: {'; '.join(wrong)}; it stays as it was")
        told = {name: record[name] for name in Server._fields if name not in ("bit", "salt")}
        table.put(Server(**told, bit=self._bits[record["oca_id"]], salt=salt(record["oca_id"])))


class Routes(Folded[RouteTable]):
    """Who announced which prefix."""

    topic = "delivery.route"

    def new(self) -> RouteTable:
        """No route."""
        return RouteTable()

    def into(self, table: RouteTable, record: Mapping[str, Any]) -> None:
        """Take one `delivery.route`. Raises Unfit."""
        try:
            table.fold(record)
        except BadRoute as error:
            raise Unfit(f"delivery.route {record['route']!r}: {error}") from None


class Healths(Folded[dict[str, Health]]):
    """What is thought of each server, by oca_id."""

    topic = "delivery.oca_health"

    def new(self) -> dict[str, Health]:
        """Nothing is thought of anybody."""
        return {}

    def into(self, table: dict[str, Health], record: Mapping[str, Any]) -> None:
        """Take one `delivery.oca_health`. Raises Unfit."""
        load, state = record["load"], record["state"]
        if not (math.isfinite(load) and load >= 0.0) or state not in STATES:
            kept = table.get(record["oca_id"])
            before = "nothing is known of it" if kept is None else f"it stays {kept.state} at {kept.load:g}"
            raise Unfit(f"delivery.oca_health {record['oca_id']!r}: state {state!r} and load {load} cannot be; {before}")
        table[record["oca_id"]] = Health(state, load, record["reason"], record["cause"])


class Contents(Folded[dict[tuple[str, int], int]]):
    """Mask of the servers that hold a title version, by cid and version: 250 bytes a title for 2,000 servers."""

    topic = "delivery.content"

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        super().__init__()

    def new(self) -> dict[tuple[str, int], int]:
        """Nobody holds anything."""
        return {}

    def into(self, table: dict[tuple[str, int], int], record: Mapping[str, Any]) -> None:
        """Take one `delivery.content`."""
        title, bit = (record["cid"], record["version"]), 1 << self._bits[record["oca_id"]]
        mask = table.get(title, 0) | bit if record["held"] else table.get(title, 0) & ~bit
        if mask:
            table[title] = mask
        else:
            table.pop(title, None)


class Throughputs(Folded[Throughput]):
    """How fast clients get their bytes from each server, as far as sessions have shown."""

    topic = "delivery.throughput"

    def new(self) -> Throughput:
        """Nothing is known of anybody."""
        return Throughput()

    def into(self, table: Throughput, record: Mapping[str, Any]) -> None:
        """Take one `delivery.throughput`. Raises Unfit."""
        sessions, mean = record["sessions"], record["mean_log_throughput"]
        if sessions < 1 or not 0.0 <= mean <= MAX_LOG_BPS:
            raise Unfit(
                f"delivery.throughput {record['client_prefix']!r} of {record['oca_id']!r}: {sessions} sessions at a mean of {mean} cannot "
                f"be: 1 at least, and 0 to {MAX_LOG_BPS:g} of ln(bit/s); the minute is left out"
            )
        at_ms = round(record["event_time"].timestamp() * 1000)
        table.add(record["client_prefix"], record["isp_asn"], record["region"], record["oca_id"], Evidence(sessions, mean, at_ms))


@dataclass
class Tables:
    """All of them. The request path looks at `table` of each, which may become another one at any time."""

    titles: Titles = field(default_factory=Titles)
    bits: Bits = field(default_factory=Bits)
    routes: Routes = field(default_factory=Routes)
    healths: Healths = field(default_factory=Healths)
    throughputs: Throughputs = field(default_factory=Throughputs)
    priors: Priors = field(default_factory=Priors)
    ocas: Ocas = field(init=False)
    contents: Contents = field(init=False)

    def __post_init__(self) -> None:
        self.ocas, self.contents = Ocas(self.bits), Contents(self.bits)

    @property
    def all(self) -> Sequence[Folded[Any]]:
        """Each table."""
        return (self.titles, self.ocas, self.routes, self.healths, self.contents, self.throughputs, self.priors)

    @property
    def stale_ms(self) -> int:
        """Age of the oldest of those that are stale; 0 if none is."""
        oldest = max([table.age_ms for table in self.all])
        return oldest if oldest > STALE_AFTER_MS else 0

    def told(self) -> dict[str, Any]:
        """What GET /healthz says of each, by topic."""
        return {
            table.topic: {"entries": _entries(table.table), "complete": table.caught_up, "age_ms": table.age_ms, "refused": table.refused}
            for table in self.all
        }

    @contextmanager
    def followed(self, schema_of: Callable[[int], dict[str, Any]]) -> Iterator[None]:
        """Keep all of them up to date, each on a thread of its own, until the end."""
        with followed(self.all, schema_of):
            yield


def _entries(table: Any) -> int:
    return len(table.servers if isinstance(table, Fleet) else table)

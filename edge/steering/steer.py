"""A decision: from a title, an address and what is known to the cache servers of one play, and the event that tells of it.

The steering service and the gateway ask here, each of its own tables, and decide alike: nothing in a decision is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge.outbox import Outbox
from edge.sign import Grant, Keys
from edge.steering.priors import told as told_prior
from edge.steering.rank import Ask, Candidate, Rejected, Server, State, rank
from edge.steering.routes import Address, Prefix, around, prefix
from edge.steering.tables import Tables
from infra.base.settings import Edge

TOPIC = "delivery.steering"
REJECTED_TOLD = 8
"""Rejected servers that an answer and its event name; the rest are counted."""


class Decision(NamedTuple):
    """The servers for a play, best first, and those that are not taken."""

    cid: str
    version: int
    candidates: Sequence[Candidate]
    rejected: Sequence[Rejected]
    best: Sequence[Server]
    """Those that are best by routing."""
    cause: str
    """Why the first candidate is none of them; NONE if it is."""
    prefix: str
    """The longest that was matched; empty if none was."""
    isp_asn: int | None
    contents_known: bool
    """Somebody says what it holds. If not, every server is taken to hold everything."""
    stale_ms: int


@dataclass
class Steering:
    """Decides from `tables`, without waiting for anything, and tells each decision to `outbox`."""

    tables: Tables
    outbox: Outbox
    now_ms: Callable[[], int]
    keys: Keys | None
    """What signs URLs; None: they are not signed."""
    url_ttl_s: int
    pulls: frozenset[str]
    """Tiers of the servers that may be sent plays of what they would have to pull."""
    proxies: Sequence[Prefix]
    """Whose X-Forwarded-For is believed."""

    @classmethod
    def of(cls, edge: Edge, tables: Tables, outbox: Outbox, now_ms: Callable[[], int]) -> Steering:
        """As the settings have it."""
        proxies = [prefix(text) for text in edge.trusted_proxies]
        return cls(tables, outbox, now_ms, Keys.of(edge.url_keys), edge.url_ttl_s, frozenset(edge.pull_tiers), proxies)

    def decide(self, cid: str, version: int, client: Address, ask: Ask) -> Decision:
        """Where a play of a title version goes. There may be nobody: then there are no candidates, and the rejected say why."""
        tables = self.tables
        fleet, contents = tables.ocas.table, tables.contents.table
        matches = tables.routes.table.lookup(client)
        holders = contents.get((cid, version), 0) | fleet.origins_mask if contents else None
        of = str(around(client, matches[0][0])) if matches else ""
        plan = fleet.plan(matches)
        state = State(
            tables.healths.table,
            holders,
            lambda server: fleet.parents(server) if server.tier in self.pulls else 0,
            tables.throughputs.table,
        )
        candidates, rejected, cause = rank(plan, [length for length, _ in matches], of, ask, state)
        return Decision(cid, version, candidates, rejected, plan.best, cause, of, plan.isp_asn, bool(contents), tables.stale_ms)

    def urls(self, decision: Decision, sid: str, path: str) -> list[str]:
        """`path` on each of the servers; if there are keys, signed."""
        signed = self.signed(path, sid)
        return [candidate.server.url.rstrip("/") + signed for candidate in decision.candidates]

    def signed(self, path: str, sid: str) -> str:
        """`path`; if there are keys, with a token for everything in its directory."""
        if self.keys is None:
            return path
        return self.keys.sign(path, Grant(path[: path.rindex("/") + 1], self.now_ms() // 1000 + self.url_ttl_s, sid))

    def prior(self, decision: Decision, device_type: str | None = None, network_type: str | None = None) -> dict[str, float] | None:
        """What the session that a decision is for may expect of its throughput, as answers have it; None: nothing is known."""
        region = decision.candidates[0].server.region if decision.candidates else ""
        table = self.tables.priors.table
        return told_prior(table, decision.prefix, decision.isp_asn, region, self.now_ms(), device_type, network_type)

    def tell(self, decision: Decision, protocol: str, sid: str | None, event_time_ms: int, took_us: int, correlation_id: str) -> None:
        """Leave the event of a decision. Neither blocks nor raises."""
        candidates = decision.candidates
        best = candidates[0].server if candidates else None
        told: list[dict[str, Any]] = [
            {"oca_id": server.oca_id, "tier": server.tier, "rank": n, "reason": reason}
            for n, (server, _, reason) in enumerate(candidates, 1)
        ]
        told += [
            {"oca_id": oca_id, "tier": tier, "rank": 0, "reason": reason} for oca_id, tier, reason in decision.rejected[:REJECTED_TOLD]
        ]
        record = {
            "sid": sid,
            "cid": decision.cid,
            "version": decision.version,
            "client_prefix": decision.prefix,
            "isp_asn": decision.isp_asn,
            "region": best.region if best else "",
            "protocol": protocol,
            "best_oca_id": best.oca_id if best else "",
            "best_tier": best.tier if best else "",
            "best_ocas": [server.oca_id for server in decision.best],
            "cause": decision.cause,
            "candidates": told,
            "rejected": len(decision.rejected),
            "stale_ms": decision.stale_ms,
            "took_us": took_us,
        }
        self.outbox.put(record, event_time_ms, correlation_id)

"""Features for the board: what there is, what each costs, and one member's story."""

from __future__ import annotations

import time
from typing import Any

from edge.board.sharing import Shared, Unanswered
from edge.feature_log import deployed, described, story
from edge.pseudonym import pseudonym
from edge.read_outs import Queries
from schemas.recommendations.definition import Feature, FeatureError
from streams.recommendations.plan import plan

TOLD = ("told_ms", "keys", "looked_at", "happened", "over_cap", "row_bytes", "value_bytes", "columns", "shared", "buckets")
PROFILES = f"""SELECT value, feature, argMax((toUnixTimestamp64Milli(event_time), {", ".join(TOLD[1:])}), event_time) AS newest
FROM recommendations_feature_profile
WHERE NOT marker
GROUP BY value, feature
ORDER BY value"""
MOST_STEPS = 200
"""Of a member's events, the newest."""


class Features(Shared):
    """The list of features with what they cost, and what made a member's."""

    async def listed(self) -> list[dict[str, Any]]:
        """Each feature as `feature_log.described`, with `costs`: by value, what the home page told of it last. Raises Unanswered."""
        found: list[dict[str, Any]] = await self.answer("", _listed)
        return found

    async def member(self, member: str) -> dict[str, Any]:
        """A member's story, by his own id or his pseudonym, see `feature_log.story`: the newest MOST_STEPS of it. Raises Unanswered."""
        found: dict[str, Any] = await self.answer(f"member {member}", lambda client: _member(client, member))
        return found


def _listed(client: Queries) -> list[dict[str, Any]]:
    costs: dict[str, dict[str, Any]] = {}
    for value, feature, newest in client.query(PROFILES).result_rows:
        costs.setdefault(feature, {})[value] = dict(zip(TOLD, newest, strict=True))
    return [{**described(one), "costs": costs.get(one.name, {})} for one in _deployed(client)]


def _deployed(client: Queries) -> list[Feature]:
    try:
        return deployed(client)
    except FeatureError as error:
        raise Unanswered(f"a feature that is deployed cannot be read by this version: {error}") from None


def _member(client: Queries, member: str) -> dict[str, Any]:
    made, at_ms = plan(_deployed(client)), round(time.time() * 1000)
    found = story(client, made, pseudonym(member), at_ms)
    found = found if found["steps"] else story(client, made, member, at_ms)
    return {**found, "events": len(found["steps"]), "steps": found["steps"][-MOST_STEPS:]}

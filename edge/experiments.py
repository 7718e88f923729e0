"""Experiments by HTTP, on the gateway: what members get, and what `headrace experiment` does, for other tools.

    GET  /experiments/flags?member=…    what each flag would give and why, exposing nobody; may have device_type, network_type, region
    POST /experiments/<key>/<action>    start, stop, ship {"variation"}, roll-back; with "author" and "reason"
                                        200 {"changes"}; 409 where it is refused, with every reason

Only for who asks on this machine, or knows `edge.experiments_token` (Authorization: Bearer …).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from starlette.requests import Request
from starlette.responses import Response

from edge.asked import FORWARDED, Refusal, header, short_json
from edge.flags import Definitions
from edge.pseudonym import pseudonym
from edge.serve import Json, from_here
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from producers.emit import Emitter
from producers.experiments.desk import Change, Desk, Refused
from producers.experiments.publish import Clash, desk, publish
from schemas.allocation.engine import Context

ACTIONS: Mapping[str, Callable[[Desk, str, str], list[Change]]] = {
    "start": lambda desk, key, _: desk.start(key),
    "stop": lambda desk, key, _: desk.stop(key),
    "ship": lambda desk, key, variation: desk.ship(key, variation),
    "roll-back": lambda desk, key, _: desk.roll_back(f"experiment/{key}"),
}


@dataclass
class Experiments:
    """The two routes. One action at a time."""

    definitions: Definitions
    now_ms: Callable[[], int]
    token: str = ""
    _acting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def flags(self, request: Request, _: object) -> Response:
        """What a member would get. Raises Refusal."""
        self._allow(request)
        asked = dict(request.query_params)
        if not asked.get("member"):
            raise Refusal(400, "whose flags? ?member=<id>")
        if not self.definitions.caught_up:
            raise Refusal(503, "experiments.definition has not been read yet")
        attributes = {**asked, "member_id": pseudonym(asked.pop("member"))}
        decided = self.definitions.table.allocation.table.decide_all(Context(attributes, self.now_ms()))
        flags = {
            flag: {"value": one.value, "reason": one.reason, "by": one.rule, "variation": one.exposure.key if one.exposure else None}
            for flag, one in decided.items()
        }
        return Json({"unit": attributes["member_id"], "flags": flags})

    async def act(self, request: Request, _: object) -> Response:
        """Do something to an experiment. Raises Refusal."""
        self._allow(request)
        key, action = request.path_params["key"], request.path_params["action"]
        if action not in ACTIONS:
            raise Refusal(404, f"{action} is nothing that is done to an experiment: {', '.join(ACTIONS)} are")
        told = await short_json(request, "an action")
        words = {name: told.get(name, "") for name in ("author", "reason", "variation")} if isinstance(told, dict) else {}
        if not words or not all(isinstance(value, str) for value in words.values()) or not words["author"]:
            raise Refusal(400, 'who does it? {"author": "…", "reason": "…"}, and to ship {"variation": "…"}')
        async with self._acting:
            changes = await asyncio.to_thread(_done, ACTIONS[action], key, words)
        return Json({"changes": [{name: change[name] for name in ("item", "version", "action", "undoes")} for change in changes]})

    def _allow(self, request: Request) -> None:
        """Raises Refusal."""
        given = (header(request, b"authorization") or "").removeprefix("Bearer ")
        known = bool(self.token) and hmac.compare_digest(given.encode(), self.token.encode())
        here = from_here(request.headers, request.client.host if request.client else "") and header(request, FORWARDED) is None
        if not (known or here):
            raise Refusal(403, "this is for who asks on this machine, or knows edge.experiments_token (Authorization: Bearer …)")


def _done(act: Callable[[Desk, str, str], list[Change]], key: str, words: Mapping[str, str]) -> list[Change]:
    """Blocks. Raises Refusal."""
    try:
        changes = act(desk(RegistryClient().schema, words["author"], words["reason"]), key, words["variation"])
        with Emitter("experiments-api") as emitter:
            publish(emitter, changes, RegistryClient().schema)
    except (Refused, Clash) as refused:
        raise Refusal(409, str(refused)) from None
    except (KafkaException, TimeoutError, RegistryError, RegistryUnavailable, RuntimeError) as error:
        raise Refusal(503, f"it may not have been done: {error}") from None
    return changes

"""The online table of a process: the newest rows of recommendations.feature_value, folded as they come, of the features that are deployed.

    online = Online()
    with followed([online, Definitions(online)], schema_of): online.table.lookup(…)

When other features are deployed the topic is read again into a table of theirs, beside the one that answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from schemas.catalogue import catalogue
from schemas.codec import HEADER, schema_id_of
from schemas.compiled import Unsure, compile_reader
from schemas.recommendations.definition import Feature, FeatureError, features, problems, read
from streams.folded import Folded, Unfit
from streams.recommendations.plan import Plan, plan
from streams.recommendations.table import Table

USED = ("group", "entity", "layout", "tiles", "texts", "epoch", "marker")
"""Fields of a row that are folded."""


def _written(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What bytes depend on."""
    return [(field["name"], field["type"]) for field in schema["fields"]]


class Online(Folded[Table]):
    """Rows of a plan, this checkout's features until `use` names another."""

    topic = "recommendations.feature_value"

    def __init__(self, made: Plan | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.plan, self.older = made or plan(features()), list[Plan]()
        self.of_others = 0
        """Rows of features that are not these: left from before, or on their way to a table that is made when those features are told."""
        super().__init__(now_s)

    def new(self) -> Table:
        """A table without rows."""
        return Table(self.plan, self.older)

    def decoder(self, schema_of: Callable[[int], dict[str, Any]]) -> Callable[[bytes], Mapping[str, Any]]:
        """Rows come by the ten thousand a second: of those of this contract only what is folded is read, the rest the careful way."""
        careful, event = super().decoder(schema_of), catalogue().topic(self.topic).event
        read = compile_reader(event.schema, USED, HEADER.size)
        same: dict[int, bool] = {}

        def decode(framed: bytes) -> Mapping[str, Any]:
            schema_id = schema_id_of(framed)
            if schema_id not in same:
                same[schema_id] = read is not None and _written(schema_of(schema_id)) == _written(event.schema)
            if read is None or not same[schema_id]:
                return careful(framed)
            try:
                return read(framed)
            except Unsure:
                return careful(framed)

        return decode

    def into(self, table: Table, record: Mapping[str, Any]) -> None:
        """A row, if it is newer than what is there. Raises Unfit."""
        if not table.knows(record["layout"]):
            self.of_others += 1
            return
        try:
            table.fold(record["group"], record["entity"], record["layout"], record["tiles"], record["texts"], record["epoch"])
        except ValueError as error:
            raise Unfit(str(error)) from None

    def use(self, made: Plan) -> None:
        """Answer by another plan from when the topic has been read again; the table that there is answers until then."""
        if made != self.plan:
            self.plan, self.older = made, [*self.older, self.plan]
            self.read_again()


class Definitions(Folded[dict[str, Feature]]):
    """Features that are deployed, by name; `online` is told of them when all have been read. Where none is told, it keeps its own."""

    topic = "recommendations.feature_definition"

    def __init__(self, online: Online, now_s: Callable[[], float] = time.monotonic) -> None:
        self._online = online
        super().__init__(now_s)

    def new(self) -> dict[str, Feature]:
        """No feature."""
        return {}

    def into(self, table: dict[str, Feature], record: Mapping[str, Any]) -> None:
        """A feature as it is from now on, or that it is withdrawn. Raises Unfit where this version cannot read it."""
        if record["withdrawn"]:
            table.pop(record["name"], None)
            return
        try:
            table[record["name"]] = read(record["yaml"], record["name"])
        except FeatureError as error:
            raise Unfit(str(error)) from None

    def settle(self, table: dict[str, Feature]) -> None:
        """Let the online table be of these."""
        if table and not problems(table.values()):
            self._online.use(plan(table.values()))

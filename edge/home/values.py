"""The online table of features in this process: `recommendations.feature_value`, folded into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.recommendations.definition import features
from streams.folded import Folded, Unfit
from streams.recommendations.plan import plan
from streams.recommendations.table import Table


class Values(Folded[Table]):
    """The newest row of each key."""

    topic = "recommendations.feature_value"

    def new(self) -> Table:
        """No row."""
        return Table(plan(features()))

    def into(self, table: Table, record: Mapping[str, Any]) -> None:
        """Take one row. Raises Unfit."""
        try:
            table.fold(record["group"], record["entity"], record["layout"], record["tiles"], record["texts"])
        except ValueError as error:
            raise Unfit(str(error)) from None

"""The online table of a process: the newest rows of recommendations.feature_value, folded as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streams.folded import Folded, Unfit
from streams.recommendations.plan import Plan
from streams.recommendations.table import Table


class Online(Folded[Table]):
    """Rows of `plan`; `older`: plans that may still have packed some. `table` is asked while `follow` reads on a thread of its own."""

    topic = "recommendations.feature_value"

    def __init__(self, plan: Plan, older: Iterable[Plan] = (), now_s: Callable[[], float] = time.monotonic) -> None:
        self.plan, self.older = plan, tuple(older)
        super().__init__(now_s)

    def new(self) -> Table:
        return Table(self.plan, self.older)

    def into(self, table: Table, record: Mapping[str, Any]) -> None:
        try:
            table.fold(record["group"], record["entity"], record["layout"], record["tiles"], record["texts"], record["epoch"])
        except ValueError as error:
            raise Unfit(str(error)) from None

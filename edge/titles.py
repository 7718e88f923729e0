"""The titles that can be played: `encoding.published`, folded into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.folded import Folded


@dataclass(frozen=True)
class Title:
    """One title in its newest version."""

    cid: str
    name: str
    version: int
    dash_path: str
    hls_path: str
    duration_ms: int


class Titles(Folded[dict[str, Title]]):
    """The newest version of each title, by cid."""

    topic = "encoding.published"

    def __len__(self) -> int:
        return len(self.table)

    def all(self) -> list[Title]:
        """Every title, by name."""
        return sorted(self.table.values(), key=lambda title: title.name)

    def get(self, cid: str) -> Title | None:
        """The title with this cid."""
        return self.table.get(cid)

    def find(self, wanted: str) -> Title | None:
        """The title with this cid, or else with this name."""
        return self.table.get(wanted) or next((title for title in self.table.values() if title.name == wanted), None)

    def new(self) -> dict[str, Title]:
        """No title."""
        return {}

    def into(self, table: dict[str, Title], record: Mapping[str, Any]) -> None:
        """Take one published event; an older version than the known one changes nothing."""
        known = table.get(record["cid"])
        if known is None or known.version <= record["version"]:
            table[record["cid"]] = Title(
                record["cid"], record["title"], record["version"], record["dash_path"], record["hls_path"], record["duration_ms"]
            )

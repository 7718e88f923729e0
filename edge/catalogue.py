"""What is known of titles: `recommendations.title`, folded into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.folded import Folded


class Catalogue(Folded[dict[str, Mapping[str, Any]]]):
    """The newest of each title by cid, as the contract has it; withdrawn ones are not there."""

    topic = "recommendations.title"

    def new(self) -> dict[str, Mapping[str, Any]]:
        """No title."""
        return {}

    def into(self, table: dict[str, Mapping[str, Any]], record: Mapping[str, Any]) -> None:
        """Take one title, or take it away."""
        if record["withdrawn"]:
            table.pop(record["cid"], None)
        else:
            table[record["cid"]] = record

    def genres(self, cid: str) -> list[str]:
        """Genres of a title; none where it is not known."""
        return list(self.table.get(cid, {}).get("genres", ()))

    def search(self, query: str) -> list[str]:
        """Titles by cid in whose name, genres or people every word of `query` begins a word, by name."""
        words = query.lower().split()
        found = [one for one in self.table.values() if words and all(any(has.startswith(w) for has in _words(one)) for w in words)]
        return [one["cid"] for one in sorted(found, key=lambda one: (one["name"], one["cid"]))]


def _words(title: Mapping[str, Any]) -> list[str]:
    texts = [title["name"], *(text for name in ("genres", "actors", "directors") for text in title[name])]
    return " ".join(texts).lower().replace("_", " ").split()

"""Titles by what somebody types. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from edge.home.titles import Title, Viewer, may_see

MOST_QUERY = 100
"""Characters that anybody types."""


def found(titles: Iterable[Title], query: str, viewer: Viewer) -> list[Title]:
    """Titles that the viewer may see in whose name, genres or people each word of `query` begins a word, by name; none for no word."""
    words = query.lower().split()
    some = (title for title in titles if words and may_see(title, viewer) and _has(title, words))
    return sorted(some, key=lambda title: (title.name, title.cid))


def _has(title: Title, words: list[str]) -> bool:
    texts = " ".join((title.name, *title.genres, *title.people)).lower().replace("_", " ").split()
    return all(any(text.startswith(word) for text in texts) for word in words)

"""The catalogue as members may see it: `recommendations.title`, folded into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.envelope import milliseconds
from streams.folded import Folded


@dataclass(frozen=True)
class Title:
    """A title as it is now. `released_ms`: first shown anywhere, ms since 1970; None where nobody says."""

    cid: str
    name: str
    genres: tuple[str, ...] = ()
    maturity: str = ""
    people: tuple[str, ...] = ()
    territories: frozenset[str] = frozenset()
    artwork_variants: tuple[str, ...] = ()
    released_ms: int | None = None
    withdrawn: bool = False
    told_ms: int = 0


@dataclass(frozen=True)
class Viewer:
    """Who looks, as far as it is known. `country`: ISO 3166-1; `maturities`: ratings that his profile allows, None: all."""

    member_id: str | None = None
    region: str | None = None
    country: str | None = None
    maturities: frozenset[str] | None = None


def may_see(title: Title, viewer: Viewer) -> bool:
    """Whether a title may be shown: it is not withdrawn, may be shown where he is, and his profile allows its rating.

    Who does not say where he is sees what may be shown everywhere; a title without a rating is for profiles that allow all.
    """
    here = not title.territories or viewer.country in title.territories
    return not title.withdrawn and here and (viewer.maturities is None or title.maturity in viewer.maturities)


class Titles(Folded[dict[str, Title]]):
    """Each title in its newest form, by cid; withdrawn ones too."""

    topic = "recommendations.title"

    def new(self) -> dict[str, Title]:
        """No title."""
        return {}

    def genres(self, cid: str) -> tuple[str, ...]:
        """Genres of a title; none where it is not known."""
        title = self.table.get(cid)
        return () if title is None else title.genres

    def into(self, table: dict[str, Title], record: Mapping[str, Any]) -> None:
        """Take one event; one that is older than what is known of its title changes nothing."""
        told_ms, released = milliseconds(record["event_time"]), record["released_at"]
        known = table.get(record["cid"])
        if known is None or known.told_ms <= told_ms:
            table[record["cid"]] = Title(
                record["cid"], record["name"], tuple(record["genres"]), record["maturity"],
                (*record["actors"], *record["directors"]), frozenset(record["territories"]),
                tuple(record["artwork_variants"]), None if released is None else milliseconds(released), record["withdrawn"], told_ms,
            )  # fmt: skip

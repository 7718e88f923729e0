"""Announcements as a file: when a title can first be played, where, and how often it is expected to be. Pure: text in, events out.

    - cid: sequel                    # the title
      from: 2026-03-03T00:00:00Z     # when it can first be played
      expected_plays: 12000          # on its first day, in each region; without: nothing is expected
      premiere: true                 # on the cache servers before, whatever it seems to be worth
      regions: [eu-west]             # where it is offered; without: everywhere
      unit: saga                     # an interactive title that it is a branch of; without: the title itself

Everything that is wrong with a file is said at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from producers.written import read_yaml

TOPIC = "delivery.release"


class BadReleases(ValueError):
    """A file that announces nothing; the message has a line for everything that is wrong."""


class _Release(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cid: str = Field(min_length=1)
    from_time: datetime = Field(alias="from")
    expected_plays: float | None = Field(None, ge=0, allow_inf_nan=False)
    premiere: bool = False
    regions: tuple[str, ...] = ()
    unit: str = ""


def read(text: str) -> dict[str, dict[str, Any]]:
    """`delivery.release` by cid, from a YAML text. Raises BadReleases."""
    told = read_yaml(text, list[_Release], BadReleases)
    wrong = [f"{count} releases are of {cid}" for cid, count in Counter(release.cid for release in told).items() if count > 1]
    wrong += [f"{release.cid}: `from` has no time zone: 2026-03-03T00:00:00Z has" for release in told if release.from_time.tzinfo is None]
    if wrong:
        raise BadReleases("\n".join(wrong))
    return {
        release.cid: {
            "cid": release.cid,
            "unit": release.unit or release.cid,
            "regions": list(release.regions),
            "from_time": release.from_time.astimezone(UTC),
            "expected_plays": release.expected_plays,
            "premiere": release.premiere,
            "withdrawn": False,
        }
        for release in told
    }


def changes(now: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What has to be told to those who know `known`: what is taken back, then what is new or other."""
    yield from ({**told, "withdrawn": True} for cid, told in known.items() if not told["withdrawn"] and cid not in now)
    yield from (told for cid, told in now.items() if known.get(cid) != told)

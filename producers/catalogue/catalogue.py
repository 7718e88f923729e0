"""Titles as somebody writes them down, in YAML, and what has to be told of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, StringConstraints

from producers.written import read_yaml

TOPIC = "recommendations.title"
Text = Annotated[str, StringConstraints(min_length=1, max_length=120)]
LISTS = ("languages", "genres", "actors", "directors", "cinematographers", "territories", "artwork_variants")


class BadCatalogue(ValueError):
    """A file that is no catalogue; the message has a line for everything that is wrong."""


class _Title(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    name: Text
    languages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")], ...] = ()
    genres: tuple[Text, ...] = Field((), max_length=16)
    actors: tuple[Text, ...] = ()
    directors: tuple[Text, ...] = ()
    cinematographers: tuple[Text, ...] = ()
    maturity: Annotated[str, StringConstraints(max_length=40)] = ""
    territories: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...] = ()
    artwork_variants: tuple[Text, ...] = ()
    runtime_ms: PositiveInt | None = None
    released_at: AwareDatetime | None = None


def read(text: str) -> dict[str, dict[str, Any]]:
    """`recommendations.title` by cid, from a YAML text. Raises BadCatalogue."""
    titles = read_yaml(text, list[_Title], BadCatalogue)
    wrong = [f"{count} titles are {cid}" for cid, count in Counter(title.cid for title in titles).items() if count > 1]
    for title in titles:
        for name in LISTS:
            wrong += [f"{title.cid}: {name}: {item} is there twice" for item, n in Counter(getattr(title, name)).items() if n > 1]
    if wrong:
        raise BadCatalogue("\n".join(wrong))
    return {title.cid: _record(title) for title in titles}


def _record(title: _Title) -> dict[str, Any]:
    released: datetime | None = title.released_at
    lists = {name: list(getattr(title, name)) for name in LISTS}
    return {**title.model_dump(), **lists, "released_at": released and released.astimezone(UTC), "withdrawn": False}


def changes(now: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What has to be told to those who know `known`: what is withdrawn, then what is new or other."""
    yield from ({**told, "withdrawn": True} for cid, told in known.items() if not told["withdrawn"] and cid not in now)
    yield from (told for cid, told in now.items() if known.get(cid) != told)

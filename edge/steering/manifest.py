"""Content steering: the same decision for players that ask by themselves, HLS (draft-pantos-content-steering, RFC 8216bis 7) and DASH (ETSI
TS 103 998). Pure.

Both get the same JSON. A pathway is a cache server, its id the oca_id; a manifest that was encoded before the servers were bought has no
pathways of their names, so each is a clone of one that it has, with another host.

hls.js, after a 429, never asks again (research of hls.js at afe5b8b: it returns before it has set its timer). So a service that is busy
answers 200 with a longer TTL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from schemas.network import is_pathway

TTL_S, BUSY_TTL_S = 300, 1_200
MAX_PATHWAYS = 64
DEFAULT_PATHWAY = "."
"""The pathway of variants that name none (RFC 8216bis, 4.4.6.2, PATHWAY-ID)."""
MAX_BPS = 10**13
_DIGITS = re.compile(r"[0-9]{1,14}")


class BadQuery(ValueError):
    """Query parameters that are none of the standard's; the message names the parameter."""


@dataclass(frozen=True)
class Asked:
    """What a player says of itself: the pathways that it used since it asked last, the newest last, and what it got from each, bit/s."""

    used: tuple[str, ...] = ()
    measured_bps: dict[str, float] = field(default_factory=dict)


def hls(query: Iterable[tuple[str, str]]) -> Asked:
    """`_HLS_pathway` and `_HLS_throughput`, a whole number of bit/s. Raises BadQuery."""
    told = _once(query, "_HLS_pathway", "_HLS_throughput")
    pathway, throughput = told.get("_HLS_pathway"), told.get("_HLS_throughput")
    if pathway is None:
        if throughput is not None:
            _bps("_HLS_throughput", throughput)
        return Asked()
    _check_id("_HLS_pathway", pathway)
    return Asked((pathway,), {} if throughput is None else {pathway: _bps("_HLS_throughput", throughput)})


def dash(query: Iterable[tuple[str, str]]) -> Asked:
    """`_DASH_pathway="a,b"`, in quotes, and `_DASH_throughput=123,456`, as many, each of which may be empty. Raises BadQuery."""
    told = _once(query, "_DASH_pathway", "_DASH_throughput")
    quoted, throughputs = told.get("_DASH_pathway"), told.get("_DASH_throughput", "")
    if quoted is None:
        if throughputs:
            raise BadQuery("_DASH_throughput without _DASH_pathway: whose throughput is it?")
        return Asked()
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"':
        raise BadQuery(f'_DASH_pathway={quoted[:80]}: a list in double quotes, "a,b", is what the standard has')
    used = quoted[1:-1].split(",")
    if len(used) > MAX_PATHWAYS:
        raise BadQuery(f"_DASH_pathway has {len(used)} pathways; {MAX_PATHWAYS} are the most")
    for pathway in used:
        _check_id("_DASH_pathway", pathway)
    if not throughputs:
        return Asked(tuple(used))
    numbers = throughputs.split(",")
    if len(numbers) != len(used):
        raise BadQuery(f"_DASH_throughput has {len(numbers)} numbers for the {len(used)} pathways of _DASH_pathway")
    return Asked(tuple(used), {pathway: _bps("_DASH_throughput", number) for pathway, number in zip(used, numbers, strict=True) if number})


def pathways(text: str | None) -> tuple[str, ...]:
    """Our own parameter `pathways`: those that the player's manifest has, the first of which is cloned. Raises BadQuery."""
    if text is None:
        return (DEFAULT_PATHWAY,)
    found = tuple(text.split(","))
    if len(found) > MAX_PATHWAYS or len(set(found)) < len(found):
        raise BadQuery(f"pathways has {len(found)} pathways, {len(set(found))} different ones; {MAX_PATHWAYS} are the most, each once")
    for pathway in found:
        _check_id("pathways", pathway)
    return found


def manifest(ranked: Sequence[tuple[str, str]], known: Sequence[str], reload_uri: str, ttl_s: int) -> dict[str, Any]:
    """The steering manifest for servers, best first, as (oca_id, URL); `known` are the pathways of the player's own manifest."""
    clones = [
        {"BASE-ID": known[0], "ID": oca_id, "URI-REPLACEMENT": {"HOST": urlsplit(url).netloc}}
        for oca_id, url in ranked
        if oca_id not in known
    ]
    told: dict[str, Any] = {
        "VERSION": 1,
        "TTL": ttl_s,
        "RELOAD-URI": reload_uri,
        "PATHWAY-PRIORITY": [oca_id for oca_id, _ in ranked],
    }
    return {**told, "PATHWAY-CLONES": clones} if clones else told


def _once(query: Iterable[tuple[str, str]], *names: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, value in query:
        if name in names:
            if name in told:
                raise BadQuery(f"{name} is there twice")
            told[name] = value
    return told


def _bps(name: str, text: str) -> float:
    if _DIGITS.fullmatch(text) is None or int(text) > MAX_BPS:
        raise BadQuery(f"{name}={text[:40]!r}: a whole number of bit/s from 0 to {MAX_BPS}")
    return float(text)


def _check_id(name: str, text: str) -> None:
    if not is_pathway(text):
        raise BadQuery(f"{name}: {text[:80]!r} is no pathway: 1 to 64 letters, digits, dots, hyphens and underscores")

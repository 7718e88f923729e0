"""Content steering by its text: the rules that a steering manifest keeps, and what a player makes of it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

ID = re.compile(r"[A-Za-z0-9._-]+")


def violations(told: Any, known: set[str]) -> list[str]:
    """The rules that a steering manifest breaks for a player whose own manifest has the pathways `known`; empty if it breaks none."""
    if not isinstance(told, dict):
        return ["the manifest is no JSON object"]
    wrong = []
    if told.get("VERSION") != 1 or isinstance(told.get("VERSION"), bool):
        wrong.append("VERSION is 1")
    ttl = told.get("TTL", 300)
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not ttl > 0:
        wrong.append("TTL is a positive number")
    if "RELOAD-URI" in told and not isinstance(told["RELOAD-URI"], str):
        wrong.append("RELOAD-URI is a string")
    priority = told.get("PATHWAY-PRIORITY")
    if not isinstance(priority, list) or not priority:
        wrong.append("PATHWAY-PRIORITY is there and not empty")
        priority = []
    if len(set(priority)) < len(priority):
        wrong.append("PATHWAY-PRIORITY has each pathway once")
    clones = told.get("PATHWAY-CLONES")
    if clones is not None and not (isinstance(clones, list) and clones):
        wrong.append("PATHWAY-CLONES is not empty if it is there")
    there = set(known)
    for clone in clones or []:
        base, name, replacement = clone.get("BASE-ID"), clone.get("ID"), clone.get("URI-REPLACEMENT")
        if not isinstance(base, str) or base not in there:
            wrong.append(f"BASE-ID is a pathway that is there: {base}")
        if not isinstance(name, str) or not ID.fullmatch(name) or name in there:
            wrong.append(f"ID is a new pathway: {name}")
        if not isinstance(replacement, dict) or not isinstance(replacement.get("HOST"), str) or not replacement["HOST"]:
            wrong.append("URI-REPLACEMENT is an object, and dash.js wants a HOST in it")
        elif "/" in replacement["HOST"]:
            wrong.append("HOST is a host, not a URL")
        there.add(str(name))
    wrong += [f"PATHWAY-PRIORITY names a pathway that is there: {pathway}" for pathway in priority if pathway not in there]
    return wrong


def applied(told: dict[str, Any], urls: dict[str, str]) -> dict[str, str]:
    """The URL by pathway that a player fetches, in the order of priority, from those of its own manifest (RFC 8216bis, 7.2)."""
    found = dict(urls)
    for clone in told.get("PATHWAY-CLONES", []):
        parts = urlsplit(found[clone["BASE-ID"]])
        found[clone["ID"]] = urlunsplit(parts._replace(netloc=clone["URI-REPLACEMENT"]["HOST"]))
    return {pathway: found[pathway] for pathway in told["PATHWAY-PRIORITY"]}

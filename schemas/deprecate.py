"""Say in a contract that a field, or in topics.yaml that a topic, will go. Pure text to text: what stands around it stays as it is."""

from __future__ import annotations

import json
import re
from typing import Any

from schemas.catalogue import ContractError


def field(avsc: str, name: str, by: str, use: str) -> str:
    """The contract's text with the field's deprecation. Raises ContractError where it has no such field, or that has one."""
    own = next((item for item in json.loads(avsc)["fields"] if item["name"] == name), None)
    if own is None:
        raise ContractError(f"there is no field {name!r}; fields are {', '.join(item['name'] for item in json.loads(avsc)['fields'])}")
    if "deprecated" in own:
        raise ContractError(f"{name} is deprecated already: by {own['deprecated']['by']}, use {own['deprecated']['use']}")
    said = f', "deprecated": {json.dumps({"by": by, "use": use})}'
    for start in (match.start() for match in re.finditer(r"\{", avsc)):
        found, end = _object(avsc, start)
        if found == own:
            last = len(avsc[: end - 1].rstrip())
            return avsc[:last] + said + avsc[last:]
    raise ContractError(f"{name} is not written as one object")


def topic(yaml_text: str, short_name: str, by: str, use: str) -> str:
    """The text of topics.yaml with the topic's deprecation. Raises ContractError where it has no such entry, or that has one."""
    entry = re.search(rf"^{re.escape(short_name)}:[ \t]*\n((?:[ \t]+.*\n?|\n)*)", yaml_text, re.MULTILINE)
    if entry is None:
        raise ContractError(f"there is no entry {short_name!r}")
    if said := re.search(r"^ +deprecated: (.*)$", entry[1], re.MULTILINE):
        raise ContractError(f"{short_name} is deprecated already: {said[1]}")
    return f'{yaml_text[: entry.start(1)]}  deprecated: {{by: "{by}", use: "{use}"}}\n{yaml_text[entry.start(1) :]}'


def _object(text: str, start: int) -> tuple[Any, int]:
    """The JSON object that begins at `start`, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None, start

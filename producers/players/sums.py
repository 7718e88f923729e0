"""Checksums of an asset, as far as players need them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

NAME = "checksums.json"


def read_sums(raw: bytes) -> Mapping[str, str]:
    """SHA-256 in hexadecimal digits by path below the asset's directory. Raises ValueError where it is no `checksums.json`."""
    try:
        return {str(name): str(wanted["sha256"]) for name, wanted in json.loads(raw)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the checksums of an asset: {error!r}") from None

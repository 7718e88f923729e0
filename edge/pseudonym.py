"""Member ids as they may be kept: the edge is the last place that sees a plain one."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from infra.base.settings import settings


@lru_cache(maxsize=100_000)
def pseudonym(member: str) -> str:
    """HMAC-SHA256 of a member id under `edge.pseudonym_key`, as 64 hex digits: the same member is the same pseudonym at every door."""
    return hmac.new(settings().edge.pseudonym_key.encode(), member.encode(), hashlib.sha256).hexdigest()

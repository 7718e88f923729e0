"""What can be true of the servers and pathways of the delivery network, beyond what their contracts can say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

TIERS = ("EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN")
_TIME = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")
_PATHWAY = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_pathway(text: str) -> bool:
    """Whether a server may be called that: it is a pathway of content steering, and those have letters, digits, dots, hyphens, underscores
    (RFC 8216bis, 4.4.6.2)."""
    return _PATHWAY.fullmatch(text) is not None


def unfit(record: Mapping[str, Any]) -> list[str]:
    """What cannot be true of a server as `delivery.oca` tells it, in words; empty if all can."""
    wrong = [
        (not is_pathway(record["oca_id"]), "oca_id: 1 to 64 letters, digits, dots, hyphens and underscores"),
        (not _is_http(record["url"]), f"url {record['url']!r} is no http address"),
        (record["tier"] not in TIERS, f"tier {record['tier']!r} is none"),
        (record["tier"] == "EMBEDDED_FLASH" and record["isp_asn"] is None, "an embedded server stands in an ISP: isp_asn is missing"),
        (record["egress_bps"] <= 0, f"egress_bps {record['egress_bps']} is not positive"),
        (record["disk_bytes"] < 0, f"disk_bytes {record['disk_bytes']} is negative"),
        (record["fill_bps"] < 0, f"fill_bps {record['fill_bps']} is negative"),
        (not -90 <= record["latitude_deg"] <= 90, f"latitude_deg {record['latitude_deg']} is not from -90 to 90"),
        (not -180 <= record["longitude_deg"] <= 180, f"longitude_deg {record['longitude_deg']} is not from -180 to 180"),
        (not 0 <= record["window_start_min"] < 1440, f"window_start_min {record['window_start_min']} is not from 0 to 1439"),
        (not 0 <= record["window_end_min"] <= 1440, f"window_end_min {record['window_end_min']} is not from 0 to 1440"),
        (record["window_start_min"] == record["window_end_min"], "the fill window ends in the minute in which it starts"),
        (not -720 <= record["utc_offset_min"] <= 840, f"utc_offset_min {record['utc_offset_min']} is not from -720 to 840"),
    ]
    return [words for is_wrong, words in wrong if is_wrong]


def window_min(text: str) -> tuple[int, int] | None:
    """First minute of the day and the one after the last of a fill window, HH:MM-HH:MM, 24:00 at the latest; None for what is none."""
    times = [_TIME.fullmatch(part) for part in text.split("-")]
    if len(times) != 2 or times[0] is None or times[1] is None:
        return None
    first, end = (int(time[1]) * 60 + int(time[2]) for time in times if time)
    return (first, end) if first < 1440 and end <= 1440 else None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)

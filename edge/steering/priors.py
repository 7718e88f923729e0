"""What a player may expect of its throughput before its first byte: `playback.abr_features` folded, asked with each decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from producers.abr.features import BadFeatures, Features
from streams.folded import Folded, Unfit


class Priors(Folded[Features]):
    """How fast sessions of each place were, by time of day, device and network."""

    topic = "playback.abr_features"

    def new(self) -> Features:
        """Nobody has been seen."""
        return Features()

    def into(self, table: Features, record: Mapping[str, Any]) -> None:
        """Take one `playback.abr_features`. Raises Unfit."""
        try:
            table.fold(record, round(record["event_time"].timestamp() * 1000))
        except BadFeatures as error:
            raise Unfit(f"playback.abr_features {record['item']!r}: {error}; its cell stays as it was") from None


def told(
    table: Features,
    prefix: str,
    isp_asn: int | None,
    region: str,
    now_ms: int,
    device_type: str | None = None,
    network_type: str | None = None,
) -> dict[str, float] | None:
    """The prior of a session as an answer has it, `producers.abr.prior.Prior`; None while nobody has been seen."""
    hour = datetime.fromtimestamp(now_ms / 1000, UTC).hour
    prior = table.prior(prefix, isp_asn, region, hour, device_type, network_type)
    if prior is None:
        return None
    return {name: round(getattr(prior, name), 4) for name in ("mean_log_kbps", "sd_log_kbps", "weight")}

"""What is known of a session's throughput before its first byte. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """A normal distribution of a session's mean of ln(kbit/s). Raises ValueError where a number cannot be.

    With m segments fetched, of which the mean of ln(kbit/s) is x, the session's mean is expected to be
    (weight · mean_log_kbps + m · x) / (weight + m): the posterior mean of the normal model with known variances.
    """

    mean_log_kbps: float
    """Expected mean of ln(kbit/s) over the first segments of the session."""
    sd_log_kbps: float
    """Standard deviation of that mean among sessions like this one, what is not known of them included."""
    weight: float
    """Segments of the session itself that tell as much: variance within a session over `sd_log_kbps` squared. 0: nothing is known.

    So it also says what that variance is, which a plan of the start takes from it.
    """

    def __post_init__(self) -> None:
        for name in ("mean_log_kbps", "sd_log_kbps", "weight"):
            value = getattr(self, name)
            if not math.isfinite(value) or (value < 0.0 and name != "mean_log_kbps"):
                raise ValueError(f"{name} of a prior is {value}: a finite number{'' if name == 'mean_log_kbps' else ' from 0'} is wanted")

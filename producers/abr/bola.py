"""BOLA: the level with the greatest score, utility less buffer per byte. From the buffer alone.

After K. Spiteri, R. Urgaonkar, R. K. Sitaraman, "BOLA: Near-Optimal Bitrate Adaptation for Online Videos", IEEE INFOCOM 2016, with V and γp
set from two buffer levels as in K. Spiteri, R. Sitaraman, D. Sparacio, "From Theory to Practice: Improving Bitrate Adaptation in the DASH
Reference Player", ACM MMSys 2018, section 3: the lowest level is left at `buffer_min_s`, fetching ends at `buffer_target_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from producers.abr.state import State


def choose(state: State, buffer_min_s: float = 10.0, buffer_target_s: float = 30.0) -> int:
    """The level of the next segment; of equal scores the highest level. Pure."""
    v, gp, utilities = parameters(state.bitrates_kbps, buffer_min_s, buffer_target_s)
    scores = [(v * (utility + gp) - state.buffer_s) / size for utility, size in zip(utilities, state.sizes[0], strict=True)]
    return max(range(len(scores)), key=lambda level: (scores[level], level))


def parameters(bitrates_kbps: Sequence[float], buffer_min_s: float, buffer_target_s: float) -> tuple[float, float, list[float]]:
    """V, γp and the utilities: the lowest level is left at `buffer_min_s`, the highest at `buffer_target_s`."""
    utilities = [1 + log(kbps / bitrates_kbps[0]) for kbps in bitrates_kbps]
    gp = max(utilities[-1] - 1, 1e-9) / (buffer_target_s / buffer_min_s - 1)
    return buffer_min_s / gp, gp, utilities

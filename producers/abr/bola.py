"""BOLA: the level with the greatest score, utility less buffer per byte. From the buffer alone.

After K. Spiteri, R. Urgaonkar, R. K. Sitaraman, "BOLA: Near-Optimal Bitrate Adaptation for Online Videos", IEEE INFOCOM 2016, with V and γp
set from two buffer levels as in K. Spiteri, R. Sitaraman, D. Sparacio, "From Theory to Practice: Improving Bitrate Adaptation in the DASH
Reference Player", ACM MMSys 2018, section 3: the lowest level is left at `buffer_min_s`, fetching ends at `buffer_target_s`.
"""

from __future__ import annotations

from math import log

from producers.abr.state import State


def choose(state: State, buffer_min_s: float = 10.0, buffer_target_s: float = 30.0) -> int:
    """The level of the next segment; of equal scores the highest level. Pure."""
    utilities = [1 + log(kbps / state.bitrates_kbps[0]) for kbps in state.bitrates_kbps]
    if len(utilities) == 1:
        return 0
    gp = (utilities[-1] - 1) / (buffer_target_s / buffer_min_s - 1)
    v = buffer_min_s / gp
    scores = [(v * (utility + gp) - state.buffer_s) / size for utility, size in zip(utilities, state.sizes[0], strict=True)]
    return max(range(len(scores)), key=lambda level: (scores[level], level))

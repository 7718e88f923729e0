"""BB: a bitrate for each filling of the buffer, and nothing else.

After T.-Y. Huang, R. Johari, N. McKeown, M. Trunnell, M. Watson, "A Buffer-Based Approach to Rate Adaptation", ACM SIGCOMM 2014, section 5:
the lowest level within the reservoir, the highest beyond the cushion, a straight line between. Defaults are those of the published logs.
"""

from __future__ import annotations

from producers.abr.state import State


def choose(state: State, reservoir_s: float = 5.0, cushion_s: float = 10.0) -> int:
    """The level of the next segment. Pure."""
    highest = len(state.bitrates_kbps) - 1
    return int(highest * min(max((state.buffer_s - reservoir_s) / cushion_s, 0.0), 1.0))

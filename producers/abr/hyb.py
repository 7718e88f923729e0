"""HYB: the highest bitrate whose next segment is expected within a share of the buffer.

After Z. Akhtar, Y. S. Nam, R. Govindan et al., "Oboe: Auto-tuning Video ABR Algorithms to Network Conditions", ACM SIGCOMM 2018, section
2; β is the share. Throughput is expected to be the harmonic mean of the last few.
"""

from __future__ import annotations

from statistics import harmonic_mean

from producers.abr.state import State


def choose(state: State, beta: float = 0.25, window: int = 5) -> int:
    """The level of the next segment; the lowest while nothing was measured. Pure."""
    if not state.throughputs_kbps:
        return 0
    bytes_per_s = harmonic_mean(state.throughputs_kbps[-window:]) * 1000 / 8
    return max((level for level, size in enumerate(state.sizes[0]) if size / bytes_per_s < beta * state.buffer_s), default=0)

"""RB: the highest bitrate below the throughput that is expected, which is the harmonic mean of the last few.

The estimator is that of J. Jiang, V. Sekar, H. Zhang, "Improving Fairness, Efficiency, and Stability in HTTP-based Adaptive Video Streaming
with FESTIVE", ACM CoNEXT 2012, section 4.3; the rule is the rate-based baseline of the Pensieve paper.
"""

from __future__ import annotations

from statistics import harmonic_mean

from producers.abr.state import State


def choose(state: State, window: int = 5, scale: float = 1.0) -> int:
    """The level of the next segment; the lowest while nothing was measured. `scale` multiplies the estimate. Pure."""
    if not state.throughputs_kbps:
        return 0
    expected_kbps = scale * harmonic_mean(state.throughputs_kbps[-window:])
    return max(sum(kbps <= expected_kbps for kbps in state.bitrates_kbps) - 1, 0)

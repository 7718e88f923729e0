"""What a session is worth to who watches: per segment, its quality less what rebuffering and switching cost.

- `MBPS` and `LOG`: H. Mao, R. Netravali, M. Alizadeh, "Neural Adaptive Video Streaming with Pensieve", SIGCOMM 2017: QoE_lin and QoE_log.
- `VMAF`: T. Huang, C. Zhou, R.-X. Zhang, C. Wu, X. Yao, L. Sun, "Comyco: Quality-Aware Adaptive Video Streaming via Imitation Learning",
  ACM Multimedia 2019: a linear model of VMAF fitted to people's opinions, with the digits of the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from producers.abr.environment import Video


@dataclass(frozen=True)
class Reward:
    """weight · u − rebuffer · seconds − up · max(u − before, 0) − down · max(before − u, 0) + constant, where u is a segment's utility."""

    name: str
    rebuffer: float
    """Per second of rebuffering."""
    up: float
    """Per unit of utility more than the segment before; below 0 a step up is welcome."""
    down: float
    utilities: Callable[[Video], Sequence[Sequence[float]]]
    """[segment][level] utilities of a video. Raises ValueError where the video does not say what they need."""
    weight: float = 1.0
    constant: float = 0.0

    def __call__(self, utility: float, before: float, rebuffer_s: float) -> float:
        """What one segment is worth. `before` is the utility of the one before it."""
        change = utility - before
        switching = self.up * change if change > 0 else -self.down * change
        return self.weight * utility - self.rebuffer * rebuffer_s - switching + self.constant


def switching(up: float, down: float, change: NDArray[np.float64]) -> NDArray[np.float64]:
    """What changes of utility cost, as in `Reward`."""
    return np.asarray(up * np.maximum(change, 0.0) + down * np.maximum(-change, 0.0))


def _mbps(video: Video) -> Sequence[Sequence[float]]:
    return [[kbps / 1000 for kbps in video.bitrates_kbps]] * len(video.sizes)


def _log(video: Video) -> Sequence[Sequence[float]]:
    return [[log(kbps / video.bitrates_kbps[0]) for kbps in video.bitrates_kbps]] * len(video.sizes)


def _vmaf(video: Video) -> Sequence[Sequence[float]]:
    if not video.vmaf:
        raise ValueError("the video has no VMAF")
    return video.vmaf


MBPS = Reward("mbps", 4.3, 1.0, 1.0, _mbps)
LOG = Reward("log", 2.66, 1.0, 1.0, _log)
VMAF = Reward("vmaf", 28.79591348, -0.29797156, 1.06099887, _vmaf, 0.8469011, -2.661618558192494)
REWARDS = {reward.name: reward for reward in (MBPS, LOG, VMAF)}

"""BOLA-FINITE: BOLA near the begin and the end of a title, and with a damper on steps upwards.

After K. Spiteri, R. Urgaonkar, R. K. Sitaraman, "BOLA: Near-Optimal Bitrate Adaptation for Online Videos", IEEE INFOCOM 2016 and
IEEE/ACM Transactions on Networking 28(4), 2020: BOLA-FINITE with the BOLA-U rule for steps upwards. The symbols are the paper's,
but for the ladder: index 0 is the lowest bitrate here, the paper counts from the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

GAMMA_P = 5.0
"""γp: how much an avoided rebuffering is worth against bitrate; the value of the paper's evaluation."""


@dataclass(frozen=True)
class Choice:
    """What to do next: wait for `pause_ms`, then fetch the bitrate with this index."""

    index: int
    pause_ms: int


def choose(
    bitrates_kbps: Sequence[float],
    segment_ms: int,
    buffer_ms: int,
    buffer_min_ms: int,
    buffer_max_ms: int,
    from_begin_ms: int,
    to_end_ms: int,
    previous: int | None = None,
    throughput_kbps: float | None = None,
) -> Choice:
    """The choice for the next segment. Pure.

    `bitrates_kbps` ascends. `from_begin_ms` and `to_end_ms` are played and left of the title. `previous` is the index of the segment
    before, `throughput_kbps` what was measured while fetching it; without them a step upwards is not damped. `buffer_min_ms` is the
    smallest buffer that is aimed at near the begin and the end: three segments in the paper, whose segments last 3 s.
    """
    p = segment_ms
    q = buffer_ms / p
    t = max(min(from_begin_ms, to_end_ms) / 2, buffer_min_ms)
    q_max = min(buffer_max_ms / p, t / p)
    v = (q_max - 1) / (log(bitrates_kbps[-1] / bitrates_kbps[0]) + GAMMA_P)
    # Dividing by the bitrate instead of by the segment's size scales every score alike.
    scores = [(v * (log(kbps / bitrates_kbps[0]) + GAMMA_P) - q) / kbps for kbps in bitrates_kbps]
    best = max(range(len(scores)), key=scores.__getitem__)
    if previous is not None and throughput_kbps is not None and best > previous:
        sustained = max(throughput_kbps, bitrates_kbps[0])
        index = max(i for i, kbps in enumerate(bitrates_kbps) if kbps <= sustained)
        if index >= best:
            index = best
        elif index < previous:
            index = previous
        else:  # BOLA-U: one step above what the network sustains, lest the buffer fills while utility is left lying
            index += 1
        best = index
    return Choice(best, max(0, round(p * (q - q_max + 1))))

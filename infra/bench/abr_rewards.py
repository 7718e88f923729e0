"""Are our players better than RobustMPC, too, where a session is worth something else: the logarithm of bitrate, or VMAF?

Both are told the reward. `--traces DIR` takes another set than HSDPA's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from infra.bench.abr_play import inputs, knowing, ours, paired, played, show
from infra.bench.harness import Figure, Options
from producers.abr import robust_mpc
from producers.abr.rewards import LOG, VMAF

ABOVE_0 = 1e-6

FIGURES = {
    figure: declared
    for reward in (LOG, VMAF)
    for figure, declared in (
        (f"{reward.name}_over_mpc", Figure("reward")),
        (f"{reward.name}_over_mpc_low", Figure("reward", ABOVE_0, ABOVE_0)),
        (f"{reward.name}_over_mpc_high", Figure("reward")),
    )
}


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures. Raises FileNotFoundError where the vectors are not beside the checkout."""
    traces, video = inputs(options)
    found: dict[str, Any] = {}
    for reward in (LOG, VMAF):
        mpc = played("mpc", partial(robust_mpc.choose, reward=reward), traces, video, reward)
        rows = [mpc, *(played(name, ours(name, reward), traces, video, reward) for name in ("untrained", "trained"))]
        bound = knowing(traces, video, reward)
        show(f"{reward.name}, {len(traces)} traces", [*rows, bound], bound.reward)
        lead = paired(rows[-1].rewards, mpc.rewards, options.seed)
        found |= {f"{reward.name}_over_mpc": lead.mean, f"{reward.name}_over_mpc_low": lead.low, f"{reward.name}_over_mpc_high": lead.high}
        found |= {f"{reward.name}_{row.name}": row.reward for row in rows}
    return [found]

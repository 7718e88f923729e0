"""How much is knowing the future worth, at least and at most?

The clairvoyant plan of each trace, found by search and then played, and a bound that no plan exceeds. `--traces DIR` takes another set.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from infra.bench.abr_play import inputs
from infra.bench.harness import Figure, Options, say
from producers.abr import clairvoyant
from producers.abr.environment import decided, play

FOUND = {"plan": Figure("reward", 1.13, 1.13), "bound": Figure("reward"), "plan_of_bound": Figure("share"), "search_s": Figure("s")}


def figures(options: Options) -> dict[str, Figure]:
    """The plan's floor is of the HSDPA test set."""
    return FOUND | {"plan": Figure("reward")} if options.traces else FOUND


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures. Raises FileNotFoundError where the vectors are not beside the checkout."""
    traces, video = inputs(options)
    began = time.perf_counter()
    plans = clairvoyant.plans(traces, video)
    took_s = time.perf_counter() - began
    rewards = [play(decided(plan), trace, video).reward for trace, plan in zip(traces, plans, strict=True)]
    most = clairvoyant.bounds(traces, video)
    if (most < np.array(rewards)).any():
        raise AssertionError("a plan exceeds the bound: one of them is wrong")
    plan, bound = float(np.mean(rewards)), float(most.mean())
    say(f"{len(traces)} traces: {plan:.4f} found, at most {bound:.4f}")
    return [{"plan": plan, "bound": bound, "plan_of_bound": plan / bound, "search_s": took_s}]

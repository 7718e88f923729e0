"""`python -m producers.abr train --traces DIR --video DIR [--out FILE] [--seed N] [--iterations N] [--keep-back N]
[--reward NAME]`, and `python -m producers.abr join FILE... [--out FILE]`, which makes one policy of several that differ by their seed.

With OPENBLAS_NUM_THREADS=1 in its environment: the arrays are small, and sums must not depend on how many threads there are.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from producers.abr import policy
from producers.abr.ensemble import joined
from producers.abr.environment import BadTrace, read_traces, read_video
from producers.abr.rewards import REWARDS
from producers.abr.train import CUT, ENTROPY, Learner, fit, trained

KEPT_SEED = 99

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Adaptation: policies and their training."""


@app.command()
def train(
    traces: Annotated[Path, typer.Option(help="Folder of recorded bandwidth, `time_s Mbps` per line.")],
    video: Annotated[Path, typer.Option(help="Folder that has video_sizes/video_size_0, 1, …, and vmaf for that reward.")],
    out: Annotated[Path, typer.Option(help="Where the policy is written.")] = policy.FILE,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, help="1000 take some five minutes.")] = 1000,
    keep_back: Annotated[int, typer.Option(min=0, help="Traces not trained on, drawn with a seed of their own, to try choices on.")] = 0,
    reward: Annotated[str, typer.Option(help=f"What a segment is worth: {', '.join(REWARDS)}.")] = "mbps",
) -> None:
    """Train the network of a policy; its plan is that of the policy that comes with Headrace."""
    if reward not in REWARDS:
        raise SystemExit(f"no reward is named {reward!r}: {', '.join(REWARDS)}")
    began = time.monotonic()

    def say(iteration: int, regret: float) -> None:
        if (iteration + 1) % 20 == 0 or iteration + 1 == iterations:
            spent_s = time.monotonic() - began
            sys.stderr.write(f"{iteration + 1} of {iterations} iterations, {spent_s:.0f} s: regret {regret:.4f} a decision\n")

    try:
        recorded, title = read_traces(traces), read_video(video)
        kept = set(np.random.default_rng(KEPT_SEED).permutation(len(recorded))[:keep_back].tolist())
        used = [trace for at, trace in enumerate(recorded) if at not in kept]
        learner: Learner = fit(used, title, REWARDS[reward], seed=seed, iterations=iterations, say=say)
    except (BadTrace, OSError, ValueError) as error:
        raise SystemExit(f"nothing to train on: {error}") from None
    options = f"--seed {seed} --iterations {iterations} --keep-back {keep_back} --reward {reward}"
    provenance = {
        "command": f"OPENBLAS_NUM_THREADS=1 python -m producers.abr train {options}",
        "traces": traces.name,
        "trace_count": len(used),
        "seed": seed,
    }
    found = trained(learner, title, provenance)
    written = policy.load("untrained", REWARDS[reward])
    out.write_text(policy.dumps(replace(written, trained=found)))
    sys.stderr.write(f"{out}\n")


@app.command()
def join(
    files: Annotated[list[Path], typer.Argument(help="Policies that `train` wrote, all for one ladder and reward.")],
    out: Annotated[Path, typer.Option(help="Where the policy is written.")] = policy.FILE,
    share: Annotated[float, typer.Option(min=0, help="How much of what the network likes a level less counts.")] = ENTROPY,
    cut: Annotated[float, typer.Option(min=0, help="How much less it may like a level at most, in its outputs.")] = CUT,
    caution: Annotated[float, typer.Option(min=0, help="How many times as bad as the reward says a stall is to the plan.")] = 1.0,
) -> None:
    """Make one policy, whose network is the mean of those of several."""
    options = f"--share {share:g} --cut {cut:g} --caution {caution:g}"
    provenance = {"command": f"python -m producers.abr join {' '.join(file.name for file in files)} {options}"}
    try:
        found = joined([policy.read(file) for file in files], share, cut, caution, provenance)
    except (OSError, ValueError) as error:
        raise SystemExit(f"nothing to join: {error}") from None
    out.write_text(policy.dumps(found))
    sys.stderr.write(f"{out}\n")


if __name__ == "__main__":
    app()

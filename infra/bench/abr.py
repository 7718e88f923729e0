"""Do our players adapt better than the published algorithms, in the environment and on the traces that those were published with?

One table over the traces: references as their papers have them, learnt ones replayed from their logs, ours without training and at its
best, and the clairvoyant plan. Beside it, on the HSDPA test set: whether all nine logs replay to what they say, and how far our references,
run as the authors ran theirs (`infra.bench.abr_logs`), are from the logged means. `--traces DIR` takes another set: it has no logs, so ours
must lose to none of the references.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infra.bench import abr_logs
from infra.bench.abr_play import FOLDER, Played, inputs, knowing, ours, paired, played, show
from infra.bench.harness import Figure, Options, say
from producers.abr.environment import Trace, Video, decided, play, read_video

OURS = {
    "untrained": Figure("reward", 0.96, 0.94),
    "trained": Figure("reward", 1.00, 0.986),
    "trained_of_clairvoyant": Figure("share"),
    "decision_ms": Figure("ms", 2, 2, higher=False),
}
LOGGED = {
    "replay_difference": Figure("reward", 1e-6, 1e-6, higher=False),
    **{f"{name}_from_log": Figure("reward", 0.01, 0.01, higher=False) for name in abr_logs.REFERENCES},
    **{f"{name}_agreeing": Figure("share") for name in abr_logs.REFERENCES},
    "over_ppo": Figure("reward"),
    "over_ppo_low": Figure("reward"),
    "over_ppo_high": Figure("reward"),
    "rebuffer_over_ppo": Figure("s", 0, 0, higher=False),
}
ELSEWHERE = {
    "untrained": Figure("reward"),
    "trained": Figure("reward"),
    "trained_of_clairvoyant": Figure("share"),
    "decision_ms": OURS["decision_ms"],
    "over_best_reference": Figure("reward", 0, 0),
    "over_best_reference_low": Figure("reward"),
}


def figures(options: Options) -> dict[str, Figure]:
    """What is owed on the traces that were chosen."""
    return ELSEWHERE if options.traces else OURS | LOGGED


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures: only times in it are chance. Raises FileNotFoundError where the vectors are not beside the checkout."""
    traces, video = inputs(options)
    say(f"{len(traces)} traces")
    references = [played(name, policy, traces, video) for name, policy in abr_logs.REFERENCES.items()]
    mine = {name: played(name, ours(name), traces, video) for name in ("untrained", "trained")}
    bound = knowing(traces, video)
    rows = [*references, *mine.values(), bound]
    trained = mine["trained"]
    found: dict[str, Any] = {
        "untrained": mine["untrained"].reward,
        "trained": trained.reward,
        "trained_of_clairvoyant": trained.reward / bound.reward,
        "decision_ms": trained.decision_ms,
    }
    if options.traces:
        best = max(references, key=lambda row: row.reward)
        lead = paired(trained.rewards, best.rewards, options.seed)
        found |= {"over_best_reference": lead.mean, "over_best_reference_low": lead.low}
    else:
        replays, logged = _logged(traces, video)
        rows += [replay for replay in replays if replay.name not in abr_logs.REFERENCES]
        ppo = next(replay for replay in replays if replay.name == "ppo")
        lead = paired(trained.rewards, ppo.rewards, options.seed)
        found |= logged
        found |= {"over_ppo": lead.mean, "over_ppo_low": lead.low, "over_ppo_high": lead.high}
        found["rebuffer_over_ppo"] = trained.rebuffer_s - ppo.rebuffer_s
    show(f"{len(traces)} traces", rows, bound.reward)
    return [found | {"rewards": {row.name: row.reward for row in rows}, "rebuffers_s": {row.name: row.rebuffer_s for row in rows}}]


def _logged(traces: list[Trace], video: Video) -> tuple[list[Played], dict[str, float]]:
    """The nine logs, replayed; and how near our references come to theirs."""
    replays, found, worst = [], {}, 0.0
    planned = read_video(FOLDER, chunks=abr_logs.CHUNKS_PLANNED_FOR)
    for name in abr_logs.REPLAYED:
        log = abr_logs.read(FOLDER / "baseline_decisions", name)
        replay = Played(name, [play(decided(log[trace.name].levels), trace, video) for trace in traces])
        worst = max(worst, *(abs(session.reward - log[session.name].reward) for session in replay.sessions))
        replays.append(replay)
        if name in abr_logs.REFERENCES:
            agreement = abr_logs.compare(name, traces, planned, log)
            mean = float(np.mean([session.reward for session in agreement.sessions]))
            found[f"{name}_from_log"] = abs(mean - replay.reward)
            found[f"{name}_agreeing"] = agreement.agreeing / agreement.decisions
            say(f"{name}: {agreement.agreeing:,} of {agreement.decisions:,} decisions as logged; {mean:.4f}, logged {replay.reward:.4f}")
    return replays, found | {"replay_difference": worst}

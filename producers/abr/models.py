"""Models of adaptation as events: what is asked of a policy before players may have it. Pure.

A policy is published as a new version of its name, and refused, with every reason, where

- it is no policy: not JSON, a number that is none, too large for an event, or not what the evaluator takes (`producers.abr.policy`): of
  another ladder, for one;
- it decides what cannot be: a level off the ladder, or nothing at all, in any state of a session or of `odd`;
- it regresses on the holdout: sessions of which none was trained on, each played by it and by the policy in force. Its reward may not be
  lower by more than `MOST_LOST` of the other's, nor surely lower (the paired 95 % interval), nor its rebuffering longer by `MOST_REBUFFER`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from producers.abr.environment import BUFFER_MAX_S, LADDER_KBPS, Policy, Trace, Video, play
from producers.abr.state import State

TOPIC = "playback.abr_model"
MOST_BYTES = 500_000
MOST_LOST = 0.02
MOST_REBUFFER = 1.1
REBUFFER_SLACK_S = 0.5
"""Seconds a session that rebuffering may be longer by in any case."""
LEAST_HOLDOUT = 20
"""With fewer sessions nothing can be said of a regression."""
NORMAL_95 = 1.96

Evaluator = Callable[[Mapping[str, Any]], Policy]
"""From a document to the policy that it is. Raises ValueError in words."""


class Refused(ValueError):
    """A model that players must not have; `reasons` are all that speaks against it."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: a recorded log and the sessions of it, ms since 1970; empty for a file."""

    log: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    sessions: int = 0


@dataclass(frozen=True)
class Judgement:
    """Two policies on the same sessions: means per session, and the paired 95 % interval of what the first gains in reward."""

    reward: float
    rebuffer_s: float
    before_reward: float
    before_rebuffer_s: float
    gain: tuple[float, float]
    sessions: int

    @property
    def reasons(self) -> list[str]:
        """Why the first is a regression; empty if it is none."""
        found = []
        if self.sessions < LEAST_HOLDOUT:
            found.append(f"holdout: {self.sessions} sessions; {LEAST_HOLDOUT} are needed to tell a regression")
        versus = f"{self.reward:.4f} where the policy in force has {self.before_reward:.4f}"
        if self.gain[1] < 0.0:
            found.append(f"holdout: its reward is lower: {versus} (95 % interval {self.gain[0]:+.4f} to {self.gain[1]:+.4f})")
        elif self.reward < self.before_reward - MOST_LOST * abs(self.before_reward):
            found.append(f"holdout: its reward is lower by more than {MOST_LOST:.0%}: {versus}")
        if self.rebuffer_s > MOST_REBUFFER * self.before_rebuffer_s + REBUFFER_SLACK_S:
            found.append(
                f"holdout: it rebuffers {self.rebuffer_s:.2f} s a session where the policy in force does {self.before_rebuffer_s:.2f} s"
            )
        return found


def nominal(ladder_kbps: Sequence[float] = LADDER_KBPS, chunks: int = 48, chunk_s: float = 4.0) -> Video:
    """A title whose every segment is as large as its bitrate says."""
    row = tuple(kbps * 125 * chunk_s for kbps in ladder_kbps)
    return Video((row,) * chunks, tuple(ladder_kbps), chunk_s)


def judge(policy: Policy, before: Policy, traces: Sequence[Trace], video: Video) -> Judgement:
    """Play every trace by both. Raises like either, ValueError where there is no trace."""
    if not traces:
        raise ValueError("there is no session to judge on")
    ours, theirs = ([play(each, trace, video) for trace in traces] for each in (policy, before))
    gains = [a.reward - b.reward for a, b in zip(ours, theirs, strict=True)]
    half = NORMAL_95 * stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return Judgement(
        fmean(session.reward for session in ours),
        fmean(session.rebuffer_s for session in ours),
        fmean(session.reward for session in theirs),
        fmean(session.rebuffer_s for session in theirs),
        (fmean(gains) - half, fmean(gains) + half),
        len(gains),
    )


def parsed(text: str, evaluator: Evaluator) -> tuple[dict[str, Any], Policy]:
    """A document and its policy. Raises Refused."""
    if len(text.encode()) > MOST_BYTES:
        raise Refused([f"policy: {len(text.encode()):,} bytes; an event holds {MOST_BYTES:,}"])
    try:
        document = json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise Refused([f"policy: not JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise Refused([f"policy: {type(document).__name__}, not a JSON object"])
    try:
        return document, evaluator(document)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Refused([f"policy: {error if isinstance(error, ValueError) else repr(error)}"]) from None


def model(
    name: str, text: str, ladder_kbps: Sequence[float], evaluator: Evaluator, present: Mapping[str, Any] | None, installed: Policy,
    holdout: Sequence[Trace], origin: Origin,
) -> dict[str, Any]:  # fmt: skip
    """The `playback.abr_model` of a policy, held against `present`, which is in force, or else against `installed`. Raises Refused."""
    document, policy = parsed(text, evaluator)
    before = evaluator(json.loads(present["policy"])) if present else installed
    video = nominal(ladder_kbps)
    reasons = odd_decisions(policy, ladder_kbps)
    if present and tuple(present["ladder_kbps"]) != tuple(ladder_kbps):
        reasons.append(f"ladder: {list(ladder_kbps)}; version {present['version']} of {name} is for {list(present['ladder_kbps'])}")
    if reasons or not holdout:
        raise Refused(reasons or ["holdout: there is no session to judge on"])
    judged = judge(policy, before, holdout, video)
    if judged.reasons:
        raise Refused(judged.reasons)
    version = present["version"] + 1 if present else 1
    return {
        "item": f"{name}/{version}",
        "name": name,
        "version": version,
        "ladder_kbps": list(ladder_kbps),
        "trained_on": origin.log,
        "trained_from": origin.from_ms,
        "trained_to": origin.to_ms,
        "sessions": origin.sessions,
        "holdout_sessions": judged.sessions,
        "reward": judged.reward,
        "rebuffer_s": judged.rebuffer_s,
        "before": present["version"] if present else None,
        "before_reward": judged.before_reward,
        "gain_low": judged.gain[0],
        "gain_high": judged.gain[1],
        "policy": json.dumps(document, separators=(",", ":"), sort_keys=True),
    }


def seen(text: str) -> tuple[int, int] | None:
    """When the sessions began that a policy was trained on, first and last, ms since 1970; None where it does not say."""
    try:
        provenance = json.loads(text)["network"]["provenance"]
        return int(provenance["from_ms"]), int(provenance["to_ms"])
    except (ValueError, KeyError, TypeError):
        return None


def in_force(models: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The highest version of a name among the events of the topic, by item; None without any."""
    return max((event for event in models.values() if event["name"] == name), key=lambda event: int(event["version"]), default=None)


def odd_decisions(policy: Policy, ladder_kbps: Sequence[float]) -> list[str]:
    """What is wrong with its decisions in the states of `odd`."""
    found = []
    for words, state in odd(ladder_kbps):
        try:
            level = policy(state)
        except Exception as error:  # whatever it raises, a player would have to do without a decision
            found.append(f"decision {words}: {type(error).__name__}: {error}")
            continue
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < len(ladder_kbps):
            found.append(f"decision {words}: {level!r} is no level of a ladder of {len(ladder_kbps)}")
    return found


def odd(ladder_kbps: Sequence[float]) -> list[tuple[str, State]]:
    """States that sessions seldom come to, and in which a policy must decide nevertheless."""
    sizes = nominal(ladder_kbps).sizes
    cases: dict[str, dict[str, Any]] = {
        "before the first segment": {"previous": -1},
        "with an empty buffer": {"throughputs_kbps": (1.0,), "delays_s": (600.0,)},
        "with a full buffer": {"buffer_s": BUFFER_MAX_S, "throughputs_kbps": (1e6,) * 8, "delays_s": (0.01,) * 8},
        "on the last segment": {"left": 1, "sizes": sizes[:1], "throughputs_kbps": (2000.0,) * 40, "delays_s": (1.0,) * 40},
        "after a collapse": {
            "buffer_s": 8.0, "previous": len(ladder_kbps) - 1, "throughputs_kbps": (8000.0,) * 5 + (50.0,), "delays_s": (1.0,) * 6,
        },
        "after a leap": {"buffer_s": 4.0, "throughputs_kbps": (300.0,) * 5 + (50_000.0,), "delays_s": (1.0,) * 6},
    }  # fmt: skip
    plain = {
        "buffer_s": 0.0, "buffer_max_s": BUFFER_MAX_S, "segment_s": 4.0, "bitrates_kbps": tuple(ladder_kbps), "sizes": sizes,
        "left": len(sizes), "previous": 0, "throughputs_kbps": (), "delays_s": (),
    }  # fmt: skip
    return [(words, State(**{**plain, **told})) for words, told in cases.items()]


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")

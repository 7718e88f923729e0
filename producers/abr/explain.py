"""Why a session got its bitrates, from its reports: what its player saw, what a policy makes of that, and what was possible. Pure.

Known of a session is what was reported. Bandwidth is that at which segments came (`producers.abr.recorded`); sizes of levels that were not
fetched are taken in proportion to their bitrates; segments count in the order in which they were fetched, seeks or not. Regret is what
the clairvoyant plan (`producers.abr.clairvoyant`) gains over the session's own choices, both played over that bandwidth in the environment,
from the session's own first level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from producers.abr import clairvoyant
from producers.abr.environment import BUFFER_MAX_S, Session, Trace, Video, decided, play
from producers.abr.policy import Policy
from producers.abr.prior import Prior
from producers.abr.recorded import LEAST_SEGMENTS, fetched, traces
from producers.abr.state import LOOK_AHEAD, State
from schemas.cmcd import CUSTOM


class Unexplained(ValueError):
    """The reports do not say enough, or contradict one another; the message says in what."""


@dataclass(frozen=True)
class Segment:
    """One segment of video and the choice that it was fetched by. Levels count from 0; rewards are those of the environment."""

    at_s: float
    """Since the first one was asked for."""
    level: int
    buffer_s: float
    """When it was asked for."""
    bytes: int
    took_s: float
    throughput_kbps: float
    """That it came at, the request's round trip included."""
    expected_kbps: tuple[float, float, float]
    """What a policy expected of that: exceeded in 9, 5 and 1 cases of 10. Zeros where nothing was known."""
    policy_level: int
    """What a policy takes in this state."""
    by: str
    """And by what, `producers.abr.policy.Explanation`."""
    plan_level: int
    """What the clairvoyant plan has."""
    reward: float
    plan_reward: float
    """Of the session's choice, and of the plan's; 0 for the first segment, which is not scored."""


@dataclass(frozen=True)
class Explained:
    """A session."""

    sid: str
    cid: str
    abr: str | None
    """What it adapted by, where that was told."""
    ladder_kbps: tuple[float, ...]
    prior: Prior | None
    segments: tuple[Segment, ...]
    reward: float
    plan_reward: float
    """Mean per scored segment, of the session's choices and of the plan's."""
    rebuffer_s: float
    plan_rebuffer_s: float
    """In the environment, in all."""

    @property
    def regret(self) -> float:
        """Per scored segment."""
        return self.plan_reward - self.reward


def told_ladder(reports: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """The ladder that a session's player told, kbit/s; empty where it told none. Raises Unexplained."""
    return _numbers(reports, "ladder")


def explain(
    reports: Sequence[Mapping[str, Any]], ladder_kbps: Sequence[float], policy: Policy, say: Callable[[int, int], None] | None = None
) -> Explained:
    """What became of the session of some `playback.report`, event_time in ms, in order. `say` is told how many segments are done, of how
    many. Raises Unexplained.
    """

    segments = [report for report in reports if _is_segment(report)]
    recorded = traces(segments)
    if not recorded:
        raise Unexplained(f"{len(segments)} segments of video are told of; {LEAST_SEGMENTS} that say how fast the network was are needed")
    ladder = tuple(ladder_kbps)
    if strange := sorted({report["br_kbps"] for report in segments} - set(ladder)):
        shown = ", ".join(f"{kbps:g}" for kbps in ladder)
        raise Unexplained(f"a session of another ladder: it fetched {', '.join(map(str, strange))} kbit/s, its ladder is {shown}")
    levels = [ladder.index(report["br_kbps"]) for report in segments]
    rows = [tuple(report["bytes"] * kbps / report["br_kbps"] for kbps in ladder) for report in segments]
    segment_s = median(report["d_ms"] for report in segments) / 1000
    video = Video(tuple(rows), ladder, segment_s)
    found = _numbers(reports, "buffer-max")
    buffer_max_s = max([found[0] / 1000 if found else BUFFER_MAX_S, segment_s])
    own, best = _both(recorded[0].trace, video, levels, buffer_max_s)
    states = _states(segments, video, levels, buffer_max_s, ended=any(report["sta"] == "e" for report in reports))
    prior, explained = _prior(reports), []
    for number, (report, state) in enumerate(zip(segments, states, strict=True)):
        why = policy.explain(state, prior)
        scored = number - 1
        explained.append(Segment(
            (report["event_time"] - segments[0]["event_time"]) / 1000, levels[number], state.buffer_s, report["bytes"],
            report["ttlb_ms"] / 1000, report["bytes"] * 8 / report["ttlb_ms"], why.throughput_kbps, why.level, why.by, best.levels[number],
            own.rewards[scored] if number else 0.0, best.rewards[scored] if number else 0.0,
        ))  # fmt: skip
        if say is not None:
            say(number + 1, len(segments))

    first = segments[0]
    return Explained(
        first["sid"], first["cid"] or "", next((report["abr"] for report in reports if report["abr"]), None), ladder, prior,
        tuple(explained), own.reward, best.reward, own.rebuffer_s, best.rebuffer_s,
    )  # fmt: skip


def _is_segment(report: Mapping[str, Any]) -> bool:
    """Whether a player tells of a segment of video that came whole, and all of it that is needed."""
    return fetched(report) and all(report[name] for name in ("br_kbps", "bytes", "ttlb_ms", "d_ms"))


def _both(trace: Trace, video: Video, levels: Sequence[int], buffer_max_s: float) -> tuple[Session, Session]:
    """The session as it chose and the plan, over the same bandwidth."""
    how = {"first_level": levels[0], "buffer_max_s": buffer_max_s}
    (plan,) = clairvoyant.plans([trace], video, **how)  # type: ignore[arg-type]
    own, best = (play(decided(chosen), trace, video, **how) for chosen in (levels, plan))  # type: ignore[arg-type]
    return own, max(own, best, key=lambda session: session.reward)


def _states(
    segments: Sequence[Mapping[str, Any]], video: Video, levels: Sequence[int], buffer_max_s: float, *, ended: bool
) -> list[State]:  # fmt: skip
    """What the player saw before each segment. Where it did not play to the end, more segments were to come, of their nominal sizes."""
    more = 0 if ended else LOOK_AHEAD
    nominal = tuple(kbps * 125 * video.chunk_s for kbps in video.bitrates_kbps)
    sizes = [*video.sizes, *[nominal] * more]
    throughputs = tuple(report["bytes"] * 8 / report["ttlb_ms"] for report in segments)
    delays_s = tuple(report["ttlb_ms"] / 1000 for report in segments)
    return [
        State(
            buffer_s=(report["bl_ms"] or 0) / 1000, buffer_max_s=buffer_max_s, segment_s=video.chunk_s, bitrates_kbps=video.bitrates_kbps,
            sizes=sizes[number : number + LOOK_AHEAD], left=len(segments) + more - number, previous=levels[number - 1] if number else -1,
            throughputs_kbps=throughputs[:number], delays_s=delays_s[:number],
        )
        for number, report in enumerate(segments)
    ]  # fmt: skip


def _prior(reports: Sequence[Mapping[str, Any]]) -> Prior | None:
    numbers = _numbers(reports, "prior")
    try:
        return Prior(*numbers) if numbers else None
    except (TypeError, ValueError) as error:
        raise Unexplained(f"{CUSTOM}prior is no prior: {error}") from None


def _numbers(reports: Sequence[Mapping[str, Any]], name: str) -> tuple[float, ...]:
    """The numbers of a custom key, from the first report that has it. Raises Unexplained."""
    text = next((report["custom"][CUSTOM + name] for report in reports if CUSTOM + name in report["custom"]), "")
    try:
        found = tuple(float(word) for word in text.split())
    except ValueError:
        raise Unexplained(f"{CUSTOM}{name} is not numbers: {text!r}") from None
    if name == "ladder" and any(low >= high for low, high in pairwise(found)):
        raise Unexplained(f"{CUSTOM}{name} does not ascend: {text!r}")
    return found

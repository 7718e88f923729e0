"""Does what the backbone knows of a place and an hour make sessions begin better?

A world (`--world FILE`, default infra/bench/worlds/abr_learning.json; run n has seed + n) in which throughput differs by prefix, ISP and
hour. Sessions of some days go through `streams.playback.features`, which is held to the same golden cases as the Flink job `abr_features`,
and through the fold that steering and the gateway have (`producers.abr.features`). On the next day the same policy plays the same sessions
twice, with the prior that a ticket would bring and without one, in the environment of the published figures; but the first level is the
policy's choice, too, and the start-up delay counts as rebuffering. What its first ten decisions lost is the worth of the clairvoyant plan,
less that of the plan which is bound to these decisions and clairvoyant afterwards.

The null world is the same world with bandwidths dealt out anew among the sessions of each day, so that places and hours carry nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from infra.bench.harness import Figure, Options, say
from producers.abr import policy
from producers.abr.clairvoyant import plans
from producers.abr.environment import BUFFER_MAX_S, LADDER_KBPS, ROUND_TRIP_S, Link, Trace, Video, decided, play
from producers.abr.features import Features
from producers.abr.prior import Prior
from producers.abr.rewards import MBPS, Reward
from producers.abr.state import State
from streams.playback.features import MINUTE_MS, Session, counted, rows

FIGURES = {
    "regret_cut": Figure("share", 0.20, 0.20),
    "regret_cut_low": Figure("share"),
    "null_harm": Figure("share", 0.01, 0.01, higher=False),
    "regret_without": Figure("reward"),
    "regret_with": Figure("reward"),
    "prior_error": Figure("ln(kbit/s)"),
    "spread_of_sessions": Figure("ln(kbit/s)"),
    "told": Figure("share"),
    "null_told": Figure("share"),
}
WORLD = Path(__file__).parent / "worlds" / "abr_learning.json"
DECISIONS = 10
CHUNKS, CHUNK_S = 24, 4.0
TRACE_S = 300
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
FIRST_DAY_MS = 1_772_323_200_000
"""2026-03-01."""
SIZES_SD = 0.12
"""Of segments' sizes about what their bitrate says, in logarithms."""
FORBIDDEN_BYTES = 1e15

Floats = NDArray[np.float64]


class BadWorld(ValueError):
    """A world file that is none; the message says where."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Isp(_Model):
    """An access network: median bandwidth, the share of it that is left when its evening is worst, and how many prefixes it has."""

    asn: PositiveInt
    region: str
    network_type: str
    kbps: PositiveFloat
    evening: float = Field(gt=0, le=1)
    prefixes: PositiveInt
    share: PositiveFloat = 1.0
    """Of the sessions, against those of the others."""
    session_sd: NonNegativeFloat | None = None
    """None: the world's."""
    devices: dict[str, PositiveFloat] = {}
    """Each kind's share of its sessions, against the others'; empty: all kinds alike."""


class Step(_Model):
    """An evening that begins and ends at once; hours are local."""

    shape: Literal["step"]
    from_h: float = Field(ge=0, le=24)
    until_h: float = Field(ge=0, le=24)

    def weight(self, hour: float) -> float:
        """How much of its evening an ISP has then, 0 to 1."""
        return float(self.from_h <= hour < self.until_h)


class Wave(_Model):
    """An evening that comes and goes all day long, as a cosine; hours are local."""

    shape: Literal["wave"]
    peak_h: float = Field(ge=0, lt=24)

    def weight(self, hour: float) -> float:
        """How much of its evening an ISP has then, 0 to 1."""
        return (1 + math.cos(2 * math.pi * (hour - self.peak_h) / 24)) / 2


class Region(_Model):
    """Its local time, and how far a day of all its sessions is from its other days (sd of ln(kbit/s)): nobody can have learned that."""

    utc_offset_h: float = Field(0.0, ge=-12, le=14)
    day_sd: NonNegativeFloat = 0.0


class World(_Model):
    """A world. Standard deviations are of ln(kbit/s): among prefixes of an ISP, sessions of a prefix, and seconds of a session."""

    learned_days: PositiveInt
    sessions_a_day: PositiveInt
    judged: PositiveInt
    segments_seen: PositiveInt
    isps: tuple[Isp, ...] = Field(min_length=1)
    devices: dict[str, PositiveFloat] = Field(min_length=1)
    evening: Step | Wave = Field(discriminator="shape")
    regions: dict[str, Region] = {}
    """Those not named here are at UTC, and all their days alike."""
    popularity: NonNegativeFloat = 0.0
    """Of an ISP's prefixes: the n-th has 1 / n ^ popularity of the sessions of the first."""
    prefix_sd: NonNegativeFloat
    session_sd: NonNegativeFloat
    second_sd: NonNegativeFloat
    second_correlation: float = Field(ge=0, lt=1)


def load(path: Path) -> World:
    """The world in a file. Raises BadWorld, OSError."""
    try:
        return World.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise BadWorld(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


@dataclass(frozen=True)
class Drawn:
    """A session: where, when and on what it begins, and the mean of ln(kbit/s) that it will have."""

    began_ms: int
    isp: Isp
    prefix: str
    device_type: str
    mean: float


def draw(world: World, seed: int) -> list[list[Drawn]]:
    """The sessions of each day, the judged one last."""
    rng = np.random.default_rng([seed, 1])
    places = [
        (isp, f"10.{at}.{n}.0/24", rng.normal(0.0, world.prefix_sd)) for at, isp in enumerate(world.isps) for n in range(isp.prefixes)
    ]
    shares = np.concatenate([isp.share * of_one(1 / np.arange(1, isp.prefixes + 1) ** world.popularity) for isp in world.isps])
    days = []
    for day in range(world.learned_days + 1):
        shift = {name: rng.normal(0.0, world.regions.get(name, Region()).day_sd) for name in sorted({isp.region for isp in world.isps})}
        sessions = []
        for _ in range(world.sessions_a_day if day < world.learned_days else world.judged):
            isp, prefix, own = places[rng.choice(len(places), p=of_one(shares))]
            kinds = [isp.devices.get(kind, 0.0) if isp.devices else 1.0 for kind in world.devices]
            device_type = list(world.devices)[rng.choice(len(kinds), p=of_one(np.array(kinds)))]
            at_ms = int(rng.integers(DAY_MS))
            local_h = (at_ms / HOUR_MS + world.regions.get(isp.region, Region()).utc_offset_h) % 24
            typical = math.log(isp.kbps * isp.evening ** world.evening.weight(local_h) * world.devices[device_type])
            own_sd = world.session_sd if isp.session_sd is None else isp.session_sd
            mean = typical + own + shift[isp.region] + rng.normal(0.0, own_sd)
            sessions.append(Drawn(FIRST_DAY_MS + day * DAY_MS + at_ms, isp, prefix, device_type, float(mean)))
        days.append(sessions)
    return days


def of_one(shares: Floats) -> Floats:
    """Shares of 1."""
    return np.asarray(shares / shares.sum())


def null(days: Sequence[Sequence[Drawn]], seed: int) -> list[list[Drawn]]:
    """The same sessions at other places and hours: whose bandwidth is whose is drawn anew, each day for itself."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for day in days:
        means = rng.permutation([session.mean for session in day])
        found.append([Drawn(s.began_ms, s.isp, s.prefix, s.device_type, float(mean)) for s, mean in zip(day, means, strict=True)])
    return found


def bandwidth(world: World, mean: float, rng: np.random.Generator, seconds: int = TRACE_S) -> Floats:
    """(seconds,) kbit/s: exp of a stationary first-order autoregression about the session's mean."""
    noise = rng.normal(0.0, world.second_sd, seconds)
    keeps, adds = world.second_correlation, np.sqrt(1 - world.second_correlation**2)
    for second in range(1, seconds):
        noise[second] = keeps * noise[second - 1] + adds * noise[second]
    return np.asarray(np.exp(mean + noise))


def learned(world: World, days: Sequence[Sequence[Drawn]], seed: int) -> Features:
    """What the job would have told by the end of the days."""
    rng = np.random.default_rng([seed, 3])
    over = []
    for session in (session for day in days for session in day):
        per_segment = bandwidth(world, session.mean, rng, 4 * world.segments_seen).reshape(-1, 4).mean(1)
        logs = np.log(1000 * per_segment)
        mean, freedom, scatter, start = counted([(float(log), n < DECISIONS) for n, log in enumerate(logs)])
        isp, over_ms = session.isp, session.began_ms + 4_000 * world.segments_seen + MINUTE_MS
        used = (session.device_type, isp.network_type)
        over.append(Session(session.began_ms, over_ms, session.prefix, isp.asn, isp.region, *used, mean, freedom, scatter, start, False))
    table = Features()
    for row in rows(over):
        table.fold(row, row["event_time"])
    return table


def prior_of(table: Features, session: Drawn) -> Prior | None:
    """What its ticket would bring."""
    hour, isp = session.began_ms // HOUR_MS % 24, session.isp
    return table.prior(session.prefix, isp.asn, isp.region, hour, session.device_type, isp.network_type)


def title(seed: int) -> Video:
    """A title of the ladder whose segments vary in size, all levels together."""
    rng = np.random.default_rng([seed, 4])
    row = np.array(LADDER_KBPS) * 125 * CHUNK_S
    sizes = row * np.exp(rng.normal(0.0, SIZES_SD, (CHUNKS, 1)))
    return Video(tuple(map(tuple, sizes.tolist())), LADDER_KBPS, CHUNK_S)


def begun(choose: Callable[[State], int], trace: Trace, video: Video, decisions: int = DECISIONS) -> tuple[int, ...]:
    """The first levels that a policy takes, the very first included, in the environment of `producers.abr.environment`."""
    link, buffer_s, levels = Link(trace), 0.0, list[int]()
    throughputs, delays_s = list[float](), list[float]()
    for chunk in range(decisions):
        state = State(
            buffer_s=buffer_s, buffer_max_s=BUFFER_MAX_S, segment_s=video.chunk_s, bitrates_kbps=video.bitrates_kbps,
            sizes=video.sizes[chunk:], left=len(video.sizes) - chunk, previous=levels[-1] if levels else -1,
            throughputs_kbps=tuple(throughputs), delays_s=tuple(delays_s),
        )  # fmt: skip
        levels.append(choose(state))
        size = video.sizes[chunk][levels[-1]]
        delay_s = link.download(size) + ROUND_TRIP_S
        buffer_s = max(buffer_s - delay_s, 0.0) + video.chunk_s  # ten segments do not reach the cap
        throughputs.append(size * 8 / 1000 / delay_s)
        delays_s.append(delay_s)
    return tuple(levels)


def bound(video: Video, first: Sequence[int]) -> tuple[Video, Reward]:
    """The title of which nothing but `first` can be had to begin with, whatever level the environment begins with; and its reward."""
    sizes, utilities = np.array(video.sizes), np.array(MBPS.utilities(video))
    sizes[0], utilities[0] = sizes[0, first[0]], utilities[0, first[0]]
    for chunk, level in enumerate(first[1:], 1):
        sizes[chunk, np.arange(sizes.shape[1]) != level] = FORBIDDEN_BYTES
    reward = replace(MBPS, utilities=lambda _: utilities.tolist())
    return Video(tuple(map(tuple, sizes.tolist())), video.bitrates_kbps, video.chunk_s), reward


def worths(traces: Sequence[Trace], video: Video, first: Sequence[int]) -> Floats:
    """(traces,) reward of the whole title under the clairvoyant plan that begins with the levels `first`, start-up delay as rebuffering."""
    of, reward = bound(video, first)
    delays_s = [Link(trace).download(of.sizes[0][0]) + ROUND_TRIP_S for trace in traces]
    start = [of.bitrates_kbps[first[0]] / 1000 - reward.rebuffer * delay_s for delay_s in delays_s]
    rest = [sum(play(decided(levels), trace, of, reward).rewards) for trace, levels in zip(traces, plans(traces, of, reward), strict=True)]
    return np.array(start) + rest


@dataclass(frozen=True)
class Judged:
    """What sessions lost in their first ten decisions, without a prior and with what their tickets bring: (judged,) each."""

    without: Floats
    with_prior: Floats
    off: Floats
    """By how far the priors were off, ln(kbit/s), of sessions that had one."""

    @property
    def told(self) -> float:
        """Share of the sessions that had one."""
        return len(self.off) / len(self.without)


def judge(world: World, days: Sequence[Sequence[Drawn]], seed: int) -> Judged:
    """Play the last of the days with what was learned from those before."""
    table, video, chosen = learned(world, days[:-1], seed), title(seed), policy.load("untrained")
    rng = np.random.default_rng([seed, 5])
    traces = []
    for number, session in enumerate(days[-1]):
        mbps = bandwidth(world, session.mean, rng) / 1000
        traces.append(Trace(f"{number}", tuple(float(second) for second in range(len(mbps) + 1)), (float(mbps[0]), *map(float, mbps))))
    best = np.max([worths(traces, video, [level]) for level in range(len(video.bitrates_kbps))], axis=0)
    lost, off = np.empty((2, len(traces))), []
    for at, (session, trace) in enumerate(zip(days[-1], traces, strict=True)):
        prior = prior_of(table, session)
        lost[:, at] = best[at] - worths([trace], video, begun(chosen.choose, trace, video))[0]
        if prior is not None:
            lost[1, at] = best[at] - worths([trace], video, begun(partial(chosen.choose, prior=prior), trace, video))[0]
            off.append(prior.mean_log_kbps - session.mean)
    return Judged(lost[0], lost[1], np.array(off))


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures per run. Raises BadWorld."""
    world = load(options.world or WORLD)
    return [_one(world, options.seed + number) for number in range(options.runs)]


def _one(world: World, seed: int) -> dict[str, Any]:
    days = draw(world, seed)
    real, nothing = judge(world, days, seed), judge(world, null(days, seed), seed)
    cut = 1 - real.with_prior.sum() / real.without.sum()
    harm = nothing.with_prior.sum() / nothing.without.sum() - 1
    some = np.random.default_rng([seed, 6]).integers(0, world.judged, (2_000, world.judged))
    low, high = np.quantile(1 - real.with_prior[some].sum(1) / real.without[some].sum(1), [0.025, 0.975])
    means = f"{real.without.mean():.2f} without and {real.with_prior.mean():.2f} with a prior"
    say(f"seed {seed}: start-up regret {means}; cut {cut:.1%} ({low:.1%} to {high:.1%})")
    means = f"{nothing.without.mean():.2f} without and {nothing.with_prior.mean():.2f} with what is told"
    say(f"seed {seed}: where places carry nothing {means}; harm {harm:+.1%}")
    return {
        "regret_cut": float(cut),
        "regret_cut_low": float(low),
        "null_harm": float(harm),
        "regret_without": float(real.without.mean()),
        "regret_with": float(real.with_prior.mean()),
        "prior_error": float(np.sqrt(np.mean(real.off**2))) if len(real.off) else math.nan,
        "spread_of_sessions": float(np.std([session.mean for session in days[-1]])),
        "told": real.told,
        "null_told": nothing.told,
        "null_regret_without": float(nothing.without.mean()),
        "null_regret_with": float(nothing.with_prior.mean()),
    }

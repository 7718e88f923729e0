"""Does what the backbone knows of a place and an hour make sessions begin better, and do no harm where it carries nothing?

In worlds (infra/bench/worlds/abr_learning, or the one of `--world FILE`; run n has seed + n) throughput differs by prefix, ISP, region,
hour and device. Sessions of some days go through `streams.playback.features`, which is held to the same golden cases as the Flink job
`abr_features`, and through the fold that steering and the gateway have (`producers.abr.features`). On the next day the same policy plays
the same sessions twice, with the prior that a ticket would bring and without one, in the environment of the published figures; but the
first level is the policy's choice, too, and the start-up delay counts as rebuffering. What its first ten decisions lost is the worth of the
clairvoyant plan, less that of the plan which is bound to these decisions and clairvoyant afterwards. Judged are the plan alone
(`untrained`) and the policy that comes with Headrace (`trained`), whose network is for this ladder, segment length and reward.

`cut` is the share of that regret which priors save. Beside it: `everybody`, what one prior for all saves, which knows no place, hour or
device, only how fast sessions are and how much throughput varies within one, so that `cut` less `everybody` is what telling sessions apart
is worth; and `known`, what a prior saves that knows each session's own mean, which no past tells. `harm` is what priors cost in the null
world, the same with bandwidths dealt out anew among the sessions of each day, so that places and hours carry nothing; below 0 where they
save even there. `told` and `null_told` are the shares of sessions whose ticket brings a prior at all.

Regret and its changes are sums over the sessions of all runs; intervals are a bootstrap over runs, then over sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from infra.bench.harness import Figure, Options, say
from producers.abr import policy
from producers.abr.clairvoyant import Begun, search
from producers.abr.environment import BUFFER_MAX_S, LADDER_KBPS, ROUND_TRIP_S, Floats, Ints, Link, Links, Trace, Video, fetch, scored
from producers.abr.features import LEAST_SD, Features
from producers.abr.prior import Prior
from producers.abr.rewards import MBPS, Reward
from producers.abr.state import State
from streams.playback.features import MINUTE_MS, Session, counted, rows

WORLDS = Path(__file__).parent / "worlds" / "abr_learning"
POLICIES = ("untrained", "trained")
OWED = 0.20
"""Of the regret."""
DECISIONS = 10
CHUNKS, CHUNK_S = 24, 4.0
TRACE_S = 300
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
FIRST_DAY_MS = 1_772_323_200_000
"""2026-03-01."""
SIZES_SD = 0.12
"""Of segments' sizes about what their bitrate says, in logarithms."""
INTERVAL_S = 0.25
"""Of buffer, of the clairvoyant's search."""
RESAMPLES = 2_000


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
        count = world.sessions_a_day if day < world.learned_days else world.judged
        for place in rng.choice(len(places), count, p=of_one(shares)):
            isp, prefix, own = places[place]
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


def bandwidth(world: World, sessions: Sequence[Drawn], rng: np.random.Generator, seconds: int = TRACE_S) -> Floats:
    """(sessions, seconds) kbit/s: exp of stationary first-order autoregressions about the sessions' means."""
    noise = rng.normal(0.0, world.second_sd, (seconds, len(sessions)))
    keeps, adds = world.second_correlation, np.sqrt(1 - world.second_correlation**2)
    for second in range(1, seconds):
        noise[second] = keeps * noise[second - 1] + adds * noise[second]
    return np.asarray(np.exp(noise + [session.mean for session in sessions]).T)


def learned(world: World, days: Sequence[Sequence[Drawn]], seed: int) -> list[dict[str, Any]]:
    """What the job would have told by the end of the days: `playback.abr_features`."""
    rng = np.random.default_rng([seed, 3])
    over = []
    for day in days:
        per_segment = bandwidth(world, day, rng, 4 * world.segments_seen).reshape(len(day), -1, 4).mean(2)
        for session, logs in zip(day, np.log(1000 * per_segment).tolist(), strict=True):
            mean, freedom, scatter, start = counted([(log, n < DECISIONS) for n, log in enumerate(logs)])
            isp, over_ms = session.isp, session.began_ms + 4_000 * world.segments_seen + MINUTE_MS
            used = (session.device_type, isp.network_type)
            place = (session.prefix, isp.asn, isp.region)
            over.append(Session(session.began_ms, over_ms, *place, *used, mean, freedom, scatter, start, False))
    return list(rows(over))


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


def worths(traces: Sequence[Trace], video: Video, firsts: Sequence[Sequence[int]], reward: Reward = MBPS) -> Floats:
    """(traces,) reward of the whole title, start-up delay as rebuffering, where a session begins with the levels of `firsts`, as many of
    each trace, and goes on by the clairvoyant plan. A trace may be there several times: each is a session by itself.
    """
    links, which, levels = Links(traces), np.arange(len(traces)), np.array(firsts)
    return search(links, video, reward, _after(links, video, reward, which, levels), INTERVAL_S)[1]


def best(traces: Sequence[Trace], video: Video, reward: Reward = MBPS) -> Floats:
    """(traces,) the same where all of it is the clairvoyant's."""
    links, count = Links(traces), len(video.bitrates_kbps)
    which, levels = np.repeat(np.arange(len(traces)), count), np.tile(np.arange(count), len(traces))
    return search(links, video, reward, _after(links, video, reward, which, levels[:, None]), INTERVAL_S)[1]


def _after(links: Links, video: Video, reward: Reward, which: Ints, levels: Ints) -> Begun:
    """Sessions after their first `levels`, (sessions, chunks)."""
    sizes, utilities = np.array(video.sizes), np.array(reward.utilities(video))
    clock_s, buffer_s, worth = links.first_s[which], np.zeros(len(which)), np.zeros(len(which))
    for chunk, level in enumerate(levels.T):
        _, rebuffer_s, clock_s, buffer_s = fetch(links, which, clock_s, buffer_s, sizes[chunk, level], video.chunk_s)
        utility = utilities[chunk, level]
        worth = worth + scored(reward, utility, utilities[chunk - 1, levels[:, chunk - 1]] if chunk else utility, rebuffer_s)
    return Begun(levels.shape[1], which, clock_s, buffer_s, levels[:, -1], worth)


class Evening:
    """The last of some days, to be played with what was learned from those before, or without it."""

    def __init__(self, world: World, days: Sequence[Sequence[Drawn]], seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        self.sessions, self.video = days[-1], title(seed)
        self.rows = learned(world, days[:-1], seed)
        rates = bandwidth(world, self.sessions, rng) / 1000
        seconds = tuple(float(second) for second in range(TRACE_S + 1))
        self.traces = [Trace(f"{n}", seconds, (float(mbps[0]), *map(float, mbps))) for n, mbps in enumerate(rates)]
        self.best = best(self.traces, self.video)

    def priors(self, *, apart: bool = True) -> list[Prior | None]:
        """What each session's ticket brings; the same for all of them, of everybody, unless they are told apart."""
        table = Features()
        for row in self.rows:
            table.fold(row, row["event_time"])
        return [prior_of(table, session) if apart else table.prior() for session in self.sessions]

    def knowing(self, priors: Sequence[Prior | None]) -> list[Prior | None]:
        """Priors that no past tells of: each session's own mean, with the variance within a session of what its ticket brings."""
        return [
            prior and Prior(session.mean, LEAST_SD, prior.weight * (prior.sd_log_kbps / LEAST_SD) ** 2)
            for session, prior in zip(self.sessions, priors, strict=True)
        ]

    def lost(self, chosen: policy.Policy, priors: Sequence[Prior | None]) -> Floats:
        """(sessions,) what the first ten decisions lost."""
        firsts = [begun(partial(chosen.choose, prior=prior), trace, self.video) for trace, prior in zip(self.traces, priors, strict=True)]
        return self.best - worths(self.traces, self.video, firsts)

    def error(self, priors: Sequence[Prior | None]) -> float:
        """By how far priors are off, root mean square, ln(kbit/s); of sessions that have one."""
        off = [prior.mean_log_kbps - session.mean for prior, session in zip(priors, self.sessions, strict=True) if prior is not None]
        return float(np.sqrt(np.mean(np.square(off)))) if off else math.nan


@dataclass(frozen=True)
class Change:
    """Regret with priors against regret without, (runs, sessions) each."""

    without: Floats
    with_priors: Floats

    @property
    def cut(self) -> float:
        """The share of regret that priors save; below 0 where they do harm."""
        return float(1 - self.with_priors.sum() / self.without.sum())

    def interval(self, seed: int) -> tuple[float, float]:
        """95 % of the cut."""
        runs, sessions = self.without.shape
        rng = np.random.default_rng([seed, 6])
        drawn = rng.integers(runs, size=(RESAMPLES, runs, 1)), rng.integers(sessions, size=(RESAMPLES, runs, sessions))
        found = 1 - self.with_priors[drawn].sum((1, 2)) / self.without[drawn].sum((1, 2))
        low, high = np.quantile(found, [0.025, 0.975])
        return float(low), float(high)


def figures(options: Options) -> dict[str, Figure]:
    """What is owed in each world."""
    found: dict[str, Figure] = {}
    for world in _worlds(options):
        for name in POLICIES:
            found |= {f"{world.stem}_{name}_cut": Figure("share", OWED, OWED), f"{world.stem}_{name}_cut_low": Figure("share")}
            found |= {f"{world.stem}_{name}_{kind}": Figure("share") for kind in ("everybody", "known")}
            found |= {f"{world.stem}_{name}_harm": Figure("share", 0.01, 0.01, higher=False)}
            found |= {f"{world.stem}_{name}_harm_high": Figure("share", higher=False)}
        found |= {f"{world.stem}_told": Figure("share"), f"{world.stem}_null_told": Figure("share")}
        found |= {f"{world.stem}_prior_error": Figure("ln(kbit/s)"), f"{world.stem}_spread_of_sessions": Figure("ln(kbit/s)")}
    return found


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures for all runs together; `seeds` has each one's. Raises BadWorld."""
    found: dict[str, Any] = {"seeds": []}
    for path in _worlds(options):
        world, changes, told = load(path), list[dict[str, Change]](), list[dict[str, float]]()
        for seed in range(options.seed, options.seed + options.runs):
            changes.append(played(world, seed, told))
            words = ", ".join(f"{what} {change.cut:+.1%}" for what, change in changes[-1].items())
            say(f"{path.stem}, seed {seed}: regret saved: {words}; told {told[-1]['told']:.0%}, null {told[-1]['null_told']:.0%}")
            found["seeds"].append({"world": path.stem, "seed": seed, **told[-1], **{what: one.cut for what, one in changes[-1].items()}})
        for what in changes[0]:
            change = Change(*(np.concatenate([getattr(one[what], side) for one in changes]) for side in ("without", "with_priors")))
            low, high = change.interval(options.seed)
            say(f"{path.stem}: {what} {change.cut:+.1%} ({low:+.1%} to {high:+.1%}) of a regret of {change.without.mean():.2f}")
            name, kind = what.rsplit(" ", 1)
            of = {"": -change.cut, "_low": -high, "_high": -low} if kind == "harm" else {"": change.cut, "_low": low, "_high": high}
            found |= {f"{path.stem}_{name}_{kind}{end}": value for end, value in of.items()}
        found |= {f"{path.stem}_{name}": float(np.mean([one[name] for one in told])) for name in told[0]}
    return [found]


def played(world: World, seed: int, told: list[dict[str, float]]) -> dict[str, Change]:
    """What one seed's sessions lost, by policy and question; what was told to them is added to `told`."""
    days = draw(world, seed)
    real, nothing = Evening(world, days, seed), Evening(world, null(days, seed), seed)
    brought, null_brought = real.priors(), nothing.priors()
    found = {}
    for name in POLICIES:
        chosen, unknown = policy.load(name), [None] * world.judged
        without = real.lost(chosen, unknown)[None]
        found[f"{name} cut"] = Change(without, real.lost(chosen, brought)[None])
        found[f"{name} everybody"] = Change(without, real.lost(chosen, real.priors(apart=False))[None])
        found[f"{name} known"] = Change(without, real.lost(chosen, real.knowing(brought))[None])
        found[f"{name} harm"] = Change(nothing.lost(chosen, unknown)[None], nothing.lost(chosen, null_brought)[None])
    told.append(
        {
            "told": float(np.mean([prior is not None for prior in brought])),
            "null_told": float(np.mean([prior is not None for prior in null_brought])),
            "prior_error": real.error(brought),
            "spread_of_sessions": float(np.std([session.mean for session in days[-1]])),
        }
    )
    return found


def _worlds(options: Options) -> list[Path]:
    return [options.world] if options.world else sorted(WORLDS.glob("*.json"))

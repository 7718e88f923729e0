"""Policy iteration on recorded bandwidth: a network learns, from what each level would have come to, which level to take.

After M. G. Lagoudakis, R. Parr, "Reinforcement Learning as Classification: Leveraging Modern Classifiers", ICML 2003: from states that the
policy comes to, every level is tried once and the policy goes on to the end of the video, on the same bandwidth, so that what the levels
differ by has no noise of its own. The network learns to lose little by a softmax over levels that is paid for its entropy (B. D. Ziebart,
"Modeling Purposeful Adaptive Behavior with the Principle of Maximum Causal Entropy", CMU 2010), whose optimum says by how much levels
differ and not only which is best; it acts by the largest. Steps are Adam's (D. P. Kingma, J. Ba, ICLR 2015), weights are averaged over
the last iterations (B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30(4), 1992).

Sessions begin at any time of a trace. A part of them has its bandwidth and its video varied, so that the policy knows other networks and
titles than these. Deterministic in its arguments on one machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.abr.environment import FIRST_LEVEL, Floats, Ints, Links, Trace, Video, fetch, scored
from producers.abr.network import AHEAD, CENTRE, CENTRE_KBPS, DELAYS, FAST, POOLED, RECENT, SLOW, Network, count
from producers.abr.policy import Trained
from producers.abr.rewards import MBPS, Reward

Single = np.ndarray[Any, np.dtype[np.float32]]

HIDDEN = (64, 64)
SESSIONS = 1024
"""Sessions of an iteration; each gives one state to learn from."""
TRIALS = 8
"""Chunks of an iteration at which levels are tried."""
STEPS, BATCH = 16, 1024
"""Gradient steps of an iteration, and states of each."""
REGRET_MAX = 40.0
"""Larger regrets are cut: an outage that nothing could have saved teaches no more for being longer."""
ENTROPY = 0.1
"""What the softmax is paid per nat at the end: its outputs times this are differences of reward."""
CUT = 10.0
"""How much of a network's dislike counts, in its outputs: beyond, it has seen too few."""
VARIED = 0.4
"""Share of the sessions whose bandwidth and video are varied."""


@dataclass
class Batch:
    """Many sessions at the same chunk; arrays whose last axis is the session."""

    links: Links
    reward: Reward
    chunk_s: float
    top: float
    sizes: Floats
    """(chunks, titles, levels) bytes; a session's title is `title`."""
    utilities: Floats
    chunk: int
    title: Ints
    which: Ints
    clock_s: Floats
    scale: Floats
    """Of the bandwidth."""
    buffer_s: Floats
    previous: Ints
    logs: Floats
    """(RECENT, sessions), newest first."""
    took: Floats
    """(DELAYS, sessions) ln(seconds), newest first."""
    delays: Floats
    """(POOLED, sessions) seconds, newest first."""
    sent: Floats
    """(POOLED, sessions) kilobits."""
    averages: Floats
    """(5, sessions): fast, slow, fast and slow change, minimum."""

    @classmethod
    def begin(
        cls, links: Links, video: Video, reward: Reward, which: Ints, clock_s: Floats, varied: NDArray[np.bool_], rng: np.random.Generator
    ) -> Batch:
        n, levels = len(which), len(video.bitrates_kbps)
        sizes, utilities = np.array(video.sizes), np.array(reward.utilities(video))
        shift = np.where(varied, rng.integers(0, len(sizes), n), 0)
        order = (np.arange(len(sizes))[:, None] + shift) % len(sizes)
        jitter = np.exp(np.where(varied, 0.15, 0.0)[:, None] * rng.standard_normal((n, len(sizes))))
        return cls(
            links,
            reward,
            video.chunk_s,
            video.bitrates_kbps[-1] * video.chunk_s * 125,
            sizes[order] * jitter.T[..., None],
            utilities[order],
            0,
            np.arange(n),
            which,
            clock_s,
            np.exp(np.where(varied, 0.6, 0.0) * rng.standard_normal(n)),
            np.zeros(n),
            np.full(n, min(FIRST_LEVEL, levels - 1)),
            np.zeros((RECENT, n)),
            np.zeros((DELAYS, n)),
            np.zeros((POOLED, n)),
            np.zeros((POOLED, n)),
            np.zeros((5, n)),
        )

    def rows(self, at: Any) -> Batch:
        """The sessions `at`, any index of one axis."""
        return replace(self, **{name: getattr(self, name)[..., at] for name in SESSION})

    def joined(self, others: Batch) -> Batch:
        """These sessions and others, of the same titles and at the same chunk."""
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(others, name)], -1) for name in SESSION})

    def step(self, levels: Ints) -> Floats:
        """The rewards of the next chunk."""
        chunk = self.chunk
        size = self.sizes[chunk, self.title, levels]
        delay_s, rebuffer_s, self.clock_s, self.buffer_s = fetch(
            self.links, self.which, self.clock_s, self.buffer_s, size / self.scale, self.chunk_s
        )
        utility, before = self.utilities[chunk, self.title, levels], self.utilities[max(chunk - 1, 0), self.title, self.previous]
        sent = size * 8 / 1000
        x, took = np.log(sent / delay_s) - CENTRE, np.log(delay_s)
        if chunk == 0:
            self.logs[:], self.took[:], self.delays[0], self.sent[0] = x, took, delay_s, sent
            self.averages[:] = np.stack([x, x, 0 * x, 0 * x, x])
        else:
            self.logs = np.concatenate([x[None], self.logs[:-1]])
            self.took = np.concatenate([took[None], self.took[:-1]])
            self.delays = np.concatenate([delay_s[None], self.delays[:-1]])
            self.sent = np.concatenate([sent[None], self.sent[:-1]])
            fast, slow, change_fast, change_slow, low = self.averages
            change = np.abs(x - fast)
            self.averages = np.stack(
                [
                    fast + FAST * (x - fast),
                    slow + SLOW * (x - slow),
                    change_fast + FAST * (change - change_fast),
                    change_slow + SLOW * (change - change_slow),
                    np.minimum(low, x),
                ]
            )
        self.previous, self.chunk = levels, chunk + 1
        return scored(self.reward, utility, before, rebuffer_s)

    def features(self) -> Single:
        """(sessions, features), as `network.features` of each; logarithms are neither rounded nor bounded here."""
        chunks, _, levels = self.sizes.shape
        sizes, left = self.sizes[self.chunk, self.title].T, chunks - self.chunk
        pooled = np.log(self.sent.sum(0) / self.delays.sum(0)) - CENTRE
        rates = np.exp(np.stack([pooled, pooled - self.averages[2]])) * CENTRE_KBPS + 1
        after = (self.sizes[self.chunk + 1 : self.chunk + 1 + AHEAD, :, -1] if left > 1 else self.sizes[-1:, :, -1])[:, self.title]
        found = np.empty((count(levels), len(self.which)), np.float32)
        rows: list[Any] = [self.buffer_s / 10, np.minimum(self.buffer_s, 8.0) / 4, *(self.previous == np.arange(levels)[:, None])]
        rows += [*self.logs, *self.took, *self.averages, min(self.chunk, 10) / 10, pooled, *(sizes / 1e6)]
        rows += [*np.clip((self.buffer_s - sizes * 8 / 1000 / rates[0]) / 8, -1.0, 3.0)]
        rows += [*np.clip((self.buffer_s - sizes * 8 / 1000 / rates[1]) / 8, -1.0, 3.0)]
        rows += [after.mean(0) / self.top, after[0] / self.top, min(left, 16) / 16, min(left, 4) / 4]
        for row, values in zip(found, rows, strict=True):
            row[:] = values
        return found.T


SESSION = ("title", "which", "clock_s", "scale", "buffer_s", "previous", "logs", "took", "delays", "sent", "averages")
"""The fields of a batch that have a value a session."""


class Learner:
    """The network while it learns, in single precision, with Adam's moments."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        sizes = [inputs, *HIDDEN, outputs]
        self.parameters: list[Single] = []
        for a, b in itertools.pairwise(sizes):
            scale = np.sqrt(2 / a) * (0.1 if b == outputs else 1.0)
            self.parameters += [(scale * rng.standard_normal((a, b))).astype(np.float32), np.zeros(b, np.float32)]
        self._first = [np.zeros_like(one) for one in self.parameters]
        self._second = [np.zeros_like(one) for one in self.parameters]
        self._steps = 0

    def layers(self, inputs: Single) -> list[Single]:
        """The inputs, what each layer makes of them, and last the outputs."""
        values = [inputs]
        for at in range(0, len(self.parameters), 2):
            values.append(values[-1] @ self.parameters[at] + self.parameters[at + 1])
            if at + 2 < len(self.parameters):
                np.maximum(values[-1], 0, out=values[-1])
        return values

    def best(self, inputs: Single) -> Ints:
        """The level of the largest output of each row."""
        return np.asarray(self.layers(inputs)[-1].argmax(1))

    def learn(self, inputs: Single, advantages: Single, rate: float, entropy: float) -> float:
        """One step down the expected regret less `entropy` times the softmax's entropy; the regret before it."""
        values = self.layers(inputs)
        odds = np.exp(values[-1] - values[-1].max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        worth = advantages - entropy * np.log(odds + 1e-9)
        slope = -odds * (worth - (odds * worth).sum(1, keepdims=True)) / len(inputs)
        slopes: list[Single] = []
        for at in range(len(self.parameters) - 2, -1, -2):
            below = values[at // 2]
            slopes = [below.T @ slope, slope.sum(0), *slopes]
            if at:
                slope = (slope @ self.parameters[at].T) * (below > 0)
        self._steps += 1
        for one, by, first, second in zip(self.parameters, slopes, self._first, self._second, strict=True):
            first += 0.1 * (by - first)
            second += 0.001 * (by * by - second)
            one -= rate * (first / (1 - 0.9**self._steps)) / (np.sqrt(second / (1 - 0.999**self._steps)) + 1e-8)
        return float(-(odds * advantages).sum(1).mean())


def tried(policy: Learner, batch: Batch, chunks: Ints, stray: Floats, rng: np.random.Generator) -> tuple[Single, Single]:
    """Features of the states that the policy comes to at `chunks`, ascending and not 0, each of another share of the sessions; and what
    each level loses there, (states, levels), where the policy goes on to the end. On the way it strays to a near level with odds `stray`.
    """
    n, (until, _, levels) = len(batch.which), batch.sizes.shape
    group = rng.permutation(n) % len(chunks)
    batch.step(batch.previous)
    inputs: list[Single] = []
    total = np.zeros(0)
    ways = n  # sessions that have not split yet come first
    while batch.chunk < until:
        seen = batch.features()
        chosen = policy.best(seen)
        for number in np.flatnonzero(chunks == batch.chunk):
            asked = np.flatnonzero(group == number)
            inputs.append(seen[asked])
            batch = batch.joined(batch.rows(np.repeat(asked, levels)))
            chosen = np.concatenate([chosen, np.tile(np.arange(levels), len(asked))])
            total = np.concatenate([total, np.zeros(len(asked) * levels)])
        if batch.chunk >= chunks[-1] and ways:
            batch, chosen, ways = batch.rows(slice(n, None)), chosen[n:], 0
        if ways:
            near = np.clip(chosen[:n] + rng.integers(-2, 3, n), 0, levels - 1)
            chosen[:n] = np.where(rng.random(n) < stray, near, chosen[:n])
        total += batch.step(chosen)[ways:]
    worth = total.reshape(-1, levels)
    return np.concatenate(inputs), np.maximum(worth - worth.max(1, keepdims=True), -REGRET_MAX).astype(np.float32)


def odds(traces: Sequence[Trace]) -> Floats:
    """How often a session is on each trace: more often on long ones and where bandwidth varies; steady or dead links teach little."""
    found = []
    for trace in traces:
        times, rates = np.array((0.0, *trace.times_s[1:])), np.array(trace.mbps[1:])
        passed = np.concatenate([[0.0], np.cumsum(rates * np.diff(times))])
        mean = np.diff(np.interp(np.arange(0.0, times[-1], 4.0), times, passed)) / 4
        spread = float(np.std(np.log(np.maximum(mean, 0.05)))) if len(mean) > 1 else 0.0
        found.append(np.sqrt(min(times[-1], 1500.0)) * min(spread, 1.0) * min(1.0, passed[-1] / times[-1] / 0.3) ** 2)
    total = np.sum(found)
    return np.asarray(np.array(found) / total if total else np.full(len(found), 1 / len(found)))


def fit(
    traces: Sequence[Trace],
    video: Video,
    reward: Reward = MBPS,
    *,
    seed: int = 0,
    iterations: int = 3000,
    say: Callable[[int, float], None] = lambda iteration, regret: None,
) -> Learner:
    """The network after so many iterations, its weights averaged over the last. `say` is told the regret of each iteration. Raises
    ValueError where a video has no chunk to try.
    """
    if len(video.sizes) <= TRIALS:
        raise ValueError(f"a video of {len(video.sizes)} chunks; more than {TRIALS} are needed")
    rng = np.random.default_rng(seed)
    links = Links(traces)
    drawn = odds(traces)
    levels = len(video.bitrates_kbps)
    learner = Learner(count(levels), levels, rng)
    mean = [one.copy() for one in learner.parameters]
    inputs: list[Single] = []
    advantages: list[Single] = []
    for iteration in range(iterations):
        done = iteration / iterations
        which = rng.choice(len(traces), SESSIONS, p=drawn)
        clock_s = np.where(rng.random(SESSIONS) < 0.15, links.first_s[which], rng.random(SESSIONS) * links.lasts_s[which])
        batch = Batch.begin(links, video, reward, which, clock_s, rng.random(SESSIONS) < VARIED, rng)
        stray = np.where(rng.random(SESSIONS) < 0.5, 0.15, 0.0)
        chunks = np.sort(rng.choice(np.arange(1, len(video.sizes)), TRIALS, replace=False))
        states, lost = tried(learner, batch, chunks, stray, rng)
        inputs.append(states)
        advantages.append(lost)
        kept = int(12 + 28 * done)
        inputs, advantages = inputs[-kept:], advantages[-kept:]
        seen, known = np.concatenate(inputs), np.concatenate(advantages)
        regret = 0.0
        for _ in range(STEPS):
            some = rng.integers(0, len(seen), BATCH)
            regret += learner.learn(seen[some], known[some], 1e-3 * (1 - done) + 2e-5, 0.2 * (1 - done) ** 2 + ENTROPY)
        share = max(0.005, 1 / (1 + max(iteration - iterations // 3, 0)))
        for average, one in zip(mean, learner.parameters, strict=True):
            average += share * (one - average)
        say(iteration, regret / STEPS)
    learner.parameters = mean
    return learner


def trained(learner: Learner, video: Video, provenance: Mapping[str, Any]) -> Trained:
    """What a policy holds of it. The plan and the network count alike."""
    parameters = [rounded(one, 6) for one in learner.parameters]
    network = Network(tuple(parameters[::2]), tuple(parameters[1::2]))
    return Trained(network, tuple(video.bitrates_kbps), video.chunk_s, ENTROPY, CUT, 1.0, provenance)


def rounded(values: Floats | Single, digits: int) -> Floats:
    """The same to so many significant digits."""
    return np.array([float(f"{one:.{digits}g}") for one in values.ravel().tolist()]).reshape(values.shape)

"""Our own adaptation: a plan over what the network may do, and what a trained network prefers besides.

A policy is data, `policy.json`: the numbers of the plan (`producers.abr.plan`), the reward that it is for, with stalls perhaps counted
for more, and perhaps a network (`producers.abr.network`, made by `python -m producers.abr`) for one ladder, segment length and reward. A
level's worth is the plan's, less `share` times by how much the network likes it less than its favourite, `cut` at most; the best is
taken, and of two within 1e-9 the lower. The errors of the two have different causes, which is when averaging estimates helps (M. P.
Perrone, L. N. Cooper, "When Networks Disagree: Ensemble Methods for Hybrid Neural Networks", 1993). On any other ladder or segment length
the plan decides alone.

It starts conservatively: with neither a sample nor a prior the lowest level is taken. With a prior the plan decides alone for as long as
it reckons with it as such (`producers.abr.plan.STARTS`): the network was trained without, and sees the session's own samples alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import exp, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from producers.abr.network import Network, count, features
from producers.abr.plan import Aim, Forecast, Tuning, forecast, plan
from producers.abr.prior import Prior
from producers.abr.rewards import MBPS, Reward
from producers.abr.state import LOOK_AHEAD, State, checked

SCHEMA_VERSION = 1
FILE = Path(__file__).with_name("policy.json")
TIE = 1e-9
RANGES = {
    "gain": (0.01, 1.0), "slow_gain": (0.0, 1.0), "pull": (0.0, 1.0), "sigma": (0.01, 3.0), "sigma_weight": (0.1, 1000.0),
    "sigma_gain": (0.0, 1.0),  "horizon": (1, LOOK_AHEAD), "worth": (0.0, 1.0), "enough_s": (1.0, 600.0),
}  # fmt: skip
LARGEST = 1e4
"""No weight of a network is larger than this."""


class BadPolicy(ValueError):
    """No policy, or one for something else; the message says what is wrong and where."""


@dataclass(frozen=True)
class Trained:
    """A network and what it was trained for."""

    network: Network
    ladder_kbps: tuple[float, ...]
    segment_s: float
    share: float
    cut: float
    caution: float
    """How many times as bad as the reward says a stall is to the plan, where the network speaks beside it."""
    provenance: Mapping[str, Any]

    def fits(self, state: State) -> bool:
        """Whether it knows such sessions."""
        return self.ladder_kbps == tuple(state.bitrates_kbps) and self.segment_s == state.segment_s


@dataclass(frozen=True)
class Explanation:
    """Why a level was chosen."""

    level: int
    by: str
    """"network and plan", "plan", or "start" where nothing is known."""
    throughput_kbps: tuple[float, float, float]
    """Of the next download: exceeded in 9, 5 and 1 cases of 10. Zeros where nothing is known."""
    worth: tuple[float, ...]
    """Of each level and the best plan after it, in the reward's unit."""
    plan: tuple[float, ...]
    """The plan's part of it."""


@dataclass(frozen=True)
class Policy:
    """A policy that decides. `trained` None: by the plan alone."""

    tuning: Tuning
    aim: Aim
    reward: str
    trained: Trained | None = None

    def choose(self, state: State, prior: Prior | None = None, penalty_s: float = 0.0) -> int:
        """The level of the next segment. Raises BadState.

        `penalty_s`: the server that serves now is suspected, since a download stalls, and going to the next one of the ranking will
        hold up the next download by so much.
        """
        return self.explain(state, prior, penalty_s).level

    def explain(self, state: State, prior: Prior | None = None, penalty_s: float = 0.0) -> Explanation:
        """The choice with its reasons. Raises BadState, and ValueError for a penalty that is not a number from 0."""
        if not (isfinite(penalty_s) and penalty_s >= 0):
            raise ValueError(f"a penalty of {penalty_s} s")
        state = checked(state)
        levels = len(state.bitrates_kbps)
        expected = forecast(self.tuning, state.throughputs_kbps, prior)
        if expected is None:
            return Explanation(0, "start", (0.0, 0.0, 0.0), (0.0,) * levels, (0.0,) * levels)
        seen = state.previous >= 0 and state.throughputs_kbps and not expected.told
        speaks = self.trained if seen and self.trained and self.trained.fits(state) else None
        aim = replace(self.aim, rebuffer=self.aim.rebuffer * speaks.caution) if speaks else self.aim
        planned = worth = plan(self.tuning, aim, state, expected, penalty_s)
        by = "plan"
        if speaks:
            liked = speaks.network(features(state, max(state.buffer_s - penalty_s, 0.0)))
            most = max(liked)
            worth = [value + speaks.share * max(like - most, -speaks.cut) for value, like in zip(planned, liked, strict=True)]
            by = "network and plan"
        return Explanation(best(worth), by, quantiles(expected), tuple(worth), tuple(planned))


def best(worth: Sequence[float]) -> int:
    """The level that is worth most; a higher one must be better by more than `TIE`."""
    found = 0
    for level in range(1, len(worth)):
        if worth[level] > worth[found] + TIE:
            found = level
    return found


def quantiles(expected: Forecast) -> tuple[float, float, float]:
    """kbit/s that the next download exceeds in 9, 5 and 1 cases of 10."""
    if expected.told:
        reach, centre = 1.2815515655446004 * expected.sigma, expected.level + expected.pull * (expected.slow - expected.level)
    else:
        reach, centre = 1.6377443536962102 * expected.sigma, expected.level
    return exp(centre - reach), exp(centre), exp(centre + reach)


def load(name: str = "trained", reward: Reward = MBPS) -> Policy:
    """The policy that comes with Headrace: "trained", or "untrained", which is its plan alone.

    What was trained is for one reward; for another the plan decides alone there too. Raises BadPolicy for another name.
    """
    if name not in ("trained", "untrained"):
        raise BadPolicy(f"no policy is named {name!r}: trained, untrained")
    found = read(FILE)
    if name == "trained" and reward.name == found.reward:
        return found
    return replace(found, trained=None, reward=reward.name, aim=aim(reward))


def aim(reward: Reward) -> Aim:
    """What of a reward a plan needs."""
    return Aim(reward.rebuffer, reward.up, reward.down, reward.weight)


def read(source: Path | Mapping[str, Any], ladder_kbps: Sequence[float] | None = None) -> Policy:
    """A policy from a file or from its mapping; with `ladder_kbps`, one for that ladder. Raises BadPolicy, and OSError like a file."""
    try:
        data = source if isinstance(source, Mapping) else json.loads(source.read_text())
    except ValueError as error:
        raise BadPolicy(f"not JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise BadPolicy(f"{type(data).__name__}, not a mapping")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise BadPolicy(f"schema_version {data.get('schema_version')!r}; this evaluator reads {SCHEMA_VERSION}")
    given = _mapping(data, "plan")
    numbers: dict[str, Any] = {
        field.name: _number(given, field.name, f"plan.{field.name}", *RANGES[field.name]) for field in fields(Tuning)
    }
    reward = _mapping(data, "reward")
    trained = _trained(_mapping(data, "network")) if data.get("network") is not None else None
    if ladder_kbps is not None and trained is not None and trained.ladder_kbps != tuple(ladder_kbps):
        raise BadPolicy(f"a model of another ladder: {list(trained.ladder_kbps)} kbit/s, not {list(ladder_kbps)}")
    return Policy(
        Tuning(**{**numbers, "horizon": int(numbers["horizon"])}),
        Aim(**{field.name: _number(reward, field.name, f"reward.{field.name}", -1000.0, 1000.0) for field in fields(Aim)}),
        str(reward.get("name")),
        trained,
    )


def _trained(data: Mapping[str, Any]) -> Trained:
    ladder = tuple(_numbers(data.get("ladder_kbps"), "network.ladder_kbps", 1.0, 1e7))
    if not ladder or list(ladder) != sorted(set(ladder)):
        raise BadPolicy(f"network.ladder_kbps does not ascend: {list(ladder)}")
    layers = data.get("layers")
    if not isinstance(layers, Sequence) or not layers:
        raise BadPolicy("network.layers: there is none")
    weights, biases = [], []
    width = count(len(ladder))
    for at, layer in enumerate(layers):
        where = f"network.layers[{at}]"
        if not isinstance(layer, Mapping) or not isinstance(layer.get("weights"), Sequence):
            raise BadPolicy(f"{where}: a mapping of weights and biases is wanted")
        bias = _numbers(layer.get("biases"), f"{where}.biases", -LARGEST, LARGEST)
        rows = [_numbers(row, f"{where}.weights", -LARGEST, LARGEST) for row in layer["weights"]]
        if len(rows) != width or any(len(row) != len(bias) for row in rows):
            raise BadPolicy(f"{where}: {len(rows)} rows of weights for {width} inputs and {len(bias)} outputs")
        weights.append(np.array(rows))
        biases.append(np.array(bias))
        width = len(bias)
    if width != len(ladder):
        raise BadPolicy(f"network.layers: {width} outputs for a ladder of {len(ladder)}")
    return Trained(
        Network(tuple(weights), tuple(biases)),
        ladder,
        _number(data, "segment_s", "network.segment_s", 0.1, 60.0),
        _number(data, "share", "network.share", 0.0, 100.0),
        _number(data, "cut", "network.cut", 0.0, 1000.0),
        _number(data, "caution", "network.caution", 0.1, 10.0),
        _mapping(data, "provenance"),
    )


def document(policy: Policy) -> dict[str, Any]:
    """The data of a policy, as `read` takes them."""
    network = None
    if policy.trained is not None:
        one = policy.trained
        network = {
            "ladder_kbps": list(one.ladder_kbps),
            "segment_s": one.segment_s,
            "share": one.share,
            "cut": one.cut,
            "caution": one.caution,
            "provenance": dict(one.provenance),
            "layers": [
                {"weights": weights.tolist(), "biases": biases.tolist()}
                for weights, biases in zip(one.network.weights, one.network.biases, strict=True)
            ],
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "reward": {"name": policy.reward, **asdict(policy.aim)},
        "plan": asdict(policy.tuning),
        "network": network,
    }


def dumps(policy: Policy) -> str:
    """The data of a policy as JSON, one row of weights a line; 0 in as few letters as it takes, since wide networks are full of it."""
    text = json.dumps(document(policy), indent=1)
    rows = re.sub(r"\[[^\[\]{}\"]*\]", lambda row: "[" + ", ".join(row[0][1:-1].replace(",", " ").split()) + "]", text)
    return re.sub(r"(?<=[\[ ])0\.0(?=[,\]])", "0", rows) + "\n"


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    if not isinstance(found, Mapping):
        raise BadPolicy(f"{name}: a mapping is wanted, not {type(found).__name__}")
    return found


def _number(data: Mapping[str, Any], name: str, where: str, least: float, most: float) -> float:
    return _numbers([data.get(name)], where, least, most)[0]


def _numbers(found: Any, where: str, least: float, most: float) -> list[float]:
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise BadPolicy(f"{where}: numbers are wanted, not {type(found).__name__}")
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int | float) or not isfinite(one):
            raise BadPolicy(f"{where}: {one!r} is no finite number")
        if not least <= one <= most:
            raise BadPolicy(f"{where}: {one} is not between {least:g} and {most:g}")
    return [float(one) for one in found]

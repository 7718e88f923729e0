"""Results of GrowthBook's engine, reproduced from sufficient statistics alone: 1e-6 relative."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import pytest

from streams.experiments.statistics.always_valid import confidence_sequence
from streams.experiments.statistics.bayes import Prior, posterior
from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.effects import Effect, effect, stratified
from streams.experiments.statistics.fixed import Result, Side, fixed_horizon
from streams.experiments.statistics.sufficient import Proportion, Quantile, Statistic
from tests.kit import vectors
from tests.streams.experiments.statistics import recorded

TOO_FEW_DIGITS = 1e-15
"""Their p-values are 1 − P(T ≤ t) and cannot tell what is below."""

BISECTED = 1e-5, 0.4999
"""Their one-sided sequential p-values lie between these, and are these where they would lie outside."""


def measured(case: dict[str, Any]) -> Effect:
    config = case["config"].get("_config", case["config"])
    relative = config["difference_type"] == "relative"
    pairs = recorded.strata(case)
    if len(pairs) == 1 or isinstance(pairs[0][0], Quantile):
        return effect(*pairs[0], relative)
    summable = [(a.as_mean() if isinstance(a, Proportion) else a, b.as_mean() if isinstance(b, Proportion) else b) for a, b in pairs]
    cells: list[tuple[Statistic, Statistic]] = [(a, b) for a, b in summable if not isinstance(a, Quantile) and not isinstance(b, Quantile)]
    if config["post_stratify"]:
        return stratified(cells, relative)
    return effect(reduce(add, [a for a, _ in cells]), reduce(add, [b for _, b in cells]), relative)


def bisected(case: dict[str, Any], found: Effect) -> float:
    """Their one-sided sequential p-value: the α at which our interval ends at zero, by halving, and one half step more than needed."""
    low, high = BISECTED

    def end(alpha: float) -> float:
        config = case["config"]
        at = confidence_sequence(found, alpha, side(case["class"]), config["sequential_tuning_parameter"], 0.0, config["rho"])
        return at.low if side(case["class"]) is Side.GREATER else -at.high

    if end(low) > 0:
        return low
    if end(high) < 0:
        return high
    alpha, distance = (low + high) / 2, 1.0
    while abs(distance) >= 1e-6:
        distance = end(alpha)
        low, high = (alpha, high) if distance < 0 else (low, alpha)
        alpha = (low + high) / 2
    return alpha


def side(name: str) -> Side:
    return Side.GREATER if "Greater" in name else Side.LESSER if "Lesser" in name else Side.BOTH


def ours(case: dict[str, Any], found: Effect) -> Result:
    config = case["config"]
    if not case["class"].startswith("Sequential"):
        return fixed_horizon(found, config["alpha"], side(case["class"]), config["test_value"])
    return confidence_sequence(
        found,
        config["alpha"],
        side(case["class"]),
        config["sequential_tuning_parameter"],
        config["test_value"],
        config["rho"],
    )


@pytest.mark.parametrize("file", ["sufficient_statistics_tests.jsonl", "recorded.jsonl"])
def test_every_recorded_result_is_ours(file: str) -> None:
    for count, case in enumerate(recorded.cases(vectors("stats") / file)):
        expected = case["result"]
        where = f"{file}:{count + 1} {case['class']}"
        if expected["errorMessage"]:
            with pytest.raises(Undefined):
                measured(case)
            continue
        found = measured(case)
        low, high = map(recorded.number, expected["ci"])
        if case["class"] == "EffectBayesianABTest":
            config, said = case["config"]["_config"], case["config"]["_config"]["prior_effect"]
            prior = Prior(said["mean"], said["variance"], config["prior_type"] == "relative") if said["proper"] else None
            belief = posterior(found, prior, config["alpha"], config["inverse"])
            assert belief.mean == pytest.approx(expected["expected"], rel=1e-6, abs=1e-12), where
            assert belief.deviation == pytest.approx(expected["uplift"]["stddev"], rel=1e-6), where
            assert (belief.low, belief.high) == pytest.approx((low, high), rel=1e-6), where
            assert belief.chance_to_win == pytest.approx(expected["chanceToWin"], rel=1e-6), where
            assert [belief.risk_a, belief.risk_b] == pytest.approx(expected["risk"], rel=1e-6, abs=TOO_FEW_DIGITS), where
            continue
        result = ours(case, found)
        assert found.estimate == pytest.approx(expected["expected"], rel=1e-6, abs=1e-12), where
        assert found.standard_error == pytest.approx(expected["uplift"]["stddev"], rel=1e-6), where
        assert (result.low, result.high) == pytest.approx((low, high), rel=1e-6), where
        p = expected["pValue"]
        if "OneSided" in case["class"] and case["class"].startswith("Sequential"):
            assert bisected(case, found) == pytest.approx(p, rel=1e-6), where
            assert result.p == pytest.approx(p, rel=1e-3) or p in BISECTED, where
        else:
            assert result.p == pytest.approx(p, rel=1e-6, abs=TOO_FEW_DIGITS), where

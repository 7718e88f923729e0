"""Boundaries against the reference of their authors, and what they promise of themselves."""

from __future__ import annotations

import json
from math import log
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from streams.experiments.statistics import boundaries, exact
from streams.experiments.statistics.boundaries import (
    BetaBinomialMixture,
    GammaExponentialMixture,
    GammaPoissonMixture,
    Mixture,
    NormalMixture,
)
from streams.experiments.statistics.exact import Sample
from tests.kit import vectors

MIXTURES = {
    "normal": NormalMixture,
    "gamma_exponential": GammaExponentialMixture,
    "gamma_poisson": GammaPoissonMixture,
    "beta_binomial": BetaBinomialMixture,
}


def span(words: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    first, last = map(int, words.split(".."))
    return np.arange(first, last + 1, dtype=float)


def mixture(name: str, args: dict[str, Any]) -> Mixture:
    named = {"is_one_sided": "one_sided"}
    return MIXTURES[name](**{named.get(key, key): value for key, value in args.items() if key not in ("s", "v", "alpha")})


def ours(name: str, args: dict[str, Any]) -> float | tuple[float, float]:
    for kind in MIXTURES:
        if name == f"{kind}_log_mixture":
            return mixture(kind, args).log(args["s"], args["v"])
        if name == f"{kind}_mixture_bound":
            return mixture(kind, args).bound(args["v"], args["alpha"])
    match name:
        case "two_sided_normal_best_rho":
            return boundaries.best_rho(**args)
        case "poly_stitching_bound":
            return boundaries.poly_stitching_bound(**args)
        case "empirical_process_lil_bound":
            return boundaries.empirical_process_lil_bound(args["t"], args["alpha"], args["t_min"], args["A"])
        case "double_stitching_bound":
            return boundaries.double_stitching_bound(args["quantile_p"], args["t"], args["alpha"], args["t_opt"])
        case "quantile_ab_p_value":
            a, b = Sample.of(span(args["a"])), Sample.of(span(args["b"]))
            return exact.quantile_difference_p(a, b, args["quantile_p"], args["t_opt"])
        case "bernoulli_confidence_interval":
            return exact.proportion(args["successes"], args["trials"], args["alpha"], args["t_opt"])
    raise ValueError(f"no boundary is called {name}")


def test_every_value_of_the_reference_is_ours() -> None:
    for case in json.loads((vectors("stats") / "confseq_cases.json").read_text()):
        assert ours(case["fn"], case["args"]) == pytest.approx(case["expected"], abs=case["abs_tol"]), case


@pytest.mark.parametrize(
    "kind", [NormalMixture(50.0, one_sided=True), BetaBinomialMixture(50.0, 0.3, 0.7), GammaExponentialMixture(50.0, 1.5)]
)
def test_a_mixture_is_at_its_threshold_on_its_bound(kind: Mixture) -> None:
    for v, alpha in ((10.0, 0.05), (100.0, 0.01), (1e4, 0.3)):
        assert kind.log(kind.bound(v, alpha), v) == pytest.approx(log(1 / alpha), rel=1e-9)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5])
def test_the_mixture_of_a_share_is_a_martingale(p: float) -> None:
    """Its expectation over all outcomes is 1: the sum is finite, so this is exact."""
    for n in (1, 7, 60):
        k = np.arange(n + 1)
        values = np.exp([BetaBinomialMixture(p * (1 - p) * 40, p, 1 - p).log(at - p * n, p * (1 - p) * n) for at in k])
        assert float(binom.pmf(k, n, p) @ values) == pytest.approx(1, rel=1e-9)

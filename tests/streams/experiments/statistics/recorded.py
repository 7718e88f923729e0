"""The recorded statistics of GrowthBook's engine as ours: only names change, never a number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

from streams.experiments.statistics.sufficient import (
    ClusteredQuantile,
    Cuped,
    CupedProportion,
    CupedRatio,
    Mean,
    Metric,
    Proportion,
    Quantile,
    Ratio,
)


def cases(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of recorded cases."""
    with path.open() as lines:
        yield from map(json.loads, lines)


def statistic(said: dict[str, Any]) -> Metric:
    """One recorded statistic."""
    match said["_type"]:
        case "ProportionStatistic":
            return Proportion(said["n"], said["sum"])
        case "SampleMeanStatistic":
            return Mean(said["n"], said["sum"], said["sum_squares"])
        case "RatioStatistic":
            return Ratio(said["n"], *sums(said["m_statistic"]), *sums(said["d_statistic"]), said["m_d_sum_of_products"])
        case "RegressionAdjustedStatistic":
            post, pre = said["post_statistic"], said["pre_statistic"]
            kind = CupedProportion if post["_type"] == pre["_type"] == "ProportionStatistic" else Cuped
            return kind(said["n"], *sums(post), *sums(pre), said["post_pre_sum_of_products"])
        case "RegressionAdjustedRatioStatistic":
            parts = [sums(said[name]) for name in ("m_statistic_post", "d_statistic_post", "m_statistic_pre", "d_statistic_pre")]
            products = (
                "m_post_d_post",
                "m_post_m_pre",
                "m_post_d_pre",
                "m_pre_d_post",
                "d_post_d_pre",
                "m_pre_d_pre",
            )  # xy, xu, xv, yu, yv, uv
            return CupedRatio(
                said["n"],
                *(total for total, _ in parts),
                *(squares for _, squares in parts),
                *(said[f"{name}_sum_of_products"] for name in products),
            )
        case "QuantileStatistic":
            return Quantile(*quantile(said))
        case "QuantileClusteredStatistic":
            of_unit = ("n_clusters", "main_sum", "main_sum_squares", "denominator_sum", "denominator_sum_squares")
            return ClusteredQuantile(*quantile(said), Ratio(*(said[name] for name in of_unit), said["main_denominator_sum_product"]))
    raise ValueError(f"no statistic is called {said['_type']}")


def sums(said: dict[str, Any]) -> tuple[float, float]:
    """Σx and Σx²."""
    return said["sum"], said.get("sum_squares", said["sum"])


def quantile(said: dict[str, Any]) -> tuple[Any, ...]:
    """n, level, estimate, low, high, n of the interval."""
    return tuple(said[name] for name in ("n", "nu", "quantile_hat", "quantile_lower", "quantile_upper", "n_star"))


def strata(case: dict[str, Any]) -> list[tuple[Metric, Metric]]:
    """(a, b) of each stratum."""
    pairs = case.get("stats") or [[case["stat_a"], case["stat_b"]]]
    return [(statistic(a), statistic(b)) for a, b in pairs]


def number(said: float | str) -> float:
    """A recorded number, which may be "inf"."""
    return {"inf": inf, "-inf": -inf}[said] if isinstance(said, str) else said

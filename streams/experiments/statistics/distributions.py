"""The distributions the other modules need, on plain floats: scipy's special functions under the names of statistics."""

from __future__ import annotations

from math import inf, pi, sqrt

from scipy import special  # type: ignore[import-untyped]


class Undefined(ValueError):
    """There is no such result: what was asked for does not exist for these data. The message says why, for a reader of the read-out."""


def normal_cdf(z: float) -> float:
    """P(Z ≤ z)."""
    return float(special.ndtr(z))


def normal_quantile(p: float) -> float:
    """The z with P(Z ≤ z) = p."""
    return float(special.ndtri(p))


def mills(z: float) -> float:
    """P(Z > z) over the density at z: J. P. Mills' ratio."""
    return float(special.erfcx(z / sqrt(2))) * sqrt(pi / 2)


def student_tail(t: float, degrees_of_freedom: float) -> float:
    """P(T > t), as exact far out as near zero."""
    return float(special.stdtr(degrees_of_freedom, -t)) if degrees_of_freedom < inf else normal_cdf(-t)


def student_quantile(p: float, degrees_of_freedom: float) -> float:
    """The t with P(T ≤ t) = p."""
    return float(special.stdtrit(degrees_of_freedom, p)) if degrees_of_freedom < inf else normal_quantile(p)


def chi_square_tail(x: float, degrees_of_freedom: float) -> float:
    """P(X > x)."""
    return float(special.chdtrc(degrees_of_freedom, x))


def log_gamma(x: float) -> float:
    """ln Γ(x), x > 0."""
    return float(special.gammaln(x))


def log_beta(a: float, b: float) -> float:
    """ln B(a, b)."""
    return float(special.betaln(a, b))


def beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    return float(special.betainc(a, b, x))


def gamma_share(a: float, x: float) -> float:
    """The regularised lower incomplete gamma function P(a, x)."""
    return float(special.gammainc(a, x))


def gamma_rest(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x)."""
    return float(special.gammaincc(a, x))


def zeta(s: float) -> float:
    """Riemann's ζ(s), s > 1."""
    return float(special.zeta(s))


def probability(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """`value`, when it lies strictly between `low` and `high`. Raises ValueError otherwise; NaN lies nowhere."""
    if not low < value < high:
        raise ValueError(f"{name} is {value!r} and must lie between {low:g} and {high:g}")
    return value

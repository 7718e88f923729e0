"""Many p-values at once: metrics, variations, segments. The more questions, the more answers by chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Question = TypeVar("Question")


def holm(p: Mapping[Question, float]) -> dict[Question, float]:
    """Adjusted p-values: below α for a question without an answer with probability α at most, over all questions together.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979. Any dependence. For
    guardrails and whatever decides by itself. Raises ValueError for what is no p-value.
    """
    ordered, adjusted, least = _ascending(p), {}, 0.0
    for done, question in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - done) * p[question]))
        adjusted[question] = least
    return {question: adjusted[question] for question in p}


def benjamini_hochberg(p: Mapping[Question, float], any_dependence: bool = False) -> dict[Question, float]:
    """Adjusted p-values: of those below α a share of α at most is, on average, by chance.

    Y. Benjamini, Y. Hochberg, "Controlling the False Discovery Rate", JRSS B 57(1), 1995, for independent or positively dependent
    questions; with `any_dependence` the procedure of Y. Benjamini, D. Yekutieli, Annals of Statistics 29(4), 2001. For looking through
    metrics and segments. Raises ValueError for what is no p-value.
    """
    ordered, adjusted, least = _ascending(p), {}, 1.0
    count = len(ordered)
    factor = sum(1 / rank for rank in range(1, count + 1)) if any_dependence else 1.0
    for rank, question in zip(range(count, 0, -1), reversed(ordered), strict=True):
        least = min(least, factor * count / rank * p[question])
        adjusted[question] = least
    return {question: adjusted[question] for question in p}


def _ascending(p: Mapping[Question, float]) -> list[Question]:
    if wrong := [f"{question}: {value!r}" for question, value in p.items() if not 0 <= value <= 1]:
        raise ValueError(f"no p-value lies outside 0 to 1: {', '.join(wrong)}")
    return sorted(p, key=p.__getitem__)

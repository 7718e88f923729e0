"""Are the units spread over the variations as designed? If not, the experiment is broken and has no result.

A variation with weight zero takes no part: it adds no degree of freedom while it is empty, and a single unit in it is a mismatch for
certain, because by design there can be none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log

from streams.experiments.statistics.distributions import chi_square_tail, log_gamma

SUSPECT = 0.001
"""The p below which a split counts as broken, usual for this test: of many experiments, 0.05 would stop healthy ones every day."""


def chi_square_p(units: Sequence[int], weights: Sequence[float]) -> float:
    """p-value of the design at one planned look: K. Pearson, Philosophical Magazine 50, 1900; A. Fabijan et al., "Diagnosing Sample Ratio
    Mismatch in Online Controlled Experiments", KDD 2019. Without any unit it is 1. Raises ValueError for impossible units or weights.
    """
    taking_part = _taking_part(units, weights)
    if taking_part is None:
        return 0.0
    total, all_weight = sum(count for count, _ in taking_part), sum(weight for _, weight in taking_part)
    if total == 0 or len(taking_part) == 1:
        return 1.0
    expected = [weight / all_weight * total for _, weight in taking_part]
    square = sum((count - hoped) ** 2 / hoped for (count, _), hoped in zip(taking_part, expected, strict=True))
    return chi_square_tail(square, len(taking_part) - 1)


@dataclass(frozen=True, slots=True)
class Look:
    """What is known after a look: log marginal likelihoods of the looks so far under the design and under the alternative, and the p-value.

    The p-value is the smallest of one over the Bayes factor so far, so it may be acted upon at any look.
    """

    log_designed: float
    log_other: float
    p: float

    @property
    def log_bayes_factor(self) -> float:
        """ln of how many times as likely the looks are under the alternative."""
        return self.log_other - self.log_designed


def sequential(
    batches: Iterable[Sequence[int]],
    weights: Sequence[float],
    concentration: float = 10_000.0,
    center: Sequence[float] | None = None,
) -> list[Look]:
    """A look after each batch of (variations,) new units: the design against a Dirichlet around it.

    M. Lindon, A. Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022: the Bayes factor is a martingale under the
    design. `concentration` says how near the design mismatches are looked for: 10,000 finds one of a per cent soonest. `center` is the
    Dirichlet's mean (times anything) when that is not the design. Raises ValueError as `chi_square_p` does.
    """
    if not 0 < concentration < inf:
        raise ValueError(f"concentration is {concentration!r} and must be above 0")
    share = [weight / sum(weights) for weight in weights] if sum(weights) > 0 else list(weights)
    prior = [concentration * value for value in (center or share)]
    if len(prior) != len(weights):
        raise ValueError(f"the Dirichlet has {len(prior)} parts, the design {len(weights)}")
    looks, designed, other, smallest = list[Look](), 0.0, 0.0, 1.0
    active = [i for i, weight in enumerate(weights) if weight > 0]
    for batch in batches:
        impossible = _taking_part(batch, weights) is None
        counts = [batch[i] for i in active]
        total = sum(counts)
        ways = log_gamma(total + 1) - sum(log_gamma(count + 1) for count in counts)
        designed += ways + sum(count * log(share[i]) for i, count in zip(active, counts, strict=True))
        before = sum(prior[i] for i in active)
        other += ways + log_gamma(before) - log_gamma(before + total)
        other += sum(log_gamma(prior[i] + count) - log_gamma(prior[i]) for i, count in zip(active, counts, strict=True))
        for i, count in zip(active, counts, strict=True):
            prior[i] += count
        if impossible:
            designed = -inf
        smallest = min(smallest, 0.0 if designed == -inf else exp(min(designed - other, 0.0)))
        looks.append(Look(designed, other, smallest))
    return looks


def _taking_part(units: Sequence[int], weights: Sequence[float]) -> list[tuple[int, float]] | None:
    """(units, weight) of the variations with weight, or None when there is a unit where none can be."""
    if len(units) != len(weights):
        raise ValueError(f"{len(units)} variations have units and {len(weights)} have weights")
    if any(not isfinite(weight) or weight < 0 for weight in weights) or not sum(weights) > 0:
        raise ValueError(f"weights are {list(weights)}: each must be a number from 0 on, and one of them above 0")
    if any(count < 0 for count in units):
        raise ValueError(f"units are {list(units)}: none may be negative")
    if any(count > 0 and weight == 0 for count, weight in zip(units, weights, strict=True)):
        return None
    return [(count, weight) for count, weight in zip(units, weights, strict=True) if weight > 0]

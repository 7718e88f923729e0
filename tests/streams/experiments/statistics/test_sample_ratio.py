"""Sample ratio mismatch: the recorded values, and what the record gets wrong."""

from __future__ import annotations

import json
from itertools import accumulate

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from streams.experiments.statistics.sample_ratio import chi_square_p, sequential
from tests.kit import vectors


def test_every_recorded_split_but_those_with_an_arm_of_weight_zero() -> None:
    for case in json.loads((vectors("stats") / "srm.json").read_text()):
        ours = chi_square_p(case["users"], case["weights"])
        if min(case["weights"]) > 0:
            assert ours == pytest.approx(case["p"], rel=1e-9), case
        else:
            taking_part = [users for users, weight in zip(case["users"], case["weights"], strict=True) if weight > 0]
            assert ours == pytest.approx(stats.chisquare(taking_part).pvalue, rel=1e-9), case


def test_an_arm_of_weight_zero_is_not_there_and_may_not_be() -> None:
    assert chi_square_p([5000, 4800, 0], [0.5, 0.5, 0]) == chi_square_p([5000, 4800], [0.5, 0.5]) == pytest.approx(0.0434, abs=5e-5)
    assert chi_square_p([5000, 5000, 1], [0.5, 0.5, 0]) == 0
    assert sequential([[50, 40, 0]], [0.5, 0.5, 0]) == sequential([[50, 40]], [0.5, 0.5])
    assert [look.p for look in sequential([[50, 40, 0], [50, 40, 1], [50, 50, 0]], [0.5, 0.5, 0])][1:] == [0, 0]


@pytest.mark.parametrize(
    ("units", "weights", "words"),
    [
        ([1, 2], [1.0], "2 variations have units and 1 have weights"),
        ([1, 2], [0.0, 0.0], "one of them above 0"),
        ([1, 2], [float("nan"), 1.0], "each must be a number"),
        ([-1, 2], [0.5, 0.5], "none may be negative"),
    ],
)
def test_bad_input_is_refused(units: list[int], weights: list[float], words: str) -> None:
    for check in (chi_square_p, lambda u, w: sequential([u], w)):
        with pytest.raises(ValueError, match=words):
            check(units, weights)


def test_the_sequential_test_is_its_authors() -> None:
    said = json.loads((vectors("stats") / "ssrm_cases.json").read_text())
    for case in said["sequential_posteriors"]:
        looks = sequential(case["datapoints"], case["null"], case["concentration"], case["dirichlet_probability"])
        assert [look.log_other for look in looks] == pytest.approx(case["log_ml_m1"], rel=1e-9)
        assert [look.log_designed for look in looks] == pytest.approx(case["log_ml_m0"], rel=1e-9)
    regression = said["regression"]
    drawn = stats.multinomial.rvs(1, [0.1, 0.49, 0.41], size=10, random_state=np.random.RandomState(0))
    last = sequential(drawn.tolist(), regression["p_0"])[-1]
    assert last.p == pytest.approx(regression["final_p"], rel=1e-9)
    assert np.exp(last.log_bayes_factor) == pytest.approx(regression["final_bf"], rel=1e-9)


def test_batches_say_what_single_units_say() -> None:
    batches = [[3, 5], [10, 2], [0, 4]]
    totals = [[sum(column) for column in zip(*batches[: i + 1], strict=True)] for i in range(3)]
    singly = [sequential([batch], [1, 2], 50.0)[0].log_bayes_factor for batch in totals]
    assert [look.log_bayes_factor for look in sequential(batches, [1, 2], 50.0)] == pytest.approx(singly, rel=1e-9)
    ps = [look.p for look in sequential(batches, [1, 2], 50.0)]
    assert ps == list(accumulate(ps, min))


def test_looking_after_every_batch_is_wrong_as_rarely_as_promised() -> None:
    chance = np.random.default_rng(11)
    wrong = sum(sequential(chance.multinomial(100, [0.5, 0.3, 0.2], 60).tolist(), [0.5, 0.3, 0.2], 500.0)[-1].p <= 0.05 for _ in range(400))
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_a_mismatch_is_found() -> None:
    chance = np.random.default_rng(12)
    assert sequential(chance.multinomial(1000, [0.52, 0.48], 60).tolist(), [0.5, 0.5])[-1].p < 1e-6

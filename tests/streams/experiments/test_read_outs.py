"""From sums to read-outs: each kind against the statistics themselves, units without a measurement, steps, segments, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

import numpy as np
import pytest

from schemas.allocation.definition import Experiment, Metric
from streams.experiments.read_outs import Guard, Report, Row, Totals, Verdict, report
from streams.experiments.statistics.effects import effect, stratified
from streams.experiments.statistics.histogram import Histogram, shares_below
from streams.experiments.statistics.readout import Cause
from streams.experiments.statistics.sufficient import Cuped, Mean, Proportion, Ratio
from streams.experiments.statistics.survival import Survival, mean_time_effect
from streams.playback.minute import bucket

DAY = 20_000
UNITS = 2_000


def metric(aggregation: str, **more: Any) -> Metric:
    """A metric of sessions, one day long, without a covariate unless `more` says so."""
    told: dict[str, Any] = {"kind": "metric", "key": "m", "owner": "o", "unit": "ms", "topic": "playback.qoe_session", "better": "lower"}
    return Metric.model_validate(told | {"aggregation": aggregation, "window_s": 5 * 86_400, "covariate_s": 0, **more})


def experiment(**more: Any) -> Experiment:
    """Two variations alike in weight, measured by m."""
    variations = [{"key": key, "weight": 0.5, "value": key} for key in ("a", "b")]
    told: dict[str, Any] = {"kind": "experiment", "key": "e", "owner": "o", "flag": "f", "unit": "member_id", "state": "running"}
    return Experiment.model_validate(told | {"variations": variations, "metrics": ["m"], "segments": {"device": ["tv", "web"]}, **more})


def exposed(variation: str, units: int, in_several: int = 0, day: int = DAY, segment: str = "") -> Row:
    return Row(variation, segment, "", -1, day, units, 0, Totals(x=in_several))


def sums(variation: str, values: Mapping[str, np.ndarray[Any, Any]], day: int = DAY, segment: str = "") -> Row:
    """What units with these values x, y, u, v add up to."""
    n = len(values["x"])
    of = {letter: values.get(letter, np.zeros(n, int)) for letter in "xyuv"}
    totals = Totals(*(int(np.prod([of[letter] for letter in name], axis=0).sum()) for name in Totals._fields))
    return Row(variation, segment, "m", -1, day, n, n, totals)


def read(measured: Metric, rows: Sequence[Row], **more: Any) -> Report:
    return report(experiment(**more), {"m": measured}, rows)


def drawn(seed: int = 1) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """x, y, u, v of the units of a and b."""
    rng = np.random.default_rng(seed)
    found = {}
    for variation, mean in (("a", 900), ("b", 840)):
        x = rng.poisson(mean, UNITS)
        found[variation] = {"x": x, "y": rng.poisson(9_000, UNITS), "u": x + rng.poisson(30, UNITS), "v": rng.poisson(9_000, UNITS)}
    return found


def test_a_mean_is_the_statistics_own_in_the_metrics_unit() -> None:
    values = drawn()
    rows = [exposed(one, UNITS) for one in "ab"] + [sums(one, {"x": values[one]["x"]}) for one in "ab"]
    (answer,) = read(metric("mean", scale=10), rows).answers
    each = [Mean(UNITS, int(values[one]["x"].sum()), int((values[one]["x"] ** 2).sum())) for one in "ab"]
    expected = effect(each[0], each[1], relative=True)
    assert answer.read.effect is not None
    assert (answer.read.effect.estimate, answer.read.effect.standard_error) == (expected.estimate, expected.standard_error)
    assert isclose(answer.values[0] or 0, values["a"]["x"].mean() / 10, rel_tol=1e-12)
    assert answer.read.gain == 0


def test_the_time_before_the_exposure_is_used_where_it_varies() -> None:
    values = drawn()
    rows = [exposed(one, UNITS) for one in "ab"] + [sums(one, {"x": values[one]["x"], "u": values[one]["u"]}) for one in "ab"]
    (answer,) = read(metric("mean", covariate_s=86_400), rows).answers
    assert answer.read.gain > 0.9
    x, u = values["a"]["x"], values["a"]["u"]
    of = Cuped(UNITS, int(x.sum()), int((x * x).sum()), int(u.sum()), int((u * u).sum()), int((x * u).sum()))
    assert answer.values[0] == of.value()[0]
    (flat,) = read(
        metric("mean", covariate_s=86_400), [exposed(one, UNITS) for one in "ab"] + [sums(one, {"x": values[one]["x"]}) for one in "ab"]
    ).answers
    assert flat.read.gain == 0
    assert flat.read.effect is not None


@pytest.mark.parametrize("aggregation", ["sum", "count", "proportion"])
def test_units_without_a_measurement_count_as_zero(aggregation: str) -> None:
    some = UNITS // 4
    values = {"x": np.ones(some, int)}
    rows = [exposed(one, UNITS) for one in "ab"] + [sums("a", values), sums("b", {"x": np.ones(some // 2, int)})]
    (answer,) = read(metric(aggregation), rows).answers
    assert answer.values == (0.25, 0.125)
    if aggregation == "proportion":
        expected = effect(Proportion(UNITS, some), Proportion(UNITS, some // 2), relative=True)
        assert answer.read.effect is not None
        assert answer.read.effect.standard_error == expected.standard_error


def test_a_ratio_is_of_sums_and_has_no_unit_to_scale() -> None:
    values = drawn()
    rows = [exposed(one, UNITS) for one in "ab"] + [sums(one, {name: values[one][name] for name in "xy"}) for one in "ab"]
    (answer,) = read(metric("ratio", denominator="y", scale=1000), rows).answers
    x, y = values["a"]["x"], values["a"]["y"]
    a = Ratio(UNITS, int(x.sum()), int((x * x).sum()), int(y.sum()), int((y * y).sum()), int((x * y).sum()))
    assert answer.values[0] == a.value()[0]


def test_a_quantile_knows_units_that_bring_many_values() -> None:
    rng = np.random.default_rng(2)
    rows, clustered, of_unit = [exposed(one, 300) for one in "ab"], {}, {}
    for variation in "ab":
        units = [Histogram.of([int(level * value) for value in rng.integers(50, 90, 7)]) for level in rng.integers(1, 40, 300)]
        whole = sum(units, Histogram())
        clustered[variation] = whole.clustered(0.9, shares_below(units, whole.quantile(0.9).estimate))
        of_unit[variation] = whole
        cells: dict[int, list[int]] = {}
        for unit in units:
            below = 0
            for where in sorted(unit.counts):
                upto, cell = below + unit.counts[where], cells.setdefault(where, [0, 0, 0])
                cell[0] += unit.counts[where]
                cell[1] += upto**2 - below**2
                cell[2] += unit.counts[where] * unit.n
                below = upto
        rows += [Row(variation, "", "m", at, DAY, n, 0, Totals(xx=xx, xy=xy)) for at, (n, xx, xy) in cells.items()]
        rows.append(Row(variation, "", "m", -1, DAY, 300, 300, Totals()))
    (answer,) = read(metric("quantile", quantile=0.9), rows).answers
    expected = effect(clustered["a"], clustered["b"], relative=True)
    assert answer.read.effect == expected
    independent = effect(of_unit["a"].quantile(0.9), of_unit["b"].quantile(0.9), relative=True)
    assert expected.standard_error > 1.5 * independent.standard_error
    assert bucket(int(answer.values[0] or 0)) in of_unit["a"].counts


def test_a_time_to_an_event_counts_units_for_as_long_as_they_were_watched() -> None:
    """Exposed on two days, read on the third: the second day's units were watched a day, what happened to them later is not known yet."""
    rows, a_day = [], 86_400
    events = {"a": {0: 40, 1: 30}, "b": {0: 20, 1: 15}}
    for variation in "ab":
        for day, n in ((DAY, 300), (DAY + 1, 200), (DAY + 2, 50)):
            rows += [exposed(variation, n, day=day), Row(variation, "", "m", -1, day, n, 0, Totals())]
        rows += [Row(variation, "", "m", at, DAY, n, 0, Totals()) for at, n in events[variation].items()]
        rows.append(Row(variation, "", "m", 1, DAY + 1, 9, 0, Totals()))
    (answer,) = read(metric("time_to_event", interval_s=a_day, better="higher"), rows).answers
    each = [Survival((events[one][0], events[one][1]), (200, 300 - sum(events[one].values()))) for one in "ab"]
    assert answer.read.effect == mean_time_effect(each[0], each[1], 2, relative=True)


def test_later_rows_take_back_what_earlier_ones_told() -> None:
    values = drawn()
    rows = [exposed(one, UNITS) for one in "ab"] + [sums(one, {"x": values[one]["x"]}) for one in "ab"]
    extra = sums("a", {"x": np.array([5, 900_000])}, day=DAY + 1)
    back = extra._replace(day=DAY + 2, n=-2, measured=-2, sums=Totals(*(-one for one in extra.sums)))
    plain, corrected = (read(metric("sum"), one) for one in (rows, [*rows, extra, back]))
    assert plain.answers == corrected.answers


def test_steps_end_in_what_the_whole_says() -> None:
    halves = [{one: {"x": values["x"][part]} for one, values in drawn().items()} for part in (slice(None, 999), slice(999, None))]
    rows = [exposed(one, len(half[one]["x"]), day=DAY + at) for at, half in enumerate(halves) for one in "ab"]
    rows += [sums(one, half[one], day=DAY + at) for at, half in enumerate(halves) for one in "ab"]
    told = report(experiment(), {"m": metric("mean")}, rows, over_time=True)
    first, last = told.over_time["m", "b"]
    assert (first.units, last.units) == (2 * 999, 2 * UNITS)
    assert last.read == told.answers[0].read
    assert first.read == report(experiment(), {"m": metric("mean")}, [row for row in rows if row.day == DAY]).answers[0].read


def test_segments_are_those_that_the_experiment_names_and_their_p_are_adjusted() -> None:
    values = drawn()
    rows = [row for segment in ("", "device=tv", "device=web", "region=nl") for one in "ab" for row in (
        exposed(one, UNITS, segment=segment), sums(one, {"x": values[one]["x"]}, segment=segment)
    )]  # fmt: skip
    told = read(metric("mean"), rows)
    assert [one.segment for one in told.answers] == ["", "device=tv", "device=web"]
    raw = [one.read.always_valid.p for one in told.answers if one.read.always_valid]
    assert [one.adjusted_p for one in told.answers] == raw  # three alike: the largest times 3 / 3


def by_device(sizes: Mapping[str, tuple[int, int]], days: int = 1) -> tuple[list[Row], dict[str, list[Any]]]:
    """Rows of units on devices, whose level differs by device and by the same share of their past, and each device's values in a and b."""
    rng = np.random.default_rng(9)
    rows: list[Row] = []
    values: dict[str, list[Any]] = {}
    for number, (device, ns) in enumerate(sizes.items()):
        for variation, n in zip("ab", ns, strict=True):
            x = rng.poisson(100 * (1 + 5 * number) + 5 * (variation == "b"), n)
            values.setdefault(device, []).append(x)
            for day in range(days):
                for segment in {"", f"device={device}" if device else ""}:
                    part = x[day::days]
                    rows += [exposed(variation, len(part), day=DAY + day, segment=segment)]
                    rows += [sums(variation, {"x": part}, day=DAY + day, segment=segment)]
    return rows, values


def test_units_are_post_stratified_by_what_the_plan_says() -> None:
    rows, values = by_device({"tv": (300, 340), "web": (240, 200), "": (80, 90), "console": (20, 9)})
    plain, planned = (
        report(experiment(plan={"primary": "m", "strata": strata}), {"m": metric("mean")}, rows, over_time=True)
        for strata in (None, "device")
    )
    answer = planned.answers[0]
    cells = [[Mean(len(x), int(x.sum()), int((x * x).sum())) for x in of] for of in (values["tv"], values["web"], values[""])]
    joined = [one + Mean(len(x), int(x.sum()), int((x * x).sum())) for one, x in zip(cells[0], values["console"], strict=True)]
    expected = stratified([(joined[0], joined[1]), (cells[1][0], cells[1][1]), (cells[2][0], cells[2][1])], relative=True)
    assert answer.read.effect == expected
    assert "strata by device: web, not told, tv and other" in answer.read.assumes
    assert answer.values == plain.answers[0].values
    absolute = stratified([(joined[0], joined[1]), (cells[1][0], cells[1][1]), (cells[2][0], cells[2][1])])
    whole = [sum((cell[side] for cell in cells[1:]), start=joined[side]) for side in (0, 1)]
    assert answer.read.gain == 1 - absolute.standard_error**2 / sum(one.variance() / one.n for one in whole)
    assert answer.read.gain > 0.6
    assert planned.over_time["m", "b"][-1].read == answer.read
    assert [one.read.effect for one in planned.answers[1:]] == [one.read.effect for one in plain.answers[1:]]  # segments are read as ever


def test_strata_of_few_units_are_taken_together_and_one_is_none() -> None:
    rows, _ = by_device({"tv": (200, 210), "web": (30, 40), "": (30, 20)})
    plan = {"primary": "m", "strata": "device"}
    both = report(experiment(plan=plan), {"m": metric("mean")}, rows).answers[0].read
    assert "strata by device: tv, web and not told" in both.assumes
    rows, _ = by_device({"tv": (200, 210), "web": (20, 20), "": (20, 20)})
    alone = report(experiment(plan=plan), {"m": metric("mean")}, rows).answers[0].read
    assert alone.effect is not None
    assert alone.effect.strata == 1
    assert any("not stratified by device" in words for words in alone.assumes)
    assert report(experiment(plan=plan), {"m": metric("quantile", quantile=0.5)}, rows).answers[0].read.refusals


def test_a_split_that_is_not_as_designed_refuses_everything() -> None:
    values = drawn()
    rows = [exposed("a", UNITS), exposed("b", UNITS // 2), sums("a", values["a"]), sums("b", {"x": values["b"]["x"][::2]})]
    told = read(metric("sum"), rows)
    assert told.split_p < 0.001
    assert told.answers[0].read.refusals[0].cause is Cause.SPLIT
    assert told.verdict is Verdict.BROKEN


def test_few_units_and_none_go_on_in_words() -> None:
    assert read(metric("sum"), []).verdict is Verdict.WAIT
    few = read(metric("sum"), [exposed("a", 20), exposed("b", 22), sums("a", {"x": np.arange(20)}), sums("b", {"x": np.arange(22)})])
    assert few.verdict is Verdict.WAIT
    assert "20 units of the 50" in few.words


def test_sums_that_cannot_be_are_refused() -> None:
    rows = [exposed(one, 100) for one in "ab"] + [Row(one, "", "m", 3, DAY, -4, 0, Totals()) for one in "ab"]
    (answer,) = read(metric("quantile", quantile=0.5), rows).answers
    assert answer.read.refusals[0].cause is Cause.NOT_FINITE


@pytest.mark.parametrize(
    ("b_is", "verdict", "better"), [(0.8, Verdict.SHIP, "lower"), (0.8, Verdict.STOP, "higher"), (1.0, Verdict.SAME, "lower")]
)
def test_the_first_metric_decides(b_is: float, verdict: Verdict, better: str) -> None:
    x = np.arange(UNITS) % 100 + 400
    rows = [exposed(one, UNITS) for one in "ab"] + [sums("a", {"x": x}), sums("b", {"x": (x * b_is).astype(int)})]
    assert read(metric("sum", better=better), rows, plan={"primary": "m", "units": 2 * UNITS}).verdict is verdict


@pytest.mark.parametrize(("b_is", "guard"), [(1.3, Guard.BROKEN), (1.0, Guard.KEPT)])
def test_a_guardrail_is_kept_or_broken(b_is: float, guard: Guard) -> None:
    x = np.arange(UNITS) % 100 + 400
    rows = [exposed(one, UNITS) for one in "ab"] + [sums("a", {"x": x}), sums("b", {"x": (x * b_is).astype(int)})]
    told = read(metric("sum", guardrail_margin=25), rows, metrics=[], guardrails=["m"])
    assert told.answers[0].guard is guard
    assert (told.verdict is Verdict.HARM) is (guard is Guard.BROKEN)


def test_of_a_guardrail_little_is_known_by_few_units() -> None:
    rows = [row for one in "ab" for row in (exposed(one, 60), sums(one, {"x": np.arange(60) + 400}))]
    told = read(metric("sum", guardrail_margin=1), rows, metrics=[], guardrails=["m"])
    assert told.answers[0].guard is Guard.OPEN

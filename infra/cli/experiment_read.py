"""`headrace experiment read`, `report`, `plan` and `recompute`: what experiments have come to."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from edge.read_outs import Known
    from schemas.allocation.definition import Experiment
    from streams.experiments.read_outs import Answer, Report

SHOWN = 20
"""Differences that are printed at most; --json has all."""

Key = Annotated[str, typer.Argument(help="Key of the experiment; holdout.KEY for a holdout.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one object.")]


def read(
    key: Annotated[str, typer.Argument(help="Key of the experiment; all of them in a line each where there is none.")] = "",
    metric: Annotated[str, typer.Option(help="Only this one.")] = "",
    segment: Annotated[str, typer.Option(help="Only this one, as attribute=value; without it all units together.")] = "",
    as_json: AsJson = False,
) -> None:
    """Read an experiment out: every metric's effect with its intervals, or why there is none."""
    from edge import read_outs
    from infra.base import warehouse
    from infra.cli.words import Refusal, out

    with _asking():
        client = warehouse.reader()
        known = read_outs.known(client, key)
        if not key:
            _list(known, list(read_outs.every(client, known, brief=True)), as_json)
            return
        report, step_s = read_outs.one(client, key, known)
    for name, asked, there in (
        ("metric", metric, {one.metric for one in report.answers}),
        ("segment", segment, {one.segment for one in report.answers}),
    ):
        if asked and asked not in there:
            raise Refusal(f"experiment {key} has no {name} {asked}; it has {', '.join(sorted(there - {''})) or 'none yet'}")
    if as_json:
        told = read_outs.as_json(report, known, step_s)
        told["answers"] = [one for one in told["answers"] if _asked(one["metric"], one["segment"], metric, segment)]
        out.print_json(json.dumps(told))
        return
    answers = [one for one in report.answers if _asked(one.metric, one.segment, metric, segment or "")]
    answers = [one for one in answers if segment or not one.segment]
    for line in _summary(report, known):
        out.print(line, markup=False)
    out.print(_table(answers, known.experiment(report.experiment)))
    for line in (*_guardrails(answers), *_refusals(answers)):
        out.print(line, markup=False)


def report(key: Key, out_file: Annotated[Path, typer.Option("--out", help="The file, HTML; an existing one is replaced.")]) -> None:
    """Write an experiment's read-out as one HTML file that needs nothing else: numbers, drawings, assumptions, refusals and SQL."""
    from datetime import UTC, datetime

    from edge import read_outs, readout_page
    from infra.base import warehouse
    from infra.cli.words import Refusal, out

    with _asking():
        client = warehouse.reader()
        known = read_outs.known(client, key)
        found, step_s = read_outs.one(client, key, known)
    try:
        out_file.write_text(readout_page.document(found, known, step_s, datetime.now(UTC)), encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{out_file} cannot be written: {error.strerror}") from None
    out.print(f"{out_file}: {found.verdict}: {found.words}", markup=False)


def plan(
    metric: Annotated[str, typer.Argument(help="Key of the metric that is to decide.")],
    effect: Annotated[float, typer.Option(help="The relative change that is to be found: 0.02 is 2 %.")],
    like: Annotated[str, typer.Option(help="The experiment whose control is the baseline; without it the one with most units.")] = "",
    power: Annotated[float, typer.Option(help="How likely it is to be found.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="How likely a change is found where there is none.")] = 0.05,
    share: Annotated[float, typer.Option(help="The new variation's part of the units.")] = 0.5,
    units_a_day: Annotated[float, typer.Option(help="Units that come each day; without it as many as came to the baseline.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Say how many units and days an experiment needs, from what a control has come to."""
    from edge import read_outs
    from infra.base import warehouse
    from infra.cli.words import Refusal, out

    with _asking():
        try:
            found = read_outs.plan(warehouse.reader(), metric, effect, like, power, alpha, share, units_a_day)
        except ValueError as error:
            raise Refusal(f"this cannot be planned: {error}") from None
    if as_json:
        out.print_json(json.dumps(found))
        return
    days = {name: f", {found[f'{name}_days']:,} days" if found[f"{name}_days"] else "" for name in ("fixed", "always_valid")}
    baseline = f"{found['value']:.4g} in {found['control']} of {found['experiment']}"
    out.print(f"{metric} is {baseline}; a change of {effect:.2%} is {found['absolute']:.4g}")
    out.print(f"one look at the end: {found['fixed_units']:,} units{days['fixed']}")
    out.print(f"looking at any time, found by the end: {found['always_valid_units']:,} units{days['always_valid']}")
    if found["without_covariate_units"] != found["fixed_units"]:
        out.print(f"without the time before the exposure it were {found['without_covariate_units']:,} units")


def recompute(key: Key, as_json: AsJson = False) -> None:
    """Compute an experiment's sums once more from all stored exposures and measurements, and name every difference; none is expected."""
    from dataclasses import asdict

    from edge import read_outs
    from edge.recompute import recompute as once_more
    from infra.base import warehouse
    from infra.cli.words import Refusal, out

    with _asking():
        client = warehouse.reader()
        found = once_more(client, key, read_outs.known(client, key))
    count, wrong = found.cells, found.differences
    if as_json:
        out.print_json(json.dumps(asdict(found)))
    else:
        late = f"; {found.too_late:,} records came too late and count in neither" if found.too_late else ""
        out.print(f"{key}: {count:,} cells of sums, {len(wrong):,} differences between the stream and the raw tables{late}")
    for one in [] if as_json else wrong[:SHOWN]:
        out.print(f"{' / '.join(map(str, one.cell))}: streamed {one.streamed}, recomputed {one.recomputed}", markup=False)
    if wrong:
        raise Refusal(f"{len(wrong):,} of {count:,} cells differ: some rows may not have come through yet; else one of the two is wrong")


def _asked(metric: str, segment: str, asked_metric: str, asked_segment: str) -> bool:
    return asked_metric in ("", metric) and asked_segment in ("", segment)


@contextmanager
def _asking() -> Iterator[None]:
    """A question to the warehouse about an experiment."""
    from edge.read_outs import Unknown
    from infra.cli.words import Refusal, asking_warehouse

    with asking_warehouse():
        try:
            yield
        except Unknown as error:
            raise Refusal(str(error)) from None


def _summary(report: Report, known: Known) -> list[str]:
    experiment = known.experiment(report.experiment)
    units = ", ".join(f"{one.variation} {one.units:,}" for one in report.exposed)
    several = sum(one.in_several for one in report.exposed)
    return [
        f"experiment {report.experiment}, phase {report.phase}, {experiment.state}: {report.verdict}: {report.words}",
        f"exposed: {units}{f'; {several:,} seen in several and left out' if several else ''}; split p {report.split_p:.3g}",
        f"against {experiment.control.key}; always: valid at every look; fixed: once, at the planned end; alpha {experiment.plan.alpha:g}",
    ]  # fmt: skip


def _table(answers: list[Answer], experiment: Experiment) -> Table:
    """A line an answer, in 80 columns: what is the same in all lines stands in a heading, and a column without a cell is left out."""
    from rich.table import Table

    variations = {one.variation for one in answers}
    head = variations.pop() if len(variations) == 1 else ""
    lines = [_line(one, named=not head) for one in answers]
    heads = ("metric", "variation", "segment", experiment.control.key, head or "value", "effect", "always", "fixed", "p", "gain")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    shown = [at for at in range(len(heads)) if any(line[at] for line in lines)]
    for at in shown:
        table.add_column(heads[at], justify="left" if at < 3 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(line[at] for at in shown))
    return table


def _line(one: Answer, named: bool) -> tuple[str, ...]:
    about = one.metric, one.variation if named else "", one.segment, *map(_number, one.values)
    found, always, fixed = one.read.effect, one.read.always_valid, one.read.fixed
    if found is None or always is None or fixed is None:
        return *about, "refused", "", "", "", ""
    p = always.p if one.adjusted_p is None else one.adjusted_p
    effect = f"{found.estimate:+.2%}" if found.relative else f"{found.estimate:+.3g}"
    intervals = (_interval(each.low, each.high, found.relative) for each in (always, fixed))
    return *about, effect, *intervals, f"{p:.2g}", f"{one.read.gain:.0%}" if one.read.gain else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _interval(low: float, high: float, relative: bool) -> str:
    """To a hundredth of a per cent, or a tenth where it is wide."""
    if not relative:
        return f"{low:+.3g}…{high:+.3g}"
    digits = 2 if max(abs(low), abs(high)) < 0.1 else 1 if max(abs(low), abs(high)) < 1 else 0
    return f"{100 * low:+.{digits}f}…{high:+.{digits}%}"


def _guardrails(answers: list[Answer]) -> Iterator[str]:
    """What is known of each, in a line."""
    told = [f"{one.metric} {one.guard}" for one in answers if one.guard]
    if told:
        yield f"guardrails: {', '.join(dict.fromkeys(told))}"


def _refusals(answers: list[Answer]) -> Iterator[str]:
    """A line a cause: what refuses, and each of its reasons."""
    by_cause: dict[str, dict[str, list[str]]] = {}
    for one in answers:
        for refusal in one.read.refusals:
            metrics = by_cause.setdefault(refusal.cause, {}).setdefault(refusal.words, [])
            if one.metric not in metrics:
                metrics.append(one.metric)
    for cause, reasons in by_cause.items():
        yield f"refused, {cause}: " + "; ".join(f"{words} ({', '.join(metrics)})" for words, metrics in reasons.items())


def _list(known: Known, reports: list[Report], as_json: bool) -> None:
    from rich.table import Table

    from edge.read_outs import as_json as told
    from infra.cli.words import Refusal, out

    if as_json:
        out.print_json(json.dumps([told(one, known) for one in reports]))
        return
    if not reports:
        raise Refusal("there is no experiment yet: `headrace experiment publish` makes those of a folder known")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("experiment", "state", "units", "split p", "so far", "why"):
        longest = max(len(one.experiment) for one in reports) if column == "experiment" else None
        table.add_column(column, justify="right" if column in ("units", "split p") else "left", min_width=longest)
    for one in reports:
        units = sum(each.units for each in one.exposed)
        table.add_row(one.experiment, known.experiment(one.experiment).state, f"{units:,}", f"{one.split_p:.3g}", one.verdict, one.words)
    out.print(table)

"""A read-out as HTML, its drawings as SVG: what the board shows of an experiment, and the file that `headrace experiment report` writes.

Written once, on the server: the file needs no script, and the board's content security policy allows no inline style.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from math import isfinite
from pathlib import Path

from edge import read_outs
from edge.read_outs import Known, Told
from schemas.allocation.definition import Experiment, Metric
from streams.experiments.read_outs import DAY_S, WHOLE, Answer, Guard, Point, Report, Verdict, primary_of
from streams.experiments.statistics.readout import ReadOut

STATIC = Path(__file__).with_name("board") / "static"
LEVELS = {Verdict.SHIP: "good", Verdict.STOP: "bad", Verdict.HARM: "bad", Verdict.BROKEN: "bad", Verdict.SAME: "", Verdict.WAIT: ""}
GUARDS = {Guard.KEPT: "good", Guard.BROKEN: "bad", Guard.OPEN: ""}
FOREST = (150, 22)
"""Width and height of a row's drawing."""
CHART = (420, 150)
MARGIN = (56, 12, 10, 22)
"""Of a chart: left, right, top, bottom."""
BOUNDS = ("at_least", "floor", "cap", "at_most")
FARTHEST = 2.5
"""An interval that reaches this many times as far as the usual one is cut off at the drawing's edge."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def el(tag: str, attributes: dict[str, object] | None = None, *children: str | Iterable[str] | None) -> Markup:
    """An element; text among the children is text, whatever it contains."""
    told = "".join(f' {name}="{escape(str(value))}"' for name, value in (attributes or {}).items() if value not in (None, ""))
    return Markup(f"<{tag}{told}>{_inside(children)}</{tag}>")


def _inside(children: Iterable[str | Iterable[str] | None]) -> str:
    found = []
    for one in children:
        if one is None:
            continue
        if isinstance(one, str):
            found.append(one if isinstance(one, Markup) else escape(one))
        else:
            found.append(_inside(one))
    return "".join(found)


def body(report: Report, known: Known, step_s: int) -> Markup:
    """An experiment's read-out, for the inside of a page's <article>."""
    experiment = known.experiment(report.experiment)
    whole = [one for one in report.answers if one.segment == WHOLE]
    badge = _badge(report.verdict, LEVELS[report.verdict])
    parts = [
        el("header", {"class": "readout"}, el("h1", None, report.experiment), badge, el("p", None, report.words)),
        el("p", {"class": "about"}, experiment.about),
        _facts(report, known, experiment),
        el("h2", None, "Exposure"), _exposure(report),
        el("h2", None, "Metrics"), _legend(experiment), _forest(whole, known, experiment, "variation"),
        el("h2", None, "Over time"), _charts(report, known, step_s),
    ]  # fmt: skip
    if segments := [one for one in report.answers if one.segment != WHOLE]:
        parts += [el("h2", None, "Segments"), *_segments(segments, known, experiment)]
    parts += [el("h2", None, "What is measured"), _measured(known, experiment)]
    parts += [el("h2", None, "What it assumes"), _assumptions(report), el("h2", None, "SQL"), _sql(report, known, step_s)]
    return Markup("".join(parts))


def document(report: Report, known: Known, step_s: int, at: datetime) -> str:
    """The same as a file of its own, light or dark as the reader's system is; `at` is when it was asked."""
    css = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("board.css", "experiments.css"))
    css = re.sub(r'\[data-theme="dark"\] (\{.*?\n\})', r"@media (prefers-color-scheme: dark) { :root \1 }", css, count=1, flags=re.S)
    when = el("p", {"class": "words"}, f"as the warehouse told it at {at:%Y-%m-%d %H:%M:%S} UTC")
    page = el("main", {"class": "experiments report"}, el("article", None, body(report, known, step_s), when))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.experiment)} · Headrace</title>
<style>
{css}
</style>
</head>
<body>
{page}
</body>
</html>
"""


def _badge(words: str, level: str) -> Markup:
    return el("span", {"class": "badge", "data-level": level}, words)


def _facts(report: Report, known: Known, experiment: Experiment) -> Markup:
    told = known.told.get(report.experiment)
    started = f"{datetime.fromtimestamp(told.started_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC" if told and told.started_ms else "–"
    units, planned = sum(one.units for one in report.exposed), experiment.plan.units
    facts = [
        ("State", experiment.state + (f": {experiment.shipped}" if experiment.shipped else "")), ("Started", started),
        ("Units", f"{units:,}" + (f" of {planned:,}" if planned else "")), ("Unit", experiment.unit), ("Flag", experiment.flag),
        ("Decides", primary_of(experiment) or "nothing"), ("Split p", _p(report.split_p)), ("Alpha", f"{experiment.plan.alpha:g}"),
        ("Phase", str(report.phase)), ("Owner", experiment.owner), ("Segments", ", ".join(experiment.segments) or "none"),
        ("Last change", _change(told)),
    ]  # fmt: skip
    return el("dl", {"class": "facts"}, [el("div", None, el("dt", None, name), el("dd", None, value)) for name, value in facts])


def _change(told: Told | None) -> str:
    if told is None:
        return "–"
    return f"{told.action.lower().replace('_', ' ')} by {told.author}" + (f": {told.reason}" if told.reason else "")


def _exposure(report: Report) -> Markup:
    units, weights = sum(one.units for one in report.exposed), sum(one.weight for one in report.exposed)
    if not units:
        return el("p", {"class": "words"}, "nobody has been exposed yet: who meets the flag is told by the gateway at the press of play")
    rows = []
    for one in report.exposed:
        share, wanted = one.units / units, one.weight / weights
        drawn = [_rect("track", 0, 7, 120, 8), _rect("share", 0, 7, 120 * share, 8), _line("wanted", 120 * wanted, 3, 120 * wanted, 19)]
        cells = [one.variation, f"{one.units:,}", f"{share:.2%}", f"{wanted:.2%}", f"{one.in_several:,}"]
        rows.append(el("tr", None, el("td", None, cells[0]), el("td", None, _svg(120, 22, drawn)), [_figure(cell) for cell in cells[1:]]))
    sure = "broken: no result is shown" if report.split_p < 0.001 else "as designed"
    head = _head([("Variation", 0), ("", 0), ("Units", 1), ("Share", 1), ("Designed", 1), ("Left out, seen in several", 1)])
    words = el("p", {"class": "words"}, f"The split is {sure} (sequential test, p = {_p(report.split_p)}).")
    return Markup(el("div", {"class": "card"}, el("div", {"class": "scroll"}, el("table", None, head, el("tbody", None, rows)))) + words)


def _legend(experiment: Experiment) -> Markup:
    drawn = [_line("always", 2, 11, 58, 11), _rect("fixed", 14, 8, 32, 6), Markup('<circle class="estimate" cx="30" cy="11" r="3.5"/>')]
    words = (
        f"against {experiment.control.key}; the line is the interval that is valid at every look, the bar the one for one look at the "
        "planned end; green is better, red is worse, both only where the line leaves zero out"
    )
    return el("p", {"class": "words legend-words"}, _svg(60, 22, drawn), words)


def _forest(answers: Sequence[Answer], known: Known, experiment: Experiment, by: str) -> Markup:
    """A row an answer, on one scale for those that are relative."""
    if not answers:
        return el("p", {"class": "words"}, "the experiment names no metric")
    scale = _scale([one.read for one in answers if one.read.effect and one.read.effect.relative])
    rows = []
    for one in answers:
        metric = known.metrics[one.metric]
        named = el("td", {"title": metric.about}, one.metric) if by == "variation" else None
        whose = el("td", None, one.variation if by == "variation" else one.segment.partition("=")[2])
        more = el("td", None, one.variation) if by != "variation" else None
        values = [_figure(_value(value, metric.unit)) for value in one.values]
        if one.read.effect is None or one.read.always_valid is None:
            why = "; ".join(f"{refusal.cause}: {refusal.words}" for refusal in one.read.refusals)
            rows.append(
                el("tr", {"class": "refused"}, named, whose, more, values, el("td", {"colspan": 4, "class": "why"}, why), _guard(one, by))
            )
            continue
        found = one.read.effect
        own = scale if found.relative else _scale([one.read])
        effect = el("td", {"class": "figure", "data-level": _level(one.read, metric)}, _effect(found.estimate, found.relative))
        p = _p(one.read.always_valid.p if one.adjusted_p is None else one.adjusted_p)
        gain = f"{one.read.gain:.0%}" if one.read.gain else "–"
        rows.append(
            el(
                "tr",
                None,
                named,
                whose,
                more,
                values,
                effect,
                el("td", None, _interval(one.read, metric, own)),
                _figure(p),
                _figure(gain),
                _guard(one, by),
            )
        )
    first = [("Metric", 0), ("Variation", 0)] if by == "variation" else [(by, 0), ("Variation", 0)]
    axis = f"± {scale:.1%}" if scale else ""
    guard = [("Guardrail", 0)] if by == "variation" else []
    gained = "Gain of CUPED and strata" if experiment.plan.strata and by == "variation" else "CUPED gain"
    head = _head([*first, (experiment.control.key, 1), ("Value", 1), ("Effect", 1), (axis, 0), ("Adjusted p", 1), (gained, 1), *guard])
    return el("div", {"class": "card"}, el("div", {"class": "scroll"}, el("table", None, head, el("tbody", None, rows))))


def _guard(one: Answer, by: str) -> Markup | None:
    if by != "variation":
        return None
    return el("td", None, _badge(one.guard, GUARDS[one.guard]) if one.guard else "")


def _segments(answers: Sequence[Answer], known: Known, experiment: Experiment) -> list[Markup]:
    """A fold for each attribute and metric, the deciding one open."""
    found = []
    for metric in experiment.measured:
        for attribute in experiment.segments:
            some = [one for one in answers if one.metric == metric and one.segment.startswith(f"{attribute}=")]
            if some:
                marked = {"open": "open"} if metric == primary_of(experiment) else {}
                title = el("summary", None, f"{metric} by {attribute.replace('_', ' ')}")
                found.append(
                    el(
                        "details",
                        {"id": f"{metric}-{attribute}", **marked},
                        title,
                        _forest(some, known, experiment, attribute.replace("_", " ")),
                    )
                )
    return found


def _charts(report: Report, known: Known, step_s: int) -> Markup:
    """A chart for each metric and variation."""
    drawn = [
        el(
            "article",
            {"class": "panel w4"},
            el("header", None, el("h3", {"title": known.metrics[metric].about}, f"{metric}: {variation}")),
            el("div", {"class": "body"}, _over_time(points, known.metrics[metric], step_s)),
        )
        for (metric, variation), points in report.over_time.items()
    ]
    if not drawn:
        return el("p", {"class": "words"}, "no sums have come yet: they come with the first exposure, after a checkpoint of the job")
    return el("div", {"class": "grid"}, drawn)


def _over_time(points: Sequence[Point], metric: Metric, step_s: int) -> Markup:
    """Both intervals around the estimate, over the steps that have one."""
    read = [one for one in points if one.read.effect is not None]
    if not read:
        refused = points[-1].read.refusals[0]
        return el("p", {"class": "note"}, f"{refused.cause}: {refused.words}")
    relative = {one.read.effect.relative for one in read if one.read.effect}
    if len(relative) > 1:  # what is near zero at first is absolute there: one axis cannot show both
        read = [one for one in read if one.read.effect and one.read.effect.relative]
    is_relative = relative != {False}
    width, height = CHART
    left, right, top, bottom = MARGIN
    limit = _scale([one.read for one in read]) or 1.0
    least = max(-limit, min(0.0, *(_ends(one.read, "always_valid")[0] for one in read)))
    most = min(limit, max(0.0, *(_ends(one.read, "always_valid")[1] for one in read)))
    first, last = points[0].step, points[-1].step
    dated = first * step_s // DAY_S < last * step_s // DAY_S

    def x(step: int) -> float:
        return left + (width - left - right) * ((step - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (most - max(least, min(most, value))) / (most - least)

    drawn = [_line("zero", left, y(0), width - right, y(0))]
    for value in (least, 0.0, most):
        if value == 0 or abs(y(value) - y(0)) > 14:
            drawn.append(_text("axis end", left - 5, y(value) + 3.5, "0" if value == 0 else _effect(value, is_relative)))
    for name in ("always_valid", "fixed"):
        ends = [(x(one.step), *_ends(one.read, name)) for one in read]
        if len(ends) == 1:
            ends = [(ends[0][0] - 6, *ends[0][1:]), (ends[0][0] + 6, *ends[0][1:])]
        there = [f"{at:.1f},{y(high):.1f}" for at, _, high in ends]
        back = [f"{at:.1f},{y(low):.1f}" for at, low, _ in reversed(ends)]
        drawn.append(Markup(f'<polygon class="{"always" if name == "always_valid" else name}" points="{" ".join(there + back)}"/>'))
    estimates = [(x(one.step), y(one.read.effect.estimate), one) for one in read if one.read.effect]
    drawn.append(Markup(f'<polyline class="estimate" points="{" ".join(f"{at:.1f},{value:.1f}" for at, value, _ in estimates)}"/>'))
    for at, value, one in estimates:
        title = el("title", None, f"{_when(one.step, step_s, dated)}: {one.units:,} units, {_told(one.read)}")
        drawn.append(Markup(f'<circle class="point" cx="{at:.1f}" cy="{value:.1f}" r="{3 if len(read) == 1 else 2}">{title}</circle>'))
    drawn.append(_text("axis", left, height - 5, _when(first, step_s, dated)))
    if last > first:
        drawn.append(_text("axis end", width - right, height - 5, _when(last, step_s, dated)))
    return _svg(width, height, drawn, label=f"{metric.key} over time: {_told(read[-1].read)}")


def _assumptions(report: Report) -> Markup:
    said: dict[str, list[str]] = {}
    for one in report.answers:
        for words in one.read.assumes:
            metrics = said.setdefault(words, [])
            if one.metric not in metrics:
                metrics.append(one.metric)
    count = len({one.metric for one in report.answers})
    lines = [
        el("li", None, words, el("span", None, f" ({', '.join(metrics)})") if len(metrics) < count else None)
        for words, metrics in said.items()
    ]
    return el("ul", {"class": "assumes"}, lines) if lines else el("p", {"class": "words"}, "nothing is said, so nothing is assumed")


def _measured(known: Known, experiment: Experiment) -> Markup:
    """Each metric as it is defined."""
    rows = []
    for key in experiment.measured:
        one = known.metrics[key]
        of = f"{one.field} ÷ {one.denominator}" if one.denominator else one.field or ""
        how = " ".join(filter(None, [f"{one.quantile:g}" if one.quantile else "", one.aggregation.replace("_", " "), of and f"of {of}"]))
        bounds = [f"{name.replace('_', ' ')} {bound:g}" for name in BOUNDS if (bound := getattr(one, name)) is not None]
        windows = f"{_span(one.window_s)} after, {_span(one.covariate_s)} before" if one.covariate_s else f"{_span(one.window_s)} after"
        margin = f"{one.guardrail_margin:g} {one.unit}" if key in experiment.guardrails else "–"
        when = ", ".join(f"{name} {_asks(asks)}" for name, asks in one.when.items())
        cells = (key, one.about, f"{how}, {one.topic}", when or "–", ", ".join(bounds) or "–", windows, one.better, margin)
        rows.append(el("tr", None, [el("td", None, cell) for cell in cells]))
    names = ("Metric", "What", "How", "Where", "Bounds", "Exposure’s time", "Better", "Margin")
    head = _head([(name, 0) for name in names])
    folded = el("summary", None, "How each metric comes about")
    table = el("div", {"class": "scroll"}, el("table", None, head, el("tbody", None, rows)))
    return el("details", {"id": "measured"}, folded, table)


def _asks(asks: object) -> str:
    """A metric's condition on a field, in signs."""
    return ", ".join(f"{name} {value}" for name, value in asks.items()) if isinstance(asks, dict) else f"= {asks}"


def _span(seconds: int) -> str:
    for name, length in (("d", DAY_S), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {name}"
    return f"{seconds} s"


def _sql(report: Report, known: Known, step_s: int) -> Markup:
    sums, *steps = read_outs.statements(report, known, step_s)
    folds = [_statement("sql", "The sums behind it, as they are asked of the warehouse", sums)]
    folds += [_statement("sql-steps", "What was known at each step, from every exposure and measurement", one) for one in steps]
    return Markup("".join(folds))


def _statement(name: str, words: str, sql: str) -> Markup:
    return el("details", {"id": name}, el("summary", None, words), el("pre", {"tabindex": "0"}, el("code", None, sql)))


def _interval(read: ReadOut, metric: Metric, limit: float) -> Markup:
    """One effect with both intervals on ± limit."""
    width, height = FOREST
    middle = height / 2

    def x(value: float) -> float:
        return width / 2 + (width / 2 - 3) * max(-1.0, min(1.0, value / limit))

    always, fixed = _ends(read, "always_valid"), _ends(read, "fixed")
    effect = read.effect.estimate if read.effect else 0.0
    drawn = [
        _line("zero", width / 2, 0, width / 2, height),
        _line("always", x(always[0]), middle, x(always[1]), middle),
        _rect("fixed", x(fixed[0]), middle - 3, max(1.0, x(fixed[1]) - x(fixed[0])), 6),
        Markup(f'<circle class="estimate" cx="{x(effect):.1f}" cy="{middle}" r="3.5"/>'),
        el("title", None, _told(read)),
    ]
    return _svg(width, height, drawn, level=_level(read, metric), label=_told(read))


def _level(read: ReadOut, metric: Metric) -> str:
    """Good or bad where the always-valid interval leaves zero out."""
    if read.always_valid is None or read.effect is None or read.always_valid.low <= 0 <= read.always_valid.high:
        return ""
    return "good" if (read.effect.estimate > 0) is (metric.better == "higher") else "bad"


def _ends(read: ReadOut, name: str) -> tuple[float, float]:
    result = getattr(read, name)
    return (result.low, result.high) if result else (0.0, 0.0)


def _scale(reads: Iterable[ReadOut]) -> float:
    """How far the axis reaches on each side: as far as the intervals, but for those far beyond the usual; 0 where there is none."""
    ends = sorted(end for read in reads for end in [max(map(abs, _ends(read, "always_valid")))] if isfinite(end) and end > 0)
    return min(ends[-1], FARTHEST * ends[len(ends) // 2]) if ends else 0.0


def _told(read: ReadOut) -> str:
    if read.effect is None or read.always_valid is None or read.fixed is None:
        return "refused"
    relative = read.effect.relative
    always, fixed = (" … ".join(_effect(end, relative) for end in (one.low, one.high)) for one in (read.always_valid, read.fixed))
    return f"{_effect(read.effect.estimate, relative)}, at every look {always}, at one look {fixed}"


def _effect(value: float, relative: bool) -> str:
    return f"{value:+.{0 if abs(value) >= 1 else 1 if abs(value) >= 0.1 else 2}%}" if relative else f"{value:+.3g}"


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    figure = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{figure} {unit}" if len(unit) <= 8 else figure


def _p(value: float) -> str:
    return "1" if value >= 0.9995 else f"{value:.3f}" if value >= 0.001 else f"{value:.1e}" if value > 0 else "0"


def _when(step: int, step_s: int, dated: bool) -> str:
    """A step's begin; `dated`: with its day, because not all steps are of one."""
    at = datetime.fromtimestamp(step * step_s, UTC)
    if step_s == DAY_S:
        return f"{at:%Y-%m-%d}"
    return (f"{at:%-d %b} " if dated else "") + (f"{at:%H:%M} UTC" if step_s >= 60 else f"{at:%H:%M:%S} UTC")


def _head(columns: Sequence[tuple[str, int]]) -> Markup:
    return el(
        "thead", None, el("tr", None, [el("th", {"class": "figure" if figure else "", "scope": "col"}, name) for name, figure in columns])
    )


def _figure(text: str) -> Markup:
    return el("td", {"class": "figure"}, text)


def _svg(width: float, height: float, drawn: Iterable[str], level: str = "", label: str = "") -> Markup:
    told = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}", "class": "drawing", "data-level": level}
    return el("svg", {**told, "role": "img" if label else "", "aria-label": label, "aria-hidden": "" if label else "true"}, drawn)


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup(f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def _rect(name: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup(f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')


def _text(name: str, x: float, y: float, text: str) -> Markup:
    return Markup(f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

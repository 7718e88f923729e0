"""`headrace experiment effects`: what the demo's experiments must come to, because everybody was seen in every variation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from producers.abr.prior import Prior
    from producers.encoders.titles import Title
    from producers.players.memory import Files
    from producers.players.population import Viewer
    from schemas.allocation.definition import AnyDefinition, Experiment, Metric
    from streams.experiments.read_outs import Row

TOPIC = "playback.qoe_session"
"""What players' sessions come to; metrics of other topics have no known effect."""
EVENING_MS = 1_780_340_400_000
"""2026-06-01 19:00 UTC."""
EVE_MS = EVENING_MS - 3_600_000
APART_MS = 600_000
"""From one press of play of a member to the next."""
WATCHED_DAYS = 8
"""Nothing more happens, so that times to an event are known to the end of their window."""
GROUPS = 20
"""Of members, for the error: the jackknife leaves out one after another."""


@dataclass(frozen=True)
class Effect:
    """What a metric is when everybody is in the control (the first of `values`) and when everybody is in the variation, in its unit.

    `relative` and `absolute` are variation against control; the errors are standard errors for other members of the same kind, paired:
    both times the same members pressed play, on the same networks. None where there is no value, or nothing to divide by.
    """

    experiment: str
    metric: str
    unit: str
    control: str
    variation: str
    values: tuple[float | None, float | None]
    relative: float | None
    relative_error: float | None
    absolute: float | None
    absolute_error: float | None


@dataclass(frozen=True)
class Play:
    """One member's sessions with some flags: the facts that the product would have of them."""

    who: Viewer
    facts: list[dict[str, Any]]
    """`playback.qoe_session`, event_time in ms."""


def effects(
    members: Annotated[int, typer.Option(min=2, help="How many members play; the demo has 600.")] = 600,
    sessions: Annotated[int, typer.Option(min=1, help="How often each of them presses play.")] = 2,
    seed: Annotated[int, typer.Option(help="Draws members, networks, titles and what they do; the demo's is 1.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one list.")] = False,
) -> None:
    """Play the demo's members without a stack, once in each variation of each experiment, and print the true effects."""
    from rich.progress import Progress

    from infra.cli.words import err, out
    from producers.encoders.titles import TITLES
    from producers.experiments.publish import written
    from producers.players.memory import title_files

    files = {path: content for title in TITLES for path, content in title_files(title).items()}
    with Progress(console=err, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("playing", total=None)
        found = list(
            known(written(), TITLES, files, members, sessions, seed, lambda share: progress.update(task, total=1, completed=share))
        )
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    for experiment in dict.fromkeys(one.experiment for one in found):
        out.print(_table([one for one in found if one.experiment == experiment]))
        out.print()


def known(
    definitions: Sequence[AnyDefinition], titles: Sequence[Title], files: Files, members: int, sessions: int, seed: int,
    done: Callable[[float], None] = lambda share: None,
) -> Iterator[Effect]:  # fmt: skip
    """The effects of all running experiments, on members who get of the other flags what the table deals them.

    What players may expect of their throughput is learnt from a session of each of them before. `done` is told the share of the work.
    """
    from producers.players.memory import watched
    from producers.players.population import viewer
    from schemas.allocation.definition import Experiment, Metric, folded
    from schemas.allocation.engine import Context, Table

    viewers = [viewer(number, seed) for number in range(1, members + 1)]
    experiments = [one for one in definitions if isinstance(one, Experiment) and one.state == "running"]
    metrics = {one.key: one for one in definitions if isinstance(one, Metric) and one.topic == TOPIC}
    plays = len(viewers) * (1 + sessions * sum(len(one.variations) for one in experiments))
    count = iter(range(1, plays + 1))

    def facts(who: Viewer, number: int, at_ms: int, flags: Mapping[str, Any], prior: Prior | None) -> list[dict[str, Any]]:
        member = who.device.member
        told = watched(who, titles, files, Random(f"{seed}/{member}/{number}"), f"{member}-{number}", at_ms, flags, prior)
        done(next(count) / plays)
        return [{**one.fields, "event_id": one.event_id, "event_time": one.event_time_ms} for one in told]

    table = Table(folded(definitions))
    dealt = {
        who: {flag: one.value for flag, one in table.decide_all(Context(_attributes(who), EVENING_MS)).items()} for who in viewers
    }  # fmt: skip
    priors = _priors({who: facts(who, 0, EVE_MS, dealt[who], None) for who in viewers})
    for experiment in experiments:
        asked = [key for key in experiment.measured if key in metrics]
        plan = experiment.plan.model_copy(update={"strata": None})
        narrowed = experiment.model_copy(update={"metrics": asked, "guardrails": [], "segments": {}, "plan": plan})
        rows = []
        for variation in experiment.variations:
            played = []
            for who in viewers:
                flags = {**dealt[who], experiment.flag: variation.value}
                told = [
                    facts(who, number, EVENING_MS + number * APART_MS, flags, priors[who]) for number in range(1, sessions + 1)
                ]  # fmt: skip
                played.append(Play(who, [fact for reports in told if (fact := _fact(who, reports))]))
            rows.append([_rows(experiment, variation.key, played[group::GROUPS], metrics) for group in range(min(GROUPS, members))])
        yield from _effects(narrowed, metrics, [[row for its in rows for row in its[group]] for group in range(len(rows[0]))])


def _attributes(who: Viewer) -> dict[str, Any]:
    """What the gateway decides by. It has pseudonyms, which differ from stack to stack; plain names deal as well."""
    on = who.device
    return {"member_id": on.member, "device_type": on.kind, "network_type": on.network_type, "region": on.region}


def _priors(reports: Mapping[Viewer, list[dict[str, Any]]]) -> dict[Viewer, Prior | None]:
    """What the gateway would say of each member's throughput once these have been seen."""
    from edge.steering.priors import told
    from producers.abr.features import Features
    from producers.abr.prior import Prior
    from streams.playback import features

    seen = Features()
    decisions = [
        {"sid": its[0]["sid"], "event_time": its[0]["event_time"], "client_prefix": _prefix(who), "isp_asn": who.device.asn,
         "region": who.device.region}
        for who, its in reports.items()
    ]  # fmt: skip
    for row in features.rows(features.sessions((one for its in reports.values() for one in its), decisions)):
        seen.fold(row, row["event_time"])
    found: dict[Viewer, Prior | None] = {}
    for who in reports:
        on = who.device
        prior = told(seen, _prefix(who), on.asn, on.region, EVENING_MS, on.kind, on.network_type)
        found[who] = None if prior is None else Prior(**prior)
    return found


def _prefix(who: Viewer) -> str:
    """The prefix of a member's ISP in his region, a quarter of a /24."""
    network, _, host = who.device.address.rpartition(".")
    return f"{network}.{int(host) // 64 * 64}/26"


def _fact(who: Viewer, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The session as `qoe_sessions` tells of it."""
    from streams.playback import qoe

    fields = qoe.session(map(qoe.Report.of, reports))
    member = {"member_id": who.device.member, "sid": reports[0]["sid"]}
    return None if fields is None else {**fields, **member, "event_time": fields["started_at"]}


def _rows(experiment: Experiment, variation: str, played: Sequence[Play], metrics: Mapping[str, Metric]) -> list[Row]:
    """What the stream would sum up of a variation that all of these are in."""
    from streams.experiments.batch import DAY_MS, PRODUCTS, statistics
    from streams.experiments.counted import counted, measured
    from streams.experiments.read_outs import NOTHING, WHOLE, Row, Totals

    exposures, measurements = [], []
    for play in played:
        unit = {"unit": play.who.device.member, "unit_name": experiment.unit}
        met = {f"{experiment.key}.{experiment.phase}": variation}
        exposures.append({**unit, "event_id": "", "event_time": EVENING_MS, "variations": met, "segments": {}})
        for fact in play.facts:
            identity = {"source": TOPIC, "measurement_id": fact["sid"], "version": fact["reports"], "event_time": fact["event_time"]}
            measurements.append({**unit, **identity, "measured": measured(metrics.values(), fact)})
    day = EVENING_MS // DAY_MS
    rows = [Row(variation, WHOLE, "", -1, day + WATCHED_DAYS, 0, 0, NOTHING)]
    for cell, sums in statistics(exposures, measurements, counted(metrics.values())).items():
        totals = Totals(*(sums.get(f"sum_{name}", 0) for name in ("x", "y", "u", "v", *PRODUCTS)))
        of = sums.get("n", 0), sums.get("measured", 0), totals
        rows.append(Row(variation, WHOLE, cell.metric, cell.value_bucket, cell.day, *of))
    return rows


def _effects(experiment: Experiment, metrics: Mapping[str, Metric], groups: Sequence[Sequence[Row]]) -> Iterator[Effect]:
    """Values as read-outs have them; errors by the jackknife over groups of members (B. Efron, C. Stein, Annals of Statistics 1981)."""
    from streams.experiments.read_outs import report

    def values(without: int = -1) -> dict[tuple[str, str], tuple[float | None, float | None]]:
        rows = [row for group, its in enumerate(groups) if group != without for row in its]
        return {(one.metric, one.variation): one.values for one in report(experiment, metrics, rows).answers}

    whole, parts = values(), [values(group) for group in range(len(groups))]
    for (key, variation), found in whole.items():
        each = [part[key, variation] for part in parts]
        about = experiment.key, key, metrics[key].unit, experiment.control.key, variation, found
        yield Effect(*about, _relative(found), _error([*map(_relative, each)]), _absolute(found), _error([*map(_absolute, each)]))


def _relative(values: tuple[float | None, float | None]) -> float | None:
    control, variation = values
    return None if control is None or variation is None or control == 0 else variation / control - 1


def _absolute(values: tuple[float | None, float | None]) -> float | None:
    control, variation = values
    return None if control is None or variation is None else variation - control


def _error(left: Sequence[float | None]) -> float | None:
    """Standard error, of estimates each without one of the groups; None where one of them is missing."""
    known = [one for one in left if one is not None]
    if len(known) < len(left):
        return None
    mean = sum(known) / len(known)
    return sqrt((len(known) - 1) / len(known) * sum((one - mean) ** 2 for one in known))


def _table(found: Sequence[Effect]) -> Table:
    """A line a metric and variation."""
    from rich.table import Table

    first = found[0]
    several = len({one.variation for one in found}) > 1
    table = Table(box=None, header_style="bold", pad_edge=False, title=first.experiment, title_justify="left")
    for column in ("metric", first.control, "" if several else first.variation, "effect", "± error"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    for one in found:
        metric = f"{one.metric} {one.variation}" if several else one.metric
        by, error = (one.relative, one.relative_error) if one.relative is not None else (one.absolute, one.absolute_error)
        form = "{:+.2%}" if one.relative is not None else "{:+.4g}"
        table.add_row(
            metric, *("" if value is None else f"{value:,.6g}" for value in one.values), "" if by is None else form.format(by),
            "" if error is None else form.format(error).lstrip("+"),
        )  # fmt: skip
    return table

"""`headrace abr explain`: a session's bandwidth, what was expected of it, its buffer, its choices and what they cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import log
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from producers.abr.explain import Explained, Segment

REPORTS = """
SELECT
  sid, cid, abr, toUnixTimestamp64Milli(event_time) AS event_time, target, marker, e, sta, ot, br_kbps, tb_kbps, bl_ms, d_ms, rc, bytes,
  ttlb_ms, custom
FROM playback_report
WHERE sid = {sid:String} AND NOT marker
ORDER BY event_time, sn
LIMIT 1 BY event_id
"""
LADDER = """
SELECT arraySort(groupUniqArray(assumeNotNull(br_kbps)))
FROM playback_report
WHERE cid = {cid:String} AND e = 'rr' AND ot = 'v' AND rc = 200 AND br_kbps > 0 AND br_kbps <= {tb:UInt32} AND NOT marker
"""
BESIDE = 50
"""Characters of a line that the strip does not have."""
STRIP = (28, 90)
"""Characters that throughput is drawn in: as many as the terminal has, at least and at most."""
BAR = 8
"""Characters of the fullest buffer."""


def explain(
    session: Annotated[str, typer.Argument(help="Its sid.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one object.")] = False,
) -> None:
    """Draw why a session got its bitrates: bandwidth, prediction, buffer, choices, and their regret against knowing the future."""
    from infra.cli.when import Progress
    from infra.cli.words import Refusal, out
    from producers.abr.explain import Unexplained
    from producers.abr.explain import explain as explained
    from producers.abr.policy import load

    reports = _ask(REPORTS, {"sid": session})
    if not reports:
        some = "headrace query 'SELECT DISTINCT sid FROM playback_report LIMIT 9'"
        raise Refusal(f"no session {session} is in the warehouse: `{some}` shows some that are")
    try:
        found = explained(reports, _ladder(reports), load(), Progress("explained", "segments"))
    except Unexplained as error:
        raise Refusal(f"session {session} cannot be explained: {error}") from None
    if as_json:
        out.print_json(json.dumps(asdict(found) | {"regret": found.regret}))
        return
    for line in _summary(found):
        out.print(line, markup=False)
    out.print(_drawn(found, min(max(out.width - BESIDE, STRIP[0]), STRIP[1])))


def _ask(sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    from infra.base import warehouse
    from infra.cli.words import asking_warehouse

    with asking_warehouse():
        return [dict(row) for row in warehouse.reader().query(sql, parameters=parameters).named_results()]


def _ladder(reports: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """As the player told it, else what sessions of the title have fetched that this one might have."""
    from producers.abr.explain import told_ladder

    if told := told_ladder(reports):
        return told
    cid = next((report["cid"] for report in reports if report["cid"]), "")
    top = max((report["tb_kbps"] or 0 for report in reports), default=0) or 2**31
    (row,) = _ask(LADDER, {"cid": cid, "tb": top})
    return tuple(float(kbps) for kbps in next(iter(row.values())))


def _summary(found: Explained) -> list[str]:
    """What it comes to, in words."""
    agreed = sum(segment.level == segment.policy_level for segment in found.segments)
    of_prior = found.prior and f"expected {found.prior.mean_log_kbps:.2f} ± {found.prior.sd_log_kbps:.2f} ln(kbit/s) at the begin"
    return [
        f"session {found.sid} of {found.cid or 'an unnamed title'}: {len(found.segments)} segments on "
        f"{', '.join(f'{kbps:g}' for kbps in found.ladder_kbps)} kbit/s, chosen by {found.abr or 'an algorithm that it does not tell'}",
        f"reward {found.reward:.3f} a segment, {found.rebuffer_s:.1f} s of rebuffering; with the future known {found.plan_reward:.3f}, "
        f"{found.plan_rebuffer_s:.1f} s; regret {found.regret:.3f}",
        "░ throughput expected in 8 of 10 cases, │ its middle, ● as it came; policy, best: levels of the installed policy and of the plan "
        "which knows the future, · the same; regret: in all so far",
        f"the installed policy takes the same level in {agreed} of {len(found.segments)} segments; {of_prior or 'nothing was expected'}",
    ]


def _drawn(found: Explained, width: int) -> Table:
    """A line a segment."""
    from rich.table import Table

    low, high = _range(found.segments)
    most = f"{high:,.0f} kbit/s"
    scale = f"{low:,.0f}".ljust(width - len(most)) + most
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("at", "kbit/s", scale, "buffer s", "policy", "best", "regret"):
        table.add_column(column, justify="left" if column in (scale, "buffer s") else "right", no_wrap=True)
    regret, fullest_s = 0.0, max(segment.buffer_s for segment in found.segments) or 1.0
    for segment in found.segments:
        regret += segment.plan_reward - segment.reward
        kbps = found.ladder_kbps
        others = ("·" if level == segment.level else f"{kbps[level]:g}" for level in (segment.policy_level, segment.plan_level))
        table.add_row(
            f"{int(segment.at_s) // 60}:{int(segment.at_s) % 60:02}", f"{kbps[segment.level]:g}", strip(segment, low, high, width),
            f"{segment.buffer_s:4.1f} {bar(segment.buffer_s / fullest_s)}", *others, f"{regret:.2f}",
        )  # fmt: skip
    return table


def _range(segments: Sequence[Segment]) -> tuple[float, float]:
    """The throughputs at the ends of the strip: all that came are on it."""
    came = [segment.throughput_kbps for segment in segments]
    return min(came) * 0.8, max(came) * 1.25


def strip(segment: Segment, low: float, high: float, width: int) -> str:
    """Throughput on a logarithmic scale: what came, and before it what was expected."""
    cells = [" "] * width

    def at(kbps: float) -> int:
        return min(max(round((width - 1) * log(kbps / low) / log(high / low)), 0), width - 1)

    if segment.expected_kbps[1] > 0:
        least, middle, most = (at(kbps) for kbps in segment.expected_kbps)
        cells[least : most + 1] = "░" * (most + 1 - least)
        cells[middle] = "│"
    cells[at(segment.throughput_kbps)] = "●"
    return "".join(cells)


def bar(share: float) -> str:
    """How full a buffer is, in eighths of a character."""
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()

"""`headrace fill`: what cache servers hold, fetch and let go, why, and what is announced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="See and explain what cache servers are filled with; announce titles.", no_args_is_help=True)

EXPLAIN = """
SELECT
  event_time, plan_id, why, here, rank, of, value, cut, expected_plays, expected_bytes, bytes, source, ocas
FROM delivery_fill_reason
WHERE NOT marker AND oca_id = {oca:String} AND unit = {unit:String}
ORDER BY event_time DESC, topic_offset DESC
LIMIT 1
"""
KNOWN = """
SELECT groupUniqArrayIf(oca_id, unit = {unit:String}), groupUniqArrayIf(unit, oca_id = {oca:String})
FROM delivery_fill_reason
WHERE NOT marker AND (oca_id = {oca:String} OR unit = {unit:String})
"""
STEPS = """
SELECT event_time, kind, source, bytes, total_bytes, reason, detail
FROM delivery_fill
WHERE NOT marker AND oca_id = {oca:String} AND cid = {unit:String}
ORDER BY event_time DESC, topic_offset DESC
LIMIT 5
"""
STATUS = """
WITH
  plans AS (
    SELECT
      oca_id, argMax(plan_id, at) AS plan_id, argMax(length(fills), at) AS fills, argMax(length(evictions), at) AS evictions,
      argMax(fill_bytes, at) AS fill_bytes, argMax(disk_bytes, at) AS disk_bytes, argMax(window_start, at) AS window_start,
      argMax(window_end, at) AS window_end
    FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_fill_plan WHERE NOT marker)
    GROUP BY oca_id
  ),
  held AS (
    SELECT oca_id, countIf(is_held) AS assets, sumIf(size, is_held) AS held_bytes
    FROM (
      SELECT oca_id, item, argMax(held, (event_time, topic_offset)) AS is_held, argMax(bytes, (event_time, topic_offset)) AS size
      FROM delivery_content
      WHERE NOT marker
      GROUP BY oca_id, item
    )
    GROUP BY oca_id
  ),
  steps AS (
    SELECT oca_id, plan_id, countIf(kind = 'COMPLETED') AS completed, countIf(kind = 'FAILED') AS failed
    FROM delivery_fill
    WHERE NOT marker
    GROUP BY oca_id, plan_id
  )
SELECT oca_id, assets, held_bytes, disk_bytes, fills, completed, failed, evictions, fill_bytes, window_start, window_end
FROM plans
LEFT JOIN held USING (oca_id)
LEFT JOIN steps USING (oca_id, plan_id)
ORDER BY oca_id
"""


@app.command()
def status() -> None:
    """Show each cache server: what it holds, and how far its newest fill plan is."""
    from rich.table import Table

    from infra.cli.words import out

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("server", "titles", "held MB", "of MB", "to fetch", "MB", "fetched", "failed", "to go", "window, UTC"):
        table.add_column(name, justify="left" if name in ("server", "window, UTC") else "right", no_wrap=True)
    for oca, assets, held, disk, fills, completed, failed, evictions, size, start, end in _ask(STATUS, {}):
        counts = (assets, _mb(held), _mb(disk), fills, _mb(size), completed, failed, evictions)
        table.add_row(oca, *(str(count) for count in counts), f"{start:%H:%M} to {end:%H:%M}")
    if not table.row_count:
        out.print("no fill plan has been told yet: plans are made when cache servers and titles are known")
        return
    out.print(table)


@app.command()
def explain(
    oca: Annotated[str, typer.Argument(help="A cache server, by its oca_id.")],
    title: Annotated[str, typer.Argument(help="A title, by its cid; an interactive title by its unit.")],
) -> None:
    """Say why a title is, or is not, on a cache server, and how its last fills went."""
    from infra.cli.words import Refusal, out
    from streams.delivery.plan import Why

    asked = {"oca": oca, "unit": title}
    found = _ask(EXPLAIN, asked)
    if not found:
        ((ocas, units),) = _ask(KNOWN, asked) or [([], [])]
        if units:
            raise Refusal(f"no plan has said anything of {title} on {oca}; it has spoken of {', '.join(sorted(units)[:10])}")
        if ocas:
            raise Refusal(f"no plan knows a cache server {oca}; {title} was planned for {', '.join(sorted(ocas)[:10])}")
        raise Refusal(f"no plan has spoken of {oca} or of {title} yet: `headrace fill status` shows what is planned")
    at, plan_id, why, here, rank, of, value, cut, plays, expected, size, source, ocas = found[0]
    out.print(f"[bold]{title}[/bold] {'is to be' if here else 'is not to be'} on [bold]{oca}[/bold]: it {Why[why]}")
    rows = {
        "value": f"{value:.3g} bytes a day are expected to be served for each byte stored; the best that has no place there: {cut:.3g}",
        "expected": f"{plays:.1f} plays, {_mb(expected)} MB in the region on the day that was planned for",
        "size": f"{_mb(size)} MB",
        "rank": f"{rank} of {of} that its site could hold" if rank is not None else "it was not considered",
        "site": f"its site has it on {', '.join(ocas)}" if ocas else "no server of its site is to have it",
        "source": source or "it is not fetched",
        "plan": f"{plan_id}, {at:%Y-%m-%d %H:%M:%S} UTC",
    }
    for name, words in rows.items():
        out.print(f"    {name:10} {words}", markup=False)
    for step_at, kind, from_, here_bytes, total, reason, detail in reversed(_ask(STEPS, asked)):
        more = f": {reason}, {detail}" if reason else ""
        out.print(f"    {step_at:%H:%M:%S}   {kind.lower()}, {_mb(here_bytes)} of {_mb(total)} MB, from {from_}{more}", markup=False)


@app.command()
def announce(
    file: Annotated[Path, typer.Argument(help="Announcements, in YAML; docs/delivery.md says how.")],
) -> None:
    """Announce titles before they can be played, so that they are filled in time; what is no longer in the file is taken back."""
    from producers.releases.__main__ import main

    main(file)


def _ask(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows. Refusal where the warehouse does not answer."""
    from infra.base import warehouse
    from infra.cli.words import asking_warehouse

    with asking_warehouse():
        return [tuple(row) for row in warehouse.reader().query(sql, parameters).result_rows]


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"

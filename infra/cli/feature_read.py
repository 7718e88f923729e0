"""`headrace feature list`, `show`, `check` and `explain`: what features there are, what is wrong with them, and what made a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from schemas.recommendations.definition import Feature

AsJson = Annotated[bool, typer.Option("--json", help="For machines: one object.")]
SHOWN = 30
"""Steps that are printed unless told otherwise."""


def list_(as_json: AsJson = False) -> None:
    """List the features of this checkout: of whom, what they sum up, over how long, who answers for them."""
    from edge.feature_log import described
    from infra.cli.words import out

    found = [described(one) for one in _features()]
    if as_json:
        out.print_json(json.dumps({"features": found}))
        return
    table = _table("feature", "key", "sums up", "windows", "owner")
    for one in found:
        table.add_row(one["name"], " × ".join(one["key"]), one["sums_up"], " ".join(one["windows"]), one["owner"])
    out.print(table)


def show(name: Annotated[str, typer.Argument(help="A feature, or one of its values.")], as_json: AsJson = False) -> None:
    """Show a feature: what it means, where its values stand in a row, what they cost, and with whom they share it."""
    from edge.feature_log import described
    from infra.cli.words import Refusal, out
    from streams.recommendations.plan import plan

    some = _features()
    feature = next((one for one in some if name == one.name or name in one.values), None)
    if feature is None:
        raise Refusal(f"there is no feature {name}: `headrace feature list` shows what there is")
    told = described(feature) | {"costs": [_cost(plan(some), value) for value in feature.values]}
    if as_json:
        out.print_json(json.dumps(told))
        return
    out.print(f"[bold]{feature.name}[/bold]  {feature.doc}", markup=True)
    where = f" where {told['where']}" if told["where"] else ""
    out.print(f"    {told['sums_up']}{where}, of {' × '.join(feature.key)}, from {', '.join(feature.sources)}", markup=False)
    out.print(f"    owner {feature.owner}, default {json.dumps(feature.default)}", markup=False)
    for cost in told["costs"]:
        shared = f"; shares with {', '.join(cost['shared_with'])}" if cost["shared_with"] else ""
        size = f"{cost['bytes']} bytes a row" if cost["bytes"] else "texts, as many as happen"
        out.print(f"    {cost['value']}: {size}, {cost['columns']} parts{shared}", markup=False)


def check(
    folder: Annotated[Path | None, typer.Argument(help="Features, a *.yaml each; those of this checkout if none is named.")] = None,
) -> None:
    """Say what is wrong with features, without asking anybody."""
    from infra.cli.words import Refusal, out
    from schemas.recommendations.definition import FeatureError, read_folder

    if folder is not None and not folder.is_dir():
        raise Refusal(f"{folder} is no folder: features are a *.yaml each, in schemas/<domain>/features")
    try:
        found = read_folder(folder) if folder is not None else _features()
    except FeatureError as error:
        raise Refusal(f"{folder}:\n{error}") from None
    values = sum(len(one.values) for one in found)
    out.print(f"nothing is wrong with {len(found)} features of {values} values")


def explain(
    member: Annotated[str, typer.Argument(help="Whose: his own id, or with --pseudonym that.")],
    pseudonym: Annotated[bool, typer.Option("--pseudonym", help="MEMBER is a pseudonym, as events have it.")] = False,
    feature: Annotated[list[str] | None, typer.Option(help="Only this feature or value; may be repeated.")] = None,
    last: Annotated[int, typer.Option(help="So many events, the newest.", min=1)] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """Explain a member's features: what is known now, and through time which event made each value what it is."""
    from edge.feature_log import deployed, story
    from edge.pseudonym import pseudonym as pseudonym_of
    from infra.base import warehouse
    from infra.base.clock import WallClock
    from infra.cli.words import Refusal, asking_warehouse, out
    from streams.recommendations.plan import plan

    only, member_id = feature or [], member if pseudonym else pseudonym_of(member)
    with asking_warehouse():
        client = warehouse.reader()
        made = plan(deployed(client))
        for name in only:
            if name not in made.values and name not in {value.feature.name for value in made.values.values()}:
                raise Refusal(f"no feature {name} is kept: `headrace feature list` shows what there is")
        told = story(client, made, member_id, WallClock().now_ms(), only)
    if not told["steps"]:
        some = "headrace query 'SELECT DISTINCT member_id FROM recommendations_interaction LIMIT 9'"
        raise Refusal(f"nothing that features count is stored of member {member} ({member_id}): `{some}` shows some, for --pseudonym")
    if as_json:
        out.print_json(json.dumps(told, default=str))
        return
    known = {name: value for name, value in told["values"].items() if only or value != made.values[name].feature.default}
    out.print(f"member {member_id}", markup=False)
    for name, value in known.items():
        out.print(f"    {name} = {_said(value)}", markup=False)
    out.print(_steps(told["steps"][-last:]))
    if (left := len(told["steps"]) - last) > 0:
        out.print(f"{left} older events are not shown: --last {len(told['steps'])} shows all")


def _steps(steps: list[dict[str, Any]]) -> Table:
    """A line for each event and value."""
    import datetime as dt

    table = _table("counts at (UTC)", "event", "changes")
    for step in steps:
        moment = f"{dt.datetime.fromtimestamp(step['at_ms'] / 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"
        late_s = round((step["arrived_ms"] - step["at_ms"]) / 1000)
        what = " ".join(_said(one) for one in step["what"].values())
        lines = [f"{one['value']}{_about(one)}: {_change(one)}" for one in step["changed"]]
        lines = [*(f"({note})" for note in step["notes"]), *lines] or ["nothing"]
        table.add_row(moment + (f"\n{late_s} s late" if late_s > 1 else ""), what, "\n".join(lines))
    return table


def _about(one: dict[str, Any]) -> str:
    return f" [{one['about']}]" if one["about"] else ""


def _change(one: dict[str, Any]) -> str:
    return f"{_said(one['before'])} → {_said(one['after'])}"


def _said(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(f"{one[0]} ×{one[1]}" if isinstance(one, list | tuple) else str(one) for one in value) or "none"
    return "none" if value is None else str(value)


def _cost(made: Any, name: str) -> dict[str, Any]:
    from edge.home.profile import parts, size

    value = made.values[name]
    layout = made.layouts[value.group]
    mine = parts(value)
    sharing = {other.name for other in made.of(value.group) if other.name != name and set(parts(other)) & set(mine)}
    sized = [size(layout, part, [0.0] * len(layout.texts)) for part in mine]
    return {"value": name, "bytes": round(sum(sized)), "columns": len(mine), "shared_with": sorted(sharing)}


def _features() -> list[Feature]:
    from infra.cli.words import Refusal
    from schemas.recommendations.definition import FeatureError, features

    try:
        return features()
    except FeatureError as error:
        raise Refusal(f"the features of this checkout:\n{error}") from None


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    return table

"""Grafana's boards: of the shape that Grafana and the plugin publish, and each query gives the rows of our own panel."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from infra.base import warehouse as clients
from infra.cli import app
from sinks import dashboards
from sinks.dashboards import PARTS, Panel, grafana, panels
from tests.board.rows import Evening

OURS = Path(__file__).with_name("grafana.schema.json")
SHOWN = [panel for panel in panels() if panel.board != PARTS[0]]
BOARDS = [*dashboards.boards(), "session"]
NASTY = ["", "mandelbrot", "it's", "' OR 1=1 --", "\\", "\\' OR 1=1 --", "a+b %41", "${title}", "$__fromTime_ms"]


def expanded(sql: str, asked: dict[str, Any]) -> str:
    """What reaches ClickHouse: the variables as Grafana's format `percentencode` gives them, the macros as the plugin expands them
    (pkg/macros/macros.go of grafana-clickhouse-datasource). An unknown macro stays and fails the query."""
    sql = re.sub(r"\$\{(\w+):percentencode\}", lambda found: quote(asked.get(found[1], ""), safe="-_.~"), sql)
    macros = {
        "$__fromTime_ms": f"fromUnixTimestamp64Milli({round(asked['from'].timestamp() * 1000)})",
        "$__toTime_ms": f"fromUnixTimestamp64Milli({round(asked['to'].timestamp() * 1000)})",
        "$__interval_s": str(asked["step_s"]),
    }
    return re.sub(r"\$__\w+", lambda found: macros.get(found[0], found[0]), sql)


def asked(**more: Any) -> dict[str, Any]:
    to = datetime.now(UTC).replace(microsecond=123_000)
    return {"from": to - timedelta(minutes=30), "to": to, "step_s": 10, **more}


def rows(sql: str, asked: dict[str, Any]) -> list[Any]:
    return list(clients.reader().query(expanded(sql, asked)).result_rows)


def problems(schema: Any, board: str) -> list[str]:
    found = json.loads(json.dumps(grafana.dashboard(board, panels())))
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(found)]


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_has_the_shape_of_the_published_kind(board: str) -> None:
    assert problems(json.loads(OURS.read_text()), board) == []


def test_the_schema_refuses_what_is_not_of_the_kind() -> None:
    found = grafana.dashboard("pipeline", panels())
    found["panels"][0]["targets"][0]["editorType"] = "builder"
    del found["panels"][1]["gridPos"]
    found["colour"] = "red"
    refused = {error.json_path for error in Draft7Validator(json.loads(OURS.read_text())).iter_errors(found)}
    assert refused == {"$", "$.panels[0].targets[0].editorType", "$.panels[1]"}


@pytest.mark.parametrize("board", BOARDS)
def test_panels_lie_side_by_side_and_none_on_another(board: str) -> None:
    found = grafana.dashboard(board, panels())["panels"]
    cells = [(x, y) for p in found for g in [p["gridPos"]] for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < grafana.COLUMNS
    assert [p["title"] for p in found] == [p.title for p in panels() if p.board == board]


@pytest.mark.parametrize("panel", SHOWN, ids=lambda p: f"{p.board}/{p.name}")
def test_a_query_gives_the_rows_of_our_own_panel(panel: Panel, warehouse: Evening) -> None:
    sid = next(str(row["sid"]) for row in warehouse.rows["playback.qoe_session"] if row["in_play_failure"])
    chosen = asked(sid=sid)
    own = dashboards.run(panel, clients.reader(), {name: value for name, value in chosen.items() if name in panel.params})
    answer = clients.reader().query(expanded(grafana.statement(panel.sql), chosen))
    assert tuple(answer.column_names) == own.columns
    assert [tuple(dashboards.plain(value) for value in row) for row in answer.result_rows] == list(zip(*own.values, strict=True))
    assert own.rows > 0


@pytest.mark.parametrize("text", NASTY)
def test_a_variable_is_a_value_whatever_it_contains(text: str, warehouse: Evening) -> None:
    assert rows(grafana.statement("SELECT {title:String}"), asked(title=text)) == [(text,)]


def test_a_filter_offers_all_and_what_was_seen(warehouse: Evening) -> None:
    (title,) = (v for v in grafana.dashboard("quality_of_experience", panels())["templating"]["list"] if v["name"] == "title")
    found = rows(title["query"]["rawSql"], asked())
    assert found[0] == ("", "all")
    assert {("mandelbrot", "mandelbrot"), ("gradients", "gradients")} <= set(found)


def test_less_may_be_worse() -> None:
    def steps(*thresholds: dashboards.Threshold) -> list[tuple[float | None, str]]:
        return [(step["value"], step["color"]) for step in grafana._thresholds(thresholds)["steps"]]

    more = (dashboards.Threshold("warn", 2.0), dashboards.Threshold("bad", 4.0))
    less = (dashboards.Threshold("warn", 0.9, True), dashboards.Threshold("bad", 0.5, True))
    assert steps(*more) == [(None, "green"), (2.0, "orange"), (4.0, "red")]
    assert steps(*less) == [(None, "red"), (0.5, "orange"), (0.9, "green")]


def test_the_command_writes_a_provisioning_folder(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["grafana", str(tmp_path)])
    assert told.exit_code == 0, told.output
    source = yaml.safe_load((tmp_path / "datasources" / "headrace.yaml").read_text())["datasources"][0]
    assert (source["type"], source["jsonData"]["protocol"], source["jsonData"]["username"]) == (grafana.PLUGIN, "http", "reader")
    provider = yaml.safe_load((tmp_path / "dashboards" / "headrace.yaml").read_text())["providers"][0]
    written = {file.stem: json.loads(file.read_text()) for file in Path(provider["options"]["path"]).glob("*.json")}
    assert written.keys() == set(BOARDS)
    assert {panel["datasource"]["uid"] for board in written.values() for panel in board["panels"]} == {source["uid"]}

"""The boards as Grafana dashboards: provisioning files for the datasource plugin grafana-clickhouse-datasource.

    <out>/datasources/headrace.yaml     where the warehouse is
    <out>/dashboards/headrace.yaml      where Grafana finds the dashboards
    <out>/boards/<board>.json           one dashboard a board

A dashboard has the shape of Grafana's kind "dashboard" (classic JSON, schema version SCHEMA_VERSION), a query that of the plugin's
CHSqlQuery. A panel's statement stays as it is but for its parameters. What a viewer sets leaves Grafana percent-encoded, and ClickHouse
decodes it, so it is a value whatever it contains: Grafana's quoting formats leave a backslash as it is, which ClickHouse would obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from sinks.dashboards import ANOMALOUS, FILTERS, PARAMETER, PARTS, POINTS, Panel, Threshold, board_title

PLUGIN = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.20.0"
"""The version of the plugin whose query model is written."""
SCHEMA_VERSION = 42
DATASOURCE = {"type": PLUGIN, "uid": "headrace"}
REFRESH = "10s"
COLUMNS = 24
HEIGHTS = {"number": 4, "line": 8, "bar": 8, "table": 9, "timeline": 9}
TIME_SERIES, TABLE = 0, 1
"""Formats of an answer, as the plugin's backend numbers them (sqlds)."""

UNITS = {"ms": "ms", "ratio": "percentunit", "kbit/s": "Kbits", "bit/s": "bps", "bytes": "decbytes", "s": "s"}
"""Grafana's names of our units; any other is written behind the figure as it is."""
COLUMN_UNITS = {"_ms": "ms", "_s": "s", "_ratio": "percentunit", "_kbps": "Kbits", "_bytes": "decbytes", "_at": "dateTimeAsIso"}
"""Grafana's unit by the end of a column's name."""
COLOURS = {"": "green", "warn": "orange", "bad": "red"}
LABELS = {"title": "Title", "device": "Device", "oca": "OCA", "isp": "ISP", "region": "Region", "player": "Player", "sid": "Session"}


def files(panels: Sequence[Panel], names: Sequence[str], dsn: str, database: str, folder: str) -> dict[str, Any]:
    """What to write, by path below the folder: mappings for the .yaml files, dashboards for the .json files.

    `dsn` and `database` are the warehouse's; `folder` is where Grafana will find the files.
    """
    found: dict[str, Any] = {
        "datasources/headrace.yaml": datasource(dsn, database),
        "dashboards/headrace.yaml": {
            "apiVersion": 1,
            "providers": [{"name": "Headrace", "folder": "Headrace", "type": "file", "options": {"path": f"{folder}/boards"}}],
        },
    }
    for name in (*names, "session"):
        found[f"boards/{name}.json"] = dashboard(name, panels)
    return found


def datasource(dsn: str, database: str) -> dict[str, Any]:
    """The warehouse as anybody may read it, over HTTP."""
    address = urlsplit(dsn)
    secure = address.scheme == "https"
    reach = {
        "host": address.hostname, "port": address.port or (8443 if secure else 8123), "protocol": "http", "secure": secure,
        "username": "reader", "defaultDatabase": database,
    }  # fmt: skip
    return {"apiVersion": 1, "datasources": [{"name": "Headrace", **DATASOURCE, "access": "proxy", "jsonData": reach}]}


def dashboard(board: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """One board. `panels` are those of all boards: what the filters offer is a panel too."""
    own = [panel for panel in panels if panel.board == board]
    offers = next(panel for panel in panels if panel.board == PARTS[0])
    bound = {name for panel in own for name in panel.params}
    variables = [_filter(name, offers) for name in FILTERS if name in bound]
    if "sid" in bound:
        variables.append({"name": "sid", "type": "textbox", "label": LABELS["sid"], "query": ""})
    return {
        "uid": _uid(board),
        "title": board_title(board),
        "tags": ["headrace"],
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": REFRESH,
        "time": {"from": "now-15m", "to": "now"},
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": [
            {"id": number, "gridPos": place, **_panel(panel)}
            for number, (panel, place) in enumerate(zip(own, _places(own), strict=True), 1)
        ],
    }


def statement(sql: str) -> str:
    """A statement with its parameters in the plugin's words: macros for range and bucket, variables for the rest."""
    macros = {
        "from": "toTimeZone($__fromTime_ms, 'UTC')",
        "to": "toTimeZone($__toTime_ms, 'UTC')",
        "step_s": "toUInt32($__interval_s)",
    }
    return PARAMETER.sub(lambda found: macros.get(found[1], f"decodeURLComponent('${{{found[1]}:percentencode}}')"), sql)


def _uid(board: str) -> str:
    return f"headrace-{board.replace('_', '-')}"


def _filter(name: str, offers: Panel) -> dict[str, Any]:
    """A variable that offers what was seen in the range, '' for all of it."""
    sql = f"SELECT '' AS value, 'all' AS text\nUNION ALL\nSELECT value, value FROM (\n{statement(offers.sql)}\n) WHERE filter = '{name}'"
    return {
        "name": name,
        "type": "query",
        "label": LABELS[name],
        "datasource": DATASOURCE,
        "query": {"refId": name, "queryType": "sql", "rawSql": sql},
        "definition": sql,
        "refresh": 2,
        "sort": 0,
        "multi": False,
        "includeAll": False,
        "current": {"text": "all", "value": ""},
    }


def _places(panels: Sequence[Panel]) -> Iterator[dict[str, int]]:
    """Where panels stand: from left to right, as on the page, whose grid is half as fine."""
    x = y = row = 0
    for panel in panels:
        width = 2 * panel.width
        if x + width > COLUMNS:
            x, y, row = 0, y + row, 0
        row = max(row, HEIGHTS[panel.show])
        yield {"x": x, "y": y, "w": width, "h": HEIGHTS[panel.show]}
        x += width


def _panel(panel: Panel) -> dict[str, Any]:
    drawn = panel.show in ("line", "bar")
    kind = {"number": "stat", "line": "timeseries", "bar": "timeseries"}.get(panel.show, "table")
    defaults: dict[str, Any] = {"noValue": panel.empty, "thresholds": _thresholds(panel.thresholds)}
    if panel.unit:
        defaults["unit"] = UNITS.get(panel.unit, f"suffix: {panel.unit}")
    if drawn:
        defaults |= {"min": 0, "color": {"mode": "palette-classic"}, "custom": _drawing(panel)}
    return {
        "type": kind,
        "title": panel.title,
        "description": panel.question,
        "datasource": DATASOURCE,
        "maxDataPoints": POINTS,
        "interval": "1s",
        "targets": [_query(panel, TIME_SERIES if drawn else TABLE)],
        "fieldConfig": {"defaults": defaults, "overrides": list(_overrides(panel, drawn))},
        "options": OPTIONS[kind],
    }


OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "textMode": "auto", "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
        "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"},
}  # fmt: skip
"""Options of each kind of panel."""


def _query(panel: Panel, answer: int) -> dict[str, Any]:
    """The plugin's CHSqlQuery."""
    return {
        "refId": "A",
        "datasource": DATASOURCE,
        "pluginVersion": PLUGIN_VERSION,
        "editorType": "sql",
        "queryType": "timeseries" if answer == TIME_SERIES else "table",
        "format": answer,
        "rawSql": statement(panel.sql),
    }


def _drawing(panel: Panel) -> dict[str, Any]:
    bars = panel.show == "bar"
    return {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 80 if bars else 8,
        "stacking": {"mode": "normal" if bars else "none", "group": "A"},
        "spanNulls": True,
        "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
    }


def _thresholds(thresholds: Sequence[Threshold]) -> dict[str, Any]:
    """Grafana colours from a value upwards, beginning with no bound: where less is worse the steps run the other way round."""
    steps: list[dict[str, Any]] = [{"value": None, "color": COLOURS[""]}]
    for threshold in sorted(thresholds, key=lambda t: t.value):
        if threshold.below:
            steps[-1]["color"] = COLOURS[threshold.level]
            steps.append({"value": threshold.value, "color": COLOURS[""]})
        else:
            steps.append({"value": threshold.value, "color": COLOURS[threshold.level]})
    return {"mode": "absolute", "steps": steps}


def _overrides(panel: Panel, drawn: bool) -> Iterator[dict[str, Any]]:
    """Units by columns' names; what a baseline says marks rows and stays out of drawings; a session opens."""
    if not drawn:
        for ending, unit in COLUMN_UNITS.items():
            yield _override(f"/{ending}(_expected)?$/", unit=unit)
    if panel.show == "number":
        yield _override("/^(?!value$)/", color={"mode": "fixed", "fixedColor": "text"})
    if drawn:
        yield _override("/_(expected|z)$/", custom_hideFrom={"viz": True, "legend": True, "tooltip": False})
    elif panel.show == "table":
        steps = [{"value": None, "color": "red"}, {"value": -ANOMALOUS, "color": "text"}, {"value": ANOMALOUS, "color": "red"}]
        marked = {"thresholds": {"mode": "absolute", "steps": steps}, "custom_cellOptions": {"type": "color-text"}}
        yield _override("/_z$/", unit="none", decimals=1, **marked)
    if panel.opens:
        link = {"title": "Timeline", "url": f"/d/{_uid('session')}?var-sid=${{__value.raw:percentencode}}"}
        yield _override(f"/^{panel.opens}$/", links=[link])


def _override(pattern: str, **properties: Any) -> dict[str, Any]:
    found = [{"id": name.replace("custom_", "custom."), "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byRegexp", "options": pattern}, "properties": found}

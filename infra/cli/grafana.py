"""`headrace grafana`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def grafana(out: Annotated[Path, typer.Argument(help="Folder to write; Grafana takes it as its provisioning folder.")]) -> None:
    """Write the boards as Grafana dashboards, with the provisioning files of their datasource."""
    import json

    import yaml

    from infra.base.settings import settings
    from infra.cli.words import Refusal
    from infra.cli.words import out as told
    from sinks import dashboards
    from sinks.dashboards import grafana

    folder = out.resolve()
    found = grafana.files(dashboards.panels(), dashboards.boards(), settings().warehouse.dsn, settings().database, str(folder))
    try:
        for name, content in found.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content, indent=2) + "\n" if name.endswith(".json") else yaml.safe_dump(content, sort_keys=False))
            told.print(out / name, soft_wrap=True)
    except OSError as error:
        raise Refusal(f"{error.filename} cannot be written: {error.strerror}; name another folder") from None
    told.print(f"GF_PATHS_PROVISIONING={folder} starts Grafana with them; it needs the plugin {grafana.PLUGIN}", soft_wrap=True)

"""`python -m producers.releases FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.base import log
from infra.base.registry import RegistryClient
from producers.emit import Emitter
from producers.releases.releases import TOPIC, BadReleases, changes, read
from producers.standing import standing, tell
from schemas.catalogue import catalogue


def main(file: Annotated[Path, typer.Argument(help="Announcements, in YAML.")]) -> None:
    """Announce titles before they can be played, for cache fill; what is no longer in the file is taken back."""
    log.configure("releases")
    try:
        now = read(file.read_text())
    except (OSError, UnicodeDecodeError, BadReleases) as error:
        raise SystemExit(f"{file} announces nothing:\n{error}") from None
    told = [*changes(now, standing(catalogue().topic(TOPIC), RegistryClient().schema))]
    with Emitter("releases") as emitter:
        try:
            tell(emitter, ((TOPIC, event) for event in told))
        except RuntimeError as error:
            raise SystemExit(str(error)) from None
    taken_back = sum(bool(event["withdrawn"]) for event in told)
    sys.stdout.write(f"{len(now)} titles are announced: {len(told) - taken_back} new or other, {taken_back} taken back\n")


if __name__ == "__main__":
    typer.run(main)

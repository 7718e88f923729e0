"""`python -m producers.catalogue [FILE]`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from infra.base import log
from infra.base.registry import RegistryClient
from producers.catalogue.catalogue import TOPIC, BadCatalogue, changes, read
from producers.emit import Emitter
from producers.standing import standing, tell
from schemas.catalogue import catalogue


def main(
    file: Annotated[Path | None, typer.Argument(help="The titles, in YAML; the product's own if none is named.")] = None,
) -> None:
    """Tell the backbone which titles there are; what is no longer in the file is withdrawn."""
    log.configure("catalogue")
    try:
        now = read((file or files("producers.catalogue").joinpath("titles.yaml")).read_text())
    except (OSError, UnicodeDecodeError, BadCatalogue) as error:
        raise SystemExit(f"{file or 'titles.yaml'} is no catalogue:\n{error}") from None
    told = [*changes(now, standing(catalogue().topic(TOPIC), RegistryClient().schema))]
    with Emitter("catalogue") as emitter:
        try:
            tell(emitter, ((TOPIC, event) for event in told))
        except RuntimeError as error:
            raise SystemExit(str(error)) from None
    withdrawn = sum(bool(event["withdrawn"]) for event in told)
    sys.stdout.write(f"{len(now)} titles: {len(told) - withdrawn} new or other, {withdrawn} withdrawn\n")


if __name__ == "__main__":
    typer.run(main)

"""`python -m producers.experiments`: the product's own definitions, told where they differ from what stands."""

from __future__ import annotations

import sys

from infra.base import log
from infra.base.registry import RegistryClient
from producers.emit import Emitter
from producers.experiments.desk import Refused
from producers.experiments.publish import desk, publish, written
from schemas.allocation.definition import DefinitionError


def main() -> None:
    """Publish, or end in words."""
    log.configure("experiments")
    try:
        definitions = written()
        changes = desk(RegistryClient().schema, "headrace", "as they come with Headrace").publish(definitions)
    except (DefinitionError, Refused) as error:
        raise SystemExit(f"the product's own definitions are not published:\n{error}") from None
    with Emitter("experiments") as emitter:
        publish(emitter, changes, RegistryClient().schema)
    sys.stdout.write(f"{len(definitions)} definitions, {len(changes)} of them new or changed\n")


if __name__ == "__main__":
    main()

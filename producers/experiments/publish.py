"""The desk at the backbone: what stands there, and what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from producers.emit import Emitter
from producers.experiments.desk import Change, Desk
from producers.standing import everything, standing, tell
from schemas.allocation.definition import AnyDefinition, DefinitionError, problems, read_each
from schemas.allocation.measurable import unmeasurable
from schemas.catalogue import catalogue

DEFINITION, CHANGE = "experiments.definition", "experiments.change"


def desk(schema_of: Callable[[int], dict[str, Any]], author: str = "", reason: str = "") -> Desk:
    """With what stands on the backbone now. Blocks. Raises like `standing`."""
    history = list(everything(catalogue().topic(CHANGE), schema_of))
    return Desk(standing(catalogue().topic(DEFINITION), schema_of), history, catalogue(), author, reason)


class Clash(RuntimeError):
    """Somebody else changed the same at the same time; what was written last stands."""


def publish(emitter: Emitter, changes: Iterable[Change], schema_of: Callable[[int], dict[str, Any]]) -> None:
    """Tell of changes: what is told for ever goes first, so that nothing takes effect of which nothing is known.

    Raises Clash, and like `tell` and `everything`.
    """
    changes = list(changes)
    tell(emitter, [(CHANGE, change) for change in changes])
    tell(emitter, [(DEFINITION, change) for change in changes])
    if not changes:
        return
    made = {(change["item"], change["version"]) for change in changes}
    told = Counter((one["item"], one["version"]) for one in everything(catalogue().topic(CHANGE), schema_of))
    if twice := sorted(item for item, version in made if told[item, version] > 1):
        words = "somebody else changed it at the same time; `headrace experiment audit` shows both, `headrace experiment show` which stands"
        raise Clash(f"{', '.join(twice)}: {words}")


def written(folder: Path | None = None) -> list[AnyDefinition]:
    """What a folder defines; without one, the product's own: metrics, flags and the demo's experiments.

    A team's may build on the product's own, which its own go before, and is checked with them. Raises DefinitionError.
    """
    with as_file(files("schemas") / "experiments" / "definitions") as own:
        product, wrong = read_each(own)
    if folder is None:
        theirs, product = product, []
    elif not folder.is_dir():
        raise DefinitionError([f"{folder} is no folder"])
    else:
        theirs, wrong = read_each(folder)
        if not (theirs or wrong):
            raise DefinitionError([f"{folder} has no definition, which is a *.yaml"])
    items = {(one.kind, one.key) for one in theirs}
    together = [*(one for one in product if (one.kind, one.key) not in items), *theirs]
    wrong += [*problems(together), *unmeasurable(together, catalogue())]
    if wrong:
        raise DefinitionError(wrong)
    return theirs

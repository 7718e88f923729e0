"""`headrace experiment`: definitions of flags and experiments, checked and published, and what is done to them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.experiments.desk import Change, Desk
    from schemas.allocation.definition import AnyDefinition

app = typer.Typer(help="Define, start, stop and ship experiments; who did what to them, and why.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Argument(help="Definitions, a *.yaml each; the product's own if none is named.")]
Key = Annotated[str, typer.Argument(help="An experiment by its key; anything else as kind/key, such as flag/abr_rule.")]
Author = Annotated[str, typer.Option(help="Who does it; default: your user name.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]


@app.command()
def check(folder: Folder = None) -> None:
    """Say what is wrong with definitions, without asking anybody."""
    from collections import Counter

    from infra.cli.words import out

    kinds = Counter(one.kind for one in _written(folder))
    counts = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in sorted(kinds.items()))
    out.print(f"nothing is wrong with {counts}")


@app.command()
def publish(folder: Folder = None, author: Author = "", reason: Reason = "") -> None:
    """Publish what a folder defines and differs from what stands; what others defined stays."""
    definitions = _written(folder)
    _do(lambda desk: desk.publish(definitions), author, reason)


@app.command("list")
def list_() -> None:
    """List experiments, and the flags that they are about."""
    from rich.table import Table

    from infra.cli.words import out
    from schemas.allocation.definition import Experiment

    experiments = [one for one in _desk().defined.values() if isinstance(one, Experiment)]
    if not experiments:
        out.print("no experiment is published: `headrace experiment publish` does so")
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("experiment", "state", "phase", "flag", "variations", "owner"):
        whole = {"experiment": [one.key for one in experiments], "flag": [one.flag for one in experiments]}.get(name)
        table.add_column(name, min_width=max(map(len, whole)) if whole else None)
    for one in experiments:
        variations = " ".join(f"{variation.key}:{variation.weight:g}" for variation in one.variations)
        state = f"{one.state} {one.shipped}" if one.shipped else one.state
        table.add_row(one.key, state, str(one.phase), one.flag, variations, one.owner)
    out.print(table)


@app.command()
def show(key: Key) -> None:
    """Show a definition as it stands, in YAML."""
    import json

    import yaml

    from infra.cli.words import Refusal

    item, desk = _item(key), _desk()
    if item not in desk.defined:
        raise Refusal(f"there is no {item}: `headrace experiment list` shows what there is")
    change = desk.standing[item]
    print(f"# version {change['version']}, {change['action']} by {change['author']}{_because(change)}")
    print(yaml.safe_dump(json.loads(change["document"]), sort_keys=False, allow_unicode=True), end="")


@app.command()
def start(key: Key, author: Author = "", reason: Reason = "") -> None:
    """Start an experiment: units are dealt from now on."""
    _do(lambda desk: desk.start(key), author, reason)


@app.command()
def stop(key: Key, author: Author = "", reason: Reason = "") -> None:
    """Stop an experiment: everybody gets the default from now on."""
    _do(lambda desk: desk.stop(key), author, reason)


@app.command()
def ship(
    key: Key, variation: Annotated[str, typer.Argument(help="What everybody is to get.")], author: Author = "", reason: Reason = ""
) -> None:
    """Ship a variation: everybody whom the experiment means gets it."""
    _do(lambda desk: desk.ship(key, variation), author, reason)


@app.command("roll-back")
def roll_back(key: Key, author: Author = "", reason: Reason = "") -> None:
    """Undo the last change that is not undone yet."""
    _do(lambda desk: desk.roll_back(_item(key)), author, reason)


@app.command()
def withdraw(key: Key, author: Author = "", reason: Reason = "") -> None:
    """Take a definition away, if nothing needs it any more."""
    _do(lambda desk: desk.withdraw(_item(key)), author, reason)


@app.command()
def audit(key: Key) -> None:
    """Say who did what to a definition, when and why, and what changed."""
    from infra.cli.words import Refusal, out
    from producers.experiments.desk import Refused

    try:
        trail = _desk().audit(_item(key))
    except Refused as refused:
        raise Refusal(str(refused)) from None
    for change, changed in trail:
        undoes = f", back to version {change['undoes']}" if change["undoes"] is not None else ""
        line = f"{change['event_time']:%Y-%m-%d %H:%M:%S} UTC  version {change['version']}  {change['action']}{undoes}"
        out.print(f"{line} by {change['author']}{_because(change)}", markup=False)
        for words in changed:
            out.print(f"    {words}", markup=False)


def _written(folder: Path | None) -> list[AnyDefinition]:
    from infra.cli.words import Refusal
    from producers.experiments.publish import written
    from schemas.allocation.definition import DefinitionError

    try:
        return written(folder)
    except DefinitionError as error:
        raise Refusal(f"{folder or 'the product’s own definitions'}:\n{error}") from None


def _desk(author: str = "", reason: str = "") -> Desk:
    """Refusal where the backbone cannot be read."""
    import getpass

    from infra.base.registry import RegistryClient
    from producers.experiments.publish import desk

    with _backbone():
        return desk(RegistryClient().schema, author or getpass.getuser(), reason)


@contextmanager
def _backbone() -> Iterator[None]:
    """Turn what goes wrong with Kafka and the registry, and what others have published meanwhile, into a refusal."""
    from infra.cli.words import Refusal, asking_backbone
    from producers.experiments.publish import Clash

    with asking_backbone():
        try:
            yield
        except Clash as clash:
            raise Refusal(str(clash)) from None


def _do(action: Callable[[Desk], list[Change]], author: str, reason: str) -> None:
    """Do it, and say what was done. Refusal with every reason against it."""
    from infra.base.registry import RegistryClient
    from infra.cli.words import Refusal, out
    from producers.emit import Emitter
    from producers.experiments.desk import Refused
    from producers.experiments.publish import publish

    try:
        changes = action(_desk(author, reason))
    except Refused as refused:
        raise Refusal("\n".join(["this is not done:", *(f"  {words}" for words in refused.reasons)])) from None
    with _backbone(), Emitter("experiments") as emitter:
        publish(emitter, changes, RegistryClient().schema)
    for change in changes:
        undoes = f", as in version {change['undoes']}" if change["undoes"] is not None else ""
        out.print(f"{change['item']}: version {change['version']}, {change['action']}{undoes}", markup=False)
    if not changes:
        out.print("nothing differs from what stands")


def _item(key: str) -> str:
    return key if "/" in key else f"experiment/{key}"


def _because(change: Change) -> str:
    return f": {change['reason']}" if change["reason"] else ""

"""`headrace feature`: features for recommendations, as their teams wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.recommendations.definition import Feature

app = typer.Typer(help="Features for recommendations: what there is, what they come to, and bringing new ones on.", no_args_is_help=True)

DEFINITION = "recommendations.feature_definition"


@app.command()
def deploy() -> None:
    """Keep and serve the features of this checkout: new ones are filled from the log, and no value of the others goes back meanwhile."""
    from infra.cli.words import out
    from streams.recommendations import kept, switch
    from streams.recommendations.plan import plan

    with _refusals():
        documents, standing = _documents(), _standing()
        same = switch.was_deployed() and kept.argument(plan(standing.values()), 0) == kept.argument(kept.PLAN, 0)
        run = switch.start if same or not switch.was_deployed() else switch.take_over
        job_id = run(out.print, lambda: _publish(documents, standing))
        new = ", ".join(sorted(documents.keys() - standing.keys()))
        out.print(f"{len(documents)} features are kept by {job_id}, {f'new: {new}' if new else 'none of them is new'}")


@app.command()
def backfill() -> None:
    """Read the log again for all features of this checkout, whether they have changed or not, and go on with what they come to."""
    from infra.cli.words import out
    from streams.recommendations import switch

    with _refusals():
        documents, standing = _documents(), _standing()
        run = switch.take_over if switch.was_deployed() else switch.start
        job_id = run(out.print, lambda: _publish(documents, standing))
        out.print(f"{len(documents)} features are what the log says ({job_id})")


def _documents() -> dict[str, str]:
    """The features of this checkout as they are told, by name; equal where they mean the same."""
    import yaml

    from schemas.recommendations.definition import features

    return {one.name: yaml.safe_dump(one.model_dump(mode="json", exclude_none=True) | {"default": one.default}) for one in features()}


def _standing() -> dict[str, Feature]:
    """The features that are deployed, by name."""
    from infra.base.registry import RegistryClient
    from producers.standing import standing
    from schemas.catalogue import catalogue
    from schemas.recommendations.definition import read

    told = standing(catalogue().topic(DEFINITION), RegistryClient().schema)
    return {name: read(event["yaml"], name) for name, event in told.items() if not event["withdrawn"]}


def _publish(documents: Mapping[str, str], standing: Mapping[str, Feature]) -> None:
    """Tell what is new or other, and what is kept no more."""
    from producers.emit import Emitter
    from producers.standing import tell
    from schemas.recommendations.definition import read

    written = {name: read(document, name) for name, document in documents.items()}
    events: list[dict[str, Any]] = [
        {"name": name, "owner": one.owner, "yaml": documents[name]} for name, one in written.items() if standing.get(name) != one
    ]
    gone = [{"name": name, "owner": one.owner, "yaml": "", "withdrawn": True} for name, one in standing.items() if name not in documents]
    with Emitter("features") as emitter:
        tell(emitter, ((DEFINITION, event) for event in [*events, *gone]))


@contextmanager
def _refusals() -> Iterator[None]:
    """What goes wrong goes to the user in words."""
    from infra.cli.words import Refusal, asking_backbone, asking_cluster
    from schemas.recommendations.definition import FeatureError

    try:
        with asking_cluster(), asking_backbone():
            yield
    except FeatureError as error:
        raise Refusal(str(error)) from None

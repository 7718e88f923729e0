"""`headrace abr`: models that players adapt by, trained on recorded logs, checked, published."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.abr_explain import explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from producers.abr.environment import Policy
    from producers.abr.recorded import Recorded

app = typer.Typer(help="Train, check and publish what players choose bitrates by; explain a session.", no_args_is_help=True)
app.command()(explain)

REPORTS = "playback.report"
LEAST_SESSIONS = 50
"""To train on."""

Name = Annotated[str, typer.Option(help="What the model is called; publishing it again is its next version.")]
Share = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of the sessions, the latest ones, that it is judged on and not trained on.")
]


@app.command()
def train(
    recording: Annotated[Path, typer.Argument(help="Directory that `headrace record` wrote; nothing else is looked at.")],
    name: Name = "ours",
    holdout: Share = 0.2,
    iterations: Annotated[int, typer.Option(min=1, help="How long it learns; 1000 take some five minutes.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of whatever is drawn at random.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the policy to this file, too.")] = None,
    publish_it: Annotated[bool, typer.Option("--publish/--no-publish", help="Publish what passes the checks.")] = True,
) -> None:
    """Train a model on the sessions of a recorded log, hold it against the one in force on its latest sessions, and publish it."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: arrays are small, and sums must not depend on how many there are
    from dataclasses import asdict, replace

    from infra.cli.when import Progress
    from infra.cli.words import Refusal
    from infra.cli.words import out as console
    from producers.abr import policy
    from producers.abr.models import Origin, nominal
    from producers.abr.train import fit, trained

    sessions = _sessions(recording)
    earlier, later = _split(sessions, holdout)
    if len(earlier) < LEAST_SESSIONS:
        raise Refusal(
            f"{recording} holds {len(sessions)} sessions that say how bandwidth goes on; {len(earlier)} were over when those to "
            f"judge on began, and {LEAST_SESSIONS} to train on are needed. Record for longer"
        )
    _enough(later, recording)
    _published()  # what it is held against: better refused now than after the training
    without = len(sessions) - len(earlier) - len(later)
    console.print(
        f"{len(earlier)} sessions to train on, {len(later)} later ones to judge on; {without} left out, which lasted into those",
        markup=False,
    )
    progress, video = Progress("trained", "iterations"), nominal()
    origin = Origin(recording.resolve().name, earlier[0].began_ms, earlier[-1].began_ms, len(earlier))
    learner = fit(
        [session.trace for session in earlier], video, seed=seed, iterations=iterations, say=lambda done, _: progress(done + 1, iterations)
    )
    command = f"headrace abr train {origin.log} --seed {seed} --iterations {iterations} --holdout {holdout:g}"
    found = trained(learner, video, {"command": command, "seed": seed, **asdict(origin)})
    installed = policy.load()
    if installed.trained is not None:
        chosen = {name: getattr(installed.trained, name) for name in ("share", "cut", "caution")}
        found = replace(found, **chosen)  # they were chosen once, on traces that were kept back
    text = policy.dumps(replace(installed, trained=found))
    if out is not None:
        try:
            out.write_text(text)
        except OSError as error:
            raise Refusal(f"{out} cannot be written: {error}") from None
    _judged(name, text, later, origin, publish_it)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="A policy, JSON.")],
    recording: Annotated[Path, typer.Argument(help="Recorded log whose latest sessions it is judged on.")],
    name: Name = "ours",
    holdout: Share = 0.2,
    publish_it: Annotated[bool, typer.Option("--publish/--no-publish", help="Publish it if it passes the checks.")] = True,
) -> None:
    """Publish a policy from a file, after the same checks."""
    from infra.cli.words import Refusal
    from producers.abr.models import Origin, seen

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} cannot be read: {error}") from None
    first, last = seen(text) or (1, 0)
    later = [session for session in _split(_sessions(recording), holdout)[1] if not first <= session.began_ms <= last]
    _enough(later, recording)
    _judged(name, text, later, Origin(), publish_it)


@app.command()
def models() -> None:
    """List the models that are published: versions, what they were trained on, and how they did on later sessions."""
    from rich.table import Table

    from infra.cli.words import out

    found = sorted(_published().values(), key=lambda model: (model["name"], model["version"]))
    if not found:
        out.print("no model has been published: players use the one that is installed")
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("model", "trained on", "sessions", "judged on", "reward", "before", "gain, 95 %", "stalls s"):
        left = column in ("model", "trained on")
        table.add_column(
            column,
            justify="left" if left else "right",
            no_wrap=True,
            min_width=max(len(model["item"]) for model in found) if column == "model" else None,
        )
    for model in found:
        interval = f"{model['gain_low']:+.3f} to {model['gain_high']:+.3f}"
        figures = (f"{model['reward']:.3f}", f"{model['before_reward']:.3f}", interval, f"{model['rebuffer_s']:.2f}")
        counts = (str(model["sessions"]), str(model["holdout_sessions"]))
        table.add_row(model["item"], model["trained_on"] or "a file", *counts, *figures)
    out.print(table)


def _sessions(recording: Path) -> list[Recorded]:
    """The bandwidth of the log's sessions, by beginning. Refusal where there is none, or the log cannot be read."""
    from infra.cli.words import Refusal
    from producers.abr.recorded import traces
    from sinks.archive import Damaged, RecordedLog

    try:
        log = RecordedLog.open(recording)
        found = traces(_reports(log))
    except (Damaged, FileNotFoundError) as error:
        raise Refusal(str(error)) from None
    if not found:
        raise Refusal(f"{recording} holds no session that says how bandwidth goes on")
    return found


def _reports(log: Any) -> Iterator[Mapping[str, Any]]:
    """The log's reports, event_time in ms; what cannot be decoded is left out, as it was by whoever read the topic."""
    from infra.base.registry import RegistryError
    from schemas.catalogue import catalogue
    from schemas.codec import BadFraming, BadPayload, Decoder

    def schema_of(schema_id: int) -> dict[str, Any]:
        schema = log.schemas.get(schema_id)
        if schema is None:
            raise RegistryError(f"the log has no schema {schema_id}", 404)
        return dict(schema)

    decode = Decoder(schema_of, catalogue().topic(REPORTS).event)
    for partition in range(log.partitions.get(REPORTS, 0)):
        for row in log.read(REPORTS, partition):
            try:
                report = decode(row.payload or b"")
            except (BadFraming, BadPayload, RegistryError):
                continue
            report["event_time"] = round(report["event_time"].timestamp() * 1000)
            yield report


def _split(sessions: list[Recorded], share: float) -> tuple[list[Recorded], list[Recorded]]:
    """The earlier ones, as far as they were over when the first of the later ones began, and the later ones."""
    at = len(sessions) - max(1, round(share * len(sessions)))
    later = sessions[at:]
    return [one for one in sessions[:at] if one.began_ms + 1000 * one.trace.times_s[-1] <= later[0].began_ms], later


def _enough(later: list[Recorded], recording: Path) -> None:
    """Refusal where too few sessions are left to judge on."""
    from infra.cli.words import Refusal
    from producers.abr.models import LEAST_HOLDOUT

    if len(later) < LEAST_HOLDOUT:
        raise Refusal(
            f"{recording} leaves {len(later)} sessions to judge on that the model was not trained on; {LEAST_HOLDOUT} are needed.\n"
            "Record for longer, or judge on a larger share: --holdout"
        )


def _evaluated(document: Mapping[str, Any]) -> Policy:
    from producers.abr import policy
    from producers.abr.environment import LADDER_KBPS

    return policy.read(document, LADDER_KBPS).choose


def _published() -> dict[str, dict[str, Any]]:
    """The models on the topic, by item. Refusal where it cannot be read."""
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
    from infra.cli.words import Refusal
    from producers.abr.models import TOPIC
    from producers.standing import standing
    from schemas.catalogue import catalogue

    try:
        return standing(catalogue().topic(TOPIC), RegistryClient().schema)
    except (KafkaException, TimeoutError, RegistryError, RegistryUnavailable) as error:
        raise Refusal(f"{TOPIC} cannot be read: {error}") from None


def _judged(name: str, text: str, later: list[Recorded], origin: Any, publish_it: bool) -> None:
    """Check a policy, and publish it if it passes. Refusal with every reason if it does not."""
    from infra.cli.words import Refusal, out
    from producers.abr import policy
    from producers.abr.environment import LADDER_KBPS
    from producers.abr.models import TOPIC, Refused, in_force, model
    from producers.emit import Emitter
    from producers.standing import tell

    present = in_force(_published(), name)
    installed = policy.load().choose
    try:
        event = model(name, text, LADDER_KBPS, _evaluated, present, installed, [session.trace for session in later], origin)
    except Refused as error:
        raise Refusal("\n".join(["the model is refused:", *(f"  {reason}" for reason in error.reasons)])) from None
    against = f"version {present['version']}" if present else "the one that is installed"
    out.print(
        f"reward {event['reward']:.4f} on {event['holdout_sessions']} sessions, {against} {event['before_reward']:.4f}; "
        f"95 % interval of the gain {event['gain_low']:+.4f} to {event['gain_high']:+.4f}",
        markup=False,
    )
    if not publish_it:
        out.print("it passes, and is not published")
        return
    with Emitter("abr") as emitter:
        try:
            tell(emitter, [(TOPIC, event)])
        except RuntimeError as error:
            raise Refusal(str(error)) from None
    out.print(f"{name} is version {event['version']} from now on")

"""The `headrace` command. One file a command; what a command needs is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

import logging
import sys

import typer

from infra.cli import (
    abr,
    audit,
    backfill,
    dead_letters,
    demo,
    doctor,
    down,
    experiment,
    experiment_effects,
    experiment_read,
    feature,
    feature_read,
    fill,
    fleet,
    grafana,
    grants,
    jobs,
    logs,
    new,
    query,
    record,
    replay,
    scenario,
    schema,
    settings,
    setup,
    status,
    up,
)
from infra.cli.words import Refusal

app = typer.Typer(
    name="headrace",
    help="Run and use Headrace: players, caches and encoders on one Kafka backbone, exactly once from the player to the dashboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
STACK = (demo.demo, up.up, down.down, status.status, logs.logs)
READ = (experiment_read.read, experiment_read.report, experiment_read.plan, experiment_read.recompute, experiment_effects.effects)
DATA = (query.query, audit.audit, record.record, replay.replay, backfill.backfill, grants.grants, grafana.grafana)
MACHINE = (doctor.doctor, settings.settings, setup.setup)
for command in (*STACK, *DATA, *MACHINE):
    app.command()(command)
for reading in READ:
    experiment.app.command()(reading)
feature.app.command("list")(feature_read.list_)
for asking in (feature_read.show, feature_read.check, feature_read.explain):
    feature.app.command()(asking)
app.add_typer(schema.app, name="schema")
app.add_typer(jobs.app, name="jobs")
app.add_typer(feature.app, name="feature")
app.add_typer(fill.app, name="fill")
app.add_typer(fleet.app, name="fleet")
app.add_typer(experiment.app, name="experiment")
app.add_typer(scenario.app, name="scenario")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(abr.app, name="abr")
app.add_typer(new.app, name="new")


def main() -> None:
    """Entry point: a refusal is words and exit code 1, never a traceback."""
    logging.getLogger().addHandler(logging.NullHandler())  # libraries' complaints reach the user as refusals, not twice
    try:
        app()
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(1)

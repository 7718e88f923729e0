"""`headrace jobs`: the Flink jobs of this checkout on the cluster that settings name."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List, deploy, stop, upgrade and explain the Flink jobs.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(help="Jobs, by name.")]


@app.command("list")
def list_() -> None:
    """List every job: its state on the cluster, what it reads and what it writes."""
    from infra.cli.words import asking_cluster, out
    from streams.cluster import Cluster
    from streams.environment import jobs

    with asking_cluster():
        running = Cluster().jobs()
        for job in jobs().values():
            found = running.get(job.flink_name)
            out.print(f"[bold]{job.name}[/bold]  {f'{found.state}, {found.job_id}' if found else 'not deployed'}  ({job.where})")
            out.print(f"    from  {', '.join(job.reads)}")
            out.print(f"    to    {', '.join(job.writes)}")


@app.command()
def deploy(
    names: Annotated[list[str] | None, typer.Argument(help="Jobs, by name; none: all.")] = None,
    lose_state: Annotated[bool, typer.Option("--lose-state", help="Start from nothing what does not run.")] = False,
) -> None:
    """Submit the jobs that do not run, each from where it stopped; those that run are left alone."""
    from infra.cli.words import Refusal, asking_cluster, out
    from streams.cluster import Cluster
    from streams.deploy import Ledger, chosen, start
    from streams.environment import jobs

    failed = []
    with asking_cluster():
        wanted, alive = chosen(names or jobs()), Cluster().alive()
        for job in wanted:
            out.print(f"{job.name}  {f'runs already, {alive[job.flink_name].job_id}' if job.flink_name in alive else 'starting …'}")
        for job, of in start([job for job in wanted if job.flink_name not in alive], Ledger(), lose_state=lose_state):
            if isinstance(of, Exception):
                failed.append(f"{job.name}: {of}")
            else:
                out.print(f"{job.name}  runs, {of}")
    if failed:
        raise Refusal("\n".join(failed))


@app.command()
def stop(names: Names) -> None:
    """Stop jobs with a savepoint, from which `deploy` starts them again."""
    from infra.cli.words import asking_cluster, out
    from streams import deploy
    from streams.deploy import chosen

    with asking_cluster():
        out.print(f"{', '.join(names)}: stopping …")
        for name, savepoint in deploy.stop(chosen(names)).items():
            out.print(f"{name}  stopped at {savepoint}")


@app.command()
def upgrade(
    names: Names,
    lose_state: Annotated[bool, typer.Option("--lose-state", help="Go on where the new version cannot read the state of the old.")] = False,
) -> None:
    """Stop jobs with a savepoint and start today's version of each from it; refused, with nothing stopped, where state would be lost."""
    from infra.cli.words import asking_cluster, out
    from streams import deploy
    from streams.deploy import chosen

    with asking_cluster():
        for job in chosen(names):
            out.print(f"{job.name}  upgrading …")
            out.print(f"{job.name}  runs, {deploy.upgrade(job, lose_state=lose_state)}")


@app.command()
def explain(names: Names) -> None:
    """Print what jobs read and write, their SQL as Flink gets it, and the optimised plan."""
    from infra.cli.words import asking_cluster, out
    from streams.deploy import chosen
    from streams.environment import Flink

    with asking_cluster():
        for job in chosen(names):
            out.print(f"[bold]{job.name}[/bold]  ({job.where})\n    from  {', '.join(job.reads)}\n    to    {', '.join(job.writes)}\n")
            print(";\n\n".join(job.statements) + ";\n")
            flink = Flink(job)
            print(flink.explain(flink.plan()))

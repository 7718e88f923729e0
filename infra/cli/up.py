"""`headrace up`."""

from __future__ import annotations

from typing import Annotated

import typer


def up(
    only: Annotated[str, typer.Option(help="Comma-separated services to run instead of all; `flink` is both of its processes.")] = "",
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then take the stack down.")] = False,
    players: Annotated[int, typer.Option(help="Let so many headless players watch the demo titles.")] = 0,
    port: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER: a fixed port, such as board=8080; others are free ones.")] = None,
) -> None:
    """Start the local stack and return when every service has answered a real request."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, StartLines, end_on_signals, out, service_table
    from infra.stack import doctor, jars
    from infra.stack.local import LocalStack
    from infra.stack.supervisor import StartFailed

    end_on_signals()
    stack = LocalStack(settings().state_dir)
    if stack.locked():
        raise Refusal(
            f"A stack already runs in {stack.state_dir}: see it with `headrace status`, end it with `headrace down`,\n"
            "or start another beside it with HEADRACE_STATE_DIR=<another directory>."
        )
    for finding in doctor.refusals():
        raise Refusal(f"{finding.what}: {finding.says}\nDo: {finding.mend}")
    try:
        jars.ensure()
        arguments = [*(("--only", only) if only else ()), *(("--players", str(players)) if players else ())]
        arguments += [word for given in port or [] for word in ("--port", given)]
        stack.start(arguments, tied=foreground)
        status = stack.wait_ready(StartLines())
    except (StartFailed, jars.JarError) as error:
        raise Refusal(str(error)) from None
    except KeyboardInterrupt:
        stack.end_started()
        raise Refusal("Interrupted; nothing is left running.") from None
    out.print(service_table(status))
    out.print(f"\nready after {status['startup_s']} s, {status['rss_mb']} MB; state, logs: {stack.state_dir}; end it with `headrace down`")
    if foreground:
        try:
            stack.wait_end()
        except KeyboardInterrupt:
            stack.end_started()

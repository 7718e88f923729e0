"""`headrace demo`: the whole system with real players, on a state directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from infra.stack.local import LocalStack

SUMMARY = Path("build/demo/summary.json")
VICTIM, KILLED_AFTER_S = "oca-1", 110.0
"""The cache server that is killed, once it has been filled and players watch from it; the supervisor starts it again."""
BACK_WITHIN_S = 10.0
"""How long it may take to come back: a demo that ends sooner after that kills nobody."""
SETTLE_S = 60.0
"""How long what is in flight when the players stop may take to reach the tables."""


def demo(
    seconds: Annotated[
        int, typer.Option(help="End by itself so long after everything is ready, and judge the run; 0: stay until Ctrl-C.")
    ] = 0,
    players: Annotated[int, typer.Option(help="How many headless players watch.")] = 24,
) -> None:
    """Start everything, let players watch, and print the address of the page; stays until Ctrl-C."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, StartLines, end_on_signals, err, out
    from infra.stack import doctor, health, jars
    from infra.stack.local import LocalStack
    from infra.stack.supervisor import StartFailed
    from sinks.audit import CannotAudit

    end_on_signals()
    began = time.monotonic()
    for finding in doctor.refusals():
        raise Refusal(f"{finding.what}: {finding.says}\nDo: {finding.mend}")
    stack = LocalStack(free_state_dir(settings().state_dir))
    has_past = (stack.state_dir / "kafka").exists()
    os.environ["HEADRACE_STATE_DIR"] = str(stack.state_dir)
    os.environ.setdefault("HEADRACE_EDGE__FEATURES_TOLD_SHARE", "1")  # two dozen players ask so seldom that all of it can be watched
    try:
        jars.ensure()
        stack.start(["--players", str(players), "--inject"], tied=True)
        encode()  # beside the starting stack, whose own task then finds the titles in the cache
        status = stack.wait_ready(StartLines())
        startup_s = round(time.monotonic() - began, 1)
        settings.cache_clear()
        out.print(f"\nready after {startup_s} s, {status['rss_mb']} MB: {players} players watch three titles")
        out.print(f"  the page      [bold]{settings().edge.board_url}[/bold]")
        out.print(f"  in a terminal HEADRACE_STATE_DIR={os.path.relpath(stack.state_dir)} {_command()} status")
        send_a_report_to_refuse(settings().edge.collector_url)
        with killing(stack, seconds):
            if not seconds:
                out.print("Ctrl-C ends it.")
                stack.wait_end()
                raise Refusal(f"the stack ended by itself: see {stack.state_dir / 'logs' / 'supervisor.log'}")
            err.print(f"ends by itself in {seconds} s")
            sleep_with_progress(seconds)
        found = summary(stack, startup_s)
    except (StartFailed, jars.JarError, health.Unreachable, CannotAudit) as error:
        anew = (
            f"\nOr let the demo begin anew: delete {os.path.relpath(stack.state_dir)}"
            if has_past and isinstance(error, StartFailed)
            else ""
        )
        raise Refusal(f"{error}{anew}") from None
    except KeyboardInterrupt:
        err.print("\nending; nothing stays but the state in " + os.path.relpath(stack.state_dir))
        return
    finally:
        stack.end_started()
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(found, indent=1))
    out.print(f"{SUMMARY}: {len(found['services'])} services, {len(found['panels'])} panels, {startup_s} s to ready, {found['rss_mb']} MB")
    if faults := judge(found):
        raise Refusal("The demo is not as it should be:\n" + "\n".join(f"  {fault}" for fault in faults))


def free_state_dir(base: Path) -> Path:
    """`<base>/demo`, or `<base>/demo-2`, … where live copies hold those before it."""
    from infra.stack.local import LocalStack

    number = 1
    while LocalStack(folder := base / ("demo" if number == 1 else f"demo-{number}")).locked():
        number += 1
    return folder


def encode() -> None:
    """Encode what is not in the cache, with its progress on this terminal. Refusal when it fails."""
    from infra.cli.words import Refusal

    if subprocess.run([sys.executable, "-m", "producers.encoders"], stdout=subprocess.DEVNULL, check=False).returncode:
        raise Refusal("the demo's titles could not be encoded (above)")


@contextmanager
def killing(stack: LocalStack, seconds: int) -> Iterator[None]:
    """Kill a cache server after a while, if the demo lasts for long enough, so that the board shows how it is left alone and comes back."""
    from infra.cli.words import out
    from infra.stack.local import NotRunning

    def kill() -> None:
        with suppress(NotRunning):
            stack.act(VICTIM, "kill")
            out.print(f"{VICTIM} was killed: the board *Delivery* shows who notices, where plays go, and that it is back")

    timer = threading.Timer(KILLED_AFTER_S, kill)
    timer.daemon = True
    if not seconds or seconds >= KILLED_AFTER_S + BACK_WITHIN_S:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def send_a_report_to_refuse(collector_url: str) -> None:
    """Post what is no CMCD report, so that the panel of dead letters has one to show."""
    import httpx2 as httpx

    answer = httpx.post(f"{collector_url}/cmcd", content=b"e=ps,sta=nonsense\n", headers={"Content-Type": "application/cmcd"})
    if answer.status_code != 400:
        raise ValueError(f"{collector_url} answered {answer.status_code} to a report that is none: {answer.text[:200]}")


def sleep_with_progress(seconds: int) -> None:
    """Wait, with the time left on a terminal."""
    from rich.progress import track

    for _ in track(range(seconds), description="watching", disable=not sys.stderr.isatty()):
        time.sleep(1)


def summary(stack: LocalStack, startup_s: float) -> dict[str, Any]:
    """What the run came to: services, topics, jobs and tables as `headrace status` has them, rows of every panel, the audit.

    Panels are asked while players watch; the audit is read when they have stopped and what they sent has arrived.
    """
    from infra.stack import health
    from sinks import audit

    status = stack.status()
    shown = panels()
    stack.act("players", "stop")
    judged = audit.summary(SETTLE_S)
    return {
        "startup_s": startup_s,
        "rss_mb": status["rss_mb"],
        "services": status["services"],
        "topics": health.topics(),
        "jobs": health.jobs(),
        "tables": health.tables(),
        "panels": shown,
        "audit": judged,
    }


def panels() -> list[dict[str, Any]]:
    """Rows of every panel over the last quarter of an hour; a panel of one session counts for the session that fills it best."""
    from infra.base import warehouse
    from sinks import dashboards

    now = datetime.now(UTC)
    range_ = {"from": now - timedelta(minutes=15), "to": now}
    sids: set[str] = set()
    found = []
    with warehouse.reader() as client:
        for panel in sorted(dashboards.panels(), key=lambda panel: "sid" in panel.params):
            if "sid" in panel.params:
                rows = max((dashboards.run(panel, client, {**range_, "sid": sid}).rows for sid in sids), default=0)
            else:
                result = dashboards.run(panel, client, range_)
                rows = result.rows
                if "sid" in result.columns:
                    sids |= set(result.values[result.columns.index("sid")])
            found.append({"name": f"{panel.board}/{panel.name}", "rows": rows, "faults": panel.faults})
    return found


def judge(found: dict[str, Any]) -> list[str]:
    """What is wrong with a run, in words: services that are not up, empty panels, losses and doubles."""
    faults = [f"service {s['name']} is {s['state']}: {s['said']}" for s in found["services"] if s["state"] not in ("ready", "done")]
    faults += [f"job {job['name']} is {job['state']}" for job in found["jobs"] if job["state"] != "RUNNING"]
    for panel in found["panels"]:
        if panel["faults"] and panel["rows"]:
            faults.append(f"panel {panel['name']} has {panel['rows']} faults")
        elif not panel["faults"] and not panel["rows"]:
            faults.append(f"panel {panel['name']} is empty")
    faults += [f"nothing in {kind}" for kind in ("jobs", "panels", "audit") if not found[kind]]
    for line in found["audit"]:
        faults += [f"audit of {line['topic']}: {problem}" for problem in line["problems"]]
        if line["lost"] or line["duplicated"]:
            faults.append(f"audit of {line['topic']}: {line['lost']} lost, {line['duplicated']} duplicated of {line['acknowledged']}")
    return faults


def _command() -> str:
    return os.path.relpath(Path(sys.executable).with_name("headrace"))

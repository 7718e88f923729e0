"""Deploy: bring jobs onto a Flink cluster, each from where it stopped. `python -m streams.deploy --all | --resume | NAME...`, idempotent.

One process submits all jobs, because each new one costs a JVM and a planner. A job that runs is left alone; one that does not starts
from its newest savepoint or complete checkpoint, so that no fact is written twice; only a job that never ran, or `lose_state`, starts
from nothing.

What is needed for that is kept in `<state_dir>/jobs.json`, by the job's name on the cluster. Whoever starts or stops jobs holds a lock
beside it: two who find the same job stopped would start it twice, and each of its facts would be written twice.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from infra.base import log
from infra.base.settings import settings
from streams.cluster import Cluster, ClusterError, newest_on_disk
from streams.environment import STATE, Flink, Job, JobError, jobs

KEPT_INCARNATIONS = 5
REREAD = "one that reads its topics again comes with `headrace feature deploy`"
NODE = re.compile(r"^([\s:|+\-]*)(\w+)\(")
STATEFUL = re.compile(r"Aggregate|Deduplicate|Rank|Join|Match|Over|ProcessTableFunction|Normalize|Sort")


class StateLost(Exception):
    """The new plan cannot take over the job's state; the message names the operators and the way out."""


@dataclass
class Deployed:
    """What is remembered of a job. `job_ids`: its incarnations, newest first; `savepoint`: where it was stopped; `plan`: what runs; `text`:
    its statements, of a job that says what its state is of."""

    job_ids: list[str] = field(default_factory=list)
    savepoint: str = ""
    plan: str = ""
    text: str = ""


class Ledger:
    """`<state_dir>/jobs.json`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or settings().state_dir / "jobs.json"
        self._holds = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from starting and stopping jobs. Blocks; may be nested."""
        if self._holds:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._holds = True
            try:
                yield
            finally:
                self._holds = False

    def read(self) -> dict[str, Deployed]:
        """Everything remembered; nothing where no job was ever deployed. Raises JobError when the file is damaged."""
        try:
            return {name: Deployed(**entry) for name, entry in json.loads(self.path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise JobError(f"{self.path} is damaged ({error}): delete it and name the checkpoint to start from") from None

    def get(self, name: str) -> Deployed:
        return self.read().get(name, Deployed())

    def put(self, name: str, deployed: Deployed) -> None:
        """Remember, atomically."""
        known = {**self.read(), name: deployed}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({key: asdict(value) for key, value in sorted(known.items())}, indent=1))
        partial.replace(self.path)


def chosen(names: Iterable[str]) -> list[Job]:
    """The jobs of these names. Raises JobError with the names that exist."""
    known = jobs()
    wanted = list(names)
    if unknown := [name for name in wanted if name not in known]:
        raise JobError(f"no job is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [known[name] for name in wanted]


def start(job: Job, *, lose_state: bool = False, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """`submit`, and wait until it runs; returns its job id. Raises JobError, ClusterError, StateLost."""
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    with ledger.held():
        job_id = submit(job, lose_state=lose_state, cluster=cluster, ledger=ledger)
        _wait(job, job_id, cluster, ledger)
    return job_id


def submit(job: Job, *, lose_state: bool = False, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """Hand `job` to the cluster, to go on from where it stopped; returns its job id. Raises JobError, ClusterError, StateLost.

    The id is ours and is remembered before the cluster hears of it: what a job wrote whose submission was never answered counts too.
    """
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    deployed = ledger.get(job.flink_name)
    came_from = None if lose_state else _restore_point(job, deployed, cluster)
    if came_from and _has_other_state(job, deployed):
        job = replace(job, text=deployed.text)  # what it goes on with is what runs; the new text comes with a state of its own
    job_id = secrets.token_hex(16)
    options = {"$internal.pipeline.job-id": job_id}
    if came_from:
        mode = "NO_CLAIM" if came_from == deployed.savepoint else "CLAIM"
        options |= {"execution.state-recovery.path": came_from, "execution.state-recovery.claim-mode": mode}
    flink = Flink(job, options)
    inserts = flink.prepare()
    plan = flink.explain(inserts)
    if came_from and deployed.plan:
        refuse_unless_fits(job, deployed.plan, plan)
    before = [] if lose_state else deployed.job_ids
    text = ";\n".join(job.statements) if STATE in job.options else ""
    ledger.put(job.flink_name, Deployed([job_id, *before][:KEPT_INCARNATIONS], came_from or "", plan, text))
    return flink.submit(inserts)


def _wait(job: Job, job_id: str, cluster: Cluster, ledger: Ledger) -> None:
    """Until a submitted job runs."""
    try:
        cluster.wait_until_running(job_id)
    except ClusterError as error:
        raise ClusterError(f"{job.name} was submitted from {ledger.get(job.flink_name).savepoint or 'nothing'}: {error}") from None


def stop(job: Job, *, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """Stop a running job with a savepoint, remember it and return its path. Raises ClusterError where it does not run."""
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    with ledger.held():
        running = cluster.alive().get(job.flink_name)
        if running is None:
            raise ClusterError(f"{job.name} does not run on {cluster.url}")
        savepoint = cluster.stop(running.job_id)
        deployed = ledger.get(job.flink_name)
        ledger.put(job.flink_name, replace(deployed, job_ids=deployed.job_ids or [running.job_id], savepoint=savepoint))
    return savepoint


def upgrade(job: Job, *, lose_state: bool = False, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """Stop with a savepoint, start today's version from it; returns the new job id. Raises StateLost before anything is stopped."""
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    with ledger.held():
        deployed = ledger.get(job.flink_name)
        if _has_other_state(job, deployed) and not lose_state:
            was, now = _state(deployed.text), job.options.get(STATE)
            raise StateLost(f"{job.name}: the state of the running version is of {was}, and not of {now}: {REREAD}")
        if deployed.plan and not lose_state:
            refuse_unless_fits(job, deployed.plan, Flink(job).plan())
        if job.flink_name in cluster.alive():
            stop(job, cluster=cluster, ledger=ledger)
        return start(job, lose_state=lose_state, cluster=cluster, ledger=ledger)


def _has_other_state(job: Job, deployed: Deployed) -> bool:
    return bool(deployed.text) and _state(deployed.text) != job.options.get(STATE)


def _state(text: str) -> str | None:
    """What a job's text says that its state is of."""
    return Job("", text, "").options.get(STATE)


def refuse_unless_fits(job: Job, old_plan: str, new_plan: str) -> None:
    """Raise StateLost unless state written under the old plan can be read under the new one.

    Flink finds an operator's state by its place in the graph, so the graph must have the same shape, and each operator with state
    must be the same to the letter. Projections and filters in between may change.
    """
    old, new = _skeleton(old_plan), _skeleton(new_plan)
    changed = [f"- {was}\n+ {now}" for was, now in zip(old, new, strict=False) if was != now]
    if not changed and len(old) != len(new):
        changed = [f"{len(old)} operators became {len(new)}"]
    if changed:
        raise StateLost(
            f"{job.name}: the new version cannot take over the state of the running one:\n{changed[0]}\n"
            f"`headrace jobs upgrade {job.name} --lose-state` starts it from nothing: it reads its topics from their beginning "
            "and writes its results again."
        )


def _skeleton(plan: str) -> list[str]:
    """The operators of the executed plans: depth and kind, and the whole description of those with state; Java's by their class."""
    nodes, executed = [], False
    for line in plan.splitlines():
        if line.startswith("== "):
            executed = line == "== Optimized Execution Plan =="
            nodes += [line] if line.startswith("== Into ") else []
        elif executed and (match := NODE.match(line)):
            depth, kind = len(match[1]), match[2]
            nodes.append(f"{depth} {line[depth:] if STATEFUL.search(kind) else kind}")
    return nodes


def _restore_point(job: Job, deployed: Deployed, cluster: Cluster) -> str | None:
    """Where the job got to: the savepoint it was stopped with, or what is newest of what it wrote since. None where it never ran.

    The disk is asked before the cluster, which does not count the savepoint of a stop that was broken off.
    """
    if deployed.savepoint and not _ran_since(deployed, cluster):
        return deployed.savepoint
    known = cluster.jobs().get(job.flink_name)
    remembered = cluster.newest_checkpoint(known.job_id) if known else None
    return newest_on_disk(deployed.job_ids) or remembered or deployed.savepoint or None


def _ran_since(deployed: Deployed, cluster: Cluster) -> bool:
    """Whether the job got past the point it was last started from: then something is newer than the savepoint."""
    return newest_on_disk(deployed.job_ids[:1]) is not None and not any(
        job.job_id in deployed.job_ids[:1] and job.state == "FINISHED" for job in cluster.jobs().values()
    )


def main() -> None:
    """Deploy the jobs named on the command line and print their ids."""
    parser = argparse.ArgumentParser(prog="python -m streams.deploy", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="jobs; see `headrace jobs list`")
    parser.add_argument("--all", action="store_true", help="every job")
    parser.add_argument("--resume", action="store_true", help="every job that was deployed before and does not run now")
    parser.add_argument("--namespace", help="overrides HEADRACE_NAMESPACE")
    asked = parser.parse_args()
    if asked.namespace is not None:
        os.environ["HEADRACE_NAMESPACE"] = asked.namespace
        settings.cache_clear()
    log.configure("deploy")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
    try:
        ledger = Ledger()
        with ledger.held():
            remembered = ledger.read()
            names = [name for name, job in jobs().items() if asked.all or (asked.resume and job.flink_name in remembered)]
            wanted = chosen(asked.names or names)
            cluster = Cluster()
            alive = cluster.alive()
            # All are submitted before any is waited for: their Python workers, which take longest, start beside the next job's planning.
            known = {job.name: running.job_id for job in wanted if (running := alive.get(job.flink_name))}
            job_ids = {job.name: known.get(job.name) or submit(job, cluster=cluster, ledger=ledger) for job in wanted}
            for job in wanted:
                _wait(job, job_ids[job.name], cluster, ledger)
                sys.stdout.write(f"{job.flink_name:40} {job_ids[job.name]}{' (was running)' if job.name in known else ''}\n")
                sys.stdout.flush()
    except (JobError, ClusterError, StateLost) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

"""Deploy: bring jobs onto a Flink cluster, each from where it stopped. `python -m streams.deploy --all | --resume | NAME...`, idempotent.

One process submits all jobs, because each new one costs a JVM and a planner; while the cluster takes one, the next is planned. A job that
runs is left alone; one that does not starts from its newest savepoint or complete checkpoint, so that no fact is written twice; only a job
that never ran, or `lose_state`, starts from nothing. A job that cannot be deployed is named with its reason, and the rest goes on.

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
import select
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.base import log
from infra.base.settings import settings
from streams.cluster import Cluster, ClusterError, newest_on_disk
from streams.environment import STATE, Flink, Job, JobError, jobs

KEPT_INCARNATIONS = 5
REREAD = "one that reads its topics again comes with `headrace feature deploy`"
AT_ONCE = 2
"""Jobs that the cluster is given at a time."""
NODE = re.compile(r"^([\s:|+\-]*)(\w+)\(")
STATEFUL = re.compile(r"Aggregate|Deduplicate|Rank|Join|Match|Over|ProcessTableFunction|Normalize|Sort")


class StateLost(Exception):
    """The new plan cannot take over the job's state; the message names the operators and the way out."""


@dataclass
class Deployed:
    """What is remembered of a job. `job_ids`: its incarnations, newest first; `savepoint`: where it was stopped; `plan`: what runs; `text`:
    its statements, of a job that says what its state is of; `compiled`: whether its plan was, which operators' ids depend on.
    """

    job_ids: list[str] = field(default_factory=list)
    savepoint: str = ""
    plan: str = ""
    text: str = ""
    compiled: bool = True


class Planned:
    """A job that has been planned and can be submitted: its session, its plan, and that as text."""

    def __init__(self, job: Job, compiled: bool = True) -> None:
        """Blocks for a second or two. Needs neither Kafka nor a cluster. Not `compiled`: as before plans were. Raises JobError."""
        self.job, self.compiled = job, compiled
        self.flink = Flink(job)
        self.plan: Any = self.flink.plan() if compiled else self.flink.prepare()
        self.text = self.flink.explain(self.plan)


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
            return {name: Deployed(**{"compiled": False, **entry}) for name, entry in json.loads(self.path.read_text()).items()}
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


def enter(planned: Planned, lose_state: bool, cluster: Cluster, ledger: Ledger) -> tuple[Planned, dict[str, str]]:
    """Enter a submission in the ledger; returns what is submitted, and the options that make it one: where it starts from, and its id.

    The id is ours and is remembered before the cluster hears of it: what a job wrote whose submission was never answered counts too.
    A job whose state is of something else than today's, or of a plan that was not compiled, goes on as it was deployed. Raises StateLost,
    JobError.
    """
    job = planned.job
    deployed = ledger.get(job.flink_name)
    came_from = None if lose_state else _restore_point(job, deployed, cluster)
    other = came_from and _has_other_state(job, deployed)
    if other or (came_from and planned.compiled != deployed.compiled):
        planned = Planned(replace(job, text=deployed.text) if other else job, deployed.compiled)
    job_id = secrets.token_hex(16)
    options = {"$internal.pipeline.job-id": job_id}
    if came_from:
        mode = "NO_CLAIM" if came_from == deployed.savepoint else "CLAIM"
        options |= {"execution.state-recovery.path": came_from, "execution.state-recovery.claim-mode": mode}
    if came_from and deployed.plan:
        refuse_unless_fits(job, deployed.plan, planned.text)
    before = [] if lose_state else deployed.job_ids
    text = ";\n".join(planned.job.statements) if STATE in planned.job.options else ""
    ids = [job_id, *before][:KEPT_INCARNATIONS]
    ledger.put(job.flink_name, Deployed(ids, came_from or "", planned.text, text, planned.compiled))
    return planned, options


def submit(planned: Planned, lose_state: bool, cluster: Cluster, ledger: Ledger) -> str:
    """Hand a planned job to the cluster, to go on from where it stopped; returns its id. Raises JobError, ClusterError, StateLost."""
    entered, options = enter(planned, lose_state, cluster, ledger)
    return entered.flink.submit(entered.plan, options)


def run(job: Job, *, lose_state: bool = False, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """Plan a job, `submit` it, and wait until it runs; returns its id. Raises JobError, ClusterError, StateLost."""
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    planned = Planned(job)
    with ledger.held():
        job_id = submit(planned, lose_state, cluster, ledger)
        _wait(job, job_id, cluster, ledger)
    return job_id


def _wait(job: Job, job_id: str, cluster: Cluster, ledger: Ledger) -> None:
    """Until a submitted job runs."""
    try:
        cluster.wait_until_running(job_id)
    except ClusterError as error:
        raise ClusterError(f"{job.name} was submitted from {ledger.get(job.flink_name).savepoint or 'nothing'}: {error}") from None


def stop(wanted: Sequence[Job], *, cluster: Cluster | None = None, ledger: Ledger | None = None) -> dict[str, str]:
    """Stop jobs, all at once, each with a savepoint, and remember it; returns its path by job. ClusterError where one does not run: then
    none is stopped; or where one cannot be stopped: then the others are.
    """
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    with ledger.held(), ThreadPoolExecutor(max(1, len(wanted))) as pool:
        alive = cluster.alive()
        if absent := [job.name for job in wanted if job.flink_name not in alive]:
            raise ClusterError(f"{', '.join(absent)}: not running on {cluster.url}")
        stopping = {job: pool.submit(cluster.stop, alive[job.flink_name].job_id) for job in wanted}
        savepoints, failed = {}, []
        for job, savepoint in stopping.items():
            try:
                savepoints[job.name] = savepoint.result()
            except ClusterError as error:
                failed.append(f"{job.name}: {error}")
                continue
            deployed = ledger.get(job.flink_name)
            ids = deployed.job_ids or [alive[job.flink_name].job_id]
            ledger.put(job.flink_name, replace(deployed, job_ids=ids, savepoint=savepoints[job.name]))
        if failed:
            raise ClusterError("\n".join(failed))
    return savepoints


def upgrade(job: Job, *, lose_state: bool = False, cluster: Cluster | None = None, ledger: Ledger | None = None) -> str:
    """Stop with a savepoint, start today's version from it; returns the new job id. Raises StateLost before anything is stopped."""
    cluster, ledger = cluster or Cluster(), ledger or Ledger()
    with ledger.held():
        deployed = ledger.get(job.flink_name)
        planned = Planned(job, deployed.compiled or lose_state)
        if _has_other_state(job, deployed) and not lose_state:
            was, now = _state(deployed.text), job.options.get(STATE)
            raise StateLost(f"{job.name}: the state of the running version is of {was}, and not of {now}: {REREAD}")
        if deployed.plan and not lose_state:
            refuse_unless_fits(job, deployed.plan, planned.text)
        if job.flink_name in cluster.alive():
            stop([job], cluster=cluster, ledger=ledger)
        job_id = submit(planned, lose_state, cluster, ledger)
        _wait(job, job_id, cluster, ledger)
    return job_id


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


def ahead(wanted: Iterable[Job]) -> dict[str, Planned]:
    """Plan one job after another until standard input ends, and wait for that: whoever starts the cluster ends it when that is there."""
    found = {}
    for job in wanted:
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        with suppress(JobError):  # said when it is deployed
            found[job.name] = Planned(job)
    sys.stdin.read()
    return found


def start(
    wanted: Iterable[Job], ledger: Ledger, *, planned: Mapping[str, Planned] | None = None, lose_state: bool = False
) -> Iterator[tuple[Job, str | Exception]]:
    """Each job with its id once it runs, or why it does not: JobError, ClusterError, StateLost. Those that run already are left alone.

    `planned`: those that have been planned, by name. Raises ClusterError where there is no cluster.
    """
    cluster, known = Cluster(), planned or {}
    with ledger.held(), ThreadPoolExecutor(AT_ONCE) as pool:
        alive = cluster.alive()
        ids: dict[Job, Future[str] | str | Exception] = {}
        # All are submitted before any is waited for: their Python workers, which take longest, start beside the next job's planning.
        for job in wanted:
            if running := alive.get(job.flink_name):
                ids[job] = running.job_id
                continue
            try:
                ready = known.get(job.name) or Planned(job)
                entered, options = enter(ready, lose_state, cluster, ledger)
                ids[job] = pool.submit(entered.flink.submit, entered.plan, options)
            except (JobError, ClusterError, StateLost) as error:
                ids[job] = error
        for job, of in ids.items():
            try:
                if isinstance(of, Exception):
                    raise of
                job_id = of if isinstance(of, str) else of.result()
                _wait(job, job_id, cluster, ledger)
                yield job, job_id
            except (JobError, ClusterError, StateLost) as error:
                yield job, error


def main() -> None:
    """Deploy the jobs named on the command line and print their ids."""
    parser = argparse.ArgumentParser(prog="python -m streams.deploy", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="jobs; see `headrace jobs list`")
    parser.add_argument("--all", action="store_true", help="every job")
    parser.add_argument("--resume", action="store_true", help="every job that was deployed before and does not run now")
    parser.add_argument("--ahead", action="store_true", help="plan while the cluster starts, and submit when standard input has ended")
    parser.add_argument("--namespace", help="overrides HEADRACE_NAMESPACE")
    asked = parser.parse_args()
    if asked.namespace is not None:
        os.environ["HEADRACE_NAMESPACE"] = asked.namespace
        settings.cache_clear()
    log.configure("deploy")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
    failed = []
    try:
        ledger, known = Ledger(), jobs()
        remembered = ledger.read() if asked.resume else {}
        wanted = chosen(asked.names or [name for name, job in known.items() if asked.all or job.flink_name in remembered])
        planned = ahead(wanted) if asked.ahead else {}
        for job, of in start(wanted, ledger, planned=planned):
            if isinstance(of, Exception):
                failed.append(f"{job.name}: {of}")
            else:
                sys.stdout.write(f"{job.flink_name:40} {of}\n")
                sys.stdout.flush()
    except (JobError, ClusterError) as error:
        raise SystemExit(str(error)) from None
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()

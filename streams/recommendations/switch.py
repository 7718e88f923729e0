"""Other features: their job reads the log again beside the one that runs, and takes its place when it has caught up.

    1. `features_next` starts from nothing with the new features, silent: it keeps rows and tells none. The running job goes on.
    2. When it has read what there was, the running job is stopped, and `features_next` reads to where that one can have read.
    3. It is stopped with a savepoint, from which `features` goes on; that tells all rows, which are of a later generation.

No value goes back meanwhile, because no row is told that knows less than the one before it; for the seconds of steps 2 and 3 none moves on.
Cut off, the same call begins again with step 1, and what ran goes on, or is started again by `headrace jobs deploy`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

from confluent_kafka import TopicPartition

from infra.base import kafka
from infra.base.settings import settings
from schemas.catalogue import catalogue
from streams import deploy
from streams.cluster import Cluster, ClusterError
from streams.deploy import Deployed, Ledger
from streams.environment import Job, jobs

JOB, NEXT = "features", "features_next"
LOUD, SILENT = "${streams.recommendations.kept.ARGUMENT}", "${streams.recommendations.kept.SILENT}"
LOOK_EVERY_S, ANSWERS_S = 0.5, 30.0

Ends = Mapping[str, list[int]]
"""Where each topic ends, by partition."""


def take_over(tell: Callable[[str], None], ready: Callable[[], None], within_s: float = 3600.0) -> str:
    """Bring this checkout's features onto the cluster; returns the id of their job. Blocks for as long as the log takes to read.

    `tell` is given what is happening, in words; `ready` is called when all values are there and nothing of them has been told yet. Raises
    ClusterError, JobError, KafkaException.
    """
    job, cluster, ledger = jobs()[JOB], Cluster(), Ledger()
    silent = replace(job, name=NEXT, text=job.text.replace(LOUD, SILENT))
    with ledger.held():
        if (broken_off := cluster.alive().get(silent.flink_name)) is not None:
            cluster.stop(broken_off.job_id)
        _forget_offsets(silent)
        tell("reading the log from its beginning, beside the features that are kept now …")
        job_id = deploy.run(silent, lose_state=True, cluster=cluster, ledger=ledger)
        _wait(silent, job_id, cluster, _ends(silent), within_s)
        if job.flink_name in cluster.alive():
            tell("it has caught up: taking over …")
            deploy.stop([job], cluster=cluster, ledger=ledger)
        _wait(silent, job_id, cluster, _ends(silent), within_s)
        savepoint = deploy.stop([silent], cluster=cluster, ledger=ledger)[silent.name]
        ledger.put(job.flink_name, Deployed([job_id], savepoint, ledger.get(silent.flink_name).plan))
        ready()
        return deploy.run(job, cluster=cluster, ledger=ledger)


def start(tell: Callable[[str], None], ready: Callable[[], None]) -> str:
    """Start the job that keeps features where it stopped, or for the first time; returns its id, that of the running one where it runs."""
    job, cluster, ledger = jobs()[JOB], Cluster(), Ledger()
    with ledger.held():
        ready()
        if (running := cluster.alive().get(job.flink_name)) is not None:
            return running.job_id
        tell("starting …")
        return deploy.run(job, cluster=cluster, ledger=ledger)


def was_deployed() -> bool:
    """Whether rows are kept, of whatever features."""
    job = jobs()[JOB]
    return bool(Ledger().get(job.flink_name).job_ids) or job.flink_name in Cluster().alive()


def _wait(job: Job, job_id: str, cluster: Cluster, ends: Ends, within_s: float) -> None:
    """Until a job has committed that it has read so far. Raises ClusterError where it runs no more, or takes longer."""
    deadline = time.monotonic() + within_s
    while not _has_read(job, ends):
        cluster.wait_until_running(job_id)
        if time.monotonic() > deadline:
            raise ClusterError(f"{job.name} has not caught up with its topics after {within_s:g} s; what ran before goes on")
        time.sleep(LOOK_EVERY_S)


def _ends(job: Job) -> Ends:
    with closing(kafka.consumer(job.name)) as consumer:
        return {
            name: [consumer.get_watermark_offsets(partition, timeout=ANSWERS_S)[1] for partition in of]
            for name, of in _partitions(job).items()
        }


def _has_read(job: Job, ends: Ends) -> bool:
    wanted = [(partition, end) for name, of in _partitions(job).items() for partition, end in zip(of, ends[name], strict=True)]
    with closing(kafka.consumer(job.name)) as consumer:
        told = consumer.committed([partition for partition, _ in wanted], timeout=ANSWERS_S)
    return all(one.offset >= end for one, (_, end) in zip(told, wanted, strict=True) if end)


def _forget_offsets(job: Job) -> None:
    """What an earlier run has committed says nothing of this one, which begins at the beginning whatever is committed."""
    with closing(kafka.consumer(job.name)) as consumer:
        nothing = [TopicPartition(one.topic, one.partition, 0) for of in _partitions(job).values() for one in of]
        consumer.commit(offsets=nothing, asynchronous=False)


def _partitions(job: Job) -> dict[str, list[TopicPartition]]:
    """Of each topic that a job reads."""
    return {name: [TopicPartition(settings().topic(name), n) for n in range(catalogue().topic(name).partitions)] for name in job.reads}

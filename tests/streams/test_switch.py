"""Other features take over: who starts, who stops, and what must have been read before."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from infra.base import kafka
from infra.base.settings import settings
from schemas.catalogue import catalogue
from streams import deploy
from streams.cluster import ClusterError, Running
from streams.deploy import Deployed, Ledger
from streams.environment import Job
from streams.recommendations import switch
from tests.broker import MockCluster

TOPIC = "recommendations.interaction"


class Jobs:
    """A Flink cluster that runs jobs by name; each reads what there is when it is looked at, as long as it is not `stuck`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.running: dict[str, str] = {}
        self.said: list[str] = []
        self.texts: dict[str, str] = {}
        self.stuck = False

    def alive(self) -> dict[str, Running]:
        return {name: Running(job_id, name, "RUNNING", 0) for name, job_id in self.running.items()}

    def wait_until_running(self, job_id: str) -> None:
        if self.stuck:
            raise ClusterError(f"{job_id} is FAILED")
        (job,) = (name for name, running in self.running.items() if running == job_id)
        with closing(kafka.consumer(job)) as consumer:
            consumer.commit(offsets=[TopicPartition(settings().topic(TOPIC), n, end) for n, end in enumerate(ends())], asynchronous=False)

    def stop(self, job_id: str) -> str:
        self.running = {name: running for name, running in self.running.items() if running != job_id}
        self.said.append(f"cancel {job_id}")
        return "nowhere"

    def start_job(self, job: Job, **_: Any) -> str:
        self.said.append(f"start {job.name}")
        self.texts[job.name] = ";".join(job.statements)
        self.running[job.flink_name] = f"id of {job.name}"
        return f"id of {job.name}"

    def stop_jobs(self, wanted: list[Job], *, ledger: Ledger, **_: Any) -> dict[str, str]:
        (job,) = wanted
        self.said.append(f"stop {job.name}")
        del self.running[job.flink_name]
        if job.name == "features":
            write()  # what the old one had still read
        else:
            assert committed(job.name) == ends(), "what came last is not in the savepoint"
        return {job.name: f"savepoint of {job.name}"}


def write() -> None:
    producer = kafka.producer()
    producer.produce(settings().topic(TOPIC), b"", partition=1)
    assert producer.flush(10) == 0


def partitions() -> list[TopicPartition]:
    return [TopicPartition(settings().topic(TOPIC), n) for n in range(catalogue().topic(TOPIC).partitions)]


def ends() -> list[int]:
    with closing(kafka.consumer("ends")) as consumer:
        return [consumer.get_watermark_offsets(one, timeout=10)[1] for one in partitions()]


def committed(group: str) -> list[int]:
    with closing(kafka.consumer(group)) as consumer:
        return [max(one.offset, 0) for one in consumer.committed(partitions(), timeout=10)]


@pytest.fixture
def cluster_of_jobs(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Jobs:
    """Kafka, and a cluster on which the old job runs."""
    made = Jobs(Ledger(tmp_path / "jobs.json"))
    made.ledger.put("features", Deployed(["id of old"], "", "plan", "text"))
    job = Job("features", f"SET 'a' = '{switch.LOUD}'; INSERT INTO `recommendations.feature_value` SELECT 1 FROM `{TOPIC}`", "here")
    monkeypatch.setattr(switch, "Cluster", lambda: made)
    monkeypatch.setattr(switch, "Ledger", lambda: made.ledger)
    monkeypatch.setattr(switch, "jobs", lambda: {"features": job})
    monkeypatch.setattr(switch, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(deploy, "run", made.start_job)
    monkeypatch.setattr(deploy, "stop", made.stop_jobs)
    made.running["features"] = "id of old"
    write()
    return made


def test_the_next_one_reads_in_silence_and_takes_over_when_it_has_read_what_the_old_one_had(cluster_of_jobs: Jobs) -> None:
    jobs = cluster_of_jobs
    assert switch.take_over(lambda words: None, lambda: jobs.said.append("ready")) == "id of features"
    assert jobs.said == ["start features_next", "stop features", "stop features_next", "ready", "start features"]
    silent, loud = (json.loads(jobs.texts[name].split("'")[3]) for name in ("features_next", "features"))
    assert (silent["silent"], loud["silent"]) == (True, False)
    assert silent["generation"] == loud["generation"]
    assert list(jobs.running) == ["features"]
    assert jobs.ledger.get("features") == Deployed(["id of features_next"], "savepoint of features_next")


def test_one_that_was_broken_off_is_stopped_and_what_it_had_read_says_nothing(cluster_of_jobs: Jobs) -> None:
    jobs = cluster_of_jobs
    with closing(kafka.consumer("features_next")) as consumer:
        consumer.commit(offsets=[TopicPartition(settings().topic(TOPIC), 1, 10**6)], asynchronous=False)
    jobs.running["features_next"] = "id of broken"
    switch.take_over(lambda words: None, lambda: None)
    assert jobs.said[:2] == ["cancel id of broken", "start features_next"]


def test_where_the_next_one_fails_the_old_one_goes_on(cluster_of_jobs: Jobs) -> None:
    jobs = cluster_of_jobs
    jobs.stuck = True
    with pytest.raises(ClusterError, match="id of features_next is FAILED"):
        switch.take_over(lambda words: None, lambda: jobs.said.append("ready"))
    assert jobs.said == ["start features_next"]
    assert jobs.running["features"] == "id of old"

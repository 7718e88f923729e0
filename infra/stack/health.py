"""What flows through a running stack: topics, jobs and tables, each asked where it lives.

Everything here reads addresses from the settings, so it describes a cluster as well as the local stack.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.base import kafka, warehouse
from infra.base.settings import settings
from schemas.catalogue import catalogue

TIMEOUT_S = 5.0
INTERNAL = ("_", "kafkasql-", "registry-events")
"""How the names of Kafka's and the registry's own topics begin."""


class Unreachable(RuntimeError):
    """A part of the pipeline does not answer; the message names it and its address."""


def topics(interval_s: float = 1.0) -> list[dict[str, Any]]:
    """Each topic with its messages (log end minus log start), messages/s over `interval_s`, and lag by consumer group.

    Blocks for `interval_s`. Raises Unreachable.
    """
    admin = kafka.admin()
    try:
        names = [name for name in admin.list_topics(timeout=TIMEOUT_S).topics if not name.startswith(INTERNAL)]
        first = _ends(admin, names)
        time.sleep(interval_s)
        ends = _ends(admin, names)
        starts = _ends(admin, names, OffsetSpec.earliest())
        lag = _lag(admin, ends)
    except KafkaException as error:
        raise Unreachable(f"Kafka at {settings().kafka.bootstrap} does not answer: {error}") from error
    return [
        {
            "name": name,
            "messages": sum(end - starts[key] for key, end in ends.items() if key[0] == name),
            "rate": round(sum(end - first.get(key, end) for key, end in ends.items() if key[0] == name) / interval_s, 1),
            "lag": {group: sum(parts.values()) for (topic, group), parts in lag.items() if topic == name},
        }
        for name in sorted(names)
    ]


def lags(namespace: str | None = None) -> dict[tuple[str, str], int]:
    """Offsets that a consumer group has not committed yet, marks of transactions included, by (group, topic) of a namespace (default: this
    one), without its prefix. Raises Unreachable.
    """
    admin = kafka.admin()
    of = settings() if namespace is None else settings().within(namespace)
    declared = {of.topic(name): name for name in catalogue().topics}
    try:
        existing = admin.list_topics(timeout=TIMEOUT_S).topics
        lag = _lag(admin, _ends(admin, [name for name in declared if name in existing]))
    except KafkaException as error:
        raise Unreachable(f"Kafka at {settings().kafka.bootstrap} does not answer: {error}") from error
    prefix = of.topic("")
    return {(group.removeprefix(prefix), declared[topic]): sum(parts.values()) for (topic, group), parts in lag.items()}


def _ends(admin: AdminClient, names: list[str], spec: Any = None) -> dict[tuple[str, int], int]:
    metadata = admin.list_topics(timeout=TIMEOUT_S).topics
    wanted = {TopicPartition(name, p): spec or OffsetSpec.latest() for name in names for p in metadata[name].partitions}
    if not wanted:
        return {}
    found = admin.list_offsets(wanted, request_timeout=TIMEOUT_S)
    return {(part.topic, part.partition): future.result().offset for part, future in found.items()}


def _lag(admin: AdminClient, ends: dict[tuple[str, int], int]) -> dict[tuple[str, str], dict[int, int]]:
    """(topic, group) -> partition -> messages not yet committed."""
    lag: dict[tuple[str, str], dict[int, int]] = {}
    for listed in admin.list_consumer_groups(request_timeout=TIMEOUT_S).result().valid:
        asked = [ConsumerGroupTopicPartitions(listed.group_id)]
        for future in admin.list_consumer_group_offsets(asked, request_timeout=TIMEOUT_S).values():
            for part in future.result().topic_partitions:
                end = ends.get((part.topic, part.partition))
                if end is not None and part.offset >= 0:
                    lag.setdefault((part.topic, listed.group_id), {})[part.partition] = max(0, end - part.offset)
    return lag


def jobs() -> list[dict[str, Any]]:
    """Each job that Flink knows: state, age of its last complete checkpoint, restarts, and records/s read by its sources."""
    now_ms = time.time() * 1000
    found = []
    for job in _flink("/jobs/overview")["jobs"]:
        path = f"/jobs/{job['jid']}"
        newest = _flink(f"{path}/checkpoints").get("latest", {}).get("completed")
        restarts = _flink(f"{path}/metrics?get=numRestarts")
        running = job["state"] == "RUNNING"
        found.append(
            {
                "name": job["name"],
                "id": job["jid"],
                "state": job["state"],
                "tasks": job["tasks"],
                "restarts": int(float(restarts[0]["value"])) if restarts else 0,
                "checkpoint_age_s": round((now_ms - newest["latest_ack_timestamp"]) / 1000, 1) if newest else None,
                "records_per_s": round(_source_rate(path), 1) if running else 0.0,
            }
        )
    return sorted(found, key=lambda job: (job["state"] != "RUNNING", job["name"]))


def _source_rate(path: str) -> float:
    rate = 0.0
    for vertex in _flink(path)["vertices"]:
        metrics = f"{path}/vertices/{vertex['id']}/subtasks/metrics"
        names = [m["id"] for m in _flink(metrics) if m["id"].startswith("Source") and m["id"].endswith(".numRecordsInPerSecond")]
        if names:
            rate += sum(m["sum"] for m in _flink(f"{metrics}?get={','.join(names)}&agg=sum"))
    return rate


def _flink(path: str) -> Any:
    url = settings().flink.rest_url
    try:
        return httpx.get(url + path, timeout=TIMEOUT_S).raise_for_status().json()
    except httpx.HTTPError as error:
        raise Unreachable(f"Flink at {url} does not answer: {error}") from error


def tables() -> list[dict[str, Any]]:
    """Each table of the namespace: rows, age of its newest row in seconds, and the loader's last error on it."""
    try:
        with warehouse.reader("default") as client:
            rows = client.query(
                "SELECT t.name AS name, t.total_rows AS rows, c.name AS clock FROM system.tables AS t"
                " LEFT JOIN (SELECT `table`, name FROM system.columns WHERE database = {db:String} AND name = 'ingested_at') AS c"
                " ON c.`table` = t.name WHERE t.database = {db:String} AND t.engine LIKE '%MergeTree%' ORDER BY t.name",
                parameters={"db": settings().database},
            ).result_rows
            newest = {
                name: client.query(f"SELECT max(ingested_at) FROM `{settings().database}`.`{name}`").result_rows[0][0]
                for name, count, clock in rows
                if clock and count
            }
    except (ClickHouseError, OSError) as error:
        raise Unreachable(f"the warehouse at {settings().warehouse.dsn} does not answer: {str(error)[:120]}") from error
    errors = _loader_errors()
    return [
        {"name": name, "rows": count or 0, "freshness_s": _age_s(newest.get(name)), "last_error": errors.get(name, "")}
        for name, count, _ in rows
    ]


def _age_s(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return round((datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds(), 1)


def _loader_errors() -> dict[str, str]:
    """Last error by table; empty where no loader runs."""
    try:
        return {table["table"]: table["last_error"] for table in loader_tables() if table.get("last_error")}
    except Unreachable:
        return {}


def loader_tables() -> list[dict[str, Any]]:
    """What the loader's GET /status says of its tables. Raises Unreachable."""
    url = settings().loader.status_url
    try:
        return list(httpx.get(f"{url}/status", timeout=TIMEOUT_S).raise_for_status().json().get("tables", []))
    except httpx.HTTPError as error:
        raise Unreachable(f"the loader at {url} does not answer: {error}") from error

"""From a job's file to a Flink job: the tables it names, the options that make it exactly once, the cluster that settings name.

A job is one `<domain>/<job>.sql`, which opens with the question it answers and then holds, separated by semicolons:

    SET 'key' = 'value'                  an option of this job alone: of Flink's, or 'headrace.columns' = 'named', with which it reads no
                                         column that it does not name; for a job that needs few of many, decoding is most of its work;
                                         or 'headrace.state', what its state is of: where that is another, a job goes on as it was deployed
    CREATE TEMPORARY FUNCTION | VIEW     as in Flink SQL; functions in Python, and in Java those that Flink takes in no other language
    CREATE TEMPORARY VIEW b AS OPERATOR 'class' OVER a WITH 'argument'
                                         what an operator in Java makes of view a (docs/adr/0013): its static method
                                         DataStream<RowData> over(DataStream<RowData>, String)
    INSERT INTO `domain.noun` SELECT …   all of a job's inserts run as one Flink job

Topics are written as tables: `playback.report`. What is inserted into is a sink, the rest are sources; columns, formats and addresses come
from the contract and from settings, so no job states them. `${a.b.NAME}` stands for the Python constant NAME of module a.b.

Nothing here talks to a network until `Flink.submit` or `Flink.plan`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.base import rooms
from infra.base.settings import settings
from schemas.catalogue import Topic, catalogue
from schemas.project import avro_schema_text, flink_table
from streams import java
from streams.pack import pack

ROOM = Path(__file__).parent
COMMENT = re.compile(r"--[^\n]*")
STRING = re.compile(r"'(?:[^']|'')*'")
CONSTANT = re.compile(r"\$\{([\w.]+)\.(\w+)\}")
TABLE = re.compile(r"`(\w+(?:\.\w+)+)`")
INSERT = re.compile(r"INSERT\s+INTO\s+`([\w.]+)`", re.IGNORECASE)
JAVA = re.compile(r"LANGUAGE\s+JAVA|AS\s+OPERATOR", re.IGNORECASE)
OPERATOR = re.compile(
    r"CREATE\s+TEMPORARY\s+VIEW\s+(\w+)\s+AS\s+OPERATOR\s+'([\w.]+)'\s+OVER\s+(\w+)\s+WITH\s+'((?:[^']|'')*)'", re.IGNORECASE
)
OPTION = re.compile(r"SET\s+'([^']+)'\s*=\s*'([^']*)'", re.IGNORECASE)

CAUGHT_UP = {"properties.fetch.min.bytes": "262144", "properties.fetch.max.wait.ms": "200", "properties.max.poll.records": "5000"}
"""A job that has caught up asks for records five times a second, not whenever somebody has written some."""

COLUMNS, STATE = "headrace.columns", "headrace.state"
TRANSACTION_TIMEOUT_MS = 600_000
"""A job that is down for longer loses its open transactions; the broker's maximum is 15 min."""


class JobError(Exception):
    """A job's file cannot become a Flink job; the message names the job, the place and the way out."""


@dataclass(frozen=True)
class Job:
    """One Flink job as its author wrote it. `name` is unique; `where` is what messages call its origin."""

    name: str
    text: str
    where: str

    @cached_property
    def statements(self) -> list[str]:
        """The statements without comments, constants filled in. Raises JobError."""
        return [s for part in _split(CONSTANT.sub(self._constant, COMMENT.sub("", self.text))) if (s := part.strip())]

    @cached_property
    def options(self) -> dict[str, str]:
        """What the job SETs."""
        return {m[1]: m[2] for s in self.statements if (m := OPTION.fullmatch(s))}

    @property
    def writes(self) -> list[str]:
        """Topics that the job inserts into, as written."""
        return list(dict.fromkeys(INSERT.findall(";".join(self.statements))))

    @property
    def reads(self) -> list[str]:
        """Topics that the job reads."""
        return [name for name in dict.fromkeys(TABLE.findall(";".join(self.statements))) if name not in self.writes]

    @property
    def flink_name(self) -> str:
        """The job's name on a cluster: that of the namespace before it."""
        return settings().topic(self.name)

    def _constant(self, match: re.Match[str]) -> str:
        module, name = match.groups()
        if topic := catalogue().topics.get(f"{module}.{name}"):
            return ", ".join(f"`{field['name']}`" for field in topic.event.fields)
        try:
            return str(getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise JobError(f"{self.where}: {match.group()}: {error}") from None


def jobs() -> dict[str, Job]:
    """Every job of this room, and of teams', by name: the .sql files below it, and the routes that topics.yaml declares."""
    from streams import route

    found = [
        Job(path.stem, path.read_text(encoding="utf-8"), str(path.relative_to(room.parent)))
        for room in (ROOM, *rooms.of_teams("streams"))
        for path in sorted(room.rglob("*.sql"))
    ]
    derived = [Job("route", text, "routes of topics.yaml")] if (text := route.sql(catalogue())) else []
    by_name: dict[str, Job] = {}
    for job in [*found, *derived]:
        if job.name in by_name:
            raise JobError(f"{job.where}: there is another job called {job.name}: {by_name[job.name].where}")
        by_name[job.name] = job
    return by_name


def _split(text: str) -> Iterator[str]:
    """Split at semicolons outside of strings."""
    start = 0
    strings = [m.span() for m in STRING.finditer(text)]
    for at in (m.start() for m in re.finditer(";", text)):
        if not any(first <= at < last for first, last in strings):
            yield text[start:at]
            start = at + 1
    yield text[start:]


def source(topic: Topic, job: Job) -> str:
    """CREATE TABLE of a topic that a job reads: from its beginning where no state says otherwise, committed records only."""
    match job.options.get(COLUMNS):
        case None:
            pass
        case "named":
            topic = _narrowed(topic, job)
        case other:
            raise JobError(f"{job.where}: SET '{COLUMNS}' = '{other}': it is 'named' or left out")
    return flink_table(
        topic,
        {
            "connector": "kafka",
            "topic": settings().topic(topic.name),
            "properties.bootstrap.servers": settings().kafka.bootstrap,
            "properties.group.id": job.flink_name,
            "properties.isolation.level": "read_committed",
            **CAUGHT_UP,
            "scan.startup.mode": "earliest-offset",
            **_value_format(topic),
        },
        arrival=True,
    )


def _narrowed(topic: Topic, job: Job) -> Topic:
    """The topic with those columns only that the job's text names."""
    words = {word for statement in job.statements for word in re.findall(r"\w+", statement)}
    named = [field for field in topic.event.fields if field["name"] in words | {"event_time"}]
    return replace(topic, event=replace(topic.event, schema={**topic.event.schema, "fields": named}))


def sink(topic: Topic, job: Job) -> str:
    """CREATE TABLE of a topic that a job writes: facts exactly once, at the pace of checkpoints; compacted topics at least once, now."""
    exactly_once = {
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": f"{job.flink_name}-{topic.name}",
        "sink.transaction-naming-strategy": "INCREMENTING",  # FLINK-40689: pooled ids run out of producer epochs
        "properties.transaction.timeout.ms": str(TRANSACTION_TIMEOUT_MS),
        "properties.linger.ms": "200",  # nobody sees a record before the checkpoint that commits it
        "properties.batch.size": "500000",
    }
    return flink_table(
        topic,
        {
            "connector": "kafka",
            "topic": settings().topic(topic.name),
            "properties.bootstrap.servers": settings().kafka.bootstrap,
            "properties.compression.type": "lz4",
            "properties.max.request.size": "10000000",
            "key.format": "raw",
            "key.fields": topic.key,
            "value.fields-include": "ALL",
            **_value_format(topic),
            "value.avro-confluent.subject": settings().topic(topic.name) + "-value",
            **({"sink.delivery-guarantee": "at-least-once"} if topic.cleanup == "compact" else exactly_once),
        },
        watermark=False,
    )


def _value_format(topic: Topic) -> dict[str, str]:
    return {
        "value.format": "avro-confluent",
        "value.avro-confluent.url": settings().registry.url,
        "value.avro-confluent.schema": avro_schema_text(topic),
    }


def connectors() -> list[Path]:
    """The connector jars. Raises JobError where there are none."""
    chosen = [Path(jar) for jar in settings().flink.jars] or sorted((settings().cache / "jars" / "flink").glob("*.jar"))
    if not chosen or not all(jar.is_file() for jar in chosen):
        raise JobError("the Kafka and Avro connectors for Flink are missing: run `headrace setup`")
    return chosen


def _uris(jars: Iterable[Path]) -> str:
    """As Flink's options list them."""
    return ";".join(jar.resolve().as_uri() for jar in jars)


def _functions(job: Job) -> list[Path]:
    """The jar of this room's Java, for a job that uses some."""
    return [_java(java.functions)] if any(JAVA.search(statement) for statement in job.statements) else []


def _java(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except java.JavaError as error:
        raise JobError(str(error)) from None


def configuration(job: Job) -> dict[str, str]:
    """The client configuration of a job. The client decides: checkpointing that only the cluster configures is not applied to a job."""
    flink = settings().flink
    rest = urlsplit(flink.rest_url)
    jars = [*([] if flink.jars_on_cluster else connectors()), *_functions(job)]
    return {
        "execution.target": "remote",
        "rest.address": rest.hostname or "127.0.0.1",
        "rest.port": str(rest.port or 8081),
        "pipeline.name": job.flink_name,
        **({"pipeline.jars": _uris(jars)} if jars else {}),
        "pipeline.object-reuse": "true",
        "parallelism.default": str(flink.parallelism),
        "execution.checkpointing.interval": f"{flink.checkpoint_ms} ms",
        "execution.checkpointing.min-pause": f"{flink.checkpoint_ms} ms",  # behind with its work, a job must not spend it on checkpoints
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.dir": flink.checkpoint_dir or (settings().state_dir.resolve() / "checkpoints").as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.tolerable-failed-checkpoints": "10",
        "execution.checkpointing.timeout": "2 min",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "15 s",
        "table.exec.uid.generation": "DISABLED",  # operators are found by their place in the graph, whether or not a plan was compiled
        "table.local-time-zone": "UTC",
        "table.exec.mini-batch.enabled": "true",
        "table.exec.mini-batch.allow-latency": "500 ms",
        "table.exec.mini-batch.size": "20000",
        "python.fn-execution.bundle.time": "200",
        **job.options,
    }


class Flink:
    """A PyFlink session for one job: its tables are made, nothing is submitted yet. Starting the first one starts a JVM (about 5 s)."""

    def __init__(self, job: Job, overrides: Mapping[str, str] | None = None) -> None:
        from pyflink.common import Configuration
        from pyflink.datastream import StreamExecutionEnvironment
        from pyflink.table import EnvironmentSettings, StreamTableEnvironment, TableEnvironment
        from pyflink.util import java_utils

        _java(java.find)
        # PyFlink may take the cluster for a local one, and then workers look for their functions in this process, which ends.
        os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112
        config = Configuration()
        java_utils.add_jars_to_context_class_loader(_uris(connectors()).split(";"))
        for key, value in {**configuration(job), **(overrides or {})}.items():
            config.set_string(key, value)
        self.job = job
        self._operators: list[tuple[str, str]] = []
        chosen = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(config).build()
        self.tables: Any
        if any(map(OPERATOR.fullmatch, job.statements)):
            environment = StreamExecutionEnvironment.get_execution_environment(config)
            self.tables = StreamTableEnvironment.create(environment, environment_settings=chosen)
        else:
            self.tables = TableEnvironment.create(chosen)
        self.tables.add_python_file(str(_shipped()))
        self._thread = java_utils.get_gateway().jvm.Thread
        self._classes = self._thread.currentThread().getContextClassLoader()

    def prepare(self, tables: Mapping[str, str] | None = None) -> Any:
        """Make the tables, functions and views; returns the statement set of all inserts. `tables`: DDL to use in place of a topic's own.

        Raises JobError, in the planner's words, where a statement does not fit.
        """
        replaced = tables or {}
        for name in self.job.reads:
            self._run(replaced.get(name) or source(catalogue().topic(name), self.job))
        for name in self.job.writes:
            self._run(replaced.get(name) or sink(catalogue().topic(name), self.job))
        inserts = self.tables.create_statement_set()
        for statement in self.job.statements:
            if INSERT.match(statement):
                self._run(statement, inserts.add_insert_sql)
            elif match := OPERATOR.fullmatch(statement):
                self._run(statement, lambda _, match=match: self._operator(*match.groups()))
            elif not OPTION.fullmatch(statement):
                self._run(statement)
        return inserts

    def plan(self) -> Any:
        """The optimised plan, to be submitted. Needs neither Kafka nor a cluster. Raises JobError."""
        inserts = self.prepare()
        try:
            return inserts.compile_plan()
        except Exception as error:  # py4j wraps whatever the planner throws
            raise JobError(f"{self.job.where}: {_cause(error)}") from error

    def explain(self, planned: Any) -> str:
        """What `plan` returned, as text. To the planner an operator is a source: what goes into each stands before it."""
        into = [f"== Into {operator} ==\n{self.tables.explain_sql(f'SELECT * FROM {over}')}" for operator, over in self._operators]
        return "\n".join([*into, str(planned.explain())])

    def submit(self, planned: Any, options: Mapping[str, str] | None = None) -> str:
        """Hand what `plan` or `prepare` returned to the cluster, under `options`; returns the job id. From any thread. Raises JobError."""
        for key, value in (options or {}).items():
            self.tables.get_config().set(key, value)
        self._thread.currentThread().setContextClassLoader(self._classes)
        try:
            return str(planned.execute().get_job_client().get_job_id())
        except Exception as error:  # py4j wraps whatever the client throws
            raise JobError(f"{self.job.name}: the cluster at {settings().flink.rest_url} did not take it: {_cause(error)}") from error

    def _operator(self, view: str, operator: str, over: str, argument: str) -> None:
        """Make a view of what an operator makes of another. Only the JVM knows operators: there is no such thing in PyFlink."""
        from pyflink.util import java_utils

        java_utils.add_jars_to_context_class_loader([jar.resolve().as_uri() for jar in _functions(self.job)])
        tables = self.tables._j_tenv
        told = getattr(tables, "from")(over)
        rows = java_utils.load_java_class("org.apache.flink.table.data.RowData")
        stream = tables.toDataStream(told, told.getResolvedSchema().toPhysicalRowDataType().bridgedTo(rows))
        made = java_utils.load_java_class(operator)
        over_it = next(method for method in made.getMethods() if method.getName() == "over")
        arguments = java_utils.to_jarray(java_utils.get_gateway().jvm.Object, [stream, argument.replace("''", "'")])
        tables.createTemporaryView(view, over_it.invoke(None, arguments))
        self._operators.append((operator, over))

    def _run(self, statement: str, run: Any = None) -> None:
        try:
            (run or self.tables.execute_sql)(statement)
        except Exception as error:  # py4j wraps whatever the planner throws
            raise JobError(f"{self.job.where}: {_cause(error)}\nin: {statement[:400]}") from error


def _cause(error: Exception) -> str:
    """The innermost words of a Java exception."""
    words = [line for line in str(error).splitlines() if line.startswith(("Caused by:", ": "))]
    return (words[-1].removeprefix("Caused by:").removeprefix(":").strip() if words else str(error))[:2_000]


def _shipped() -> Path:
    """A zip of this room's Python files: what the cluster's workers import functions from."""
    return pack(ROOM.rglob("*.py"), ROOM.parent, settings().state_dir.resolve() / "flink" / "streams.zip")

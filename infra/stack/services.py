"""The services of the local stack, one small class a kind: command, environment, what it needs, a question that shows it works."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx2 as httpx
import yaml

from infra.base.ports import LOOPBACK
from infra.base.settings import settings
from infra.stack import beam, jars, jvm
from infra.stack.site import Site
from producers.topology.topology import local_network


class NotReady(Exception):
    """The service does not answer its question yet; the message is the last thing it said."""


@dataclass(frozen=True)
class Service:
    """A process that runs until told to stop. `depends_on` must be ready before it starts."""

    name: str
    depends_on: tuple[str, ...] = ()
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 10.0

    def prepare(self, site: Site) -> None:
        """Write what the process reads at start. May block; runs before each start."""

    def command(self, site: Site) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def env(self, site: Site) -> dict[str, str]:
        """Environment beyond the settings tree."""
        return {}

    def cwd(self, site: Site) -> Path | None:
        """Working directory; None: that of the supervisor."""
        return None

    def url(self, site: Site) -> str:
        """Where it is reached; empty for what has no address."""
        return ""

    def ask(self, site: Site) -> None:
        """Ask the service something it can answer only when it works; raises NotReady otherwise. Returns within some ten seconds."""
        raise NotImplementedError


def get(url: str, timeout_s: float = 10.0) -> Any:
    """GET, JSON decoded where there is some. Raises NotReady on anything but a 200."""
    try:
        answer = httpx.get(url, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise NotReady(f"{url}: {error or type(error).__name__}") from error
    if answer.status_code != 200:
        raise NotReady(f"{url} answered {answer.status_code}: {answer.text[:200]}")
    return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


@dataclass(frozen=True)
class Kafka(Service):
    """One broker that is its own controller. Voters are static, so that the ports may change between runs."""

    name: str = "kafka"
    heap_mb: int = 512

    def prepare(self, site: Site) -> None:
        data = site.state_dir / "kafka"
        config = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{site.ports['kafka_controller']}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{site.ports['kafka']},CONTROLLER://{LOOPBACK}:{site.ports['kafka_controller']}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{site.ports['kafka']}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            "num.partitions": 2,
            "default.replication.factor": 1,
            "message.max.bytes": 10 << 20,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
        }
        path = self._config(site)
        path.write_text("".join(f"{key}={value}\n" for key, value in config.items()))
        if not (data / "meta.properties").exists():
            format_ = ["kafka.tools.StorageTool", "format", "--cluster-id", "headrace-local-stack00", "--config", str(path)]
            done = subprocess.run(
                jvm.command(*format_, class_path=jars.paths("kafka"), heap_mb=128), capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"Kafka's log directory {data} cannot be formatted: {done.stderr or done.stdout}")

    def command(self, site: Site) -> list[str]:
        options = [f"-Dlog4j2.configurationFile={jvm.log4j(site)}", "kafka.Kafka", str(self._config(site))]
        return jvm.command(*options, class_path=jars.paths("kafka"), heap_mb=self.heap_mb)

    def env(self, site: Site) -> dict[str, str]:
        return jvm.environment()

    def url(self, site: Site) -> str:
        return f"{LOOPBACK}:{site.ports['kafka']}"

    def ask(self, site: Site) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        quiet = {"bootstrap.servers": self.url(site), "log_level": 0, "socket.timeout.ms": 10_000}
        try:
            if not AdminClient(quiet).list_topics(timeout=10).brokers:
                raise NotReady("no broker has registered with the controller yet")
        except KafkaException as error:
            raise NotReady(str(error)) from error

    def _config(self, site: Site) -> Path:
        return site.state_dir / "conf" / "kafka.properties"


@dataclass(frozen=True)
class Registry(Service):
    """Apicurio, with its schemas in a compacted Kafka topic."""

    name: str = "registry"
    depends_on: tuple[str, ...] = ("kafka",)
    heap_mb: int = 384

    def command(self, site: Site) -> list[str]:
        runner = self.cwd(site) / "quarkus-run.jar"
        entry = "io.quarkus.bootstrap.runner.QuarkusEntryPoint"
        return jvm.command("-XX:TieredStopAtLevel=1", entry, class_path=[runner], heap_mb=self.heap_mb)

    def env(self, site: Site) -> dict[str, str]:
        return jvm.environment() | {
            "APICURIO_STORAGE_KIND": "kafkasql",
            "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{site.ports['kafka']}",
            "APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT": "1000",  # it waits for this twice at each start, 5 s by default
            "QUARKUS_HTTP_HOST": LOOPBACK,
            "QUARKUS_HTTP_PORT": str(site.ports["registry"]),
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "QUARKUS_MANAGEMENT_HOST": LOOPBACK,
            "QUARKUS_MANAGEMENT_PORT": str(site.ports["registry_management"]),
        }

    def cwd(self, site: Site) -> Path:
        (home,) = jars.paths("registry")
        return home

    def url(self, site: Site) -> str:
        return str(site.tree["registry"]["url"])

    def ask(self, site: Site) -> None:
        get(self.url(site) + "/subjects")


@dataclass(frozen=True)
class _Flink(Service):
    """What both Flink processes share: the distribution of the wheel, and a configuration directory of their own."""

    stop_timeout_s: float = 5.0

    def prepare(self, site: Site) -> None:
        checkpoints = {
            "checkpointing.dir": site.tree["flink"]["checkpoint_dir"],
            "checkpointing.savepoint-dir": site.tree["flink"]["savepoint_dir"],
            "checkpointing.num-retained": 3,
            "checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        }
        config: dict[str, Any] = {
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": site.ports["flink_rpc"],
            "jobmanager.bind-host": LOOPBACK,
            "blob.server.port": str(site.ports["flink_blob"]),
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": site.ports["flink_rest"],
            "rest.bind-port": str(site.ports["flink_rest"]),
            "web.timeout": 60_000,
            "pekko.ask.timeout": "60 s",  # a laptop that starts six JVMs at once is slower than the default 10 s
            "metrics.fetcher.update-interval": 500,  # ms between looks at the TaskManagers, while somebody asks; 10 s by default
            "heartbeat.interval": "2 s",
            "heartbeat.timeout": "20 s",
            "io.tmp.dirs": str(site.state_dir / "flink"),
            "web.tmpdir": str(site.state_dir / "flink"),
            "parallelism.default": 2,
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "taskmanager.numberOfTaskSlots": TaskManager.slots,
            "taskmanager.cpu.cores": float(TaskManager.slots),
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1 s",
            "restart-strategy.exponential-delay.max-backoff": "15 s",
            **{f"execution.{key}": value for key, value in checkpoints.items()},
            **{f"taskmanager.memory.{key}": f"{mb}m" for key, mb in TaskManager.memory_mb().items()},
        }
        folder = self._conf(site)
        folder.mkdir(parents=True, exist_ok=True)
        (site.state_dir / "flink").mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    def env(self, site: Site) -> dict[str, str]:
        return jvm.environment() | {"FLINK_CONF_DIR": str(self._conf(site)), "FLINK_LOG_DIR": str(site.state_dir / "logs")}

    def _jvm(self, site: Site, *arguments: str, heap_mb: int, collector: str = "Serial") -> list[str]:
        import pyflink

        home = Path(pyflink.__file__).parent
        shipped = yaml.safe_load((home / "conf" / "config.yaml").read_text())
        # Connectors stand on the cluster's class path: loaded once per job they would fill the metaspace.
        (flink_python,) = (home / "opt").glob("flink-python-*.jar")
        beam_jar = beam.write_jar(flink_python, self._conf(site) / "beam-on-loopback.jar")
        class_path = [beam_jar, *sorted((home / "lib").glob("*.jar")), flink_python, *jars.paths("flink")]
        opens = shipped["env"]["java"]["opts"]["all"].split()
        options = [*opens, f"-Dlog4j.configurationFile={jvm.log4j(site)}", *arguments, "--configDir", str(self._conf(site))]
        return jvm.command(*options, class_path=class_path, heap_mb=heap_mb, collector=collector)

    def _conf(self, site: Site) -> Path:
        return site.state_dir / "conf" / self.name


@dataclass(frozen=True)
class JobManager(_Flink):
    """Flink's coordinator. It keeps no memory of its jobs when it dies: `restarted` says what puts them back."""

    name: str = "jobmanager"
    heap_mb: int = 512

    def command(self, site: Site) -> list[str]:
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        return self._jvm(site, "-XX:TieredStopAtLevel=1", "-XX:MaxMetaspaceSize=192m", entry, heap_mb=self.heap_mb)

    def url(self, site: Site) -> str:
        return str(site.tree["flink"]["rest_url"])

    def ask(self, site: Site) -> None:
        get(self.url(site) + "/overview")


@dataclass(frozen=True)
class TaskManager(_Flink):
    """Flink's worker. Every memory share is written down, because no script computes the JVM's flags from them here."""

    name: str = "taskmanager"
    depends_on: tuple[str, ...] = ()

    slots: ClassVar[int] = 46

    @staticmethod
    def memory_mb() -> dict[str, int]:
        """Each share by the name of its setting below `taskmanager.memory`. What is not used costs nothing: the heap grows on demand."""
        return {
            "framework.heap.size": 96,
            "task.heap.size": settings().flink.task_heap_mb,
            "managed.size": 1_725,  # a budget, split among the slots, of which jobs with Python functions need tens of MiB
            "framework.off-heap.size": 96,
            "task.off-heap.size": 32,
            "network.min": 128,
            "network.max": 128,
            "jvm-metaspace.size": 320,
            "jvm-overhead.min": 128,
            "jvm-overhead.max": 128,
        }

    def prepare(self, site: Site) -> None:
        super().prepare(site)
        self._identity(site).write_text(f"taskmanager-{secrets.token_hex(4)}")
        with (self._conf(site) / "config.yaml").open("a") as config:
            config.write(f"taskmanager.resource-id: {self._identity(site).read_text()}\n")

    def command(self, site: Site) -> list[str]:
        memory = self.memory_mb()
        heap = memory["framework.heap.size"] + memory["task.heap.size"]
        direct = memory["framework.off-heap.size"] + memory["task.off-heap.size"] + memory["network.max"]
        limits = [f"-XX:MaxDirectMemorySize={direct}m", f"-XX:MaxMetaspaceSize={memory['jvm-metaspace.size']}m"]
        # Most of what is allocated is a record on its way or a bundle of them, and dies with the checkpoint; what stays is sessions' state.
        young = f"-XX:MaxNewSize={min(1_200, heap // 2)}m"
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        return self._jvm(site, *limits, young, main, heap_mb=heap, collector="Parallel")

    def ask(self, site: Site) -> None:
        known = get(site.tree["flink"]["rest_url"] + "/taskmanagers")["taskmanagers"]
        if self._identity(site).read_text() not in {manager["id"] for manager in known}:
            raise NotReady("the JobManager does not know this TaskManager yet")

    def _identity(self, site: Site) -> Path:
        """Holds the id of the current process: the JobManager remembers a dead predecessor for a while."""
        return self._conf(site) / "resource-id"


@dataclass(frozen=True)
class PythonService(Service):
    """A module of ours that answers GET /healthz at its address in the settings."""

    module: str = ""
    arguments: tuple[str, ...] = ()
    address: tuple[str, str] = ("", "")
    index: int | None = None

    def command(self, site: Site) -> list[str]:
        return [sys.executable, "-m", self.module, *self.arguments]

    def url(self, site: Site) -> str:
        group, name = self.address
        if not group:
            return ""
        value = site.tree[group][name]
        return str(value if self.index is None else value[self.index])

    def ask(self, site: Site) -> None:
        if url := self.url(site):
            get(f"{url}/healthz")


@dataclass(frozen=True)
class Task(Service):
    """A module of ours that runs to its end before its dependants start.

    `again_after` names services whose restart undoes its work: it is then run again. One that works `ahead` starts at once; its standard
    input ends when what it depends on is ready.
    """

    module: str = ""
    arguments: tuple[str, ...] = ()
    again_after: tuple[str, ...] = ()
    ahead: bool = False

    def command(self, site: Site) -> list[str]:
        return [sys.executable, "-m", self.module, *self.arguments]

    def env(self, site: Site) -> dict[str, str]:
        return jvm.client_environment()


@dataclass(frozen=True)
class Origin(PythonService):
    """Object storage of the titles: the bucket `titles` of the cache directory."""

    name: str = "origin"
    module: str = "edge.origin"
    address: tuple[str, str] = ("edge", "origin_url")

    def command(self, site: Site) -> list[str]:
        settings().cache.mkdir(parents=True, exist_ok=True)
        return [*super().command(site), "--url", self.url(site), "--root", str(settings().cache)]

    def ask(self, site: Site) -> None:
        get(f"{self.url(site)}/")


@dataclass(frozen=True)
class CacheServer(PythonService):
    """A server of the local network. It begins empty, is filled by plan, and fetches what it lacks from `parent`; the last one, of tier
    ORIGIN, holds nothing and fetches everything from the origin's bucket.
    """

    module: str = "edge.oca"
    address: tuple[str, str] = ("edge", "oca_urls")
    told: Mapping[str, Any] = field(default_factory=dict)
    """Its `delivery.oca`."""
    parent: int | None = None
    """Which of the servers; None: the origin's bucket."""

    def command(self, site: Site) -> list[str]:
        told, urls = self.told, site.tree["edge"]["oca_urls"]
        window = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (told["window_start_min"], told["window_end_min"]))
        arguments = {
            "index": self.index,
            "root": site.state_dir / "oca" / self.name,
            "site": told["site_id"],
            "tier": told["tier"],
            "parent": f"{site.tree['edge']['origin_url']}/titles" if self.parent is None else urls[self.parent],
            "capacity-bytes": 0 if self.parent is None else told["disk_bytes"],
            "fill-window": window,
            "zone": f"Etc/GMT{-told['utc_offset_min'] // 60:+}",
            "fill-bytes-per-s": told["fill_bps"] / 8,
            "egress-bps": told["egress_bps"],
        }
        return [*super().command(site), *(str(word) for name, value in arguments.items() for word in (f"--{name}", value))]


def cache_servers() -> list[Service]:
    """Those of the local network, each named as its events name it."""
    network = local_network()
    told = list(network.ocas.values())
    ready = ("kafka", "registry", "topics")

    def parent(of: Mapping[str, Any]) -> int | None:
        """The storage of its region, else the origin's server."""
        storage = [n for n, other in enumerate(told) if (other["tier"], other["region"]) == ("IX_STORAGE", of["region"])]
        origins = [n for n, other in enumerate(told) if other["tier"] == "ORIGIN"]
        return {"ORIGIN": None, "IX_STORAGE": origins[0]}.get(of["tier"], (storage or origins)[0])

    return [CacheServer(str(oca["oca_id"]), ready, told=oca, parent=parent(oca), index=n) for n, oca in enumerate(told)]


def catalogue() -> list[Service]:
    """Every service of the whole local stack."""
    ready = ("kafka", "registry", "topics")
    return [
        Kafka(),
        Registry(),
        JobManager(),
        TaskManager(),
        Task("topics", ("kafka", "registry"), module="schemas.publish"),
        PythonService("warehouse", module="sinks.warehouse", address=("warehouse", "dsn")),
        Task("tables", ("warehouse", "registry"), module="sinks.migrate"),
        Task(
            "jobs", ("jobmanager", "taskmanager", "topics"), module="streams.deploy", arguments=("--all", "--ahead"),
            again_after=("jobmanager",), ahead=True, start_timeout_s=300,
        ),
        PythonService("loader", (*ready, "tables"), module="sinks.loader", address=("loader", "status_url")),
        PythonService("guard", ready, module="streams.guard", address=("guard", "status_url")),
        PythonService("live-sessions", ready, module="streams.playback.live_sessions", address=("edge", "live_sessions_url")),
        PythonService("oca-health", ready, module="streams.delivery.oca_health", address=("edge", "oca_health_url")),
        PythonService("fill-planner", ready, module="streams.delivery.fill_planner", address=("fill", "status_url")),
        PythonService("collector", ready, module="edge.collector", address=("edge", "collector_url")),
        Task("topology", ready, module="producers.topology"),
        Task("catalogue", ready, module="producers.catalogue"),
        Task("experiments", ready, module="producers.experiments"),
        PythonService("steering", ready, module="edge.steering", address=("edge", "steering_url")),
        PythonService("gateway", ready, module="edge.gateway", address=("edge", "gateway_url")),
        PythonService("home", ready, module="edge.home", address=("edge", "home_url")),
        Origin(),
        *cache_servers(),
        PythonService("board", ("warehouse",), module="edge.board", address=("edge", "board_url")),
        PythonService("freshness", (*ready, "tables"), module="producers.freshness"),
        PythonService("sampler", (*ready, "jobs", "loader"), module="infra.stack.sampler"),
    ]  # fmt: skip


MEMBERS_EACH = 25
"""Members of the demo that take turns at one player: an experiment is read out from 50 of a variation on, and these come in minutes."""


def watching(players: int, inject: bool = False) -> list[Service]:
    """What the demo adds: titles to watch, encoded unless they are cached, and `players` members at a time who watch them, of more."""
    arguments = ("--count", str(players), "--members", str(MEMBERS_EACH * players), *(("--inject",) if inject else ()))
    everything = ("titles", "jobs", "collector", "gateway", *(server.name for server in cache_servers()))
    return [
        Task("titles", module="producers.encoders", arguments=("--emit",)),
        PythonService("players", everything, module="producers.players", arguments=arguments),
    ]

"""Every setting of Headrace, with a default that works.

A setting comes from, first to last: an argument, an environment variable `HEADRACE_<GROUP>__<NAME>`, the file
`stack.json` that a running stack leaves in its state directory, the default below. Jobs, services and commands
never learn an address from anywhere else.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict


class Kafka(BaseModel):
    """The backbone."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port list of the brokers")
    replication: int = Field(1, description="replication factor of topics that Headrace creates")
    session_timeout_ms: int = Field(10_000, description="how soon a dead consumer's partitions go to its peers")
    delivery_timeout_ms: int = Field(120_000, description="how long a producer retries one record before it reports failure")


class Registry(BaseModel):
    """The schema registry, by its Confluent-compatible API."""

    url: str = Field("http://127.0.0.1:8081/apis/ccompat/v7", description="base URL of the Confluent-compatible API")
    timeout_s: float = Field(10.0, description="how long to wait for one answer")
    topics_per_owner: int = Field(1_000, description="topics that one owner may declare; each costs the broker its partitions for good")


class Flink(BaseModel):
    """The processing cluster that jobs are submitted to."""

    rest_url: str = Field("http://127.0.0.1:8082", description="REST address of the JobManager")
    parallelism: int = Field(2, description="parallelism of each job")
    task_heap_mb: int = Field(2_000, description="heap for the state and records of the local TaskManager's jobs, MiB")
    checkpoint_ms: int = Field(2_000, description="checkpoint interval; facts become visible at this pace")
    jars: list[str] = Field(default_factory=list, description="connector jars; empty: those of the local jar cache")
    jars_on_cluster: bool = Field(False, description="the cluster has the connectors on its own class path: no job brings them, 34 MB")
    checkpoint_dir: str = Field("", description="URI for checkpoints; empty: below the state directory")
    savepoint_dir: str = Field("", description="URI for savepoints; empty: below the state directory")


class TeamReader(BaseModel):
    """Someone who reads for a team: its tables, and those that others have made public."""

    team: str
    password: SecretStr


class Warehouse(BaseModel):
    """ClickHouse: the embedded one of the local stack, or any server."""

    dsn: str = Field("http://127.0.0.1:8123", description="HTTP address used for reading")
    user: str = Field("reader", description="user name for reading")
    password: str = Field("", description="password for reading")
    loader_user: str = Field("loader", description="user name with write rights")
    loader_password: str = Field("", description="password with write rights; the local stack makes one at each start")
    readers: dict[str, TeamReader] = Field(
        default_factory=dict, description='users who read for a team, as JSON: `{"alice": {"team": "fraud", "password": "…"}}`'
    )
    raw_ttl_days: int = Field(35, description="landing tables keep this many days, features need 31; 0: for ever")
    fact_ttl_days: int = Field(400, description="fact tables keep this many days; 0: for ever")


class Loader(BaseModel):
    """Topic to table."""

    max_rows: int = Field(100_000, description="rows in one insert at most")
    max_bytes: int = Field(64 << 20, description="bytes in one insert at most")
    linger_ms: int = Field(500, description="a partition is stored no more often than this")
    max_dead_ratio: float = Field(0.5, description="stop when more than this share of a partition's last block is dead letters")
    max_dead_consecutive: int = Field(1_000, description="stop after this many dead letters in a row in one partition")
    status_url: str = Field("http://127.0.0.1:8005", description="where the loader answers GET /healthz and GET /status")


class Guard(BaseModel):
    """The door for foreign producers."""

    max_age_s: int = Field(7 * 86_400, description="an event may be this much older than its arrival")
    max_ahead_s: int = Field(60, description="an event may be this much ahead of its arrival")
    max_bytes: int = Field(1 << 20, description="a message may be this large")
    status_url: str = Field("http://127.0.0.1:8006", description="where the guard answers GET /healthz and GET /status")


class Fill(BaseModel):
    """The fill planner."""

    plan_every_s: float = Field(20.0, gt=0, description="how often plans are made anew; only what is other than before is told")
    status_url: str = Field("http://127.0.0.1:8009", description="where the fill planner answers GET /healthz and GET /status")


class Edge(BaseModel):
    """Where the request path is reached. The local stack fills these in."""

    gateway_url: str = Field("http://127.0.0.1:8000", description="gateway")
    collector_url: str = Field("http://127.0.0.1:8001", description="CMCD collector")
    oca_urls: list[str] = Field(default_factory=list, description="cache servers, best first")
    board_url: str = Field("http://127.0.0.1:8003", description="dashboard page and web player")
    live_sessions_url: str = Field("http://127.0.0.1:8004", description="Faust worker that answers GET /sessions/{sid}")
    oca_health_url: str = Field("http://127.0.0.1:8008", description="Faust worker that judges cache servers, answers GET /healthz")
    origin_url: str = Field("http://127.0.0.1:8010", description="object storage that titles come from, by S3's API")
    home_url: str = Field("http://127.0.0.1:8011", description="members' pages, and lookups of features")
    features_told_share: float = Field(0.05, ge=0, le=1, description="share of pages and lookups of features that are told for the watch")
    supervisor_url: str = Field("", description="control address of the local supervisor; empty: none")
    pseudonym_key: str = Field("headrace-local", description="key with which member ids are pseudonymised (HMAC-SHA256)")
    steering_url: str = Field("http://127.0.0.1:8007", description="steering service")
    trusted_proxies: list[str] = Field(["127.0.0.0/8", "::1/128"], description="prefixes of peers whose X-Forwarded-For is believed")
    pull_tiers: list[str] = Field(["IX_STORAGE"], description="tiers whose servers may be sent plays of what they would have to pull")
    url_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="secrets by key id, as JSON: the first signs URLs, cache servers verify by all; empty: neither",
    )
    experiments_token: SecretStr = Field(
        SecretStr(""), description="who knows it may change experiments over HTTP; empty: only who asks on the gateway's own machine"
    )
    url_ttl_s: int = Field(21_600, description="how long a signed URL may be used")

    @field_validator("trusted_proxies")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        for text in value:
            ipaddress.ip_network(text)
        return value


class _StackFile(PydanticBaseSettingsSource):
    """Reads `<state_dir>/stack.json`, which the supervisor writes when its services are ready."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = Path(os.environ.get("HEADRACE_STATE_DIR", ".headrace")) / "stack.json"
        try:
            found = json.loads(path.read_text()).get("settings", {})
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise SystemExit(f"{path} cannot be read ({error}): stop the stack with `headrace down` and delete the file") from None
        return dict(found)


class Settings(BaseSettings):
    """The whole tree. `HEADRACE_KAFKA__BOOTSTRAP=host:9092` sets `settings.kafka.bootstrap`."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", env_nested_delimiter="__", extra="ignore")

    state_dir: Path = Field(Path(".headrace"), description="everything the local stack writes is below this directory")
    cache_dir: Path = Field(Path("~/.cache/headrace"), description="downloads shared by all copies: jars, encoded demo titles")
    namespace: str = Field("", description="prefix of topics and jobs and name of the database, so that worlds do not mix")
    contracts: Annotated[list[Path], NoDecode] = Field(
        default_factory=list, description="checkouts of teams, each with schemas/, streams/, sinks/ of its own, separated by `:`"
    )
    log_json: bool | None = Field(None, description="log as JSON; default: when standard error is no terminal")
    kafka: Kafka = Kafka()
    registry: Registry = Registry()
    flink: Flink = Flink()
    warehouse: Warehouse = Warehouse()
    loader: Loader = Loader()
    guard: Guard = Guard()
    fill: Fill = Fill()
    edge: Edge = Edge()

    @field_validator("contracts", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        """As PATH has it: absolute from here on, since services run elsewhere."""
        return [Path(part).absolute() for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _StackFile(settings_cls)

    def topic(self, name: str) -> str:
        """The Kafka name of a declared topic in this namespace: `playback.report` or `<namespace>.playback.report`."""
        return f"{self.namespace}.{name}" if self.namespace else name

    def within(self, namespace: str) -> Settings:
        """The same in another namespace."""
        return self.model_copy(update={"namespace": namespace})

    @property
    def database(self) -> str:
        """The ClickHouse database of this namespace: `headrace` or `headrace_<namespace>`."""
        return f"headrace_{self.namespace}" if self.namespace else "headrace"

    @property
    def cache(self) -> Path:
        """`cache_dir` with `~` resolved."""
        return self.cache_dir.expanduser()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Let this process's settings, and its children's, see these environment variables; afterwards those are what they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        settings.cache_clear()

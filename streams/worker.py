"""What every Faust agent here shares: an app with the settings' brokers and quick takeovers, events decoded, a process that runs it."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

import faust

from infra.base import log
from infra.base.registry import RegistryError
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, BadPayload, Decoder


def application(name: str, url: str, folder: str, **own: Any) -> faust.App:
    """A Faust app that is not started: its group is `name`, it answers at `url`, keeps what it must in `folder` of the state directory."""
    chosen, web = settings(), urlsplit(url)
    return faust.App(
        chosen.topic(name),
        broker=[f"kafka://{address}" for address in chosen.kafka.bootstrap.split(",")],
        store="memory://",
        topic_replication_factor=chosen.kafka.replication,
        broker_session_timeout=8,  # a killed worker's partitions are free after this, instead of after a minute
        broker_heartbeat_interval=2,
        broker_rebalance_timeout=10,
        broker_max_poll_interval=120,
        broker_commit_interval=1.0,
        producer_acks=-1,
        web_bind=web.hostname or "127.0.0.1",
        web_host=web.hostname or "127.0.0.1",
        web_port=web.port or 80,
        datadir=chosen.state_dir / folder,
        web_cors_options=None,
        **own,
    )


def topic(app: faust.App, name: str) -> Any:
    """A declared topic of bytes, for an app."""
    return app.topic(settings().topic(name), key_serializer="raw", value_serializer="raw", partitions=catalogue().topic(name).partitions)


def read(message: Any, decode: Decoder) -> dict[str, Any] | None:
    """The event in a message; None, and a complaint, where it cannot be read."""
    try:
        return decode(message.value)
    except (BadFraming, BadPayload, RegistryError) as error:
        position = f"{message.message.topic}[{message.message.partition}]@{message.message.offset}"
        log.get(__name__).error("an event cannot be read and is left out", position=position, reason=str(error))
        return None


def run(app: faust.App) -> None:
    """Be the worker until SIGTERM."""
    sys.argv[1:] = ["worker", "--loglevel", "warn"]
    app.main()

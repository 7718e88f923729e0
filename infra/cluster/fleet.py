"""The fleet of cache servers as it is now: what the backbone says of each, and the orders that they take."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2 as httpx
from confluent_kafka import OFFSET_END, TopicPartition

from edge.steering.tables import Bits, Healths, Ocas
from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from streams.delivery.rollout import Standing
from streams.folded import followed as follow_tables

REPORTS = "delivery.oca_report"
REPORTING_S = 3.0
"""Servers report twice a second: who has not for so long is silent."""
KNOWN_WITHIN_S = 30.0
ANSWERS_WITHIN_S = 5.0


@dataclass
class Servers:
    """Implements `streams.delivery.rollout.Fleet`, from topics that threads of its own follow."""

    ocas: Ocas = field(default_factory=lambda: Ocas(Bits()))
    healths: Healths = field(default_factory=Healths)
    reports: dict[str, tuple[float, int, str]] = field(default_factory=dict)
    """When each was heard last (`time.monotonic`), and its process's epoch and software."""

    def servers(self) -> Mapping[str, Standing]:
        """Those that are installed, as they are now."""
        return {oca_id: self._standing(oca_id) for oca_id in sorted(self.ocas.table.servers)}

    def drain(self, oca_id: str) -> None:
        """Have a server take nothing new, and end. Raises ConnectionError in words where it does not take the order."""
        url = self.ocas.table.servers[oca_id].url
        try:
            answer = httpx.post(f"{url}/admin/drain", timeout=ANSWERS_WITHIN_S)
        except httpx.HTTPError as error:
            raise ConnectionError(f"{url} does not answer: {error or type(error).__name__}") from None
        if answer.status_code == 403:
            raise ConnectionError(f"{url} takes orders from its own machine only: run the update there")
        if answer.status_code != 200:
            raise ConnectionError(f"{url} answers {answer.status_code}: {answer.text[:200]}")

    def listens(self, oca_id: str) -> bool:
        """Whether there is still a process at its address."""
        address = urlsplit(self.ocas.table.servers[oca_id].url)
        try:
            socket.create_connection((address.hostname, address.port or 80), timeout=ANSWERS_WITHIN_S).close()
        except ConnectionRefusedError:
            return False
        except OSError:  # too busy to say
            return True
        return True

    def _standing(self, oca_id: str) -> Standing:
        server, health = self.ocas.table.servers[oca_id], self.healths.table.get(oca_id)
        heard_s, epoch, software = self.reports.get(oca_id, (0.0, -1, ""))
        if time.monotonic() - heard_s > REPORTING_S:
            epoch = -1
        about = (server.oca_id, server.site_id, server.region, server.tier, server.egress_bps)
        return Standing(*about, *((health.state, health.load) if health else ("", 0.0)), epoch, software)


@contextmanager
def followed() -> Iterator[Servers]:
    """The servers, kept up to date until the end. Blocks until everything is known. Raises TimeoutError in words where it is not soon."""
    servers, schema_of, stopping = Servers(), RegistryClient().schema, threading.Event()
    tables = (servers.ocas, servers.healths)
    decode = Decoder(schema_of, catalogue().topic(REPORTS).event)
    reading = threading.Thread(target=_follow, args=(servers, decode, stopping), name=REPORTS, daemon=True)
    with follow_tables(tables, schema_of):
        reading.start()
        try:
            began_s = time.monotonic()
            while not all(table.caught_up for table in tables) or time.monotonic() - began_s < REPORTING_S:
                if time.monotonic() - began_s > KNOWN_WITHIN_S:
                    raise TimeoutError(f"{settings().kafka.bootstrap} has not told of the cache servers within {KNOWN_WITHIN_S:g} s")
                time.sleep(0.1)
            yield servers
        finally:
            stopping.set()
            reading.join()


def _follow(servers: Servers, decode: Decoder, stopping: threading.Event) -> None:
    """Note what servers report from now on."""
    topic = catalogue().topic(REPORTS)
    consumer = kafka.consumer("fleet")
    try:
        consumer.assign([TopicPartition(settings().topic(topic.name), p, OFFSET_END) for p in range(topic.partitions)])
        while not stopping.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            record = decode(message.value())
            known = servers.reports.get(record.get("oca_id", ""))
            if not record["marker"] and (known is None or record["epoch"] >= known[1]):
                servers.reports[record["oca_id"]] = (time.monotonic(), record["epoch"], record["software"])
    finally:
        consumer.close()

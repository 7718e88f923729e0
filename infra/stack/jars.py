"""The JVM artefacts of the local stack: pinned by sha256 in jars.toml, fetched from Maven Central once, cached per user.

`python -m infra.stack.jars lock` resolves the roots of jars.toml anew and rewrites the pins; a reviewer sees what changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.base.settings import settings

PINS = Path(__file__).with_name("jars.toml")
ATTEMPTS = 3


class JarError(RuntimeError):
    """An artefact cannot be had, or is not the one that was pinned; the message says which and what to do."""


@dataclass(frozen=True)
class Artefact:
    """One pinned file. `coordinate` is group:artifact:version[:packaging[:classifier]]."""

    part: str
    coordinate: str
    sha256: str
    size: int

    @property
    def gavpc(self) -> tuple[str, str, str, str, str]:
        """(group, artifact, version, packaging, classifier)."""
        group, artifact, version, packaging, classifier, *_ = [*self.coordinate.split(":"), "", ""]
        return group, artifact, version, packaging or "jar", classifier

    @property
    def filename(self) -> str:
        _, artifact, version, packaging, classifier = self.gavpc
        return f"{artifact}-{version}{'-' + classifier if classifier else ''}.{packaging}"


def pinned(pins: Path = PINS) -> list[Artefact]:
    """What jars.toml pins, in its order."""
    parts = tomllib.loads(pins.read_text())
    return [
        Artefact(part, coordinate, pin["sha256"], pin["bytes"])
        for part, table in parts.items()
        for coordinate, pin in table.get("artefacts", {}).items()
    ]


def missing(artefacts: list[Artefact] | None = None) -> list[Artefact]:
    """The pinned artefacts that the cache does not hold yet."""
    return [a for a in (pinned() if artefacts is None else artefacts) if not _place(a).exists()]


def ensure(artefacts: list[Artefact] | None = None) -> None:
    """Bring every pinned artefact into the cache and check it; needs no network when all are there.

    Raises JarError on a checksum that differs or a download that fails for good. Safe to call from several processes.
    """
    wanted = pinned() if artefacts is None else artefacts
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if absent := missing(wanted):
            _download(absent)
        for artefact in wanted:
            _check(artefact, _place(artefact))
            if artefact.gavpc[3] == "tar.gz":
                _unpack(artefact)


def paths(part: str) -> list[Path]:
    """The files of a part ("kafka", "registry", "flink"); an archive is the folder it was unpacked to.

    Raises JarError where `ensure` has not run.
    """
    found = [_unpacked(a) if a.gavpc[3] == "tar.gz" else _place(a) for a in pinned() if a.part == part]
    for path in found:
        if not path.exists():
            raise JarError(f"{path} is missing: run `headrace setup`")
    return found


def _folder() -> Path:
    return settings().cache / "jars"


def _place(artefact: Artefact) -> Path:
    return _folder() / artefact.part / artefact.filename


def _unpacked(artefact: Artefact) -> Path:
    return _folder() / artefact.part / artefact.sha256[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(artefact: Artefact, path: Path) -> None:
    found = _sha256(path)
    if found != artefact.sha256:
        raise JarError(
            f"{path} is not the pinned {artefact.coordinate}: its sha256 is {found}, jars.toml says {artefact.sha256}.\n"
            f"Delete the file and run `headrace setup`. If it differs again, do not use it: the source serves something else."
        )


def _unpack(artefact: Artefact) -> None:
    target = _unpacked(artefact)
    if target.exists():
        return
    with TemporaryDirectory(dir=_folder()) as scratch:
        with tarfile.open(_place(artefact)) as archive:
            archive.extractall(Path(scratch) / "content", filter="data")
        (Path(scratch) / "content").rename(target)


def _download(absent: list[Artefact]) -> None:
    """Fetch into a scratch repository, check, then move into place: the cache never holds half a file or a wrong one."""
    with TemporaryDirectory(dir=_folder()) as scratch, _progress(sum(a.size for a in absent), len(absent)) as advance:

        def one(artefact: Artefact) -> None:
            path = _fetch(artefact, Path(scratch) / artefact.sha256[:16], advance)
            _check(artefact, path)
            _place(artefact).parent.mkdir(parents=True, exist_ok=True)
            path.rename(_place(artefact))

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(one, artefact) for artefact in absent]:
                done.result()


def _fetch(artefact: Artefact, repository: Path, advance: Callable[[int], None]) -> Path:
    from jgo.maven import MavenContext, PythonResolver
    from requests import RequestException

    group, name, version, packaging, classifier = artefact.gavpc
    for attempt in range(1, ATTEMPTS + 1):
        received = 0

        @contextmanager
        def meter(_filename: str, _total: int) -> Iterator[Callable[[int], None]]:
            def update(count: int) -> None:
                nonlocal received
                received += count
                advance(count)

            yield update

        context = MavenContext(resolver=PythonResolver(progress_callback=meter), repo_cache=repository, timeout=60)
        try:
            return Path(context.project(group, name).at_version(version).artifact(classifier, packaging).resolve())
        except (RequestException, OSError, RuntimeError) as error:
            advance(-received)
            shutil.rmtree(repository, ignore_errors=True)
            if attempt == ATTEMPTS:
                raise JarError(
                    f"{artefact.coordinate} cannot be downloaded ({error}): check the network (and HTTPS_PROXY, if you use one), "
                    "then run `headrace setup` again; what has arrived is kept"
                ) from error
    raise AssertionError("unreachable")


@contextmanager
def _progress(size: int, count: int) -> Iterator[Callable[[int], None]]:
    """A line with bytes and time left; on something that is no terminal, a line at each tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    said = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{count} Java archives", total=size)

        def advance(bytes_: int) -> None:
            nonlocal said
            progress.advance(task, bytes_)
            done = progress.tasks[0]
            if not console.is_terminal and done.completed >= (said + 1) * size / 10:
                said = int(10 * done.completed / size)
                left = f", {done.time_remaining:.0f} s left" if done.time_remaining else ""
                console.print(f"{count} Java archives: {done.completed / 1e6:.0f} of {size / 1e6:.0f} MB{left}")

        yield advance


def lock(pins: Path = PINS) -> None:
    """Resolve the roots of every part with their run-time dependencies, download all, and rewrite the pins."""
    from jgo.maven import MavenContext

    parts: dict[str, Any] = tomllib.loads(pins.read_text())
    lines: list[str] = [line for line in pins.read_text().splitlines() if line.startswith("#")]
    with TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=60)
        for part, table in parts.items():
            lines += ["", f"[{part}]", "roots = [" + ", ".join(f'"{root}"' for root in table["roots"]) + "]"]
            lines += [f"transitive = {str(table['transitive']).lower()}", "", f"[{part}.artefacts]"]
            for coordinate in sorted(_resolved(context, table["roots"], table["transitive"])):
                group, name, version, packaging, classifier = Artefact(part, coordinate, "", 0).gavpc
                path = Path(context.project(group, name).at_version(version).artifact(classifier, packaging).resolve())
                lines.append(f'"{coordinate}" = {{ sha256 = "{_sha256(path)}", bytes = {path.stat().st_size} }}')
                print(lines[-1], file=sys.stderr)
    pins.write_text("\n".join(lines) + "\n")


def _resolved(context: Any, roots: list[str], transitive: bool) -> set[str]:
    found = set(roots)
    for root in roots if transitive else []:
        # One at a time: a root's managed versions must not reach into another's (log4j's would put an old kafka-clients under Kafka).
        _, reached = context.resolver.resolve([context.create_dependency(root)])
        found |= {f"{d.groupId}:{d.artifactId}:{d.version}" for d in reached if d.scope in (None, "compile", "runtime") and not d.optional}
    return found


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        raise SystemExit("usage: python -m infra.stack.jars lock")
    lock()

"""A supervisor of toy services, run as a process by the tests: `python -m tests.infra.toy_stack STATE_DIR PORT SERVICE...`.

A service is `name:behaviour[:dependency]`. Behaviours: `serve` (answers, with a child of its own in another session), `late`
(answers when somebody has written its note), `crash` (ends at once), `once` (a task), `ahead` (a task that writes when it began and when it
was told to go on), `mute` (never answers).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.base import log
from infra.stack import supervisor
from infra.stack.services import NotReady, Service, Task
from infra.stack.site import Site

SERVE = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""
WAIT = "import time; time.sleep(600)"
BEHAVIOUR = {"serve": SERVE, "crash": "import sys; print('no luck'); sys.exit(3)", "mute": WAIT, "late": WAIT}


@dataclass(frozen=True)
class Toy(Service):
    """Ready when its child has been noted in the state directory."""

    behaviour: str = "serve"

    def prepare(self, site: Site) -> None:
        self.note(site).unlink(missing_ok=True)

    def command(self, site: Site) -> list[str]:
        return [sys.executable, "-c", BEHAVIOUR[self.behaviour], str(self.note(site))]

    def ask(self, site: Site) -> None:
        if not self.note(site).exists() or not self.note(site).read_text():
            raise NotReady("it has not written its note")

    def note(self, site: Site) -> Path:
        """Holds the pid of the toy's child."""
        return site.state_dir / f"{self.name}.child"


@dataclass(frozen=True)
class ToyTask(Task):
    """Appends a line to a file each time it runs."""

    def command(self, site: Site) -> list[str]:
        return [sys.executable, "-c", "import sys; print('ran', file=open(sys.argv[1], 'a'))", str(site.state_dir / f"{self.name}.ran")]


@dataclass(frozen=True)
class ToyAhead(Task):
    """Writes a line when it has begun and one when its standard input has ended."""

    def command(self, site: Site) -> list[str]:
        script = "import sys; out = open(sys.argv[1], 'a', 1); print('began', file=out); sys.stdin.read(); print('went on', file=out)"
        return [sys.executable, "-c", script, str(site.state_dir / f"{self.name}.ran")]


def toy(definition: str) -> Service:
    """A service from `name:behaviour[:dependency]`."""
    name, behaviour, *needs = definition.split(":")
    if behaviour == "once":
        return ToyTask(name, tuple(needs), again_after=tuple(needs))
    if behaviour == "ahead":
        return ToyAhead(name, tuple(needs), again_after=tuple(needs), ahead=True)
    return Toy(name, tuple(needs), start_timeout_s=30.0 if behaviour == "late" else 2.0, behaviour=behaviour)


def main(state_dir: Path, port: int, definitions: list[str]) -> int:
    """Run until told to stop; 1 when the toys cannot start."""
    log.configure("supervisor")
    supervisor.WATCH_EVERY_S = 0.5  # toys answer at once
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
    site = Site(state_dir, {"supervisor": port}, {"edge": {"supervisor_url": f"http://127.0.0.1:{port}"}})
    try:
        with supervisor.locked(state_dir):
            asyncio.run(supervisor.supervise(site, [toy(definition) for definition in definitions]))
    except (supervisor.StartFailed, supervisor.AlreadyRunning) as error:
        print(json.dumps(str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))

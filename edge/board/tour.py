"""The five-minute tour: five things to do to the running system, each an async stream of what happens, in words.

Steps yield `Said`; the last one a step yields is its verdict: `done` or `failed`. Nothing here is staged: the session, the killed loader,
the refused schema and the replayed log are the real ones, and a step that does not come true says so.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2 as httpx

from edge.board.audits import Auditor
from edge.board.panels import PanelRunner
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas import lineage
from schemas.catalogue import Topic, catalogue
from schemas.publish import IncompatibleContract, register
from sinks import dashboards

T = TypeVar("T")

ASK_EVERY_S = 0.3
APPEARS_WITHIN_S = 20.0
STALLS_WITHIN_S = 90.0
RESTARTS_WITHIN_S = 60.0
CATCHES_UP_S = 60.0
"""How long a loader that was killed may take for what piled up meanwhile."""

BROKEN_TOPIC = "playback.qoe_session"
BROKEN_FIELD = "startup_ms"
"""The field that the tour tries to turn into text: jobs compute it and panels take its quantiles."""


@dataclass(frozen=True)
class Said:
    """One line of a step's progress; `state` of the last one is its verdict."""

    words: str
    state: Literal["working", "done", "failed"] = "working"


@dataclass(frozen=True)
class Tour:
    """What the steps act on."""

    panels: PanelRunner
    auditor: Auditor
    http: httpx.AsyncClient
    ending: asyncio.Event

    async def play(self, sid: str) -> AsyncIterator[Said]:
        """Wait until the session's first report can be queried."""
        yield Said("waiting for your player's first report to come through collector, Kafka and loader")
        began = time.monotonic()
        states = await self._until(lambda: self._states(sid), APPEARS_WITHIN_S)
        if not states:
            yield Said(f"no report of {sid} was stored within {APPEARS_WITHIN_S:.0f} s: look at the pipeline strip", "failed")
            return
        waited_ms = (time.monotonic() - began) * 1000
        yield Said(f"your session is in ClickHouse, {waited_ms:.0f} ms after we began to look for it", "done")

    async def throttle(self, sid: str) -> AsyncIterator[Said]:
        """Wait until a rebuffering of the session can be queried."""
        yield Said("your network is narrow now: the buffer drains until the picture stops")
        began_ms = time.time() * 1000

        async def stalls() -> list[dict[str, Any]]:
            return [state for state in await self._states(sid) if state["state"] == "r" and state["at"] >= began_ms]

        found = await self._until(stalls, STALLS_WITHIN_S)
        if not found:
            yield Said(f"no rebuffering was stored within {STALLS_WITHIN_S:.0f} s: is the video still playing?", "failed")
            return
        late_ms = time.time() * 1000 - found[0]["at"]
        yield Said(f"your rebuffering is in ClickHouse, {late_ms:.0f} ms after your picture stopped", "done")

    async def loader(self) -> AsyncIterator[Said]:
        """Kill the loader, wait for it to come back, audit."""
        supervisor = settings().edge.supervisor_url
        if not supervisor:
            yield Said("no supervisor runs this stack, so nobody would bring the loader back: `headrace up` has one", "failed")
            return
        try:
            answer = await self.http.post(f"{supervisor}/services/loader/kill")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            yield Said(f"the supervisor did not kill the loader: {error}", "failed")
            return
        yield Said("the loader is dead (kill -9), maybe between an insert and its commit; events pile up in Kafka")
        began = time.monotonic()

        async def back() -> bool:
            try:
                return (await self.http.get(f"{settings().loader.status_url}/healthz")).is_success
            except httpx.HTTPError:
                return False

        await asyncio.sleep(ASK_EVERY_S)  # the dead one's port may still answer with a reset
        if not await self._until(back, RESTARTS_WITHIN_S):
            yield Said(f"the loader did not come back within {RESTARTS_WITHIN_S:.0f} s: `headrace logs loader` says why", "failed")
            return
        yield Said(f"the supervisor brought it back after {time.monotonic() - began:.1f} s; auditing every acknowledged event")
        found = await self.auditor.fresh(CATCHES_UP_S)
        if "error" in found:
            yield Said(found["error"], "failed")
            return
        acknowledged, lost, duplicated = (sum(topic[name] for topic in found["topics"]) for name in ("acknowledged", "lost", "duplicated"))
        verdict: Literal["done", "failed"] = "failed" if lost or duplicated else "done"
        yield Said(f"{acknowledged:,} events acknowledged, {lost} lost, {duplicated} doubled", verdict)

    async def schema(self) -> AsyncIterator[Said]:
        """Try to register a contract that would break its readers."""
        topic = broken(catalogue().topic(BROKEN_TOPIC))
        yield Said(f"registering {BROKEN_TOPIC} with {BROKEN_FIELD} as text instead of a number")
        users = lineage.installed().words
        try:
            schema_id = await asyncio.to_thread(register, topic, RegistryClient(), users)
        except IncompatibleContract as refusal:
            for line in str(refusal).splitlines():
                yield Said(line)
            yield Said("refused: nothing was registered, every job and panel goes on", "done")
        except (RegistryError, RegistryUnavailable) as error:
            yield Said(str(error), "failed")
        else:
            yield Said(f"the registry took it as schema {schema_id}: its compatibility level is not enforced", "failed")

    async def replay(self) -> AsyncIterator[Said]:
        """Record what is on the topics, replay it into a world of its own, compare the derived tables, by the commands that anyone runs."""
        name = f"tour_{datetime.now(UTC):%H%M%S}"
        folder = settings().state_dir / "recordings" / name
        for arguments in (["record", str(folder)], ["replay", str(folder), "--namespace", name, "--compare"]):
            yield Said(f"$ headrace {' '.join(arguments)}")
            code, last = None, ""
            async for line in self._command(arguments):
                if isinstance(line, int):
                    code = line
                elif line != last:
                    last = line
                    yield Said(line)
            if code:
                yield Said(last or f"the command ended with {code}", "failed")
                return
        yield Said(last, "done" if "rows equal" in last else "failed")

    async def _command(self, arguments: list[str]) -> AsyncIterator[str | int]:
        """Run `headrace <arguments>`: its lines as they come, then its exit code. It is ended when the board ends."""
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("headrace"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "400"},  # or its lines would be broken for a narrow terminal
        )
        assert process.stdout is not None
        watch = asyncio.create_task(self._end(process))
        try:
            async for raw in process.stdout:
                if line := raw.decode(errors="replace").strip():
                    yield line
            yield await process.wait()
        finally:
            watch.cancel()
            if process.returncode is None:
                process.terminate()
                await process.wait()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        await self.ending.wait()
        process.terminate()

    async def _states(self, sid: str) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        panel = dashboards.panel("session", "states")
        answer = await self.panels.answer(panel, {"from": now - timedelta(days=1), "to": now, "sid": sid})
        if "error" in answer:
            return []
        return dashboards.Result(tuple(answer["columns"]), tuple(answer["values"])).records()

    async def _until(self, probe: Callable[[], Awaitable[T]], within_s: float) -> T:
        deadline = time.monotonic() + within_s
        while not (found := await probe()) and time.monotonic() < deadline and not self.ending.is_set():
            await asyncio.sleep(ASK_EVERY_S)
        return found


def broken(topic: Topic) -> Topic:
    """`topic` with one field's type turned into text, as a careless change would."""
    schema = copy.deepcopy(topic.event.schema)
    for item in schema["fields"]:
        if item["name"] == BROKEN_FIELD:
            item["type"] = ["null", "string"]
    return dataclasses.replace(topic, event=dataclasses.replace(topic.event, schema=schema))

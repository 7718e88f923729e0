"""A crowd of players at work until it is told to stop, and what it came to."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from infra.base import log
from producers.players.adaptation import named
from producers.players.browsing import Browsing, Event, Page, page, plain_page
from producers.players.clock import LoopClock
from producers.players.network import Link, Step, recorded
from producers.players.player import Action, Outcome, Player, PlayRefused, press_play
from producers.players.population import Viewer, actions, viewer
from producers.players.reports import Counts, Outbox
from producers.players.transport import NoAnswer, Transport

FAILED_START_AFTER_MS = 4_000
FAILOVER_AFTER_MS = 10_000
OCA_DOWN_MS = 8_000


@dataclass
class Summary:
    """What a crowd came to."""

    outcomes: list[Outcome] = field(default_factory=list)
    reports: Counts = field(default_factory=Counts)
    doings: Counts = field(default_factory=Counts)
    """What members did beside playing."""
    refused: int = 0
    """Presses of play that the gateway did not grant."""

    def __str__(self) -> str:
        done = self.outcomes
        startups = sorted(o.startup_ms for o in done if o.startup_ms is not None)
        playing_ms, rebuffer_ms = sum(o.playing_ms for o in done), sum(o.rebuffer_ms for o in done)
        started = f"startup median {startups[len(startups) // 2]} ms" if startups else "none started"
        return (
            f"{len(done)} sessions: {sum(o.state == 'e' for o in done)} ended, {sum(o.state == 'q' for o in done)} quit, "
            f"{sum(o.state == 'f' for o in done)} failed; {self.refused} presses of play refused; {started}\n"
            f"{playing_ms / 1000:.0f} s played, {sum(o.rebuffer_count for o in done)} rebufferings, "
            f"rebuffer ratio {rebuffer_ms / max(1, playing_ms + rebuffer_ms):.2%}, "
            f"{sum(o.segments for o in done)} segments, {sum(o.failovers for o in done)} failovers\n"
            f"{self.reports.made} reports: {self.reports.taken} taken by the collector, {self.reports.refused} refused, "
            f"{self.reports.dropped} dropped, {self.reports.retries} batches sent again\n"
            f"{self.doings.made} impressions, searches and interactions: {self.doings.taken} taken, {self.doings.refused} refused, "
            f"{self.doings.dropped} dropped"
        )


class Crowd:
    """`count` members who press play, watch, and press play again. Of more `members`, whoever has watched gives way to another.

    Their networks follow recorded `traces`, one each in turn, or, without any, the model of their ISP. With `inject`, one start fails
    and the one of `oca_urls` that is best for most refuses for a while, both soon after the begin. With `abr` all of them adapt by that
    algorithm, without it as their tickets say. With `interactions_url` they tell what they do before and after they play, on pages of
    `home_url` where there is one. Raises BadTrace, and ValueError where nobody knows the algorithm.
    """

    def __init__(
        self, count: int, seed: int, gateway_url: str, titles: Sequence[str], transport: Transport, clock: LoopClock,
        oca_urls: Sequence[str] = (), inject: bool = False, traces: Sequence[Path] = (), abr: str | None = None,
        members: int = 0, home_url: str = "", interactions_url: str = "",
    ) -> None:  # fmt: skip
        self.summary = Summary()
        viewers = [viewer(number, seed) for number in range(1, max(count, members) + 1)]
        if abr is not None:
            named(abr)
            viewers = [replace(who, device=replace(who.device, abr=abr)) for who in viewers]
        self._viewers = viewers
        self._seats, self._away = viewers[:count], viewers[count:]
        self._gateway_url = gateway_url
        self._titles = titles
        self._transport = transport
        self._clock = clock
        self._oca_urls = oca_urls
        self._inject = inject
        self._traces = [tuple(recorded(path)) for path in traces]
        self._home_url, self._interactions_url = home_url, interactions_url
        began_ms = clock.now_ms()
        self._browsing = {who.device.member: Browsing(who.device, who.seed, began_ms) for who in viewers}
        self._doings = Outbox(transport, clock, capacity=20_000)
        self._sent_to: Counter[str] = Counter()
        """Sessions by the address of their best server."""
        self._log = log.get(__name__)

    async def run(self, seconds: float | None = None) -> Summary:
        """Watch for `seconds`, or until cancelled; then every open session quits with a report and the outboxes are emptied."""
        members = [asyncio.create_task(self._watch(who, first=who is self._seats[0])) for who in self._seats]
        faults = [asyncio.create_task(self._fail_over())] if self._inject and len(self._oca_urls) > 1 else []
        telling = asyncio.create_task(self._doings.run())
        try:
            done, _ = await asyncio.wait([*members], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            pass  # told to stop: that is how most crowds end
        finally:
            for task in (*faults, *members):
                task.cancel()
            for ended in await asyncio.gather(*faults, *members, return_exceptions=True):
                if isinstance(ended, Exception):
                    self._log.error("a player stopped for a reason of its own", reason=repr(ended))
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await self._doings.drain()
            self.summary.doings = self._doings.counts
        return self.summary

    async def _watch(self, who: Viewer, first: bool) -> None:
        """One member's evening, or one seat's, where others wait for it."""
        rng = random.Random(who.seed)
        outbox = Outbox(self._transport, self._clock)
        link = Link(self._steps(who), self._clock.now_ms())
        sending = asyncio.create_task(outbox.run())
        try:
            await self._clock.until(self._clock.now_ms() + rng.uniform(0, 6_000))
            if first and self._inject:
                await self._clock.until(self._clock.now_ms() + FAILED_START_AFTER_MS)
                await self._session(who, rng, link, outbox, broken=True)
            while True:
                await self._session(who, rng, link, outbox)
                await self._clock.until(self._clock.now_ms() + rng.uniform(500, 4_000))
                if self._away:
                    at = rng.randrange(len(self._away))
                    who, self._away[at] = self._away[at], who
                    link = Link(self._steps(who), self._clock.now_ms())
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await outbox.drain()
            self.summary.reports += outbox.counts

    def _steps(self, who: Viewer) -> Iterator[Step]:
        if self._traces:
            return cycle(self._traces[self._viewers.index(who) % len(self._traces)])
        return who.network.steps(random.Random(who.seed + 1))

    async def _session(self, who: Viewer, rng: random.Random, link: Link, outbox: Outbox, broken: bool = False) -> None:
        """Press play and watch. `broken`: with links to a version of the title that does not exist, as from a stale page."""
        title = rng.choices(self._titles, [1 / (rank + 1) for rank in range(len(self._titles))])[0]
        doing: list[Action] = [] if broken else actions(rng)
        on, browsing = who.device, self._browsing[who.device.member]
        self._tell(browsing.looks(await self._page(who), title, self._clock.now_ms()))
        pressed_ms = self._clock.now_ms()
        try:
            about = {"device_type": on.kind, "network_type": on.network_type, "region": on.region}
            ticket = await press_play(self._transport, self._gateway_url, title, on.member, on.address, **about)
        except (PlayRefused, NoAnswer) as error:
            self.summary.refused += 1
            self._log.warning("play is not granted", member=who.device.member, title=title, reason=str(error))
            await self._clock.until(self._clock.now_ms() + 2_000)
            return
        self._tell([browsing.presses(ticket.cid, ticket.sid, pressed_ms)])
        self._sent_to[urlsplit(ticket.manifest_urls[0]).netloc] += 1
        if broken:
            ticket = replace(ticket, manifest_urls=tuple(url.replace("/manifest.mpd", "/withdrawn.mpd") for url in ticket.manifest_urls))
            self._log.info("injecting a failed start", sid=ticket.sid)
        player = Player(
            ticket, who.device, self._transport, link, who.network.rtt_ms, outbox, self._clock, doing, pressed_ms=pressed_ms
        )  # fmt: skip
        try:
            await player.run()
        finally:
            self.summary.outcomes.append(came := player.outcome)
            self._tell(browsing.leaves(came.cid, came.sid, came.state, came.playing_ms, self._clock.now_ms()))

    async def _page(self, who: Viewer) -> Page:
        """What the member's page shows; all titles in a row where nobody serves one."""
        on = who.device
        if self._home_url and self._interactions_url:
            asked = urlencode({"member": on.member, "region": on.region, "device_type": on.kind})
            try:
                async with self._transport.get(f"{self._home_url}/home?{asked}") as answer:
                    body = b"".join([piece async for piece in answer.body()])
                return page(json.loads(body))
            except (NoAnswer, ValueError) as error:
                self._log.warning("no page is served", member=on.member, reason=str(error)[:200])
        return plain_page(f"{on.member}-{self._clock.now_ms():x}", self._titles)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._interactions_url:
                self._doings.put(self._interactions_url, json.dumps(event))

    async def _fail_over(self) -> None:
        """Ask the cache server that most were sent to to fail for a while, so that those who play from it move on."""
        await self._clock.until(self._clock.now_ms() + FAILOVER_AFTER_MS)
        url = max(self._oca_urls, key=lambda known: self._sent_to[urlsplit(known).netloc])
        try:
            answer = await self._transport.post(f"{url}/admin/fail", b"", "application/json")
            if answer.status >= 300:
                raise NoAnswer(f"it answered {answer.status}: {answer.content[:200].decode(errors='replace')}")
            self._log.info("injecting a failover: this cache server refuses for a while", url=url, ms=OCA_DOWN_MS)
            await self._clock.until(self._clock.now_ms() + OCA_DOWN_MS)
        except NoAnswer as error:
            self._log.error("no failover could be injected", url=url, reason=str(error))
            return
        finally:
            await asyncio.shield(self._heal(url))

    async def _heal(self, url: str) -> None:
        try:
            await self._transport.post(f"{url}/admin/heal", b"", "application/json")
        except NoAnswer as error:
            self._log.error("a cache server that was told to fail could not be healed", url=url, reason=str(error))

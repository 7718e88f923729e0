"""The world that sessions are drawn from: titles, devices, networks, habits, faults and drift. Data, in JSON; `world.json` is the default.

docs/producers.md describes it field by field. Times of faults and drift are seconds since the first session starts.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator

Abr = Literal["rate", "policy", "bola"]


class BadWorld(ValueError):
    """A world file that does not describe a world; the message names the field."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Title(_Model):
    """A title: how long, how it was cut and in which bitrates, ascending."""

    cid: str
    length_s: PositiveInt
    segment_s: PositiveInt
    ladder_kbps: tuple[PositiveInt, ...] = Field(min_length=1)
    weight: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _ascends(self) -> Title:
        if list(self.ladder_kbps) != sorted(set(self.ladder_kbps)):
            raise ValueError("ladder_kbps must ascend")
        return self


class Catalogue(_Model):
    """Many titles at once: the k-th most popular has a weight in proportion to k to the power of -`exponent` (Zipf's law).

    Lengths, segments and ladders are given out in turn. `weight` is that of all of them together, beside the world's other titles.
    """

    titles: PositiveInt
    exponent: float = Field(1.0, ge=0)
    prefix: str = "tt-"
    length_s: tuple[PositiveInt, ...] = Field(min_length=1)
    segment_s: tuple[PositiveInt, ...] = Field((4,), min_length=1)
    ladders_kbps: tuple[tuple[PositiveInt, ...], ...] = Field(min_length=1)
    weight: PositiveFloat = 1.0

    def expand(self) -> list[Title]:
        """The titles, the most popular first. Raises ValidationError where a ladder does not ascend."""
        weights = [k**-self.exponent for k in range(1, self.titles + 1)]
        shapes = zip(cycle(self.length_s), cycle(self.segment_s), cycle(self.ladders_kbps))
        share = self.weight / sum(weights)
        return [
            Title(cid=f"{self.prefix}{k:05d}", length_s=length_s, segment_s=segment_s, ladder_kbps=ladder, weight=weight * share)
            for k, (weight, (length_s, segment_s, ladder)) in enumerate(zip(weights, islice(shapes, self.titles), strict=True), 1)
        ]


class Device(_Model):
    """A kind of device with its player, or the weights of several versions of it, and the highest bitrate it may use.

    `abr` is what it adapts by, or the weights of several: "rate" takes a share of what the last segment came at, for many sessions at once;
    those of `producers.players.adaptation` decide one by one, as in real players, and take as long.
    """

    kind: str
    player: str | dict[str, PositiveFloat]
    tb_kbps: PositiveInt
    abr: Abr | dict[Abr, PositiveFloat] = "rate"
    weight: PositiveFloat = 1.0


class Region(_Model):
    """Where members live. Their load follows the local hour: 1 + `swing` · cos(2π (hour − `peak_h`) / 24)."""

    weight: PositiveFloat = 1.0
    utc_offset_h: float = Field(0.0, ge=-12, le=14)
    peak_h: float = Field(21.0, ge=0, lt=24)
    swing: float = Field(0.0, ge=0, lt=1)


class Isp(_Model):
    """An access network: a Markov chain over bandwidths, one step a second. Within a state the bandwidth varies by a fifth."""

    asn: PositiveInt
    states_kbps: tuple[PositiveFloat, ...] = Field(min_length=1)
    stay: float = Field(ge=0, le=1)
    rtt_ms: PositiveInt
    weight: PositiveFloat = 1.0


class _Span(_Model):
    start_s: float = Field(ge=0)
    duration_s: PositiveFloat


class OcaFault(_Span):
    """A cache server refuses a share of what it is asked, or gives it so many times as slowly."""

    kind: Literal["oca"]
    oca: str
    refuses: float = Field(0.0, ge=0, le=1)
    slows: float = Field(1.0, ge=1)


class IspFault(_Span):
    """A network is congested: so much of its bandwidth is left."""

    kind: Literal["isp"]
    asn: PositiveInt
    bandwidth: float = Field(gt=0, le=1)


class PlayerFault(_Span):
    """A bad player version, in sessions that begin meanwhile: a share does not start; it takes the network for so many times as fast."""

    kind: Literal["player"]
    player: str
    fails_to_start: float = Field(0.0, ge=0, le=1)
    overestimates: float = Field(1.0, ge=1)


Fault = Annotated[OcaFault | IspFault | PlayerFault, Field(discriminator="kind")]


class Drift(_Model):
    """A weight that changes: from `start_s` on it goes, in `over_s`, to `factor` times what it was, and stays there."""

    of: Literal["title", "player", "isp", "region"]
    name: str | int
    start_s: float = Field(ge=0)
    over_s: float = Field(0.0, ge=0)
    factor: PositiveFloat

    def at(self, second: float) -> float:
        """What to multiply the weight by."""
        gone = (second - self.start_s) / self.over_s if self.over_s else float(second >= self.start_s)
        return 1 + (self.factor - 1) * min(1.0, max(0.0, gone))


class Shares(_Model):
    """Which share of the sessions each thing happens in; several may happen in one."""

    failed_start: float = Field(0.0, ge=0, le=1, description="no server gives the manifest")
    quits_early: float = Field(0.0, ge=0, le=1, description="the member leaves within the first second")
    quits: float = Field(0.0, ge=0, le=1, description="the member leaves some time later")
    pauses: float = Field(0.0, ge=0, le=1)
    seeks: float = Field(0.0, ge=0, le=1)
    falls_silent: float = Field(0.0, ge=0, le=1, description="the device is switched off: no report comes any more")
    breaks: float = Field(0.0, ge=0, le=1, description="the player breaks with a decoding error")


class Own(_Model):
    """What is a member's own, the same from day to day: device, network, region, and three levels, of which these are the standard
    deviations of the logarithm. A member means to watch for `watch_s`, times the own level, times that of the session; then it quits.
    """

    watch_s: PositiveFloat = 120.0
    watching: float = Field(0.0, ge=0, le=3)
    session_watching: float = Field(0.0, ge=0, le=3)
    activity: float = Field(0.0, ge=0, le=3)
    """How often it comes."""
    bandwidth: float = Field(0.0, ge=0, le=3)


class Effect(_Model):
    """What a variation truly does: the factor of the time to the first frame, of what the player takes the network for (bitrates are higher
    then, and rebuffering more frequent) and of how long the member means to watch.
    """

    startup: PositiveFloat = 1.0
    overestimates: PositiveFloat = 1.0
    watching: PositiveFloat = 1.0


class Rig(NamedTuple):
    """A kind of device with one version of its player, which adapts by one algorithm."""

    kind: str
    player: str
    tb_kbps: int
    weight: float
    abr: str


class World(_Model):
    """All of it. `request_failure` is the probability that a segment request is refused by its server."""

    titles: tuple[Title, ...] = ()
    catalogue: Catalogue | None = None
    audio_kbps: PositiveInt = 96
    devices: tuple[Device, ...] = Field(min_length=1)
    regions: dict[str, Region] = Field(min_length=1)
    isps: tuple[Isp, ...] = Field(min_length=1)
    ocas: tuple[str, ...] = Field(min_length=2)
    members: PositiveInt = 1000
    shares: Shares = Shares()
    request_failure: float = Field(0.0, ge=0, lt=1)
    faults: tuple[Fault, ...] = ()
    drift: tuple[Drift, ...] = ()
    own: Own | None = None
    effects: dict[str, dict[str, Effect]] = {}
    """Experiment → variation → what it does; a variation that is not here does nothing."""

    @field_validator("regions", mode="before")
    @classmethod
    def _weights(cls, regions: object) -> object:
        """A region may be its weight alone."""
        if not isinstance(regions, dict):
            return regions
        return {name: {"weight": of} if isinstance(of, int | float) else of for name, of in regions.items()}

    @model_validator(mode="after")
    def _holds_together(self) -> World:
        known = self.names
        if not known["title"]:
            raise ValueError("there are no titles: give titles, or a catalogue")
        for kind, names in known.items():
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                raise ValueError(f"{kind}: {twice[0]} is there twice")
        for fault in self.faults:
            name = fault.oca if isinstance(fault, OcaFault) else fault.asn if isinstance(fault, IspFault) else fault.player
            if name not in known[fault.kind]:
                raise ValueError(f"faults: no {fault.kind} is called {name}; there are {', '.join(map(str, known[fault.kind]))}")
        if self.own is None and any(effect.watching != 1 for of in self.effects.values() for effect in of.values()):
            raise ValueError("effects: watching has no effect where members have no `own` time that they mean to watch")
        for drift in self.drift:
            if drift.name not in known[drift.of]:
                raise ValueError(f"drift: no {drift.of} is called {drift.name}; there are {', '.join(map(str, known[drift.of][:20]))}")
        return self

    @property
    def all_titles(self) -> list[Title]:
        """Those that are named, and those of the catalogue."""
        return [*self.titles, *(self.catalogue.expand() if self.catalogue else [])]

    @property
    def rigs(self) -> list[Rig]:
        """Each kind of device with each version of its player and each algorithm; their weights add up to the device's."""
        rigs = []
        for device in self.devices:
            versions = device.player if isinstance(device.player, dict) else {device.player: 1.0}
            algorithms: dict[Any, float] = device.abr if isinstance(device.abr, dict) else {device.abr: 1.0}
            of_all = sum(versions.values()) * sum(algorithms.values())
            rigs += [
                Rig(device.kind, player, device.tb_kbps, device.weight * w * share / of_all, abr)
                for player, w in versions.items()
                for abr, share in algorithms.items()
            ]
        return rigs

    @property
    def names(self) -> dict[str, list[str | int]]:
        """What faults and drift may name, by kind."""
        return {
            "title": [title.cid for title in self.all_titles],
            "player": list(dict.fromkeys(rig.player for rig in self.rigs)),
            "isp": [isp.asn for isp in self.isps],
            "region": list(self.regions),
            "oca": list(self.ocas),
        }


def load(path: Path | None = None) -> World:
    """The world in `path`, or the default one. Raises BadWorld, OSError."""
    text = path.read_text() if path else files("producers.simulator").joinpath("world.json").read_text()
    try:
        return World.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadWorld(f"{path or 'world.json'}: {where or 'the world'}: {first['msg']}") from None
    except ValueError as error:
        raise BadWorld(f"{path}: not JSON: {error}") from None

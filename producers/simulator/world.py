"""The world that sessions are drawn from: titles, devices, networks, habits and faults. Data, in JSON; `world.json` is the default."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from producers.players.network import Markov


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


class Device(_Model):
    """A kind of device with its player and the highest bitrate it may use."""

    kind: str
    player: str
    tb_kbps: PositiveInt
    weight: PositiveFloat = 1.0


class Isp(_Model):
    """An access network: a Markov chain over bandwidths."""

    asn: PositiveInt
    states_kbps: tuple[PositiveFloat, ...] = Field(min_length=1)
    stay: float = Field(ge=0, le=1)
    rtt_ms: PositiveInt
    weight: PositiveFloat = 1.0

    @property
    def network(self) -> Markov:
        """As a network model."""
        return Markov(self.states_kbps, self.stay, self.rtt_ms)


class Shares(_Model):
    """Which share of the sessions each thing happens in; several may happen in one."""

    failed_start: float = Field(0.0, ge=0, le=1, description="no server gives the manifest")
    quits_early: float = Field(0.0, ge=0, le=1, description="the member leaves within the first second")
    quits: float = Field(0.0, ge=0, le=1, description="the member leaves some time later")
    pauses: float = Field(0.0, ge=0, le=1)
    seeks: float = Field(0.0, ge=0, le=1)
    falls_silent: float = Field(0.0, ge=0, le=1, description="the device is switched off: no report comes any more")
    breaks: float = Field(0.0, ge=0, le=1, description="the player breaks with a decoding error")


class World(_Model):
    """All of it. `request_failure` is the probability that a segment request is refused by its server."""

    titles: tuple[Title, ...] = Field(min_length=1)
    audio_kbps: PositiveInt = 96
    devices: tuple[Device, ...] = Field(min_length=1)
    regions: dict[str, PositiveFloat] = Field(min_length=1)
    isps: tuple[Isp, ...] = Field(min_length=1)
    ocas: tuple[str, ...] = Field(min_length=2)
    members: PositiveInt = 1000
    shares: Shares = Shares()
    request_failure: float = Field(0.0, ge=0, lt=1)


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

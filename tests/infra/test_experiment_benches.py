"""Benchmarks of experiments: that what they compare can differ, and that theory is found where it is known to hold."""

from __future__ import annotations

import numpy as np
import pytest

from infra.bench import allocation, power, scale_log
from infra.bench.scale_log import World
from producers.simulator.world import load
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder


def test_units_that_are_dealt_differently_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [f"mémbre-{n}-漢" for n in range(300)]
    assert allocation.disagreements(units) == 0
    right = allocation.allocate
    monkeypatch.setattr(allocation, "allocate", lambda salt, units, ranges: np.where(np.arange(300) < 7, 9, right(salt, units, ranges)))
    assert allocation.disagreements(units) == 7


def test_a_covariate_leaves_of_the_variance_what_theory_says() -> None:
    chance = np.random.default_rng(5)
    x, rest = chance.normal(5, 1, (2, 5_000))
    members = power.Members(x, 0.6 * x + 0.8 * rest, 0.6 * x + 0.8 * rest + 0.1)
    assert power.covariate(members, 2_000, chance) == pytest.approx(0.64, rel=0.15)
    found = power.power(members, 400, chance)
    assert found["covariate_units_of_fixed"] == pytest.approx(0.64, rel=0.05)
    assert found["worst_power_off"] < 0.08
    assert found["bias"] < 0.15


def test_members_watch_as_they_did_before_and_longer_with_the_effect() -> None:
    world = load(power.WORLD).model_copy(update={"members": 500})
    members = power.watched(world, 3)
    assert {len(column) for column in (members.before, members.without, members.given)} == {500}
    assert np.corrcoef(members.before, members.without)[0, 1] > 0.3
    assert 1.02 < members.given.mean() / members.without.mean() < 1.15  # a title's end comes for everybody
    again = power.watched(world, 3)
    assert np.array_equal(again.given, members.given)


def test_what_is_written_in_bulk_is_what_the_contract_says() -> None:
    world = World(members=60_000, measurements=60_000, experiments=200, of_a_member=20, without_effect=100, lift=1.0, metrics=5, days=7)
    units: dict[str, set[str]] = {}
    for topic, made in ((scale_log.EXPOSURES, scale_log.exposures), (scale_log.MEASUREMENTS, scale_log.measurements)):
        event = catalogue().topic(topic).event
        encode, decode = Encoder(event, 7), Decoder(lambda _, event=event: event.schema, event)
        count, units[topic], rows = 0, set(), []
        for copies, unit, at_ms in made(world, 3, encode):
            count += len(copies)
            for number in (0, len(copies) // 2, len(copies) - 1):
                told = decode(copies[number].tobytes())
                assert encode(told) == copies[number].tobytes()
                assert told["unit"].encode() == copies[number, unit : unit + len(told["unit"])].tobytes()
                assert round(told["event_time"].timestamp() * 1000) == at_ms[number]
                rows.append(told)
        assert count == 60_000
        assert len({row["event_id"] for row in rows}) == len(rows)
        if topic == scale_log.EXPOSURES:
            assert {len(row["variations"]) for row in rows} == {20}
            assert {arm for row in rows for arm in row["variations"].values()} == set(scale_log.ARMS)
        else:
            assert {tuple(row["measured"]) for row in rows} == {tuple(world.names)}
            values = [value for row in rows for name, value in row["measured"].items() if not world.names[name]]
            assert scale_log.FLOOR <= min(values) < max(values) <= scale_log.CAP


def test_who_is_in_an_experiment_with_an_effect_measures_more() -> None:
    world = World(members=2_000, measurements=40_000, experiments=20, of_a_member=20, without_effect=19, lift=1.0, metrics=1, days=7)
    _, arms = world.met(3, 0, world.members)
    encode = Encoder(catalogue().topic(scale_log.MEASUREMENTS).event, 7)
    copies, _, at_ms = next(scale_log.measurements(world, 3, encode))
    decode = Decoder(lambda _: encode.event.schema)
    sums = np.zeros((2, 2))
    for row, at in zip(copies, at_ms.tolist(), strict=True):
        told = decode(row.tobytes())
        member = int(told["unit"].removeprefix("member-"))
        if at > scale_log.START_MS + 2 * scale_log.DAY_MS:
            sums[arms[member, 19]] += told["measured"]["metric_0"], 1
    means = sums[:, 0] / sums[:, 1]
    assert 1.5 < means[1] / means[0] < 2.3  # less what is beyond floor and cap

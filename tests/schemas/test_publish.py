"""Publishing to the real registry and Kafka: levels are enforced, and a refusal names field, job and panel."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from infra.base.registry import RegistryClient, RegistryError
from infra.base.settings import Settings
from schemas import lineage
from schemas.catalogue import Topic, catalogue
from schemas.publish import IncompatibleContract, WrongPartitions, create, publish, register, subject_of
from tests.schemas.contracts import field, topic

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[2]


@pytest.fixture
def thing(stack: Settings, tmp_path: Path) -> Topic:
    """A topic that no other test has: `lab.thing_<random>` with a field `amount`."""
    return replace(topic(tmp_path, field("amount", "long", unit="byte")), short_name=f"thing_{uuid4().hex[:8]}")


def with_field(thing: Topic, root: Path, *fields: dict[str, object]) -> Topic:
    return replace(thing, event=topic(root, *fields).event)


def test_publishing_twice_is_publishing_once(thing: Topic) -> None:
    assert publish([thing]) == publish([thing])
    assert RegistryClient().level(subject_of(thing)) == "FULL_TRANSITIVE"


def test_a_compatible_version_is_registered(thing: Topic, tmp_path: Path) -> None:
    client = RegistryClient()
    first = register(thing, client)
    second = register(with_field(thing, tmp_path, field("amount", "long"), field("note", ["null", "string"], default=None)), client)
    assert second != first
    assert [number for number, _ in client.history(subject_of(thing))] == [1, 2]


def test_an_incompatible_version_is_refused_with_409_and_names_field_job_and_panel(thing: Topic, tmp_path: Path) -> None:
    client = RegistryClient()
    register(thing, client)
    users = {"amount": ["job streams.lab.sums, and with it table lab_sum; panel lab/most"]}
    with pytest.raises(IncompatibleContract) as refusal:
        register(with_field(thing, tmp_path, field("amount", "string")), client, lambda topic, name: users.get(name, []))
    assert {v.field for v in refusal.value.violations} == {"amount"}
    for words in (
        f"the registry refused {subject_of(thing)} (409)",
        "amount: long cannot be read as string; the new version cannot read events of version 1",
        "breaks job streams.lab.sums, and with it table lab_sum; panel lab/most",
    ):
        assert words in str(refusal.value)
    assert len(client.versions(subject_of(thing))) == 1


def test_breaking_the_report_names_its_job_and_its_panels(stack: Settings) -> None:
    """The tour's step, against the contracts, jobs and panels of this tree."""
    client, report = RegistryClient(), catalogue().topic("playback.report")
    register(report, client)
    schema = copy.deepcopy(report.event.schema)
    next(f for f in schema["fields"] if f["name"] == "br_kbps")["type"] = ["null", "string"]
    users = lineage.of(catalogue().topics, ROOT / "streams", ROOT / "sinks").words
    with pytest.raises(IncompatibleContract) as refusal:
        register(replace(report, event=replace(report.event, schema=schema)), client, users)
    for words in ("br_kbps: int cannot be read as string", "breaks job streams.playback.qoe_sessions", "quality_of_experience/bitrate"):
        assert words in str(refusal.value)


def test_nothing_is_enforced_before_a_level_is_set(thing: Topic, tmp_path: Path) -> None:
    """Why `register` sets the level first: if this fails, the registry has learnt to enforce by itself."""
    client = RegistryClient()
    subject = subject_of(thing)
    client.register(subject, thing.event.schema)
    assert client.level(subject) == "NONE"
    client.register(subject, with_field(thing, tmp_path, field("amount", "string")).event.schema)


def test_partitions_are_not_changed_in_passing(thing: Topic) -> None:
    create([thing])
    with pytest.raises(WrongPartitions, match=r"has 1 partitions and declares 3"):
        create([replace(thing, partitions=3)])


def test_a_schema_that_was_never_published_is_refused_with_the_command(thing: Topic) -> None:
    with pytest.raises(RegistryError, match=r"`headrace schema register` publishes the contracts"):
        RegistryClient().lookup(subject_of(thing), thing.event.schema)

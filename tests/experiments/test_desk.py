"""What is done to definitions: each change is told once, refused where it may not be, and can be undone."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.experiments.desk import Change, Desk, Refused
from schemas.allocation.definition import LIVE, AnyDefinition, Experiment, read
from schemas.catalogue import catalogue

FLAG = {"kind": "flag", "key": "f", "owner": "o", "type": "string", "default": "a", "unit": "member_id"}
VARIATIONS = [{"key": "control", "weight": 0.5, "value": "a"}, {"key": "new", "weight": 0.5, "value": "b"}]
EXPERIMENT = {"kind": "experiment", "key": "e", "owner": "o", "flag": "f", "unit": "member_id", "variations": VARIATIONS}


def definition(written: dict[str, Any], **more: Any) -> AnyDefinition:
    return read(yaml.safe_dump(written | more))


class Topics:
    """What the two topics hold."""

    def __init__(self) -> None:
        self.standing: dict[str, Change] = {}
        self.history: list[Change] = []

    @property
    def desk(self) -> Desk:
        return Desk(self.standing, list(self.history), catalogue(), "ada", "because")

    def tell(self, changes: list[Change]) -> list[str]:
        self.history += changes
        self.standing |= {change["item"]: change for change in changes}
        return [f"{change['action']} {change['item']} {change['version']}" for change in changes]

    def experiment(self) -> Experiment:
        one = self.desk.defined["experiment/e"]
        assert isinstance(one, Experiment)
        return one


def published(*more: AnyDefinition, **changed: Any) -> Topics:
    topics = Topics()
    topics.tell(topics.desk.publish([definition(EXPERIMENT, **changed), definition(FLAG), *more]))
    return topics


def test_what_is_published_is_told_once_and_each_after_what_it_is_made_of() -> None:
    topics = Topics()
    both = [definition(EXPERIMENT), definition(FLAG)]
    assert topics.tell(topics.desk.publish(both)) == ["PUBLISH flag/f 1", "PUBLISH experiment/e 1"]
    assert topics.desk.publish(both) == []
    assert topics.tell(topics.desk.publish([definition(FLAG, about="other words")])) == ["PUBLISH flag/f 2"]
    assert {change["author"] for change in topics.history} == {"ada"}
    with pytest.raises(Refused, match="there is no flag g"):
        topics.desk.publish([definition(EXPERIMENT, key="other", flag="g")])


def test_an_experiment_starts_stops_and_is_shipped() -> None:
    topics = published()
    steps = (
        (topics.desk.start("e"), "START experiment/e 2", "running", None),
        (lambda: topics.desk.stop("e"), "STOP experiment/e 3", "stopped", None),
        (lambda: topics.desk.start("e"), "START experiment/e 4", "running", None),
        (lambda: topics.desk.ship("e", "new"), "SHIP experiment/e 5", "shipped", "new"),
        (lambda: topics.desk.stop("e"), "STOP experiment/e 6", "stopped", None),
    )
    for step, words, state, shipped in steps:
        assert topics.tell(step() if callable(step) else step) == [words]
        assert (topics.experiment().state, topics.experiment().shipped) == (state, shipped)


@pytest.mark.parametrize(
    ("state", "act", "words"),
    [
        ("draft", lambda desk: desk.stop("e"), "experiment e is draft; running or shipped is what can be stopped"),
        ("running", lambda desk: desk.start("e"), "experiment e is running; draft or stopped is what can be started"),
        ("draft", lambda desk: desk.ship("e", "new"), "experiment e is draft"),
        ("running", lambda desk: desk.ship("e", "best"), "what is shipped, best, is none of its variations"),
        ("running", lambda desk: desk.start("x"), "there is no experiment x; there are: e"),
        ("running", lambda desk: desk.withdraw("experiment/e"), "experiment e is running: stop it before it is withdrawn"),
        ("running", lambda desk: desk.withdraw("flag/f"), "there is no flag f"),
        ("running", lambda desk: desk.publish([definition(EXPERIMENT, salt="s")]), "salt changed from 'e.0' to 's' while it runs"),
        ("running", lambda desk: desk.publish([definition(EXPERIMENT, metrics=["m"])]), "there is no metric m"),
        ("running", lambda desk: desk.roll_back("experiment/e"), "experiment/e was nothing before version 1: withdraw it"),
        ("running", lambda desk: desk.audit("flag/g"), "nothing was ever done to flag/g"),
        (
            "running",
            lambda desk: desk.publish([definition(EXPERIMENT, key="e2", state="running")]),
            "experiments e and e2: both decide flag f",
        ),
    ],
)
def test_what_may_not_be_done_is_refused_in_words(state: str, act: Any, words: str) -> None:
    topics = published(state=state)
    with pytest.raises(Refused) as refused:
        act(topics.desk)
    assert words in str(refused.value)


def test_a_metric_that_cannot_be_measured_is_refused() -> None:
    metric = {"kind": "metric", "key": "m", "owner": "o", "unit": "ms", "topic": "playback.qoe_session", "field": "cid", "better": "lower"}
    with pytest.raises(Refused, match=r"cid of playback\.qoe_session is a string"):
        published(definition(metric, aggregation="sum", window_s=60))


def test_commands_say_the_state_and_files_do_until_it_is_dealt_anew() -> None:
    topics = published(state="running")
    topics.tell(topics.desk.stop("e"))
    assert topics.desk.publish([definition(EXPERIMENT, state="running"), definition(FLAG)]) == []
    topics.tell(topics.desk.publish([definition(EXPERIMENT, state="running", about="more")]))
    assert (topics.experiment().state, topics.experiment().about) == ("stopped", "more")
    topics.tell(topics.desk.publish([definition(EXPERIMENT, state="running", phase=1)]))
    assert (topics.experiment().state, topics.experiment().phase) == ("running", 1)


def test_a_rollback_goes_back_one_change_after_the_other() -> None:
    topics = published(state="running")
    topics.tell(topics.desk.publish([definition(EXPERIMENT, state="running", about="two")]))
    topics.tell(topics.desk.ship("e", "new"))
    seen = []
    for _ in range(2):
        (change,) = topics.desk.roll_back("experiment/e")
        topics.tell([change])
        seen.append((change["version"], change["undoes"], topics.experiment().state, topics.experiment().about))
    assert seen == [(4, 2, "running", "two"), (5, 1, "running", "")]
    with pytest.raises(Refused, match="was nothing before version 1"):
        topics.desk.roll_back("experiment/e")
    topics.tell(topics.desk.ship("e", "control"))
    assert [change["undoes"] for change in topics.desk.roll_back("experiment/e")] == [5]


def test_what_has_dealt_is_stopped_before_its_start() -> None:
    topics = published()
    topics.tell(topics.desk.start("e"))
    topics.tell(topics.desk.roll_back("experiment/e"))
    assert topics.experiment().state == "stopped"


def test_what_is_withdrawn_may_come_again() -> None:
    topics = published()
    assert topics.tell(topics.desk.withdraw("experiment/e")) == ["WITHDRAW experiment/e 2"]
    assert set(topics.desk.defined) == {"flag/f"}
    assert topics.tell(topics.desk.publish([definition(EXPERIMENT)])) == ["PUBLISH experiment/e 3"]
    with pytest.raises(Refused, match="experiment/e was withdrawn before"):
        topics.desk.roll_back("experiment/e")


def test_what_was_withdrawn_after_it_ran_does_not_come_again_as_something_else() -> None:
    topics = published(state="running")
    topics.tell(topics.desk.stop("e"))
    topics.tell(topics.desk.withdraw("experiment/e"))
    with pytest.raises(Refused, match="variations changed"):
        topics.desk.publish([definition(EXPERIMENT, state="running", variations=VARIATIONS[::-1])])
    assert topics.tell(topics.desk.publish([definition(EXPERIMENT, state="running")])) == ["PUBLISH experiment/e 4"]


def test_the_audit_trail_says_what_changed() -> None:
    topics = published()
    topics.tell(topics.desk.start("e"))
    topics.tell(topics.desk.publish([definition(EXPERIMENT, coverage=1, owner="p")]))
    trail = topics.desk.audit("experiment/e")
    assert [(change["action"], told) for change, told in trail] == [
        ("PUBLISH", []), ("START", ["state: 'draft' → 'running'"]), ("PUBLISH", ["owner: 'o' → 'p'"]),
    ]  # fmt: skip


acts = st.sampled_from(
    [
        lambda desk: desk.start("e"), lambda desk: desk.stop("e"), lambda desk: desk.ship("e", "new"),
        lambda desk: desk.roll_back("experiment/e"), lambda desk: desk.withdraw("experiment/e"),
        lambda desk: desk.publish([definition(EXPERIMENT)]), lambda desk: desk.publish([definition(EXPERIMENT, coverage=0.5)]),
        lambda desk: desk.publish([definition(EXPERIMENT, variations=VARIATIONS[::-1])]),
        lambda desk: desk.publish([definition(EXPERIMENT, phase=1, variations=VARIATIONS[::-1])]),
    ]
)  # fmt: skip


@settings(max_examples=50)
@given(st.lists(acts, max_size=10))
def test_versions_count_up_and_nobody_is_dealt_otherwise_in_one_phase(done: list[Any]) -> None:
    topics = published()
    for act in done:
        with contextlib.suppress(Refused):
            topics.tell(act(topics.desk))
    told = [change for change in topics.history if change["item"] == "experiment/e"]
    assert [change["version"] for change in told] == list(range(1, len(told) + 1))
    assert topics.standing["experiment/e"] == told[-1]
    lived = [one for change in told if change["document"] and (one := json.loads(change["document"])).get("state", "draft") in LIVE]
    dealt = {(one.get("phase", 0), json.dumps(one["variations"])) for one in lived}
    assert len(dealt) == len({phase for phase, _ in dealt})

"""Routes: what topics.yaml may declare, and the job it becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.catalogue import Catalogue, ContractError, catalogue
from streams import route
from streams.environment import Job, JobError, jobs


def declaring(**declared: Any) -> Catalogue:
    """The catalogue with one route, of playback.report."""
    topics = {name: replace(topic, routes=()) for name, topic in catalogue().topics.items()}
    topics["playback.report"] = replace(topics["playback.report"], routes=(declared,))
    return Catalogue(catalogue().events, topics)


def test_no_route_no_job() -> None:
    none = Catalogue(catalogue().events, {name: replace(topic, routes=()) for name, topic in catalogue().topics.items()})
    assert route.sql(none) == ""


def test_a_route_filters_counts_and_drops_repeats() -> None:
    text = route.sql(declaring(to="playback.failure", where="e = 'e'", once_by="event_id", within_h=2))
    assert "SET 'table.exec.state.ttl' = '7200 s'" in text
    assert "NOT marker AND (e = 'e')" in text
    assert "PARTITION BY `event_id`" in text
    assert "COUNT(*) - COUNT(DISTINCT `event_id`)" in text


def test_without_once_by_everything_passes() -> None:
    text = route.sql(declaring(to="playback.failure"))
    assert "ROW_NUMBER" not in text
    assert "NOT marker AND (TRUE)" in text


def test_a_job_has_one_sink_a_topic() -> None:
    """Two would share the prefix of their transactions, and the job would restart for ever."""
    for job in jobs().values():
        inserts = [statement.split()[2] for statement in job.statements if statement.startswith("INSERT")]
        assert len(inserts) == len(set(inserts)), job.name


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"to": "playback.nowhere"}, "no topic 'playback.nowhere'"),
        ({"to": "playback.session_state"}, "a route changes nothing"),
        ({"to": "playback.failure", "once_by": "id"}, "no field 'id'"),
        ({"to": "playback.failure", "within_s": 3}, "within_s"),
        ({"where": "TRUE"}, "to"),
    ],
)
def test_a_mistake_is_refused_in_words(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        route.routes(declaring(**declared))


def test_every_job_reads_and_writes_declared_topics() -> None:
    for job in jobs().values():
        assert job.reads, job.name
        assert job.writes, job.name
        assert {*job.reads, *job.writes} <= catalogue().topics.keys(), job.name


def test_a_semicolon_in_a_string_does_not_end_a_statement() -> None:
    job = Job("x", "SET 'a' = 'b;c'; -- a comment; with one\nINSERT INTO `a.b` SELECT ';' FROM `c.d`;", "x.sql")
    assert job.statements == ["SET 'a' = 'b;c'", "INSERT INTO `a.b` SELECT ';' FROM `c.d`"]
    assert (job.options, job.writes, job.reads) == ({"a": "b;c"}, ["a.b"], ["c.d"])


def test_a_constant_that_does_not_exist_is_named() -> None:
    with pytest.raises(JobError, match=r"x\.sql: \$\{streams\.route\.NOTHING\}"):
        _ = Job("x", "SELECT ${streams.route.NOTHING}", "x.sql").statements

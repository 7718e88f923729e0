"""A job's file becomes tables: what a source table has, and what it leaves out."""

from __future__ import annotations

import json
import re

import pytest

from schemas.catalogue import catalogue
from streams.environment import Job, JobError, jobs, source

REPORTS = catalogue().topic("playback.report")


def columns(ddl: str) -> list[str]:
    """The physical columns of a CREATE TABLE."""
    return [name for name in re.findall(r"^  `(\w+)`", ddl, re.MULTILINE) if name not in ("arrived_at", "topic_offset")]


def test_a_source_has_every_column_of_its_contract() -> None:
    job = Job("j", "INSERT INTO `playback.failure` SELECT sid FROM `playback.report`", "here")
    assert columns(source(REPORTS, job)) == [field["name"] for field in REPORTS.event.fields]


def test_a_job_that_says_so_reads_only_the_columns_that_it_names() -> None:
    text = "SET 'headrace.columns' = 'named'; -- not url\nINSERT INTO `playback.failure` SELECT sid, custom FROM `playback.report`"
    ddl = source(REPORTS, Job("j", text, "here"))
    assert columns(ddl) == ["event_time", "sid", "custom"]
    reader = json.loads(re.search(r"'value.avro-confluent.schema' = '(.*)'$", ddl, re.MULTILINE)[1].replace("''", "'"))  # type: ignore[index]
    assert [field["name"] for field in reader["fields"]] == ["event_time", "sid", "custom"]


def test_session_states_decodes_what_it_passes_on_and_no_more() -> None:
    job = jobs()["session_states"]
    assert "url" not in columns(source(REPORTS, job))
    assert set(columns(source(REPORTS, job))) >= {"sid", "sta", "e", "marker", "event_id", "correlation_id"}


def test_another_word_for_the_columns_is_refused_with_the_one_there_is() -> None:
    job = Job("j", "SET 'headrace.columns' = 'some';\nINSERT INTO `playback.failure` SELECT sid FROM `playback.report`", "here")
    with pytest.raises(JobError, match=r"here: .*'some'.*'named'"):
        source(REPORTS, job)

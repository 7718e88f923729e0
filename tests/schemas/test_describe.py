"""What is told of a topic: the graph around it goes from left to right and names everyone, and nobody else."""

from __future__ import annotations

from itertools import pairwise

from schemas import describe, lineage
from schemas.catalogue import catalogue

GRAPH = lineage.installed()


def test_every_edge_goes_to_the_right_in_every_graph() -> None:
    for topic in catalogue().topics.values():
        found = describe.neighbourhood(topic, GRAPH)
        columns = {node["id"]: node["column"] for node in found["nodes"]}
        assert all(columns[start] < columns[end] for start, end in found["edges"]), topic.name
        assert {end for edge in found["edges"] for end in edge} | {f"topic {topic.name}"} == columns.keys()


def test_the_way_from_player_to_board() -> None:
    found = describe.neighbourhood(catalogue().topic("playback.qoe_session"), GRAPH)
    edges = {tuple(edge) for edge in found["edges"]}
    way = ["producer edge.collector", "topic playback.report", "job streams.playback.qoe_sessions", "topic playback.qoe_session"]
    way += ["table playback_qoe_session", "table qoe_sessions", "table closed_sessions", "board quality_of_experience"]
    assert set(pairwise(way)) <= edges
    boards = {node["name"]: node["panels"] for node in found["nodes"] if node["kind"] == "board"}
    assert "plays" in boards["quality_of_experience"]
    assert "cache_servers" not in boards["quality_of_experience"]


def test_a_card_has_fields_with_units_and_examples_with_verdicts() -> None:
    card = describe.card(catalogue().topic("playback.report"), catalogue(), GRAPH)
    fields = {item["name"]: item for item in card["fields"]}
    assert (fields["br_kbps"]["unit"], fields["br_kbps"]["optional"], fields["sid"]["optional"]) == ("kbit/s", True, False)
    refused = {example["case"]: example["refused"] for example in card["examples"] if not example["passes"]}
    assert "no session" in refused
    assert all(refused.values())

"""Benchmarks: verdicts, reports that miss a figure, and the arithmetic between what is sampled and what is printed."""

from __future__ import annotations

import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from edge.steering.rank import Plan
from edge.steering.routes import address
from edge.steering.tables import Tables
from infra.bench import cmcd_recovery, congestion, harness, miss_causes, network
from infra.bench.cmcd_recovery import Body, by_regex, by_us, generated, recovered, standard
from infra.bench.collector import batches, check
from infra.bench.harness import Figure, Options
from infra.bench.jobs import steady_rate
from infra.bench.live import Sight, quantile
from infra.bench.miss_truth import Answer, Change, Facts, Span, Told, causes, compare, strains, table
from infra.bench.recordings import recordings
from infra.bench.steering import whole
from producers.topology import topology


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (Figure("×", 8, 5), 8.0, "target"),
        (Figure("×", 8, 5), 7.9, "floor"),
        (Figure("×", 8, 5), 4.9, "below"),
        (Figure("s", 1.5, 3, higher=False), 1.5, "target"),
        (Figure("s", 1.5, 3, higher=False), 2.0, "floor"),
        (Figure("s", 1.5, 3, higher=False), 3.1, "below"),
        (Figure("s", 1.5, 3, higher=False), float("nan"), "below"),
        (Figure("events/s"), 1.0, "printed"),
    ],
)
def test_a_value_is_judged_by_the_side_that_is_better(figure: Figure, value: float, verdict: str) -> None:
    assert figure.verdict(value) == verdict


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "OUT", tmp_path)
    return tmp_path


def test_a_report_holds_medians_raw_runs_and_how_to_get_them_again(out: Path) -> None:
    options = Options(seed=7, events=1_000)
    harness.report("toy", {"rate": Figure("1/s", 3, 2)}, [{"rate": 1.0}, {"rate": 9.0, "why": "luck"}, {"rate": 2.0}], options)
    found = json.loads((out / "toy.json").read_text())
    assert found["figures"] == {"rate": {"value": 2.0, "unit": "1/s", "target": 3, "floor": 2}}
    assert found["runs"][1] == {"rate": 9.0, "why": "luck"}
    assert (found["seed"], found["command"]) == (7, ".venv/bin/python -m infra.bench --only toy --seed 7 --events 1000")


def test_the_defaults_need_no_options() -> None:
    assert Options().command("toy") == "make bench ONLY=toy"


@pytest.mark.parametrize("runs", [[], [{"rate": 1.0}, {}]])
def test_a_figure_that_a_run_lacks_is_a_failure(out: Path, runs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="toy: no value for"):
        harness.report("toy", {"rate": Figure("1/s")}, runs, Options())
    assert not (out / "toy.json").exists()


def test_a_steady_rate_knows_neither_start_nor_end() -> None:
    events = 1_000
    slow_start = [(t / 10, t) for t in range(240)]  # 10 a second
    steady = [(24 + t / 10, 240 + 10 * t) for t in range(70)]  # 100 a second
    slow_end = [(31 + t / 10, 940 + t) for t in range(61)]
    assert steady_rate([*slow_start, *steady, *slow_end], events) == pytest.approx(100)


def test_what_passed_too_quickly_is_no_rate() -> None:
    with pytest.raises(ValueError, match="too quickly to be measured: 1 samples"):
        steady_rate([(0.0, 0), (0.5, 500), (1.0, 1_000)], 1_000)


def test_a_row_is_visible_when_a_question_sees_it_or_a_later_one_of_its_partition() -> None:
    sight = Sight()
    for at, partition, offset in ((10.0, 0, 4), (11.0, 0, 4), (12.0, 0, 9), (11.5, 1, 2)):
        sight.see(at, partition, offset, time_ms=int(at) * 1_000 - 500)
    partitions, offsets = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 4, 5, 10, 2, 3, 0])
    assert sight.visible_at(partitions, offsets).tolist() == [10.0, 10.0, 12.0, np.inf, 11.5, np.inf, np.inf]


def test_a_table_is_complete_as_far_as_its_slowest_partition() -> None:
    sight = Sight()
    assert sight.complete_to_ms == 0
    sight.see(10.0, 0, 4, time_ms=9_000)
    sight.see(11.0, 1, 7, time_ms=8_000)
    sight.see(12.0, 0, 4, time_ms=9_999)  # the same row again
    assert sight.complete_to_ms == 8_000
    assert sight.reached() == 11


def test_a_quantile_is_a_value_that_was_measured_and_counts_what_never_came() -> None:
    assert quantile(np.array([1.0, 2.0, 3.0, 4.0]), 0.5) == 2.0
    assert quantile(np.array([1.0] * 98 + [np.inf] * 2), 0.99) == np.inf


# --- cmcd_recovery ---------------------------------------------------------------------------------------------------------------------


def test_the_generator_writes_every_key_in_every_way() -> None:
    bodies = [generated(random.Random(n), standard()) for n in range(1_000)]
    assert {key for body in bodies for key in body.said} == {*standard().types[1], *standard().types[2], "com.example-x"}
    assert {body.way for body in bodies} == {"event", "query", "headers"}
    assert {body.said["e"]["token"] for body in bodies if body.way == "event"} == set(standard().tokens["e"])


@pytest.mark.parametrize(
    ("text", "said", "ours", "regex"),
    [
        ('cid="a,b"', {"cid": "a,b"}, 1, 0),
        ("br=(3000;v 128;a)", {"br": {"list": [[3000, {"v": True}], [128, {"a": True}]]}}, 1, 0),
        ("ot=v,d=2000,bs", {"ot": {"token": "v"}, "d": 2000, "bs": True}, 3, 3),
        ("d=2000", {"d": "2000"}, 0, 0),
        ("d=1", {"d": True}, 0, 0),
        ('ot="v"', {"ot": {"token": "v"}}, 0, 1),
    ],
)
def test_a_field_is_recovered_with_the_right_type_and_value(text: str, said: dict[str, object], ours: int, regex: int) -> None:
    body = Body("query", f"CMCD={quote(f'{text},v=2' if '(' in text else text)}", said)
    assert (recovered(said, by_us(body)), recovered(said, by_regex(body), tokens=False)) == (ours, regex)


def test_everything_is_recovered_of_a_hundred_bodies() -> None:
    (figures,) = cmcd_recovery.run(Options(events=len(recordings()) + 100))
    assert figures["recovered"] == 1.0
    assert figures["regex_recovered"] < 0.95


# --- collector -------------------------------------------------------------------------------------------------------------------------


def test_the_peer_reads_what_players_send_as_the_collector_does() -> None:
    check(batches(random.Random(1), time.time_ns() // 1_000_000))


# --- steering --------------------------------------------------------------------------------------------------------------------------


SMALL = network.World(
    isps=4, embedded_per_isp=4, exchanges=2, storage_per_exchange=3, exchanges_per_isp=2, origins=1, prefixes=200, aggregates_per_isp=3,
    ipv6_share=0.3, announced_to=3, titles=50, held_share=0.5,
)  # fmt: skip


def test_a_drawn_network_is_whole_and_the_same_again() -> None:
    drawn, again = network.Network(SMALL, 1), network.Network(SMALL, 1)
    assert list(drawn.routes()) == list(again.routes()) != list(network.Network(SMALL, 2).routes())
    tables = Tables()
    for oca in drawn.ocas():
        tables.ocas.fold({**oca, "marker": False})
    for route in drawn.routes():
        tables.routes.fold({**route, "marker": False})
    assert len(tables.ocas.table.servers) == 4 * 4 + 2 * 3 + 1
    assert len(tables.routes.table) == 200 + 2 * 4 * 3
    chance = random.Random(1)
    for _ in range(200):
        matches = tables.routes.table.lookup(address(drawn.client(chance)))
        assert len(matches) >= 2, "a customer's prefix and the aggregate that it lies in"
        assert len(matches[0][1].paths) == 3
    held = dict(drawn.holders())
    assert len(held) == 50
    assert sum(sum(holds[:16]) for holds in held.values()) == pytest.approx(50 * 16 * 0.5, rel=0.1)
    assert all(all(holds[16:]) and len(holds) == 23 for holds in held.values())


def test_an_answer_is_whole_when_its_last_byte_is_there_and_must_name_three_servers() -> None:
    body = b'{"manifest_url":1,"manifest_url":2,"manifest_url":3}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    assert [n for n in range(len(answer) + 1) if whole(bytearray(answer[:n]), check=True)] == [len(answer)]
    for wrong in (answer.replace(b"200", b"503"), answer.replace(b"manifest_url", b"manifest_uri")):
        with pytest.raises(AssertionError, match="was answered"):
            whole(bytearray(wrong), check=True)


def test_the_oracle_is_best_and_ours_beats_a_bandit_without_herding() -> None:
    of = congestion.world(7)
    assert of == congestion.world(7) != congestion.world(8)
    oracle = congestion.play(of, partial(congestion.oracle, of), lambda _: None, 7)
    ours = congestion.outcome(congestion.Ours(of), of, 7)
    bandit = congestion.outcome(congestion.Ucb(0.3, 0.8), of, 7)
    anyone = congestion.outcome(congestion.Greedy(1.0, 1.0, random.Random(1)), of, 7)
    assert oracle.worth > ours.worth > max(bandit.worth, anyone.worth)
    assert ours.load_cv < bandit.load_cv


def test_a_session_gets_the_least_of_access_egress_and_path() -> None:
    of = congestion.World([1], [[80e6] * congestion.SERVERS], [60e6] * congestion.SERVERS)
    assert [congestion.share_bps(of, 0, 0, sessions) for sessions in (1, 3, 6)] == [25e6, 20e6, 10e6]


# --- miss_causes -----------------------------------------------------------------------------------------------------------------------


def answer(network: str, title: str, by: str, first: str, asked_ms: int = 100, refused: bool = False) -> Answer:
    return Answer("k", network, title, by, Span(asked_ms, asked_ms + 10), refused, first, Span(50, 60))


BAD = Change(95, 105)
"""In the midst of what is asked at 100."""
DONE, EARLIER = Change(70, 80), Change(20, 30)
"""Between decision and answer; before the decision."""


@pytest.mark.parametrize(
    ("given", "told", "may_be"),
    [
        (answer("one", "held", "oca-4", "oca-4"), {}, {"NONE"}),
        (answer("one", "held", "oca-6", "oca-4"), {}, {"OTHER"}),
        (answer("one", "absent", "oca-6", "oca-6"), {}, {"CONTENT"}),
        (answer("one", "absent", "oca-4", "oca-6"), {}, {"CONTENT"}),
        (answer("one", "absent", "oca-4", "oca-6", refused=True), {}, {"NONE"}),
        (answer("one", "leaving", "oca-4", "oca-4"), {"lacks": {("oca-4", "leaving"): DONE}}, {"CONTENT"}),
        (answer("one", "leaving", "oca-4", "oca-4"), {"lacks": {("oca-4", "leaving"): BAD}}, {"CONTENT", "NONE"}),
        (answer("gone", "held", "oca-6", "oca-6"), {"withdrawn": {"gone": EARLIER}}, {"ROUTE"}),
        (answer("gone", "held", "oca-4", "oca-4"), {"withdrawn": {"gone": EARLIER}}, {"NONE"}),
        (answer("small", "crowd", "oca-6", "oca-3"), {"full": {"oca-3": DONE}}, {"LOAD"}),
        (answer("small", "crowd", "oca-6", "oca-3"), {"nearly_full": {"oca-3": EARLIER}}, {"OTHER"}),
        (answer("small", "crowd", "oca-6", "oca-6"), {"nearly_full": {"oca-3": EARLIER}}, {"LOAD"}),
        (answer("pair", "left", "oca-5", "oca-1"), {"ill": {"oca-1": DONE}}, {"HEALTH"}),
        (answer("pair", "left", "oca-5", "oca-1"), {"ill": {"oca-1": BAD}}, {"HEALTH", "OTHER"}),
        (answer("pair", "left", "oca-5", "oca-1"), {"ill": {"oca-2": DONE}}, {"OTHER"}),
        (answer("pair", "both", "oca-2", "oca-1"), {"ill": {"oca-1": DONE}}, {"NONE"}),
        (answer("pair", "both", "oca-5", "oca-2"), {"ill": {"oca-1": DONE}}, {"OTHER"}),
        (answer("pair", "both", "oca-5", "oca-1"), {"ill": {"oca-1": DONE}}, {"HEALTH", "OTHER"}),
        (answer("pair", "both", "oca-5", "oca-5"), {"ill": {"oca-1": EARLIER, "oca-2": EARLIER}}, {"HEALTH"}),
        (answer("exchange", "rare", "oca-5", "oca-5"), {}, {"CONTENT"}),
        (answer("nobody", "held", "oca-7", "oca-7"), {}, {"NONE"}),
    ],
)
def test_the_truth_of_an_answer_is_what_was_so_when_it_was_decided_and_given(given: Answer, told: dict[str, Any], may_be: set[str]) -> None:
    facts = Facts(miss_causes.BEST, miss_causes.lacking())
    for name, changes in told.items():
        getattr(facts, name).update(changes)
    assert causes(facts, given) == may_be


def test_a_server_that_had_no_core_to_run_on_may_have_been_ill() -> None:
    good = [Told(oca_id, 500 * n, 900, 0.1) for n in range(1, 4) for oca_id in ("a", "b")]
    assert strains(good) == {}
    late, slow, bursting = Told("a", 3_000, 900, 0.1), Told("b", 2_000, 900_000, 0.1), Told("b", 2_500, 900, 1.3)
    found = strains([*good, slow, bursting, late])
    assert found == {"b": [Span(500, 6_000), Span(1_000, 6_500)], "a": [Span(500, 7_000)]}
    facts = Facts(miss_causes.BEST, miss_causes.lacking(), strained={"oca-4": [Span(90, 120)]})
    assert causes(facts, answer("one", "held", "oca-6", "oca-4")) == {"OTHER", "HEALTH"}
    assert causes(facts, answer("one", "held", "oca-4", "oca-4")) == {"NONE"}
    assert causes(facts, answer("small", "crowd", "oca-6", "oca-3")) == {"OTHER"}


def test_what_was_found_is_held_against_all_that_has_one_truth() -> None:
    truths = {"a": {"HEALTH"}, "b": {"HEALTH"}, "c": {"LOAD"}, "d": {"NONE"}, "e": {"NONE"}, "f": {"LOAD", "OTHER"}}
    figures, pairs = compare(truths, [("a", "HEALTH"), ("b", "OTHER"), ("d", "CONTENT"), ("f", "ROUTE"), ("a", "HEALTH")])
    expected = {"right": 1 / 2, "found": 2 / 3, "invented": 1 / 2, "right_health": 1 / 2, "health_misses": 2, "unclear": 1, "twice": 1}
    assert {name: figures[name] for name in expected} == expected
    assert list(table(pairs))[1] == "HEALTH  1 HEALTH, 1 OTHER"


def test_the_network_of_miss_causes_is_as_the_script_says() -> None:
    told = topology.read(miss_causes.NETWORK.read_text(), [f"http://oca-{n}" for n in range(1, miss_causes.SERVERS + 1)])
    tables = Tables()
    for oca in told.ocas.values():
        tables.ocas.fold({**oca, "marker": False})
    for route in told.routes.values():
        tables.routes.fold({**route, "marker": False})

    def of(name: str) -> Plan:
        host = miss_causes.viewer(name, 7)["x-forwarded-for"]
        return tables.ocas.table.plan(tables.routes.table.lookup(address(host)))

    assert {name: tuple(server.oca_id for server in of(name).best) for name in miss_causes.PREFIXES} == miss_causes.BEST
    tables.routes.fold({**told.routes[miss_causes.WITHDRAWN], "withdrawn": True, "marker": False})
    assert [name for name in miss_causes.PREFIXES if of(name).unrouted] == ["gone"]

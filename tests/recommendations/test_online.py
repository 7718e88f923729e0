"""The table of a process: which of two rows stays, and what happens when other features are deployed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.cli.feature import _documents
from schemas.recommendations.definition import features, read
from streams.folded import Unfit
from streams.recommendations.engine import Engine
from streams.recommendations.online import Definitions, Online
from streams.recommendations.plan import Plan, plan
from streams.recommendations.table import LET_GO_MS
from tests.recommendations.made import FROM_MS, TOPIC, feature, text

FEW = plan([feature("plays")])


def record(made: Plan, many: int, *, epoch: int = 7, later_ms: int = 0) -> dict[str, Any]:
    """The row of m-0 after so many events, as the job tells it."""
    engine = Engine(made)
    for n in range(many):
        event = {"event_id": f"e-{n}", "event_time": FROM_MS + later_ms + n, "member_id": "m-0", "cid": f"t-{n}", "kind": "play"}
        engine.take(TOPIC, event, FROM_MS + later_ms + n)
    tiles, texts = engine.packed("member", "m-0")
    told = {"group": "member", "entity": "m-0", "layout": made.layouts["member"].id, "tiles": tiles, "texts": texts}
    return {**told, "epoch": epoch, "marker": False}


def plays(online: Online, at_ms: int = FROM_MS + 1_000) -> int:
    return int(online.table.lookup(["plays_1d"], {"member": "m-0"}, at_ms)["plays_1d"].of[0])


def test_what_is_told_again_from_fewer_events_does_not_take_a_value_back() -> None:
    online, seen = Online(FEW), []
    for many in (3, 5, 2, 4, 5, 6):
        online.fold(record(FEW, many))
        seen.append(plays(online))
    assert seen == [3, 5, 5, 5, 5, 6]


def test_a_later_generation_goes_before_all_and_an_earlier_one_behind() -> None:
    online = Online(FEW)
    for many, epoch, expected in ((5, 7, 5), (2, 8, 2), (6, 7, 2), (3, 8, 3)):
        online.fold(record(FEW, many, epoch=epoch))
        assert plays(online) == expected


@pytest.mark.parametrize(("later_ms", "expected"), [(LET_GO_MS, 0), (LET_GO_MS + 10, 1)])
def test_a_key_that_was_let_go_begins_anew(later_ms: int, expected: int) -> None:
    online = Online(FEW)
    online.fold(record(FEW, 5))
    online.fold(record(FEW, 1, later_ms=later_ms))
    assert plays(online, FROM_MS + later_ms + 1_000) == expected


def test_rows_of_features_that_are_not_told_yet_are_left_until_they_are() -> None:
    more = plan([feature("plays"), feature("clicks", filter={"kind": "click"})])
    online = Online(FEW)
    definitions = Definitions(online)
    online.fold(record(FEW, 3))
    online.fold(record(more, 4))
    assert (plays(online), online.of_others) == (3, 1)
    for name, filter_ in (("plays", {}), ("clicks", {"kind": "click"})):
        definitions.fold({"name": name, "yaml": text(name, filter=filter_), "withdrawn": False, "marker": False})
    online.table = online.new()  # as `follow` does when the topic is read again
    online.fold(record(FEW, 3))
    assert plays(online) == 3
    online.fold(record(more, 4))
    assert plays(online) == 4
    assert "clicks_1d" in online.table.plan.values


def test_what_is_withdrawn_is_looked_up_no_more() -> None:
    online = Online(FEW)
    definitions = Definitions(online)
    for name in ("plays", "clicks"):
        definitions.fold({"name": name, "yaml": text(name), "withdrawn": False, "marker": False})
    definitions.fold({"name": "clicks", "yaml": "", "withdrawn": True, "marker": False})
    assert set(online.plan.values) == {"plays_1d"}
    with pytest.raises(Unfit, match="no field knid"):
        definitions.fold({"name": "wrong", "yaml": text("wrong", filter={"knid": "play"}), "withdrawn": False, "marker": False})
    assert set(online.plan.values) == {"plays_1d"}


def test_a_damaged_row_is_refused_and_the_one_that_is_there_stays() -> None:
    online = Online(FEW)
    online.fold(record(FEW, 3))
    with pytest.raises(Unfit, match="5 bytes are not a row"):
        online.fold({**record(FEW, 4), "tiles": b"short"})
    assert plays(online) == 3


def test_a_feature_is_told_so_that_it_means_the_same() -> None:
    told = _documents()
    assert {name: read(document, name) for name, document in told.items()} == {one.name: one for one in features()}
    assert yaml.safe_load(told["member_mean_rating"])["default"] is None

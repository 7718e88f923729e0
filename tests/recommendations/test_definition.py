"""What a team may write, and what is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.catalogue import catalogue
from schemas.recommendations.definition import FeatureError, features, problems, read, read_folder
from streams.recommendations.plan import plan
from tests.recommendations.made import feature, text

REFUSED = yaml.safe_load((Path(__file__).parent / "refused.yaml").read_text())


def refusal(**said: Any) -> str:
    with pytest.raises(FeatureError) as refused:
        read(text("a", **said), "a.yaml")
    return str(refused.value)


def test_those_of_this_installation_can_be_planned() -> None:
    assert len(features()) >= 20
    assert plan(features()).values


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["words"])
def test_what_cannot_be_is_refused_in_words(case: dict[str, Any]) -> None:
    assert case["words"] in refusal(**case["said"])


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = refusal(key=["title"], sources=["playback.qoe_session", "recommendations.gone"], filter={"knid": "play"}, default="none")
    assert len(said.splitlines()) == 4


def test_no_yaml_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"a\.yaml: not YAML"):
        read("name: [", "a.yaml")


def test_a_name_has_one_owner() -> None:
    twice = [feature("plays", owner="home"), feature("plays", owner="search"), feature("clicks")]
    assert problems(twice) == ["feature plays: is defined 2 times, by home and by search: a name has one owner"]


def test_a_folder_is_read_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "plays.yaml").write_text(text("plays"))
    assert [one.name for one in read_folder(tmp_path)] == ["plays"]
    (tmp_path / "clicks.yaml").write_text(text("plays", owner="search"))
    (tmp_path / "wrong.yaml").write_text(text("wrong", windows=[]))
    with pytest.raises(FeatureError) as refused:
        read_folder(tmp_path, catalogue())
    assert [line.partition(":")[0] for line in refused.value.problems] == ["clicks.yaml", "wrong.yaml", "feature plays"]

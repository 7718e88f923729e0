"""On the running stack: what members do is in their page and in values within moments, and what was served agrees with what is stored."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from edge.pseudonym import pseudonym
from edge.skew import SETTLED_MS, Watch, totals
from infra.base import warehouse
from infra.base.settings import Settings
from infra.cli import app
from producers.emit import Emitter
from tests.kit import eventually

TITLES = ("bbb", "life", "mandelbrot")


@pytest.mark.stack
def test_what_members_do_is_served_and_agrees_with_the_log(stack: Settings) -> None:
    home, run = stack.edge.home_url, uuid.uuid4().hex[:8]
    members, region = [f"{run}-{n}" for n in range(6)], f"r-{run}"
    with Emitter(f"members-{run}", background=True) as emitter:
        for n in range(60):
            about = {"member_id": pseudonym(members[n % 6]), "cid": TITLES[n % 3], "kind": "play", "region": region, "genres": ["Drama"]}
            emitter.send("recommendations.interaction", {**about, "previous_cids": [TITLES[(n + 1) % 3]]})
        assert emitter.flush(30) == 0

    def values(**about: object) -> dict[str, object]:
        asked = {"features": ["member_plays_1h", "title_region_plays_1h"], "region": region, "title": list(TITLES), **about}
        return dict(httpx.post(f"{home}/features", json=asked).raise_for_status().json()["values"])

    wanted = {"member_plays_1h": 10, "title_region_plays_1h": [20, 20, 20]}
    eventually(lambda: values(member=members[0]) == wanted, within=60)
    page = httpx.get(f"{home}/home", params={"member": members[0], "region": region}).json()
    rows = {row["row_kind"]: [item["cid"] for item in row["items"]] for row in page["rows"]}
    assert rows["continue_watching"] == [TITLES[0]]
    assert set(TITLES) <= set(rows["top_10"])
    for _ in range(100):  # of which a twentieth is told
        values(member=members[1])

    def compared() -> Counter[str]:
        """What came of all that was served in the last minute and is stored."""
        watch = Watch(warehouse.reader, lambda: round(time.time() * 1000) + SETTLED_MS)
        return sum(totals(watch.round()).values(), Counter[str]())

    found = eventually(compared, within=60)
    assert found["skewed"] == 0 < found["compared"]
    told = json.loads(CliRunner().invoke(app, ["feature", "explain", members[2], "--json", "--feature", "member_plays"]).stdout)
    assert (told["values"]["member_plays_1h"], len(told["steps"])) == (10, 10)

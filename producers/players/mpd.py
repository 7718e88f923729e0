"""DASH manifests: what a player needs of a static MPD (ISO/IEC 23009-1) with SegmentTemplate. Pure: text in, values out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from urllib.parse import urljoin

NAMESPACE = {"dash": "urn:mpeg:dash:schema:mpd:2011"}
IDENTIFIER = re.compile(r"\$(RepresentationID|Bandwidth|Number|Time)(?:%0(\d+)d)?\$")
DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$")


class BadManifest(ValueError):
    """The text is no static MPD with segment templates; the message says what is missing."""


@dataclass(frozen=True)
class Segment:
    """One media segment: where it is, which part of the title it holds."""

    url: str
    start_ms: int
    duration_ms: int


@dataclass(frozen=True)
class Representation:
    """One encoding of the video or audio. `bandwidth_kbps` is what the manifest promises, `width` and `height` are 0 for audio."""

    name: str
    bandwidth_kbps: int
    codecs: str
    width: int
    height: int
    init_url: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Manifest:
    """A title as a player sees it: video lowest bitrate first, all with the same segment boundaries; audio may be empty."""

    duration_ms: int
    video: tuple[Representation, ...]
    audio: tuple[Representation, ...]


def parse(text: str, url: str) -> Manifest:
    """The manifest in `text`, fetched from `url`, which relative addresses are resolved against. Raises BadManifest."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadManifest(f"{url}: not XML: {error}") from None
    if root.tag != f"{{{NAMESPACE['dash']}}}MPD":
        raise BadManifest(f"{url}: the root is {root.tag}, not an MPD")
    if root.get("type", "static") != "static":
        raise BadManifest(f"{url}: only static manifests are played")
    period = root.find("dash:Period", NAMESPACE)
    if period is None:
        raise BadManifest(f"{url}: no Period")
    duration_ms = _duration_ms(period.get("duration") or root.get("mediaPresentationDuration") or "", url)
    base = _base(period, _base(root, url))
    found: dict[str, list[Representation]] = {"video": [], "audio": []}
    for adaptation in period.findall("dash:AdaptationSet", NAMESPACE):
        for item in adaptation.findall("dash:Representation", NAMESPACE):
            kind = _attribute(adaptation, item, "contentType") or _attribute(adaptation, item, "mimeType").partition("/")[0]
            if kind in found:
                found[kind].append(_representation(adaptation, item, _base(item, _base(adaptation, base)), duration_ms))
    if not found["video"]:
        raise BadManifest(f"{url}: no video")
    video = tuple(sorted(found["video"], key=lambda r: r.bandwidth_kbps))
    if len({tuple((s.start_ms, s.duration_ms) for s in r.segments) for r in video}) != 1:
        raise BadManifest(f"{url}: the video representations differ in their segment boundaries")
    return Manifest(duration_ms, video, tuple(sorted(found["audio"], key=lambda r: r.bandwidth_kbps)))


def _representation(adaptation: ElementTree.Element, item: ElementTree.Element, base: str, duration_ms: int) -> Representation:
    name = item.get("id", "")
    template = item.find("dash:SegmentTemplate", NAMESPACE)
    if template is None:
        template = adaptation.find("dash:SegmentTemplate", NAMESPACE)
    if template is None:
        raise BadManifest(f"representation {name!r} at {base}: no SegmentTemplate")
    try:
        bandwidth = int(item.get("bandwidth", ""))
        values: dict[str, str | int] = {"RepresentationID": name, "Bandwidth": bandwidth}
        timescale = int(template.get("timescale", "1"))
        number = int(template.get("startNumber", "1"))
        segments = []
        for offset, (start, length) in enumerate(_timeline(template, duration_ms * timescale // 1000)):
            path = _fill(template.get("media", ""), values | {"Number": number + offset, "Time": start})
            start_ms = round(start * 1000 / timescale)
            segments.append(Segment(urljoin(base, path), start_ms, round((start + length) * 1000 / timescale) - start_ms))
        return Representation(
            name=name,
            bandwidth_kbps=round(bandwidth / 1000),
            codecs=_attribute(adaptation, item, "codecs"),
            width=int(_attribute(adaptation, item, "width") or 0),
            height=int(_attribute(adaptation, item, "height") or 0),
            init_url=urljoin(base, _fill(template.get("initialization", ""), values)),
            segments=tuple(segments),
        )
    except (ValueError, KeyError) as error:
        raise BadManifest(f"representation {name!r} at {base}: {error}") from None


def _timeline(template: ElementTree.Element, duration: int) -> list[tuple[int, int]]:
    """(start, length) of each segment in the template's timescale."""
    timeline = template.find("dash:SegmentTimeline", NAMESPACE)
    if timeline is None:
        length = int(template.get("duration", "0"))
        if length <= 0:
            raise ValueError("neither a SegmentTimeline nor a duration")
        return [(start, min(length, duration - start)) for start in range(0, duration, length)]
    segments: list[tuple[int, int]] = []
    start = 0
    for item in timeline.findall("dash:S", NAMESPACE):
        start = int(item.get("t", start))
        length = int(item.get("d", "0"))
        repeat = int(item.get("r", "0"))
        if length <= 0:
            raise ValueError("a segment without length")
        if repeat < 0:
            repeat = -(-(duration - start) // length) - 1
        for _ in range(repeat + 1):
            segments.append((start, length))
            start += length
    return segments


def _fill(template: str, values: dict[str, str | int]) -> str:
    def replace(match: re.Match[str]) -> str:
        value = values[match[1]]
        return f"{value:0{match[2]}d}" if match[2] else str(value)

    return IDENTIFIER.sub(replace, template).replace("$$", "$")


def _attribute(adaptation: ElementTree.Element, item: ElementTree.Element, name: str) -> str:
    return item.get(name) or adaptation.get(name) or ""


def _base(element: ElementTree.Element, base: str) -> str:
    return urljoin(base, element.findtext("dash:BaseURL", "", NAMESPACE).strip())


def _duration_ms(text: str, url: str) -> int:
    match = DURATION.match(text)
    if not match:
        raise BadManifest(f"{url}: no duration (found {text!r})")
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return round(((days * 24 + hours) * 60 + minutes) * 60_000 + float(match[4] or 0) * 1000)

"""Reports: what the player of a timeline would have sent, in the order it made them. Pure.

A report is made when a request has come to its end, but is about the time at which the request was asked (CMCD ts), as with real players.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from producers.simulator.timeline import Fetch, Timeline
from schemas.cmcd import report_id

TARGET = "event:default"


@dataclass(slots=True)
class Made:
    """A report: when it was made, what time it is about (both in ms since the press of play), and the contract's own fields, less `sid`."""

    made_ms: int
    event_ms: int
    fields: dict[str, Any]
    rest: bytes = b""
    """The fields in Avro, once they have been encoded: they are the same in every session that repeats this one."""


def reports(line: Timeline) -> list[Made]:
    """All reports of a session, numbered by `sn`. None were made after the device was switched off."""
    shared = {
        "target": TARGET, "cid": line.title.cid, "sf": "d", "st": "v", "member_id": line.member_id, "device_type": line.device.kind,
        "player": line.device.player, "region": line.region, "isp_asn": line.isp.asn, "tb_kbps": line.device.tb_kbps,
    }  # fmt: skip
    made = [*_changes(line, shared), *_requests(line, shared), *_beats(line, shared)]
    made.sort(key=lambda report: report.made_ms)  # stable: at the same time, what is on the screen comes first
    if line.silent_ms is not None:
        silent_ms = line.silent_ms
        made = [report for report in made if report.made_ms < silent_ms]
    for sn, report in enumerate(made):
        report.fields["sn"] = sn
    return made


def event_id(sid: str, sn: int) -> str:
    """The identity that the collector gives a report."""
    return report_id(sid, TARGET, sn)


def _changes(line: Timeline, shared: dict[str, Any]) -> list[Made]:
    made = []
    before, since_ms, started = "", 0, False
    stalls = stalled_ms = 0
    for change in line.changes:
        stalled_ms += change.at_ms - since_ms if before == "r" else 0
        stalls += change.state == "r"
        fields = {
            **shared, "e": "bc" if change.state == before == "p" else "ps", "sta": change.state, "br_kbps": change.kbps or None,
            "bsa": stalls, "bsda_ms": stalled_ms, "pr": 1.0 if change.state == "p" else 0.0,
        }  # fmt: skip
        if change.state == "p" and not started:
            started = True
            fields["msd_ms"] = change.at_ms
        if change.state == "f":
            made.append(Made(change.at_ms, change.at_ms, {**shared, "e": "e", "sta": before, "ec": [line.error]}))
        made.append(Made(change.at_ms, change.at_ms, fields))
        before, since_ms = change.state, change.at_ms
    return made


def _requests(line: Timeline, shared: dict[str, Any]) -> list[Made]:
    return [Made(fetch.done_ms, fetch.asked_ms, shared | _request(line, fetch)) for fetch in line.fetches]


def _request(line: Timeline, fetch: Fetch) -> dict[str, Any]:
    media = fetch.kind != "m"
    name = f"{fetch.kbps if fetch.kind == 'v' else 'audio'}/{fetch.number:03d}.m4s" if media else "manifest.mpd"
    return {
        "e": "rr", "sta": fetch.state, "ot": fetch.kind, "url": f"http://{fetch.oca_id}/{line.title.cid}/v1/{name}", "oca_id": fetch.oca_id,
        "rc": fetch.rc, "ttfb_ms": fetch.first_byte_ms - fetch.asked_ms, "ttlb_ms": fetch.done_ms - fetch.asked_ms, "bytes": fetch.size,
        "br_kbps": fetch.kbps if media else None, "d_ms": fetch.length_ms if media else None, "bl_ms": _hundreds(fetch.buffer_ms),
        "mtp_kbps": _hundreds(fetch.throughput_kbps) or None, "pt_ms": fetch.playhead_ms, "bs": fetch.starved,
    }  # fmt: skip


def _beats(line: Timeline, shared: dict[str, Any]) -> list[Made]:
    return [
        Made(beat.at_ms, beat.at_ms, {
            **shared, "e": "t", "sta": beat.state, "br_kbps": beat.kbps or None, "bl_ms": _hundreds(beat.buffer_ms),
            "pt_ms": beat.playhead_ms, "pr": 1.0 if beat.state == "p" else 0.0,
        })
        for beat in line.beats
    ]  # fmt: skip


def _hundreds(value: int) -> int:
    """Rounded as CMCD rounds buffer lengths and throughputs."""
    return (value + 50) // 100 * 100

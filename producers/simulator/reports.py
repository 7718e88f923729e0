"""Reports: what the players of some timelines would have sent, in the order they made them; and the same as columns of the contract. Pure.

A report is made when a request has come to its end, but is about the time at which the request was asked (CMCD ts), as with real players.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.players.adaptation import TOLD
from producers.simulator.timeline import ERRORS, KINDS, MANIFEST, NONE, STATES, VIDEO, F, P, R, Timelines
from producers.simulator.world import World
from schemas.columnar import Coded, Column, Names, Piece, Ready, Text, Where, constant, digits, of_table, table
from schemas.wire import string_bytes

TARGET = "event:default"
EVENTS = ("ps", "bc", "rr", "e", "t")
"""CMCD e by number."""
PS, BC, RR, ERROR, BEAT = range(5)

REPORT = np.dtype([
    ("at_ms", "<i8"), ("event_time", "<i8"), ("session", "<i4"), ("made_ms", "<i4"), ("sn", "<i4"), ("br_kbps", "<i4"), ("bl_ms", "<i4"),
    ("mtp_kbps", "<i4"), ("d_ms", "<i4"), ("number", "<i4"), ("ttfb_ms", "<i4"), ("ttlb_ms", "<i4"), ("bytes", "<i4"), ("pt_ms", "<i4"),
    ("msd_ms", "<i4"), ("bsa", "<i4"), ("bsda_ms", "<i4"), ("oca", "<i2"), ("rc", "<i2"), ("e", "i1"), ("sta", "i1"), ("ot", "i1"),
    ("bs", "?"), ("pr", "i1"), ("ec", "i1"), ("id", "u1", 16),
], align=True)  # fmt: skip
"""A report. `session` is its number, `at_ms` its arrival (ms since 1970), `made_ms` when it was made (since the press of play). Texts are
by number: `e` in EVENTS, `sta` in STATES, `ot` in KINDS, `oca` in the world, `ec` in ERRORS. NONE is null. `id` is the hash that the
report is known by (schemas.cmcd.report_id)."""
NULLABLE = ("br_kbps", "bl_ms", "mtp_kbps", "d_ms", "rc", "ttfb_ms", "ttlb_ms", "bytes", "pt_ms", "msd_ms", "bsa", "bsda_ms")


def reports(lines: Timelines) -> NDArray[Any]:
    """All reports (REPORT) by session, numbered by `sn`; `at_ms` is when each was made. None was made after its device was switched off."""
    errors = np.flatnonzero(lines.changes["state"] == F)
    sizes = (len(errors), len(lines.changes), len(lines.fetches), len(lines.beats))
    made = np.zeros(sum(sizes), REPORT)
    for name in (*NULLABLE, "ot", "number", "oca", "pr", "ec"):
        made[name] = NONE
    # At the same time, what is on the screen comes first, and an error before everything that follows from it.
    parts = np.split(made, np.cumsum(sizes)[:-1])
    _changes(lines, errors, parts[0], parts[1])
    _requests(lines, parts[2])
    _beats(lines, parts[3])
    told = np.flatnonzero(made["made_ms"] < lines.silent_ms[made["session"]])
    made = np.asarray(made[told[np.argsort((made["session"][told].astype(np.int64) << 32) + made["made_ms"][told], kind="stable")]])
    pressed_ms = lines.sessions["pressed_ms"][made["session"]]
    made["event_time"] += pressed_ms
    made["at_ms"] = pressed_ms + made["made_ms"]
    made["sn"] = np.arange(len(made)) - np.searchsorted(made["session"], np.arange(len(lines.sessions)))[made["session"]]
    made["id"] = _ids(lines.sessions["sid"], made["session"], made["sn"])
    return made


def _ids(sids: NDArray[np.uint8], session: NDArray[np.int32], sn: NDArray[np.int32]) -> NDArray[np.uint8]:
    heads = [sid.tobytes() + f"\x1f{TARGET}\x1f".encode() for sid in sids]
    tails = [str(number).encode() for number in range(int(sn.max(initial=0)) + 1)]
    hashes = [blake2b(heads[of] + tails[number], digest_size=16).digest() for of, number in zip(session.tolist(), sn.tolist(), strict=True)]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)


def _fill(out: NDArray[Any], **columns: int | NDArray[Any]) -> None:
    for name, values in columns.items():
        out[name] = values


def _changes(lines: Timelines, errors: NDArray[np.int64], failed: NDArray[Any], out: NDArray[Any]) -> None:
    """A report of each change into `out`, and into `failed` one of the error that `errors`, the changes to state f, come from."""
    rows = lines.changes
    who = rows["session"]
    first = np.flatnonzero(np.diff(who, prepend=NONE))
    before, passed = np.roll(rows["state"], 1), np.roll(rows["at_ms"], 1)
    before[first] = NONE
    stalls = np.cumsum(rows["state"] == R)
    stalled_ms = np.cumsum(np.where(before == R, rows["at_ms"] - passed, 0))
    plays = rows["state"] == P
    _fill(
        out, session=who, e=np.where(plays & (before == P), BC, PS), sta=rows["state"], made_ms=rows["at_ms"], event_time=rows["at_ms"],
        br_kbps=_or_none(rows["kbps"]), pr=plays,
        bsa=stalls - stalls[first][who],  # a session does not begin with a rebuffering
        bsda_ms=stalled_ms - stalled_ms[first][who],
    )  # fmt: skip
    shown = np.flatnonzero(plays)
    starts = shown[np.unique(who[shown], return_index=True)[1]]
    out["msd_ms"][starts] = rows["at_ms"][starts]
    at_ms = rows["at_ms"][errors]
    _fill(failed, session=who[errors], e=ERROR, sta=before[errors], made_ms=at_ms, event_time=at_ms, ec=lines.error[who[errors]])


def _requests(lines: Timelines, out: NDArray[Any]) -> None:
    rows = lines.fetches
    media = rows["kind"] != MANIFEST
    _fill(
        out, session=rows["session"], e=RR, sta=rows["state"], made_ms=rows["done_ms"], event_time=rows["asked_ms"], ot=rows["kind"],
        oca=rows["oca"], rc=rows["rc"], bytes=rows["size"], number=rows["number"], ttfb_ms=rows["first_byte_ms"] - rows["asked_ms"],
        ttlb_ms=rows["done_ms"] - rows["asked_ms"], br_kbps=np.where(media, rows["kbps"], NONE),
        d_ms=np.where(media, rows["length_ms"], NONE), bl_ms=_hundreds(rows["buffer_ms"]),
        mtp_kbps=_or_none(_hundreds(rows["throughput_kbps"])), pt_ms=rows["playhead_ms"], bs=rows["starved"],
    )  # fmt: skip


def _beats(lines: Timelines, out: NDArray[Any]) -> None:
    rows = lines.beats
    _fill(
        out, session=rows["session"], e=BEAT, sta=rows["state"], made_ms=rows["at_ms"], event_time=rows["at_ms"], pr=rows["state"] == P,
        br_kbps=_or_none(rows["kbps"]), bl_ms=_hundreds(rows["buffer_ms"]), pt_ms=rows["playhead_ms"],
    )  # fmt: skip


def _or_none(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(values == 0, NONE, values)


def _hundreds(values: NDArray[Any]) -> NDArray[Any]:
    """Rounded as CMCD rounds buffer lengths and throughputs."""
    return (values + 50) // 100 * 100


class Columns:
    """Reports as columns of the contract `playback.report`, for `schemas.columnar`."""

    CONSTANTS = {"target": TARGET, "sf": "d", "st": "v"}  # noqa: RUF012  (read only)

    def __init__(self, world: World) -> None:
        titles, rigs = world.all_titles, world.rigs
        self._cids = Names([title.cid for title in titles])
        self._ocas = Names([*world.ocas, None])
        self._hosts = table([f"http://{oca}/".encode() for oca in world.ocas])
        self._titles = table([f"{title.cid}/v1/".encode() for title in titles])
        self._kinds, self._players = (Names([getattr(rig, name) for rig in rigs]) for name in ("kind", "player"))
        self._tb = np.array([rig.tb_kbps for rig in rigs])
        algorithms = [TOLD.get(rig.abr, rig.abr) for rig in rigs]
        self._abr = Names(algorithms) if set(algorithms) != {"rate"} else None
        self._regions = Names(list(world.regions))
        self._asn = np.array([isp.asn for isp in world.isps])
        self._events, self._states, self._ot = Names(EVENTS), Names(tuple(STATES)), Names([*KINDS, None])
        self._errors = table([*(b"\2" + string_bytes(code) + b"\0" for code in ERRORS), b"\0"])

    def __call__(self, rows: NDArray[Any], sessions: NDArray[Any]) -> dict[str, Column]:
        """Columns of `rows` (REPORT); `sessions` (audience.SESSION) has the session of each of them."""
        found: dict[str, Column] = {name: Where(rows[name] != NONE, rows[name]) for name in NULLABLE}
        if self._abr is not None:
            found["abr"] = Coded(self._abr, sessions["rig"])
        return found | {
            "event_id": Text([hexadecimal(rows["id"])]),
            "event_time": rows["event_time"],
            "correlation_id": Text([whole(sessions["correlation_id"])]),
            "sid": Text([whole(sessions["sid"])]),
            "sn": rows["sn"],
            "e": Coded(self._events, rows["e"]),
            "sta": Coded(self._states, rows["sta"]),
            "cid": Coded(self._cids, sessions["title"]),
            "tb_kbps": self._tb[sessions["rig"]],
            "ot": Coded(self._ot, rows["ot"]),
            "url": Where(rows["ot"] != NONE, self._url(rows, sessions)),
            "oca_id": Coded(self._ocas, rows["oca"]),
            "bs": rows["bs"],
            "pr": Where(rows["pr"] != NONE, rows["pr"].astype(np.float64)),
            "ec": Ready(of_table(self._errors, rows["ec"])),
            "member_id": Text([whole(sessions["member_id"])]),
            "device_type": Coded(self._kinds, sessions["rig"]),
            "player": Coded(self._players, sessions["rig"]),
            "region": Coded(self._regions, sessions["region"]),
            "isp_asn": self._asn[sessions["isp"]],
        }

    def _url(self, rows: NDArray[Any], sessions: NDArray[Any]) -> Text:
        """As http://oca/title/v1/bitrate/number.m4s; audio has `audio` for a bitrate, and a manifest its name for both."""
        is_media, is_video = (rows["ot"] > MANIFEST).astype(np.int64), (rows["ot"] == VIDEO).astype(np.int64)
        kinds = of_table(table([b"manifest.mpd", b"", b"audio", b""]), rows["ot"])
        rate, number, slash, ending = digits(rows["br_kbps"].clip(0)), digits(rows["number"].clip(0), 3), constant(b"/"), constant(b".m4s")
        return Text([
            of_table(self._hosts, rows["oca"]), of_table(self._titles, sessions["title"]), kinds,
            Piece(rate.matrix, rate.lengths * is_video), Piece(slash.matrix, slash.lengths * is_media),
            Piece(number.matrix, number.lengths * is_media), Piece(ending.matrix, ending.lengths * is_media),
        ])  # fmt: skip


def hexadecimal(hashes: NDArray[np.uint8]) -> Piece:
    """Hashes, one a row, as hexadecimal digits."""
    return whole(np.frombuffer(hashes.tobytes().hex().encode(), np.uint8).reshape(len(hashes), -1))


def whole(rows: NDArray[np.uint8]) -> Piece:
    """All of each row."""
    return Piece(rows, np.array([rows.shape[1]]))

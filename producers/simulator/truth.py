"""Truth: the quality of sessions computed from their timelines alone, never from their reports. Field names are those of qoe_session.

It shares no code with the jobs: it is what they are judged against.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from producers.simulator.timeline import NEVER, STATES, VIDEO, F, Ints, P, R, Timelines
from producers.simulator.world import World

END_REASON = {"e": "ended", "q": "quit", "f": "fatal"}


def truth(world: World, lines: Timelines, last_told: Ints) -> pa.Table:
    """The true figures, one row a session. `last_told` is the newest time (ms since 1970) that any report of a session spoke of: where one
    falls silent, nobody can know more.
    """
    sessions, changes, count = lines.sessions, lines.changes, len(lines.sessions)
    last = np.searchsorted(changes["session"], np.arange(count), side="right") - 1
    end_ms, end_state = changes["at_ms"][last], changes["state"][last]
    silent = end_ms >= lines.silent_ms
    known_to = np.where(silent, last_told - sessions["pressed_ms"], end_ms)
    broken = (end_state == F) & ~silent

    follows = changes["session"][1:] == changes["session"][:-1]
    span, until = changes[:-1][follows], changes["at_ms"][1:][follows]
    seen = span["at_ms"] <= known_to[span["session"]]
    span, until = span[seen], np.minimum(until[seen], known_to[span["session"]][seen])
    length = until - span["at_ms"]
    plays = span["state"] == P
    stalls = (span["state"] == R) & (span["at_ms"] < lines.silent_ms[span["session"]])
    playing_ms = _sums(count, span["session"][plays], length[plays])
    rebuffer_ms = _sums(count, span["session"][stalls], length[stalls])
    watched = playing_ms + rebuffer_ms

    shown = changes[(changes["state"] == P) & (changes["at_ms"] < lines.silent_ms[changes["session"]])]
    first_frame = np.full(count, NEVER)
    np.minimum.at(first_frame, shown["session"], shown["at_ms"])
    started = first_frame < NEVER

    done = lines.fetches[lines.fetches["done_ms"] < lines.silent_ms[lines.fetches["session"]]]
    video = done[(done["kind"] == VIDEO) & (done["rc"] == 200)]
    segments = np.bincount(video["session"], minlength=count)
    same, same_video = (rows["session"][1:] == rows["session"][:-1] for rows in (done, video))
    switches = video["session"][1:][same_video & (video["kbps"][1:] != video["kbps"][:-1])]
    failovers = done["session"][1:][same & (done["rc"][:-1] != 200) & (done["oca"][1:] != done["oca"][:-1])]

    rigs = world.rigs
    end_reason = np.where(silent, "silence", np.array([END_REASON.get(state, "") for state in STATES])[end_state])
    return pa.table({
        "sid": _texts(sessions["sid"]),
        "cid": _named([title.cid for title in world.all_titles], sessions["title"]),
        "member_id": _texts(sessions["member_id"]),
        "device_type": _named([rig.kind for rig in rigs], sessions["rig"]),
        "player": _named([rig.player for rig in rigs], sessions["rig"]),
        "region": _named(list(world.regions), sessions["region"]),
        "isp_asn": np.array([isp.asn for isp in world.isps])[sessions["isp"]],
        "oca_id": _named([*world.ocas, None], _most_used(world, video, count)),
        "end_reason": pa.array(end_reason.tolist(), pa.string()),
        "startup_ms": pa.array(first_frame, mask=~started),
        "playing_ms": playing_ms,
        "rebuffer_count": np.bincount(span["session"][stalls], minlength=count),
        "rebuffer_ms": rebuffer_ms,
        "rebuffer_ratio": np.where(watched > 0, rebuffer_ms / np.maximum(watched, 1), 0.0),
        "average_bitrate_kbps": _means(count, video["session"], video["kbps"], video["length_ms"]),
        "time_weighted_bitrate_kbps": _means(count, span["session"][plays], span["kbps"][plays], length[plays]),
        "switches": np.bincount(switches, minlength=count),
        "segments": segments,
        "failed_start": broken & ~started,
        "exit_before_video_start": ~broken & ~started,
        "in_play_failure": broken & started,
        "failovers": np.bincount(failovers, minlength=count),
        "started_at": sessions["pressed_ms"],
        "ended_at": sessions["pressed_ms"] + known_to,
    })  # fmt: skip


def _sums(count: int, who: NDArray[Any], values: NDArray[Any]) -> Ints:
    found = np.zeros(count, np.int64)
    np.add.at(found, who, values)
    return found


def _means(count: int, who: NDArray[Any], values: NDArray[Any], weights: NDArray[Any]) -> pa.Array:
    """Mean of values by their weights, rounded half up; null without weight."""
    weight = _sums(count, who, weights)
    total = _sums(count, who, values.astype(np.int64) * weights)
    return pa.array((2 * total + weight) // np.maximum(2 * weight, 1), mask=weight == 0)


def _most_used(world: World, video: NDArray[Any], count: int) -> Ints:
    """The cache server that served most of each session's video, by number; of several the first by name, the one past the last if none."""
    by_name = np.argsort(np.array(world.ocas), kind="stable")
    place = np.argsort(by_name)
    pairs, times = np.unique(video["session"].astype(np.int64) * len(place) + place[video["oca"]], return_counts=True)
    order = np.lexsort((pairs, -times))
    who, first = np.unique(pairs[order] // len(place), return_index=True)
    found = np.full(count, len(place))
    found[who] = by_name[pairs[order][first] % len(place)]
    return found


def _named(names: list[str] | list[str | None], numbers: NDArray[Any]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(numbers))


def _texts(rows: NDArray[np.uint8]) -> pa.Array:
    return pa.array([text.decode() for text in np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel().tolist()], pa.string())

"""Rows for an evening at a small service, drawn from a seed: what the board's tests and screenshots are made of.

Written straight into landing tables, so that a panel is tested without Kafka. Times are milliseconds since 1970.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from schemas.catalogue import catalogue
from schemas.examples import example
from schemas.recommendations import definition
from streams.playback import features
from streams.playback.minute import bucket

OCAS = ("oca-0", "oca-1", "oca-2")
PLACES = {
    "oca-0": {"site_id": "north-isp", "region": "north", "tier": "EMBEDDED_FLASH", "isp_asn": 3320, "disk_bytes": 2 * 10**9},
    "oca-1": {"site_id": "coast-ix", "region": "coast", "tier": "IX_STORAGE", "isp_asn": None, "disk_bytes": 10**10},
    "oca-2": {"site_id": "origin", "region": "south", "tier": "ORIGIN", "isp_asn": None, "disk_bytes": 0},
}
"""Where each server stands. The last is the origin, which the others fetch from."""
CAUSES = ("CONTENT", "HEALTH", "ROUTE", "LOAD", "OTHER")
TITLES = ("big-buck-bunny", "mandelbrot", "gradients")
TITLE_BYTES = 400_000_000
FILL_MIN = 12
"""So many minutes after the beginning the first server's fills begin, a minute later the next one's."""
DEVICES = ("tv", "phone", "tablet", "web", "headless")
ISPS = (3320, 7922, 2856)
REGIONS = ("north", "south", "coast")
PLAYERS = ("dash.js/5.2.1", "hls.js/1.6.2", "shaka/5.2.12")
WORSENS_MS = 34 * 60_000
"""So long after the beginning the last of the players becomes a bad one."""
OCA_WORSENS_MS = range(5 * 60_000, 10 * 60_000)
"""So long after the beginning of each hour the last of the cache servers is slow."""
LADDER_KBPS = (300, 750, 1200, 2400, 4200)
SEGMENT_MS = 2_000
EXAMPLES = 3
"""Random events on each topic that the evening says nothing of."""
SLICE = ("cid", "device_type", "player", "region", "isp_asn", "oca_id")
ENVELOPE = ("event_id", "event_time", "producer_id", "epoch", "seq")

Row = dict[str, Any]


@dataclass
class Evening:
    """What happens by topic: `rows` have been stored, the rest is still to come."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    _coming: dict[str, list[Row]] = field(default_factory=dict)
    _seq: int = 0

    def add(self, topic: str, at_ms: int, /, **values: Any) -> None:
        """One event, to be stored some 400 ms after it happens."""
        self._seq += 1
        envelope = {"event_id": f"{topic}-{self._seq}", "event_time": _time(at_ms), "producer_id": "rows", "epoch": 1, "seq": self._seq}
        position = {
            "topic_partition": self._seq % 4, "topic_offset": self._seq,
            "topic_time": _time(at_ms + 20), "ingested_at": _time(at_ms + 20 + 200 + self._seq * 37 % 400),
        }  # fmt: skip
        self._coming.setdefault(topic, []).append({**position, **envelope, **values})

    def go_on(self, client: Any, until_ms: int) -> None:
        """Insert what has arrived by then, and has not been inserted yet, into the landing tables of the client's database."""
        for topic, coming in self._coming.items():
            arrived = [row for row in coming if row["ingested_at"] <= _time(until_ms)]
            self._coming[topic] = [row for row in coming if row["ingested_at"] > _time(until_ms)]
            self.rows.setdefault(topic, []).extend(arrived)
            by_columns: dict[tuple[str, ...], list[Row]] = {}
            for row in arrived:
                by_columns.setdefault(tuple(row), []).append(row)
            for columns, alike in by_columns.items():
                client.insert(catalogue().topic(topic).table, [list(row.values()) for row in alike], column_names=columns)


def evening(from_ms: int, to_ms: int, seed: int = 1, plays_per_minute: float = 9) -> Evening:
    """Plays that begin between the two moments; those that would go on after `to_ms` are still open."""
    rng = random.Random(seed)
    found = Evening()
    at = float(from_ms)
    number = 0
    while (at := at + rng.expovariate(plays_per_minute / 60_000)) < to_ms:
        number += 1
        _play(found, rng, f"play-{seed}-{number:05}", round(at), to_ms, number, round(at) - from_ms)
    _minutes(found)
    _features(found)
    _network(found, from_ms, to_ms)
    for at_ms in range(from_ms, to_ms, 97_000):
        found.add(
            "observability.dead_letter", at_ms, component=rng.choice(("collector", "guard")), topic="playback.report",
            reason=rng.choice(("invalid_cmcd", "decode", "time_window")), detail="br: -3 is negative", payload=b"br=-3",
        )  # fmt: skip
    for minute_ms in range(from_ms // 60_000 * 60_000, to_ms, 60_000):
        found.add(
            "observability.route_count", minute_ms + 61_000, source="playback.report", destination="playback.keystone",
            minute=_time(minute_ms), events=rng.randint(900, 1100), duplicates=rng.randint(0, 12),
        )  # fmt: skip
        found.add(
            "observability.freshness", minute_ms + 59_000, target="playback_report", produced_at=_time(minute_ms + 58_000),
            queryable_after_ms=rng.randint(300, 1_400),
        )  # fmt: skip
    for at_ms in range(from_ms, to_ms, 10_000):
        _samples(found, rng, at_ms)
        _servers(found, rng, at_ms, at_ms - from_ms)
    _experiments(found, rng, from_ms, to_ms)
    _recommendations(found, rng, from_ms, to_ms)
    for topic in catalogue().landed():
        if topic.name not in found._coming:  # so that a new panel has something to show
            for number in range(EXAMPLES):
                own = {name: value for name, value in example(topic.event, rng).items() if name not in ENVELOPE}
                found.add(topic.name, from_ms + number, **own)
    return found


def _experiments(found: Evening, rng: random.Random, from_ms: int, to_ms: int) -> None:
    """Members meet two experiments, and the stream tells every ten seconds how many there were."""
    for units, at_ms in enumerate(range(from_ms, to_ms, 10_000)):
        met = {"shown.0": rng.choice("ab"), "hidden.2": rng.choice("ab")}
        found.add(
            "experiments.exposure", at_ms, unit=f"member-{units}", unit_name="member_id", variations=met,
            segments={"device_type": rng.choice(DEVICES)},
        )  # fmt: skip
        for name, variation in met.items():
            experiment, _, phase = name.partition(".")
            found.add(
                "experiments.statistic", at_ms + 5_000, experiment=experiment, phase=int(phase), variation=variation, segment={},
                day=_time(at_ms).date(), metric="", value_bucket=-1, n=1,
            )  # fmt: skip


def _recommendations(found: Evening, rng: random.Random, from_ms: int, to_ms: int) -> None:
    """Members play and are served; what features are like is told every minute, and what was served is compared."""
    for feature in definition.features():
        text = yaml.safe_dump(feature.model_dump(mode="json", exclude_none=True) | {"default": feature.default})
        found.add("recommendations.feature_definition", from_ms, name=feature.name, owner=feature.owner, yaml=text, withdrawn=False)
    for n, at_ms in enumerate(range(from_ms, to_ms, 5_000)):
        member, title = f"member-{n % 7}", rng.choice(TITLES)
        found.add(
            "recommendations.interaction", at_ms, member_id=member, cid=title, kind="play", region=rng.choice(REGIONS), genres=["Drama"],
            previous_cids=[],
        )  # fmt: skip
        about = {"group": "member", "entity": member, "layout": "0123456789abcdef"}
        found.add("recommendations.feature_value", at_ms - 200, item=f"member\x1f{member}", **about, tiles=b"", texts=b"")
        values = {"member_plays_1d": str(n // 7), "member_last_title_1h": f'"{title}"', "member_mean_rating_30d": "null"}
        found.add("recommendations.feature_served", at_ms + 800, **about, clock=_time(at_ms), taken=n // 7, values=values)
    for n, at_ms in enumerate(range(from_ms, to_ms, 60_000)):
        for metric, measured in (("compared", 200), ("skewed", 0), ("undecided", rng.randrange(3))):
            found.add("observability.sample", at_ms, component="features", metric=metric, about="member", measured=measured)
        found.add(
            "recommendations.feature_skew", at_ms, value="member_plays_1d", group="member", entity="member-1", served="3", recomputed="4",
            taken=3, arrived=4,
        )  # fmt: skip
        for value, share in (("member_plays_1d", 1.0), ("member_plays_7d", 0.4), ("member_watched_ms_1d", 1.0)):
            found.add(
                "recommendations.feature_profile", at_ms, value=value, feature=value.rpartition("_")[0], owner="recommendations",
                group="member", keys=100 + n, looked_at=100 + n, happened=60, over_cap=0, row_bytes=2_024.0, value_bytes=100 * share,
                columns=1 + value.count("ms"), shared=1, buckets={"0": 40, "2^0": 30 + n, "2^3": 30},
            )  # fmt: skip


def _minutes(found: Evening) -> None:
    """What the jobs would have told of each minute, some seconds after its end, of what the board shows of it."""
    waits: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    starts: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    days: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in found._coming["playback.report"]:
        minute_ms = round(row["event_time"].timestamp() * 1000) // 60_000 * 60_000
        if row["e"] == "rr":
            waits[minute_ms, *(row[name] for name in SLICE)][str(bucket(row["ttfb_ms"]))] += 1
        starts[minute_ms, row["cid"], row["region"]].update(attempts=row["sn"] == 0, starts=row.get("msd_ms") is not None)
    for (minute_ms, *slice_), counts in waits.items():
        of = {"minute": _time(minute_ms), "requests": counts.total(), "ttfb_ms": dict(counts), **dict(zip(SLICE, slice_, strict=True))}
        found.add("playback.qoe_minute", minute_ms + 70_000, **of)
    for (minute_ms, cid, region), counts in starts.items():
        found.add("playback.playback_starts", minute_ms + 70_000, minute=_time(minute_ms), cid=cid, region=region, **counts)
        day = _time(minute_ms // 86_400_000 * 86_400_000)
        days[cid, region, day].update(counts)
        found.add(
            "delivery.demand", minute_ms + 70_000, item=f"{cid}\x1f{region}\x1f{day}", cid=cid, region=region, day=day,
            **days[cid, region, day],
        )  # fmt: skip


def _features(found: Evening) -> None:
    """What abr_features would have told of the sessions that are over."""
    reports, decisions = (
        [{**row, "event_time": round(row["event_time"].timestamp() * 1000)} for row in found._coming[topic]]
        for topic in ("playback.report", "delivery.steering")
    )
    for row in features.rows(features.sessions(reports, decisions)):
        found.add("playback.abr_features", row.pop("event_time") + 5_000, **row)


def _samples(found: Evening, rng: random.Random, at_ms: int) -> None:
    """What the sampler would have told at one moment."""
    told = [("loader", "lag", "playback.report", rng.randint(0, 300)), ("loader", "lag", "delivery.access", rng.randint(0, 90))]
    told += [(job, "lag", "playback.report", rng.randint(0, 900)) for job in ("qoe_sessions", "session_states")]
    told += [(job, "checkpoint_ms", "", rng.randint(40, 300)) for job in ("qoe_sessions", "session_states")]
    told += [(job, "checkpoint_bytes", "", rng.randint(200_000, 300_000)) for job in ("qoe_sessions", "session_states")]
    told += [("loader", "blocks", "playback.report", 10), ("loader", "rows", "playback.report", rng.randint(400, 700))]
    if at_ms // 10_000 % 6 == 0:
        told += [("audit", name, "playback.report", count) for name, count in (("acknowledged", 9_000), ("stored", 9_000), ("lost", 0))]
        told += [("audit", "duplicated", "playback.report", 0), ("loader", "uncertain", "playback.report", 1)]
    for component, metric, about, measured in told:
        found.add("observability.sample", at_ms, component=component, metric=metric, about=about, measured=measured)


def _servers(found: Evening, rng: random.Random, at_ms: int, since_ms: int) -> None:
    """What the cache servers would have said of themselves at one moment, and what would have been thought of them."""
    for number, oca in enumerate(OCAS):
        came = min(2.0, max(0.0, (since_ms / 60_000 - FILL_MIN - number) / 3)) if PLACES[oca]["disk_bytes"] else 0.0
        sent, ill = rng.randint(1_000_000, 4_000_000), oca == OCAS[1] and at_ms // 60_000 % 3 == 0
        found.add(
            "delivery.oca_report", at_ms, oca_id=oca, site_id=PLACES[oca]["site_id"], state="SERVING", software="0.1.0", interval_ms=500,
            requests=rng.randint(3, 9), errors=0, bytes=sent, connections=rng.randint(0, 4), ttfb_p99_us=2_400_000 if ill else 4_000,
            probe_us=900, egress_bps=10**9, disk_bytes=PLACES[oca]["disk_bytes"], held_bytes=round(came * TITLE_BYTES), throttle=0.0,
        )  # fmt: skip
        found.add(
            "delivery.oca_health", at_ms, oca_id=oca, state="DEGRADED" if ill else "UP",
            reason="its first bytes take 2.4 s" if ill else "well", cause="HEALTH" if ill else "NONE",
            load=sent * 16 / 10**9, failed_sessions=0, requests=60,
        )  # fmt: skip


def _network(found: Evening, from_ms: int, to_ms: int) -> None:
    """The cache servers as they are installed, what is announced, planned and filled, and why.

    The embedded server and the exchange's get one title after the other; a fill of the last one fails first. Plans are told again when
    the first title has come, as a planner would.
    """
    installed = [(oca, place, False) for oca, place in PLACES.items()]
    for oca, place, retired in (*installed, ("oca-9", PLACES["oca-1"], True)):  # what was taken away is nowhere on the board
        found.add(
            "delivery.oca", from_ms, oca_id=oca, **place, url=f"http://{oca}", egress_bps=10**9, fill_bps=10**8, window_start_min=0,
            window_end_min=1440, utc_offset_min=0, latitude_deg=50.0, longitude_deg=8.0, retired=retired,
        )  # fmt: skip
    for cid, premiere, withdrawn in (("sequel", True, False), ("gradients", False, False), ("never", True, True)):
        found.add(
            "delivery.release", from_ms, cid=cid, unit=cid, regions=["coast"] if premiere else [], from_time=_time(to_ms + 86_400_000),
            expected_plays=12_000.0 if premiere else None, premiere=premiere, withdrawn=withdrawn,
        )  # fmt: skip
    for number, (oca, source) in enumerate((("oca-0", "oca-1"), ("oca-1", "oca-2"))):
        began_ms = from_ms + (FILL_MIN + number) * 60_000
        orders = [_order(cid, source, began_ms + n * 180_000, n + 1) for n, cid in enumerate((*TITLES, "sequel"))]
        gone = {"cid": "credits", "version": 1, "bytes": 5_000_000, "at_ms": began_ms, "why": "REPLACED"}
        _content(found, oca, "credits", from_ms, 5_000_000, held=True, reason="FOUND")
        for at_ms, orders_left in ((began_ms, orders), (began_ms + 180_000, orders[1:])):
            found.add(
                "delivery.fill_plan", at_ms, oca_id=oca, plan_id=str(at_ms), site_id=PLACES[oca]["site_id"], region=PLACES[oca]["region"],
                window_start=_time(from_ms), window_end=_time(to_ms), held_bytes=5_000_000, disk_bytes=PLACES[oca]["disk_bytes"],
                fill_bytes=len(orders_left) * TITLE_BYTES, cut=0.4, fills=orders_left, evictions=[gone],
            )  # fmt: skip
            for rank, order in enumerate(orders, 1):
                found.add(
                    "delivery.fill_reason", at_ms, item=f"{oca} {order['cid']}", oca_id=oca, unit=order["cid"], plan_id=str(at_ms),
                    why="PREMIERE" if order["cid"] == "sequel" else "WORTH", here=True, rank=rank, of=4, value=9.0 / rank, cut=0.4,
                    expected_plays=300.0 / rank, expected_bytes=9.0 * TITLE_BYTES / rank, bytes=TITLE_BYTES, source=source, ocas=[oca],
                )  # fmt: skip
        for order in orders[:2]:  # the others wait
            _fill(found, oca, str(began_ms), order)
        failed = _step(oca, str(began_ms), orders[2], "FAILED", 0, 0)
        found.add("delivery.fill", orders[2]["start_ms"], **failed, reason="slow", detail="8 kB/s")


def _order(cid: str, source: str, start_ms: int, rank: int) -> Row:
    return {
        "cid": cid, "version": 1, "unit": cid, "bytes": TITLE_BYTES, "source": source, "source_url": f"http://{source}",
        "start_ms": start_ms, "end_ms": start_ms + 120_000, "rank": rank,
    }  # fmt: skip


def _step(oca: str, plan_id: str, order: Row, kind: str, here_bytes: int, fetched_bytes: int) -> Row:
    return {
        "oca_id": oca, "plan_id": plan_id, "cid": order["cid"], "version": 1, "kind": kind, "source": order["source"], "bytes": here_bytes,
        "total_bytes": TITLE_BYTES, "fetched_bytes": fetched_bytes,
    }  # fmt: skip


def _fill(found: Evening, oca: str, plan_id: str, order: Row) -> None:
    """A fill from its first byte to its last, and what is held then."""
    for number, kind in enumerate(("STARTED", "PROGRESS", "PROGRESS", "COMPLETED")):
        here = TITLE_BYTES * number // 3
        step = _step(oca, plan_id, order, kind, here, TITLE_BYTES // 3 if number else 0)
        found.add("delivery.fill", order["start_ms"] + number * 40_000, **step, reason="", detail="")
    _content(found, oca, order["cid"], order["start_ms"] + 120_000, TITLE_BYTES, held=True, reason="FILLED")


def _content(found: Evening, oca: str, cid: str, at_ms: int, size: int, *, held: bool, reason: str) -> None:
    found.add("delivery.content", at_ms, item=f"{oca} {cid} 1", oca_id=oca, cid=cid, version=1, bytes=size, held=held, reason=reason)


def _steer(found: Evening, at_ms: int, who: Row, oca: str, number: int) -> Row:
    """Where a play is sent: best by routing is the embedded server inside its ISP, and the exchange's elsewhere."""
    best = [OCAS[0], OCAS[1]] if who["isp_asn"] == PLACES[OCAS[0]]["isp_asn"] else [OCAS[1]]
    decided: Row = {"best_ocas": best, "cause": "NONE" if oca in best else CAUSES[number % 5]}
    found.add(
        "delivery.steering", at_ms, sid=who["sid"], cid=who["cid"], version=1, client_prefix="192.0.2.0/24", isp_asn=who["isp_asn"],
        region=PLACES[oca]["region"], protocol="PLAY", best_oca_id=oca, best_tier=PLACES[oca]["tier"], **decided, candidates=[], rejected=0,
        stale_ms=0, took_us=90,
    )  # fmt: skip
    return decided


def _answer(found: Evening, moment: int, correlation: str, who: Row, oca: str, report: Row, sn: int, hit: bool, decided: Row) -> None:
    """What the server tells of a request: its access; the parent's where it had to fetch; and the miss that is found in it."""
    answered = {
        "cid": who["cid"], "path": f"/{who['cid']}/{report['br_kbps']}/{sn}.m4s", "rc": report["rc"], "bytes": report["bytes"],
        "ttfb_us": report["ttfb_ms"] * 900, "ttlb_us": report["ttlb_ms"] * 980,
    }  # fmt: skip
    told = {"correlation_id": correlation, "oca_id": oca, "site_id": PLACES[oca]["site_id"], "tier": PLACES[oca]["tier"]}
    found.add("delivery.access", moment, **told, sid=who["sid"], **answered, hit=hit)
    if not hit and oca != OCAS[-1]:
        parent = {"oca_id": OCAS[-1], "site_id": PLACES[OCAS[-1]]["site_id"], "tier": PLACES[OCAS[-1]]["tier"]}
        found.add("delivery.access", moment, correlation_id="", **parent, sid=None, **answered, hit=True)
    if not hit or oca not in decided["best_ocas"]:
        cause = "CONTENT" if oca in decided["best_ocas"] else decided["cause"]
        found.add(
            "delivery.miss", moment, correlation_id=correlation, sid=who["sid"], cid=who["cid"], oca_id=oca, tier=PLACES[oca]["tier"],
            best_oca_id=decided["best_ocas"][0], cause=cause, bytes=report["bytes"],
        )  # fmt: skip


def _play(found: Evening, rng: random.Random, sid: str, at_ms: int, until_ms: int, number: int, since_ms: int) -> None:
    who = {
        "sid": sid,
        "cid": rng.choice(TITLES),
        "device_type": rng.choices(DEVICES, (5, 3, 1, 3, 2))[0],
        "member_id": f"m-{rng.randrange(400):03}",
        "isp_asn": ISPS[number % 5 % 3],
        "region": REGIONS[number % 7 % 3],
        "player": PLAYERS[number % 3],
    }
    oca = rng.choices(OCAS, (5, 3, 2))[0]
    slow = 3.0 if oca == OCAS[-1] and since_ms % 3_600_000 in OCA_WORSENS_MS else 1.0
    slow *= 20.0 if since_ms >= WORSENS_MS and who["player"] == PLAYERS[-1] else 1.0
    reports = list(_reports(rng, slow, who["device_type"]))
    spans = _time_by_state(reports)
    correlation = f"c-{sid}"
    found.add(
        "control.request", at_ms, correlation_id=correlation, route="play", method="POST", path="/play", rc=200,
        latency_us=rng.randint(900, 4000), sid=sid, cid=who["cid"],
    )  # fmt: skip
    decided = _steer(found, at_ms, who, oca, number)
    for sn, report in enumerate(reports):
        moment = at_ms + report.pop("after_ms")
        if moment >= until_ms:
            return
        found.add("playback.report", moment, correlation_id=correlation, sn=sn, target="event:1", oca_id=oca, **who, **report)
        if report["e"] == "rr":
            _answer(found, moment, correlation, who, oca, report, sn, rng.random() < 0.97, decided)
            if sn % 50 == 7:  # it broke off, and is asked for again
                of = {"target": "event:1", "oca_id": oca, **who, **report, "rc": 0, "bytes": 0}
                found.add("playback.failed_request", moment, correlation_id=correlation, sn=sn, **of)
                left = {"e": "ce", "rc": None, "switched_from": oca, "switched_to": OCAS[0], "switch_cause": "broken"}
                found.add("playback.oca_switch", moment, correlation_id=correlation, sn=sn, **{**of, **left})
    states = [r["sta"] for r in reports if r.get("sta")]
    bitrates = [r["br_kbps"] for r in reports if r["e"] == "rr"]
    started = "p" in states
    found.add(
        "playback.qoe_session", moment + 1_500, **who, reports=len(reports), oca_id=oca if bitrates else None,
        started_at=_time(at_ms), ended_at=_time(moment), end_reason={"e": "ended", "q": "quit", "f": "fatal"}[states[-1]],
        startup_ms=next((r["msd_ms"] for r in reports if r.get("msd_ms")), None), playing_ms=spans.get("p", 0),
        rebuffer_count=states.count("r"), rebuffer_ms=spans.get("r", 0),
        rebuffer_ratio=spans.get("r", 0) / max(1, spans.get("p", 0) + spans.get("r", 0)),
        average_bitrate_kbps=round(sum(bitrates) / len(bitrates)) if bitrates else None,
        time_weighted_bitrate_kbps=round(sum(bitrates) / len(bitrates)) if bitrates else None,
        switches=sum(a != b for a, b in itertools.pairwise(bitrates)), segments=len(bitrates),
        failed_start=not started and states[-1] == "f", exit_before_video_start=not started and states[-1] == "q",
        in_play_failure=started and states[-1] == "f", failovers=0,
    )  # fmt: skip


def _reports(rng: random.Random, slow: float, device: str) -> Iterator[Row]:
    """A player's reports, everything `slow` times as slow as usual; `after_ms` counts from the press of play."""
    yield {"after_ms": 0, "e": "ps", "sta": "s"}
    startup_ms = round(rng.lognormvariate(6.7, 0.45) * slow * (1.4 if device == "tv" else 1.0))
    fate = rng.random()
    if fate < 0.015:
        yield {"after_ms": 900, "e": "e", "ec": ["manifest-404"]}
        yield {"after_ms": 910, "e": "ps", "sta": "f", "ec": ["manifest-404"]}
        return
    if fate < 0.04:
        yield {"after_ms": 2_800, "e": "ps", "sta": "q"}
        return
    after, buffer_ms, rung = startup_ms, 6_000, 2
    yield {"after_ms": after, "e": "ps", "sta": "p", "msd_ms": startup_ms, "pt_ms": 0}
    for _ in range(rng.randint(10, 90)):
        throughput = rng.lognormvariate(8.6, 0.6) / slow
        took_ms = round(LADDER_KBPS[rung] * SEGMENT_MS / throughput)
        after += max(took_ms, 20)
        if took_ms > buffer_ms:
            dry = after - (took_ms - buffer_ms)
            yield {"after_ms": dry, "e": "ps", "sta": "r"}
            yield {"after_ms": after, "e": "ps", "sta": "p"}
            buffer_ms = 0
        yield {
            "after_ms": after, "e": "rr", "ot": "v", "br_kbps": LADDER_KBPS[rung], "mtp_kbps": round(throughput),
            "bl_ms": max(0, buffer_ms - took_ms), "d_ms": SEGMENT_MS, "rc": 200, "ttfb_ms": max(2, took_ms // 8),
            "ttlb_ms": max(4, took_ms), "bytes": LADDER_KBPS[rung] * SEGMENT_MS // 8,
        }  # fmt: skip
        buffer_ms = min(12_000, max(0, buffer_ms - took_ms) + SEGMENT_MS)
        after += max(0, SEGMENT_MS - took_ms) if buffer_ms >= 8_000 else 0
        rung = max(i for i, kbps in enumerate(LADDER_KBPS) if i == 0 or kbps < throughput * 0.8)
    if rng.random() < 0.03:
        yield {"after_ms": after + 900, "e": "ps", "sta": "f", "ec": ["media-decode"]}
    else:
        yield {"after_ms": after + 1_000, "e": "ps", "sta": rng.choice("eeq")}


def _time_by_state(reports: list[Row]) -> dict[str, int]:
    """ms in each play state, from one change of state to the next."""
    changes = [(r["after_ms"], r["sta"]) for r in reports if r.get("sta")]
    spans: dict[str, int] = {}
    for (since, state), (until, _) in itertools.pairwise(changes):
        spans[state] = spans.get(state, 0) + until - since
    return spans


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)

"""Typed records of the contracts. Generated: `python -m schemas.typed` writes it anew, and a test says when that is needed."""

from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

Instant = datetime | int

class ControlRequest(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    route: str
    method: str
    path: str
    rc: int
    latency_us: int
    upstream: NotRequired[str | None]
    member_id: NotRequired[str | None]
    sid: NotRequired[str | None]
    cid: NotRequired[str | None]

class DeliveryAccess(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    site_id: str
    tier: Literal["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"]
    sid: NotRequired[str | None]
    cid: NotRequired[str | None]
    path: str
    rc: int
    bytes: int
    range_first: NotRequired[int | None]
    ttfb_us: int
    ttlb_us: int
    hit: bool

class DeliveryContent(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    oca_id: str
    cid: str
    version: int
    bytes: int
    held: bool
    reason: Literal["FILLED", "PULLED", "EVICTED", "CORRUPT", "FOUND"]

class DeliveryDemand(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    cid: str
    region: str
    day: Instant
    attempts: int
    starts: int
    bytes: NotRequired[int]

class DeliveryFill(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    plan_id: str
    cid: str
    version: int
    kind: Literal["STARTED", "PROGRESS", "COMPLETED", "FAILED"]
    source: str
    bytes: int
    total_bytes: int
    fetched_bytes: int
    reason: str
    detail: str

class DeliveryFillPlanFills(TypedDict):
    cid: str
    version: int
    unit: str
    bytes: int
    source: str
    source_url: str
    start_ms: int
    end_ms: int
    rank: int

class DeliveryFillPlanEvictions(TypedDict):
    cid: str
    version: int
    bytes: int
    at_ms: int
    why: str

class DeliveryFillPlan(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    plan_id: str
    site_id: str
    region: str
    window_start: Instant
    window_end: Instant
    held_bytes: int
    disk_bytes: int
    fill_bytes: int
    cut: float
    fills: NotRequired[list[DeliveryFillPlanFills]]
    evictions: NotRequired[list[DeliveryFillPlanEvictions]]

class DeliveryFillReason(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    oca_id: str
    unit: str
    plan_id: str
    why: Literal[
        "WORTH",
        "PREMIERE",
        "KEPT",
        "ROOM",
        "REPLACED",
        "GONE",
        "DAMAGED",
        "INCOMPLETE",
        "SURPLUS",
        "ELSEWHERE",
        "CUT",
        "WINDOW",
        "LATE",
        "LARGE",
        "UNPLAYED",
        "REGION",
    ]
    here: bool
    rank: NotRequired[int | None]
    of: int
    value: float
    cut: float
    expected_plays: float
    expected_bytes: float
    bytes: int
    source: NotRequired[str | None]
    ocas: NotRequired[list[str]]

class DeliveryMiss(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: str
    cid: NotRequired[str | None]
    oca_id: str
    tier: Literal["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"]
    best_oca_id: str
    cause: Literal["CONTENT", "HEALTH", "ROUTE", "LOAD", "OTHER"]
    bytes: int

class DeliveryOca(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    site_id: str
    region: str
    tier: Literal["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"]
    isp_asn: NotRequired[int | None]
    url: str
    egress_bps: int
    disk_bytes: int
    fill_bps: int
    window_start_min: int
    window_end_min: int
    utc_offset_min: int
    latitude_deg: float
    longitude_deg: float
    retired: NotRequired[bool]

class DeliveryOcaHealth(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    state: Literal["UP", "DEGRADED", "DRAINING", "DOWN"]
    reason: str
    cause: NotRequired[Literal["NONE", "HEALTH", "LOAD"]]
    load: float
    failed_sessions: int
    requests: int

class DeliveryOcaReport(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    site_id: str
    state: Literal["SERVING", "DRAINING"]
    software: str
    interval_ms: int
    requests: int
    errors: int
    bytes: int
    connections: int
    ttfb_p99_us: int
    probe_us: NotRequired[int | None]
    egress_bps: int
    disk_bytes: int
    held_bytes: int
    throttle: float

class DeliveryOcaUpdate(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    oca_id: str
    from_version: str
    to_version: str
    result: Literal["STARTED", "DONE", "FAILED"]
    detail: str

class DeliveryRelease(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    unit: str
    regions: NotRequired[list[str]]
    from_time: Instant
    expected_plays: NotRequired[float | None]
    premiere: bool
    withdrawn: NotRequired[bool]

class DeliveryRoute(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    route: str
    oca_id: str
    prefix: str
    path_class: Literal["EMBEDDED", "PRIVATE_PEERING", "PUBLIC_PEERING", "TRANSIT"]
    as_path: list[int]
    med: NotRequired[int]
    withdrawn: NotRequired[bool]

class DeliverySteeringCandidates(TypedDict):
    oca_id: str
    tier: str
    rank: int
    reason: str

class DeliverySteering(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: NotRequired[str | None]
    cid: str
    version: int
    client_prefix: str
    isp_asn: NotRequired[int | None]
    region: str
    protocol: Literal["PLAY", "HLS", "DASH"]
    best_oca_id: str
    best_tier: str
    best_ocas: NotRequired[list[str]]
    cause: NotRequired[Literal["NONE", "CONTENT", "HEALTH", "ROUTE", "LOAD", "OTHER"]]
    candidates: NotRequired[list[DeliverySteeringCandidates]]
    rejected: int
    stale_ms: int
    took_us: int

class DeliveryThroughput(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    client_prefix: str
    isp_asn: NotRequired[int | None]
    region: str
    oca_id: str
    sessions: int
    mean_log_throughput: float
    var_log_throughput: float

class EncodingChunk(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    version: int
    rung: str
    chunk: int
    duration_ms: int
    bytes: int
    path: str

class EncodingPublished(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    version: int
    title: str
    dash_path: str
    hls_path: str
    duration_ms: int
    rungs: int
    bytes: int
    sha256: str

class EncodingRung(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    version: int
    rung: str
    codec: str
    width: int
    height: int
    br_kbps: int
    target_kbps: int
    bytes: int
    encode_ms: int

class EncodingSource(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    version: int
    title: str
    codec: str
    width: int
    height: int
    frame_rate: float
    duration_ms: int
    bytes: int
    licence: str

class ExperimentsDefinition(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    kind: Literal["flag", "experiment", "holdout", "namespace", "group", "metric"]
    key: str
    version: int
    action: Literal["PUBLISH", "START", "STOP", "SHIP", "ROLL_BACK", "WITHDRAW"]
    document: str
    author: str
    reason: NotRequired[str]
    undoes: NotRequired[int | None]

class ExperimentsExposure(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    unit: str
    unit_name: str
    variations: dict[str, str]
    segments: NotRequired[dict[str, str]]
    sid: NotRequired[str | None]

class ExperimentsMeasurement(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    unit: str
    unit_name: str
    source: str
    measurement_id: str
    version: NotRequired[int]
    measured: dict[str, int]

class ExperimentsStatistic(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    experiment: str
    phase: int
    variation: str
    segment: NotRequired[dict[str, str]]
    day: date
    metric: str
    value_bucket: NotRequired[int]
    n: int
    measured: NotRequired[int]
    sum_x: Decimal
    sum_y: Decimal
    sum_u: Decimal
    sum_v: Decimal
    sum_xx: Decimal
    sum_yy: Decimal
    sum_uu: Decimal
    sum_vv: Decimal
    sum_xy: Decimal
    sum_xu: Decimal
    sum_xv: Decimal
    sum_yu: Decimal
    sum_yv: Decimal
    sum_uv: Decimal

class ObservabilityDeadLetter(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    component: str
    topic: str
    source_partition: NotRequired[int | None]
    source_offset: NotRequired[int | None]
    reason: Literal["framing", "unknown_schema", "schema_mismatch", "decode", "time_window", "size", "invalid_cmcd", "rejected_by_store"]
    detail: str
    schema_id: NotRequired[int | None]
    key_bytes: NotRequired[bytes | None]
    payload: bytes

class ObservabilityFreshness(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    target: str
    produced_at: Instant
    queryable_after_ms: NotRequired[int | None]

class ObservabilityLetterStep(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    letter_id: str
    step: Literal["repaired", "replayed"]
    who: str
    how: str
    topic: str
    sent_to: NotRequired[str | None]
    payload: bytes

class ObservabilityRouteCount(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    source: str
    destination: str
    minute: Instant
    events: int
    duplicates: int

class ObservabilitySample(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    component: str
    metric: Literal[
        "lag",
        "checkpoint_ms",
        "checkpoint_failed_ms",
        "checkpoint_bytes",
        "blocks",
        "rows",
        "uncertain",
        "recoveries",
        "acknowledged",
        "stored",
        "lost",
        "duplicated",
        "compared",
        "skewed",
        "undecided",
    ]
    about: NotRequired[str]
    measured: int

class PlaybackAbrFeatures(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    level: Literal["PREFIX", "ISP", "REGION", "GLOBAL"]
    client_prefix: NotRequired[str]
    isp_asn: NotRequired[int | None]
    region: NotRequired[str]
    hour: NotRequired[int | None]
    device_type: NotRequired[str]
    network_type: NotRequired[str]
    sessions: float
    mean_log_throughput: float
    var_log_throughput: float
    within_log_throughput: NotRequired[float | None]
    starts: float
    start_mean_log_throughput: NotRequired[float | None]
    start_var_log_throughput: NotRequired[float | None]
    stalled: float

class PlaybackAbrModel(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    name: str
    version: int
    ladder_kbps: list[float]
    trained_on: str
    trained_from: NotRequired[Instant | None]
    trained_to: NotRequired[Instant | None]
    sessions: int
    holdout_sessions: int
    reward: float
    rebuffer_s: float
    before: NotRequired[int | None]
    before_reward: float
    gain_low: float
    gain_high: float
    policy: str

class PlaybackPlaybackStarts(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    minute: Instant
    cid: str
    region: str
    attempts: int
    starts: int
    failed_starts: int
    received_bytes: NotRequired[int]

class PlaybackQoeMinute(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    minute: Instant
    cid: str
    device_type: str
    player: str
    region: str
    isp_asn: NotRequired[int | None]
    oca_id: str
    sessions: int
    attempts: int
    starts: int
    failed_starts: int
    exits_before_start: int
    in_play_failures: int
    playing_ms: int
    rebuffer_count: int
    rebuffer_ms: int
    known_bitrate_ms: int
    played_bits: int
    requests: int
    failed_requests: int
    received_bytes: int
    startup_ms: NotRequired[dict[str, int]]
    ttfb_ms: NotRequired[dict[str, int]]
    throughput_kbps: NotRequired[dict[str, int]]

class PlaybackQoeSession(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: str
    reports: int
    cid: NotRequired[str | None]
    member_id: NotRequired[str | None]
    device_type: NotRequired[str | None]
    player: NotRequired[str | None]
    region: NotRequired[str | None]
    isp_asn: NotRequired[int | None]
    oca_id: NotRequired[str | None]
    started_at: Instant
    ended_at: Instant
    end_reason: Literal["ended", "quit", "fatal", "silence"]
    startup_ms: NotRequired[int | None]
    playing_ms: int
    rebuffer_count: int
    rebuffer_ms: int
    rebuffer_ratio: float
    average_bitrate_kbps: NotRequired[int | None]
    time_weighted_bitrate_kbps: NotRequired[int | None]
    switches: int
    segments: int
    failed_start: bool
    exit_before_video_start: bool
    in_play_failure: bool
    failovers: int

class PlaybackReport(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: str
    sn: int
    target: NotRequired[str]
    e: Literal["ps", "rr", "bc", "e", "t", "pr", "c", "b", "m", "um", "pe", "pc", "as", "ae", "abs", "abe", "sk", "ce"]
    sta: NotRequired[Literal["s", "p", "k", "r", "a", "w", "e", "f", "q", "d"] | None]
    cid: NotRequired[str | None]
    br_kbps: NotRequired[int | None]
    tb_kbps: NotRequired[int | None]
    bl_ms: NotRequired[int | None]
    mtp_kbps: NotRequired[int | None]
    d_ms: NotRequired[int | None]
    ot: NotRequired[Literal["m", "a", "v", "av", "i", "c", "tt", "k", "o"] | None]
    url: NotRequired[str | None]
    oca_id: NotRequired[str | None]
    rc: NotRequired[int | None]
    ttfb_ms: NotRequired[int | None]
    ttlb_ms: NotRequired[int | None]
    bytes: NotRequired[int | None]
    pt_ms: NotRequired[int | None]
    msd_ms: NotRequired[int | None]
    bs: NotRequired[bool]
    bsa: NotRequired[int | None]
    bsda_ms: NotRequired[int | None]
    dfa: NotRequired[int | None]
    pr: NotRequired[float | None]
    ec: NotRequired[list[str]]
    bg: NotRequired[bool]
    sf: NotRequired[Literal["d", "h", "s", "o"] | None]
    st: NotRequired[Literal["v", "l", "ll"] | None]
    member_id: NotRequired[str | None]
    device_type: NotRequired[str | None]
    player: NotRequired[str | None]
    region: NotRequired[str | None]
    isp_asn: NotRequired[int | None]
    network_type: NotRequired[str | None]
    switched_from: NotRequired[str | None]
    switched_to: NotRequired[str | None]
    switch_cause: NotRequired[str | None]
    abr: NotRequired[str | None]
    custom: NotRequired[dict[str, str]]

class PlaybackSessionState(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: str
    sta: Literal["s", "p", "k", "r", "a", "w", "e", "f", "q", "d"]
    cid: NotRequired[str | None]
    br_kbps: NotRequired[int | None]
    bl_ms: NotRequired[int | None]
    oca_id: NotRequired[str | None]
    device_type: NotRequired[str | None]
    region: NotRequired[str | None]
    isp_asn: NotRequired[int | None]
    player: NotRequired[str | None]

class PlaybackSessionTimeline(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    sid: str
    first_report_at: Instant
    first_offset: NotRequired[int]
    timeline: str

class RecommendationsFeatureDefinition(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    name: str
    owner: str
    yaml: str
    withdrawn: NotRequired[bool]

class RecommendationsFeatureProfile(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    value: str
    feature: str
    owner: str
    group: str
    keys: int
    looked_at: int
    happened: int
    over_cap: int
    row_bytes: float
    value_bytes: float
    columns: int
    shared: int
    buckets: dict[str, int]

class RecommendationsFeatureServed(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    group: str
    entity: str
    layout: str
    clock: Instant
    taken: int
    values: dict[str, str]

class RecommendationsFeatureSkew(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    value: str
    group: str
    entity: str
    served: str
    recomputed: str
    taken: int
    arrived: int

class RecommendationsFeatureValue(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    item: str
    group: str
    entity: str
    layout: str
    tiles: bytes
    texts: bytes

class RecommendationsImpression(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    member_id: str
    cid: str
    page_id: str
    row: int
    position: int
    row_kind: str
    artwork_variant: NotRequired[str | None]
    propensity: NotRequired[float | None]
    model_version: str
    genres: NotRequired[list[str]]
    region: NotRequired[str | None]
    device_type: NotRequired[str | None]

class RecommendationsInteraction(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    member_id: str
    cid: str
    kind: Literal["click", "play", "completion", "skip", "rewatch", "rating", "list_add", "list_remove"]
    previous_cids: NotRequired[list[str]]
    genres: NotRequired[list[str]]
    region: NotRequired[str | None]
    device_type: NotRequired[str | None]
    sid: NotRequired[str | None]
    impression_id: NotRequired[str | None]
    watched_ms: NotRequired[int | None]
    rating_halves: NotRequired[int | None]

class RecommendationsSearch(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    member_id: str
    query: str
    results: int
    region: NotRequired[str | None]
    device_type: NotRequired[str | None]

class RecommendationsTitle(TypedDict):
    event_id: NotRequired[str]
    event_time: NotRequired[Instant]
    producer_id: NotRequired[str]
    epoch: NotRequired[int]
    seq: NotRequired[int]
    correlation_id: NotRequired[str]
    marker: NotRequired[bool]
    cid: str
    name: str
    languages: NotRequired[list[str]]
    genres: NotRequired[list[str]]
    actors: NotRequired[list[str]]
    directors: NotRequired[list[str]]
    cinematographers: NotRequired[list[str]]
    maturity: NotRequired[str]
    territories: NotRequired[list[str]]
    artwork_variants: NotRequired[list[str]]
    runtime_ms: NotRequired[int | None]
    released_at: NotRequired[Instant | None]
    withdrawn: NotRequired[bool]

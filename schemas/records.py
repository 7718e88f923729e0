"""Typed records: one TypedDict an event, derived from the contracts at import, such as `PlaybackReport` of `playback.report`.

Editors and mypy read the same from `records.pyi`, which `python -m schemas.typed` writes.
"""

from schemas.catalogue import catalogue
from schemas.typed import Instant as Instant
from schemas.typed import record_types

globals().update(record_types(catalogue().events.values()))

"""Replay: a recorded log back onto topics, and the proof that the tables derived from it come out equal."""

from sinks.replay.compare import CannotCompare, Comparison, compare, recorded_until_ms
from sinks.replay.produce import CannotReplay, Replayed, replay, source_topics

__all__ = ["CannotCompare", "CannotReplay", "Comparison", "Replayed", "compare", "recorded_until_ms", "replay", "source_topics"]

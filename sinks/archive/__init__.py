"""Recorded logs: what was on the topics, kept in Parquet for replay. The format is described in `sinks.archive.layout`."""

from sinks.archive.layout import Damaged, RecordedLog, Row
from sinks.archive.record import CannotRecord, Recording, record

__all__ = ["CannotRecord", "Damaged", "RecordedLog", "Recording", "Row", "record"]

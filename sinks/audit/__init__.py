"""The audit: what producers were told is stored, against what is stored. `run` is what the command, the demo and the torture use."""

from sinks.audit.judge import TopicAudit, Window
from sinks.audit.run import CannotAudit, run, summary

__all__ = ["CannotAudit", "TopicAudit", "Window", "run", "summary"]

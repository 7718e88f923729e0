"""Logging for every process: words on a terminal, JSON lines elsewhere; standard library loggers pass through it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from infra.base.settings import settings


def configure(service: str) -> None:
    """Set up logging for this process; every line carries `service`. Call once, first thing in a main."""
    as_json = settings().log_json
    if as_json is None:
        as_json = not sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=last))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def get(name: str) -> Any:
    """A logger bound to the module's name: `log.info("what happened", key=value)`."""
    return structlog.get_logger(module=name)

"""Logs: one event per step, on stderr, for a person or for a machine."""

import logging
import sys

import structlog


def configure(log_format: str, level: str, *, color: bool) -> None:
    """Send logs to stderr as `console` lines or `json` objects, from this level on, with times in UTC."""
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if log_format == "console":
        # The default shows the variables of each frame of a traceback: those of the SDKs have headers with keys.
        renderer = structlog.dev.ConsoleRenderer(colors=color, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )

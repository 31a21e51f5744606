"""Where the log goes and how it looks."""

import logging
import sys
from typing import TextIO

import structlog


def configure_logging(level: str) -> None:
    """Log as JSON lines on standard error from this level on."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=_stderr()),
    )
    logging.basicConfig(level=logging.CRITICAL)


def _stderr() -> TextIO:
    return sys.stderr

"""Logs: one event with fields; for eyes on a terminal, JSON lines otherwise."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from streams.settings import Settings

_PASSWORD = re.compile(r"(\w+://[^:@/\s]*):[^@/\s]+@")


def configure_logging(settings: Settings, *, process: str) -> None:
    """Set up structlog and the standard library's logging for this process; writes to stderr.

    `process` is the name under which the lines stand: `api`, `worker`, `up`.
    """
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_passwords,
    ]
    renderer: list[Any]
    if as_json:
        renderer = [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20)),
            structlog.processors.JSONRenderer(serializer=lambda told, **_: orjson.dumps(told, default=repr).decode()),
        ]
    else:
        # Its own choice would show the local variables of every frame: tokens, and addresses as good as passwords.
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    _quiet_the_standard_library(shared, renderer)


def _quiet_the_standard_library(shared: list[Any], renderer: list[Any]) -> None:
    """What libraries log goes the same way; only warnings and worse."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _without_passwords(_: WrappedLogger, __: str, told: EventDict) -> EventDict:
    """Passwords in URLs never reach a log, whoever put them into a message."""
    for name, value in told.items():
        if isinstance(value, str) and "://" in value:
            told[name] = _PASSWORD.sub(r"\1:***@", value)
    return told

"""Waiting for the log: while Redis is gone nothing is lost and nothing is given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from streams.background import stop_if_cancelled
from streams.errors import LogFullError, LogUnavailableError

_log = structlog.get_logger(__name__)
T = TypeVar("T")

LONGEST = 2.0
"""Seconds between two tries at the most."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the log until it answers. Said once when it is lost and once when it is back."""
    pause = 0.0
    while True:
        stop_if_cancelled()
        try:
            answer = await ask()
        except LogUnavailableError as error:
            if not pause:
                full = isinstance(error, LogFullError)
                _log.warning(
                    "Redis takes no more events. Waiting..."
                    if full
                    else "Redis connection lost. Attempting to reconnect...",
                    error=str(error),
                )
            pause = min(LONGEST, max(0.1, pause * 2))
            await asyncio.sleep(random.uniform(pause / 2, pause))
        else:
            if pause:
                _log.info("Redis connection successful")
            return answer

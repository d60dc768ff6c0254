"""A rebuild that a person asks for: done by the worker that follows the log, told line by line.

The worker owns what cannot have two owners (the activity log's file) and knows how far its tables
are, which a comparison needs. Where no worker runs, the command does the work itself.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog

from projections.runner import Runner
from streams.background import stop_if_cancelled
from streams.connections import told_plainly
from streams.errors import LogUnavailableError, NotFoundError, SpoolhouseError, StartError
from streams.health import accounts
from streams.log import Log

LOOK = 1.0
"""Seconds between two looks for requests."""

KEPT = 3600
"""Seconds for which an answer that nobody fetches is kept."""

BEGINS_WITHIN = 15.0
"""Seconds within which a worker must take a request."""

_log = structlog.get_logger(__name__)

Line = dict[str, Any]
"""`{"name", "seconds", "compared", "differences"}` for a projection, `{"error"}` or `{"end": true}`."""


async def rebuild(runner: Runner, names: Sequence[str], *, compare: bool) -> AsyncIterator[Line]:
    """Rebuild projections one after another (all where none is named). Raises SpoolhouseError."""
    if unknown := [name for name in names if name not in runner.followers]:
        raise NotFoundError(
            f"There is no projection {', '.join(unknown)}; there are {', '.join(sorted(runner.followers))}."
        )
    for name in names or sorted(runner.followers):
        began = time.monotonic()
        differences = (await runner.rebuild([name], compare=compare))[name]
        compared = compare and runner.followers[name].projection.compared
        seconds = round(time.monotonic() - began, 2)
        yield {"name": name, "seconds": seconds, "compared": compared, "differences": differences}


async def serve(log: Log, runner: Runner) -> None:
    """Do what is asked for, one request after another, for ever."""
    while True:
        stop_if_cancelled()
        with suppress(LogUnavailableError):
            with told_plainly():
                request = await log.redis.execute_command("LPOP", log.keys.requests())
            if request is not None:
                await _answer(log, runner, orjson.loads(request))
                continue
        await asyncio.sleep(LOOK)


async def ask(log: Log, names: Sequence[str], *, compare: bool) -> AsyncIterator[Line]:
    """Have a living worker rebuild; its lines as they come.

    Raises StartError where no worker takes the request, or the one that took it is gone.
    """
    number = uuid.uuid4().hex
    request = orjson.dumps({"id": number, "names": list(names), "compare": compare})
    with told_plainly():
        await log.redis.execute_command("RPUSH", log.keys.requests(), request)
    deadline = time.monotonic() + BEGINS_WITHIN
    while True:
        with told_plainly():
            answer: Any = await log.redis.execute_command("BLPOP", log.keys.answers(number), 1)
        if answer is not None:
            line: Line = orjson.loads(answer[1])
            if "error" in line:
                raise SpoolhouseError(line["error"])
            if "end" in line:
                return
            deadline = time.monotonic() + KEPT
            if "name" in line:
                yield line
        elif time.monotonic() > deadline or not await accounts(log):
            with told_plainly():
                await log.redis.execute_command("LREM", log.keys.requests(), 0, request)
            raise StartError("No worker took the request within 15 s. See `spoolhouse streams` and the worker's log.")


async def _answer(log: Log, runner: Runner, request: dict[str, Any]) -> None:
    key = log.keys.answers(request["id"])

    async def say(line: Line) -> None:
        with told_plainly():
            await log.redis.execute_command("RPUSH", key, orjson.dumps(line))
            await log.redis.expire(key, KEPT)

    await say({"taken": True})
    try:
        async for line in rebuild(runner, request["names"], compare=request["compare"]):
            await say(line)
        await say({"end": True})
    except SpoolhouseError as error:
        await say({"error": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever it was, the person who asked is told and the worker goes on
        _log.exception("a rebuild that was asked for failed")
        await say({"error": f"{type(error).__name__}: {error}"})

"""The worker's order of things."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from api.worker import run_worker
from streams.codec import Recorded
from streams.errors import SettingsError
from streams.events import Event, VideoNumbered
from streams.log import new_event, open_log
from streams.processing import PROCESSORS, Context, Processor
from streams.settings import Settings


async def test_all_processors_drain_side_by_side(
    make_settings: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each of them has at work gets the whole drain time, not what the one before it left."""
    settings = make_settings(redis_url=redis_url, partitions=2, drain=30.0)
    begun: set[str] = set()
    draining: set[str] = set()
    done: set[str] = set()

    def named(group: str) -> Processor:
        async def handle(_: Recorded[Any], context: Context) -> AsyncIterator[Event]:
            begun.add(group)
            await context.draining.wait()
            draining.add(group)
            while len(draining) < 2:
                await asyncio.sleep(0.02)
            done.add(group)
            for event in list[Event]():
                yield event

        return Processor(group, frozenset({"VideoNumbered"}), handle)

    for group in ("one", "other"):
        monkeypatch.setitem(PROCESSORS, group, named(group))
    async with asyncio.timeout(60), open_log(settings, redis_url) as log:
        worker = asyncio.create_task(run_worker(settings, only=("one", "other")))
        await log.append(new_event("a-video", VideoNumbered(video="a"), source="test"))
        while len(begun) < 2:
            assert not worker.done(), worker
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        await worker
    assert done == {"one", "other"}


async def test_an_unknown_processor_is_refused(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """`--only` with a name that nobody has."""
    with pytest.raises(SettingsError, match=r"there is no processor nobody; there are .*probe"):
        await run_worker(make_settings(redis_url=redis_url), only=("nobody",))

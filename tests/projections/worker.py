"""The projections alone in a process, for tests that kill it."""

from __future__ import annotations

import asyncio

from projections.database import open_database
from projections.projection import discover
from projections.runner import Runner
from streams.log import open_log
from streams.settings import load_settings


async def main(data: str, catalogue_url: str, redis_url: str, until_applied: bool) -> None:
    """Follow the log of four partitions until killed, or until everything is applied."""
    settings = load_settings(data=data, catalogue_url=catalogue_url, partitions=4, port="0")
    async with open_log(settings, redis_url) as log, open_database(settings) as database:
        runner = Runner(log, database, discover(settings))
        task = asyncio.create_task(runner.run())
        try:
            if until_applied:
                assert await runner.caught_up(30)
            else:
                await asyncio.sleep(30)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

"""A process that dispatches while the lease is its own: `python -m tests.processors.dispatching_worker URL DATA NAME TTL`."""

from __future__ import annotations

import asyncio
import sys

from streams.exclusive import run_exclusively
from streams.settings import load_settings
from tests.processors.queueing import world_at


async def main(url: str, data: str, name: str, ttl: float) -> None:
    """Work until killed."""
    async with world_at(load_settings(data=data, partitions=4), url) as world:
        queue = world.queue()

        async def work() -> None:
            print(f"{name} dispatches", flush=True)
            await queue.run()

        await run_exclusively(world.log, "downloads", name, ttl, work)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))

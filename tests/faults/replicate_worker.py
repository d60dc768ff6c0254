"""A worker that copies to the object store and does nothing else, for tests that kill it: settings by environment."""

from __future__ import annotations

import asyncio
import signal
import sys

from processors.ports import ObjectStore
from processors.replicate import replicate
from processors.storage.stores import open_store
from streams.hosting import hosted
from streams.log import open_log
from streams.queries import Histories
from streams.settings import load_settings


async def main(url: str, member: str) -> None:
    """Work until SIGTERM."""
    settings = load_settings()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_log(settings, url) as log, open_store(settings) as store:
        async with hosted(replicate, log, {ObjectStore: store, Histories: log}, settings, member):
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A worker that copies to Google Drive and does nothing else, for tests that kill it: settings by environment."""

from __future__ import annotations

import asyncio
import signal
import sys

from processors.drive import drive
from processors.ports import Drive
from processors.storage.drive import open_drive
from streams.hosting import hosted
from streams.log import open_log
from streams.queries import Histories
from streams.settings import load_settings


async def main(url: str, member: str) -> None:
    """Work until SIGTERM."""
    settings = load_settings()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_log(settings, url) as log, open_drive(settings) as port:
        async with hosted(drive, log, {Drive: port, Histories: log}, settings, member):
            print("at work", flush=True)
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

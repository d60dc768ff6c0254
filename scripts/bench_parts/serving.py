"""The API over one rendition, in a process of its own: `python -m scripts.bench_parts.serving REDIS_URL FILE PLACE`.

Prints its port. The catalogue answers from memory, for what is measured is the way from a request
to the bytes; ended by a signal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from api.app import make_app
from api.bootstrap import api_services
from api.server import serving
from scripts.bench_parts import worlds
from scripts.bench_parts.processes import quiet
from streams.media import MediaOf, Rendition
from streams.paths import OsPath

VIDEO = "3f2b8c1e-6d5a-4e0f-9b7c-2a1d0e4f5a6b"


class OneVideo:
    """A catalogue that knows one video."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        rendition = Rendition(
            id="5d0e4f5a-6d5a-4e0f-9b7c-2a1d0e4f5a6b",
            revision=1,
            preset="web",
            kind="progressive",
            action="remux",
            path=OsPath(str(path)),
            playlist=None,
            mime="video/mp4",
            size=size,
            sha256=hashlib.sha256(str(size).encode()).hexdigest(),
            duration=60.0,
            width=1920,
            height=1080,
            codecs="avc1.640028,mp4a.40.2",
            bit_rate=8_000_000,
            stored=datetime(2026, 1, 1, tzinfo=UTC),
        )
        self._media = MediaOf(VIDEO, 1, "film.mp4", None, {}, (rendition,), None, None)

    async def media(self, video: str) -> MediaOf | None:
        """It, by its id."""
        return self._media if video == VIDEO else None


async def serve(redis_url: str, file: Path, place: Path) -> None:
    """Until the process is told to end."""
    settings = worlds.settings(place, redis_url=redis_url, drain=0)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    async with api_services(settings) as services:
        catalogue: Any = OneVideo(file)
        app = make_app(dataclasses.replace(services, catalogue=catalogue))
        async with serving(app, settings) as addresses:
            print(addresses[0].rpartition(":")[2], flush=True)
            await ending.wait()


if __name__ == "__main__":
    quiet()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    sys.stdout.flush()
    os._exit(0)

"""Follows the log and puts into each request's file how its download ended.

After the log lost its tail, what is done is then not done again, and what was deleted stays so. How far
it has read stands in a file of its own, so nothing is passed over while nobody follows.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import structlog

from processors.download_requests import KEPT, Requests
from processors.storage.files import write_durably
from processors.storage.threads import in_thread
from streams.background import stop_if_cancelled
from streams.errors import LogUnavailableError, UndecodableError
from streams.log import Log

LOOK = 5.0
"""Seconds until the next look where nothing happens."""

SAVE = 60.0
"""Seconds after which it is written down how far the log was read, where nothing was kept meanwhile."""

PAUSE = 2.0
"""Seconds until it is tried again."""

_TYPES = frozenset(kind.__name__.encode() for kind in KEPT)
_log = structlog.get_logger(__name__)


class RequestKeeper:
    """Keeps the files true. One process at a time runs it."""

    def __init__(self, log: Log, requests: Requests) -> None:
        self._log, self._requests = log, requests
        self._place = requests.files.folder / "read.json"
        self._positions: list[int] = []
        self._epoch, self._saved = 0, 0.0

    async def run(self) -> None:
        """Keep for ever."""
        while True:
            stop_if_cancelled()
            try:
                await self._begin()
                breaks = self._log.reader.breaks
                while self._log.reader.breaks == breaks:
                    stop_if_cancelled()
                    await self.keep_up()
                    await self._log.wait_beyond(self._positions, timeout=LOOK)
            except (LogUnavailableError, OSError) as error:
                _log.warning("how downloads ended is written down later", error=str(error))
            await asyncio.sleep(PAUSE)

    async def keep_up(self) -> int:
        """Take in all that the log holds; how many files were looked at. Raises LogUnavailableError, OSError."""
        if not self._positions:
            await self._begin()
        looked = 0
        for partition in range(self._log.partitions):
            while self._log.reader.beyond(partition, self._positions[partition]):
                entries = await self._log.read(partition, after=self._positions[partition])
                if not entries:
                    self._positions = []  # shorter than it was
                    raise LogUnavailableError("the log is shorter than it was")
                ended = {entry.fields[b"subject"] for entry in entries if entry.fields.get(b"type") in _TYPES}
                for subject in sorted(ended):
                    await self._keep(subject.decode("utf-8", "replace"))
                    looked += 1
                self._positions[partition] = entries[-1].pos
        if looked or time.monotonic() > self._saved + SAVE:
            await in_thread(self._save)
        return looked

    async def _keep(self, subject: str) -> None:
        number = subject.removeprefix("download:")
        if number == subject or not number.isdecimal():
            return
        try:
            await self._requests.keep(int(number))
        except (UndecodableError, ValueError) as error:
            _log.error("how a download ended cannot be written down", number=number, error=str(error))

    async def _begin(self) -> None:
        self._epoch = await self._log.epoch()
        heads = await self._log.heads()
        positions = await in_thread(_read, self._place, self._epoch)
        if len(positions) != len(heads) or any(at > head for at, head in zip(positions, heads, strict=True)):
            positions = [0] * len(heads)
        self._positions, self._saved = positions, time.monotonic()

    def _save(self) -> None:
        write_durably(self._place, orjson.dumps({"epoch": self._epoch, "positions": self._positions}))
        self._saved = time.monotonic()


def _read(place: Path, epoch: int) -> list[int]:
    try:
        stored = orjson.loads(place.read_bytes())
        return [int(at) for at in stored["positions"]] if stored["epoch"] == epoch else []
    except (OSError, ValueError, KeyError, TypeError):
        return []

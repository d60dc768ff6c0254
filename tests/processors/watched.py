"""Runs a watched root against a real log, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from processors.watching.roots import WatchedRoot
from streams.codec import Recorded
from streams.events import FileSettled, NumbersReserved
from streams.identity import REGISTRY, root_subject
from streams.log import Log, new_event
from streams.queries import KnownFile
from streams.settings import Settings
from tests.processors.folding import FoldedFiles, all_events


async def until(ask: Callable[[], Awaitable[Any]], *, timeout: float = 60.0) -> Any:
    """What `ask` answers once that is true."""
    deadline = time.monotonic() + timeout
    while True:
        answer = await ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still not so after {timeout:g} s: {ask}"
        await asyncio.sleep(0.01)


class Watched:
    """A watched root and what the log says about it."""

    def __init__(self, log: Log, settings: Settings, root: Path, **options: Any) -> None:
        self.log, self.settings, self.root, self.options = log, settings, root, options
        self.files = FoldedFiles(log)
        self.task: asyncio.Task[None] | None = None

    async def reserve(self, through: int = 0) -> None:
        """What bootstrap appends before any source runs."""
        await self.log.append(new_event(REGISTRY, NumbersReserved(through=through), source="test"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WatchedRoot]:
        """The source runs until the body ends."""
        source = WatchedRoot(self.log, self.settings, self.root, self.files, **self.options)
        self.task = task = asyncio.create_task(source.run())
        try:
            yield source
            if task.done():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def known(self) -> dict[str, KnownFile]:
        return {file.relative: file for file in await self.files.known(str(self.root))}

    async def present(self) -> set[str]:
        return {path for path, file in (await self.known()).items() if file.present}

    async def becomes(self, *relatives: str, timeout: float = 60.0) -> dict[str, KnownFile]:
        """Wait until exactly these files are present; all that is known then."""

        async def so() -> bool:
            if self.task is not None and self.task.done():
                self.task.result()
            return await self.present() == set(relatives)

        try:
            await until(so, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"present: {sorted(await self.present())}, not {sorted(relatives)}") from None
        return await self.known()

    async def types(self, id: str) -> list[str]:
        """The types of a video's events."""
        return [entry.type for entry in await self.log.history(id)]

    async def root_events(self) -> list[Recorded[Any]]:
        return await self.log.history(root_subject(str(self.root)))

    async def root_types(self) -> list[str]:
        return [entry.type for entry in await self.root_events()]

    async def ready(self) -> None:
        """Wait until the source notices new files."""
        marker = self.root / "marker to see that it watches.mp4"
        write(marker)

        async def seen() -> bool:
            return marker.name in await self.present()

        await until(seen)
        marker.unlink()

        async def gone() -> bool:
            return marker.name not in await self.present()

        if len(await self.present()) > 1:
            await until(gone)

    async def count(self) -> int:
        return len(await all_events(self.log))


def write(path: Path, text: str = "not read anyway") -> Path:
    """A complete file."""
    os.makedirs(path.parent, exist_ok=True)
    path.write_text(text + str(path.name), errors="surrogateescape")
    return path


async def settled_events(log: Log) -> list[FileSettled]:
    """Every FileSettled in the log."""
    return [entry.event for entry in await all_events(log) if isinstance(entry.event, FileSettled)]

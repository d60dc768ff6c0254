"""A video, its history and a Google Drive, for tests of what uploads to it; no Redis is needed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
import uuid
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processors.copies import Copies, fold
from processors.drive import drive
from processors.ports import Drive
from streams.codec import Recorded
from streams.events import DriveUploadRequested, Event, FileSettled, VideoStored
from streams.paths import OsPath
from streams.processing import Context, bound_logger
from streams.queries import Histories
from streams.settings import Settings
from tests.drive_server import DriveServer

CHUNK = 262_144
"""The smallest that Drive takes, so that small files have many."""

NOW = datetime(2024, 11, 12, 14, 30, 52, tzinfo=UTC)


def content(size: int, seed: int = 1) -> bytes:
    """Bytes that are no other file's."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def bytes_sent(server: DriveServer) -> int:
    """Bytes of files that Drive was sent, over all its starts."""
    return sum(int(one["bytes"]) for one in server.requests() if one["method"] == "PUT")


class World:
    """One video: its file, its history (a list, appended to as the runtime would), its copy in Drive."""

    def __init__(self, settings: Settings, port: Drive, server: DriveServer, folder: Path) -> None:
        self.settings, self.port, self.server, self.folder = settings, port, server, folder
        self.subject = str(uuid.uuid4())
        self._before = bytes_sent(server)
        self.events: list[Recorded[Any]] = []
        self.draining = asyncio.Event()
        self.requests = 0

    # ------------------------------------------------------------ what happened

    def append(self, event: Event) -> Recorded[Any]:
        """Put an event into the history."""
        place = len(self.events) + 1
        name = type(event).__name__
        recorded = Recorded(0, place, f"id-{place}", name, self.subject, place, NOW, "test", None, "id", event)
        self.events.append(recorded)
        return recorded

    def upload(self, data: bytes, name: str = "Tutorial_video.mp4") -> Path:
        """A stored upload."""
        path = self.folder / f"20241112_143052_{name}"
        path.write_bytes(data)
        self.append(
            VideoStored(
                door="upload",
                path=OsPath(str(path)),
                stored_name=path.name,
                filename=name,
                original_name=name,
                label="",
                mime="video/mp4",
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                received_at=NOW,
                modified_at=NOW,
                revision=1,
            )
        )
        return path

    def settle(self, data: bytes | None, relative: str = "films/film.mkv") -> Path:
        """A watched file that settled: the next revision of it. `data` None: as it lies there."""
        path = self.folder / relative
        path.parent.mkdir(exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        found = os.stat(path)
        self.append(
            FileSettled(
                root=OsPath(str(self.folder)),
                relative=OsPath(relative),
                number=1,
                revision=self.facts.revision + 1,
                size=found.st_size,
                modified_ns=found.st_mtime_ns,
                device=found.st_dev,
                inode=found.st_ino,
            )
        )
        return path

    def ask_again(self) -> None:
        """`spoolhouse drive retry`."""
        self.requests += 1
        self.append(DriveUploadRequested(revision=self.facts.revision, request=self.requests))

    # ------------------------------------------------------------ the processor

    async def run(self, *, stop_after: int | None = None) -> list[str]:
        """Handle the newest event that the processor wants; the types of what it yielded.

        `stop_after`: it dies when so many of its events were appended. Raises what it raises.
        """
        cause = next(one for one in reversed(self.events) if one.type in drive.on)
        context = Context(
            self.settings,
            1,
            self.draining,
            bound_logger("drive", self.subject),
            {Drive: self.port, Histories: self},
            lambda: None,
        )
        told: list[str] = []
        if stop_after == 0:
            return told
        async with aclosing(drive(cause, context)) as events:
            async for event in events:
                self.append(event)
                told.append(type(event).__name__)
                if len(told) == stop_after:
                    break
        return told

    # ------------------------------------------------------------ what is known

    async def history(self, subject: str) -> list[Recorded[Any]]:
        """`Histories`."""
        return list(self.events)

    async def epoch(self) -> int:
        """`Histories`."""
        return 1

    @property
    def facts(self) -> Copies:
        """What the history says."""
        return fold(self.events)

    def of(self, name: str) -> list[Any]:
        """The events of a type."""
        return [one.event for one in self.events if one.type == name]

    def received(self, *, at_least: int | None = None) -> int:
        """Bytes that Drive was sent of this video, over all; its journal may lag behind its answers a little.

        `at_least`: what it waits for; the file's size where nothing is said.
        """
        least = self.facts.size if at_least is None else at_least
        deadline = time.monotonic() + 10.0
        while (found := bytes_sent(self.server) - self._before) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def files(self) -> list[dict[str, Any]]:
        """Its files in Drive."""
        return [one for one in self.server.files() if one["appProperties"].get("video") == self.subject]

    def only_file(self, data: bytes) -> dict[str, Any]:
        """The one file of it that lies in Drive, which holds `data`."""
        [file] = self.files()
        assert (file["sha256"], int(file["size"])) == (hashlib.sha256(data).hexdigest(), len(data))
        return file

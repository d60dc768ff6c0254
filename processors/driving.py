"""One run of the upload of a video to Google Drive; `processors.drive` says when there is one."""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from processors.copies import Copies
from processors.ports import Drive, DriveFile, DriveFileExistsError, DriveSessionExpiredError
from processors.storage.drive_source import ChangedError, Source
from streams.crashpoints import reach
from streams.errors import DrainingError, TransientError
from streams.events import (
    DriveFileUploaded,
    DriveOffsetReached,
    DrivePermissionsSet,
    DriveSessionOpened,
    DriveUploadCompleted,
    DriveUploadStarted,
    Event,
)
from streams.paths import OsPath
from streams.processing import Context

SESSIONS = 3
"""Sessions that one run opens before it leaves the rest to a later one."""

STANDSTILLS = 5
"""Chunks in a row of which Drive keeps nothing, before the same."""

CHECKSUM_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between looks for the checksum of a file that Drive has just got."""


def shown(name: str) -> str:
    """A file's name as Drive and JSON can hold it."""
    return name.encode("utf-8", "replace").decode()


def media_type(facts: Copies) -> str:
    """What Drive is told that it is: without it, Drive would not play it."""
    return facts.mime if facts.mime.startswith("video/") else mimetypes.guess_type(facts.filename)[0] or facts.mime


class Copying:
    """One run of the upload of one revision."""

    def __init__(self, facts: Copies, source: Source, context: Context) -> None:
        self._facts, self._source, self._context = facts, source, context
        self._drive: Drive = context.service(Drive)  # type: ignore[type-abstract]
        self._name = shown(facts.filename)
        self._began = time.monotonic()
        copy = facts.drive_copy()
        self._copy = copy if copy is not None and copy.damaged is None else None
        self._file_id, self._uri, self._session, self._offset = "", "", 0, 0
        self._fresh = False
        """The session was opened just now: it has nothing yet."""
        self._sessions = 0
        self._whole: DriveFile | None = None
        """The file, once Drive has all of it."""

    async def run(self) -> AsyncGenerator[Event, None]:
        """What happens until all is done. Raises TransientError, DependencyDownError, ChangedError, DrainingError."""
        copy = self._copy
        if copy is not None and copy.uploaded is not None and (file := await self._still_there(copy.file_id)):
            async with aclosing(self._finished(file, copy.uploaded.md5, copy.shared_with)) as events:
                async for event in events:
                    yield event
            return
        if copy is None or copy.uploaded is not None:
            yield await self._begun()
            reach("drive.started")
        else:
            self._file_id, self._uri = copy.file_id, copy.uri or ""
            self._session, self._offset = copy.session, copy.offset
        while self._whole is None:
            if not self._uri:
                if (opened := await self._opened()) is not None:
                    yield opened
                    reach("drive.session_told")
                continue
            async with aclosing(self._sent()) as events:
                async for event in events:
                    yield event
        md5 = await self._source.md5(self._go_on)
        if (fault := await self._fault(md5)) is not None:
            await self._drive.delete(self._whole.id)
            reach("drive.deleted")
            if self._facts.door == "watch" and not await self._source.unchanged():
                raise ChangedError(fault)
            yield await self._another()
            raise TransientError(fault)
        reach("drive.compared")
        seconds = round(time.monotonic() - self._began, 3)
        yield DriveFileUploaded(**self._about(), size=self._facts.size, md5=md5, seconds=seconds)
        reach("drive.uploaded_told")
        async with aclosing(self._finished(self._whole, md5, None)) as events:
            async for event in events:
                yield event

    # ------------------------------------------------------------ which file

    async def _begun(self) -> Event:
        """A file to upload to, or one that an earlier run made and the log does not know."""
        for former in self._facts.drive.values():
            replaced = former.revision < self._facts.revision and former.uploaded is None and former.session
            if (former.damaged is not None and former.revision == self._facts.revision) or replaced:
                await self._drive.delete(former.file_id)
        found = await self._drive.find(self._facts.video, self._facts.revision)
        if found is not None:
            md5 = await self._source.md5(self._go_on)
            if found.size == self._facts.size and found.md5 in {None, md5}:
                self._whole, self._file_id = found, found.id
                return self._started()
            self._require_as_stored()
            await self._drive.delete(found.id)
        return await self._another()

    async def _another(self) -> Event:
        """A file that is not there yet."""
        self._file_id, self._uri, self._session, self._offset = await self._drive.new_file_id(), "", 0, 0
        reach("drive.reserved")
        return self._started()

    def _started(self) -> Event:
        return DriveUploadStarted(
            revision=self._facts.revision,
            file_id=self._file_id,
            folder_id=self._drive.folder_id,
            filename=self._name,
            path=local_path(self._facts),
            door=self._facts.door or "upload",
            size=self._facts.size,
        )

    async def _still_there(self, file_id: str) -> DriveFile | None:
        """A file that was whole; None where someone took it away since."""
        found = await self._drive.get(file_id)
        return found if found is not None and not found.trashed and found.size == self._facts.size else None

    # ------------------------------------------------------------ its bytes

    async def _opened(self) -> Event | None:
        """A session, or another file where the id cannot be used; None where Drive has the file already."""
        self._sessions += 1
        if self._sessions > SESSIONS:
            raise TransientError("Drive ends upload sessions as soon as they are open")
        properties = {"video": self._facts.video, "revision": str(self._facts.revision)}
        try:
            self._uri = await self._drive.open_session(
                self._file_id, self._name, media_type(self._facts), self._facts.size, properties
            )
        except DriveFileExistsError:
            found = await self._drive.get(self._file_id)
            if found is not None and not found.trashed:
                self._whole = found
                return None
            if found is not None:
                await self._drive.delete(found.id)
            return await self._another()
        reach("drive.session_opened")
        self._session, self._offset, self._fresh = self._session + 1, 0, True
        return DriveSessionOpened(
            revision=self._facts.revision, file_id=self._file_id, session=self._session, uri=self._uri
        )

    async def _sent(self) -> AsyncGenerator[Event, None]:
        """Send what the session lacks, until Drive has the whole file or the session is gone.

        The next chunk is on its way while the log is told of the one before.
        """
        size = self._facts.size
        most = standstills = -1
        sending: asyncio.Future[int | DriveFile] | None = None
        try:
            answer = 0 if self._fresh else await self._drive.received(self._uri, size)
            self._fresh = False
            while not isinstance(answer, DriveFile):
                await self._context.answered()
                standstills = 0 if answer > most else standstills + 1
                most = max(most, answer)
                if standstills < STANDSTILLS and not self._context.draining.is_set():
                    sending = asyncio.ensure_future(self._next(answer, standstills))
                if answer > self._offset:
                    self._offset = answer
                    yield DriveOffsetReached(
                        revision=self._facts.revision,
                        file_id=self._file_id,
                        session=self._session,
                        offset=answer,
                        size=size,
                    )
                    reach("drive.offset_told")
                self._go_on()
                if sending is None:
                    raise TransientError(f"Drive keeps nothing of what is sent beyond byte {most}")
                answer = await sending
                sending = None
                reach("drive.chunk_sent")
            self._whole = answer
            reach("drive.all_sent")
        except DriveSessionExpiredError:
            self._uri = ""
        finally:
            if sending is not None:  # whoever goes on must not meet it in the same session
                await asyncio.wait([sending])
                _ = sending.cancelled() or sending.exception()

    async def _next(self, offset: int, standstills: int) -> int | DriveFile:
        """Send the chunk at `offset`; what Drive has then."""
        size = self._facts.size
        if offset >= size > 0:  # it has all, and has not made a file of it yet
            await asyncio.sleep(CHECKSUM_PAUSES[standstills])
            return await self._drive.received(self._uri, size)
        await self._source.catch_up(offset, self._go_on)
        data = await self._source.read(offset, self._context.settings.drive_chunk_size)
        return await self._drive.send(self._uri, data, offset, size)

    async def _fault(self, md5: str) -> str | None:
        """What is wrong with the file that Drive has; None where it is ours, byte for byte."""
        file = self._whole
        for pause in CHECKSUM_PAUSES:
            if file is None or file.md5 is not None:
                break
            await asyncio.sleep(pause)
            file = await self._drive.get(file.id)
        if file is None:
            return "Drive lost the file that it had just got"
        if not await self._source.unchanged():
            return "the local file changed while it was sent"
        self._require_as_stored()
        if file.md5 is None:
            raise TransientError("Drive does not say the checksum of what it has got")
        if (file.size, file.md5) != (self._facts.size, md5):
            return f"Drive has other bytes than were sent ({file.size} of {self._facts.size}, checksum {file.md5})"
        return None

    def _require_as_stored(self) -> None:
        """Raise TransientError where the local file turned bad: perhaps what Drive has is right, and it stays."""
        if not self._source.as_stored:
            raise TransientError(
                "the local file is not what it was when it was stored: put the right file back, "
                "or restore it from another copy"
            )

    # ------------------------------------------------------------ once it is there

    async def _finished(self, file: DriveFile, md5: str, shared_with: str | None) -> AsyncGenerator[Event, None]:
        """Share it as the settings say, and be done."""
        self._file_id = file.id
        audience = self._context.settings.drive_share
        if audience not in {"nobody", shared_with}:
            await self._drive.share(file.id, audience)
            reach("drive.shared")
            yield DrivePermissionsSet(**self._about(), shared_with=audience)
            reach("drive.permissions_told")
        yield DriveUploadCompleted(
            **self._about(), path=local_path(self._facts), link=file.link, size=self._facts.size, md5=md5
        )
        reach("drive.completed_told")

    def _about(self) -> dict[str, Any]:
        return {
            "revision": self._facts.revision,
            "file_id": self._file_id,
            "filename": self._name,
            "door": self._facts.door or "upload",
        }

    def _go_on(self) -> None:
        """Between any two steps of long work. Raises DrainingError when the worker wants to stop."""
        self._context.beat()
        if self._context.draining.is_set():
            raise DrainingError("the upload to Drive goes on elsewhere")


def local_path(facts: Copies) -> OsPath:
    """Where the local file lies; known of everything that is copied."""
    assert facts.path is not None
    return facts.path

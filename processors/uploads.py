"""The upload door: bytes become a durable file first, an event after.

    async with door.receive("lesson.mp4", label="Tutorial", mime="video/mp4") as receiving:
        async for chunk in chunks:
            await receiving.write(chunk)
        stored = await receiving.finish()

The steps of `finish`, and what a process that dies right after one leaves behind:

1. received, fsynced, read back and compared; probed      → a `.tmp` that nobody holds: removed
2. the sidecar manifest, naming the path, is durable      → a manifest without a file: set aside
3. the file appears under its name; the folder is durable → the manifest waits: the event follows
4. the event is appended (the log may be down: skipped)   → appended again: a duplicate, harmless
5. the manifest is marked as logged

`Reconciler` (reconciling.py) does what stands on the right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from processors.admission import admit, admit_kind, media_type
from processors.media.signatures import SNIFF, kind_of
from processors.ports import Probed, ProbeFailure, Prober
from processors.storage.disk import Marks, refusal, require_space
from processors.storage.names import printable, stored_names, without_timestamp
from processors.storage.receiving import Incoming, Sealed
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.threads import in_thread
from streams.crashpoints import reach
from streams.errors import LogUnavailableError, RejectedError
from streams.events import VideoStored
from streams.identity import new_video_id
from streams.log import Log
from streams.paths import OsPath
from streams.settings import Settings

_log = structlog.get_logger(__name__)

APPEND_WITHIN = 2.0
"""Seconds that an upload waits for the log, which may be down; its event follows then."""

LOG_DOWN_FOR = 5.0
"""Seconds for which the log is taken for down after that: uploads do not wait meanwhile."""

MAX_CLIENT_ID = 128


@dataclass(frozen=True, slots=True)
class Stored:
    """A video that is kept, whatever happens from now on."""

    video: str
    """Its id."""
    event: VideoStored
    path: Path
    logged: bool
    """Whether the log has the event; if not, it follows by itself."""


class UploadDoor:
    """Takes uploads in. One for each process that receives any."""

    def __init__(self, log: Log, settings: Settings, prober: Prober) -> None:
        self._log, self._prober = log, prober
        self.folder = settings.uploads
        self._max_size, self._marks = settings.max_upload, Marks.of(settings)
        self._sidecars = Sidecars(settings.sidecars)
        self._log_down_until = 0.0

    @asynccontextmanager
    async def receive(
        self,
        original_name: str,
        label: str = "",
        mime: str = "",
        client_id: str | None = None,
        expected_size: int | None = None,
        enhance: bool = False,
    ) -> AsyncIterator[Receiving]:
        """Begin an upload. Without `finish`, whatever the reason, nothing of it is left.

        `expected_size`: bytes of the file (not of the request), where known; saves beginning what
        cannot fit. `enhance`: a rendition is wanted of it. Raises RejectedError (400, 413, 500, 507).
        """
        check_client(client_id)
        video = new_video_id()
        # The manifest and, in a small installation, the log lie on the disk of the sidecars.
        await self._require_room()
        incoming = await Incoming.open(
            self.folder, video, max_size=self._max_size, expected_size=expected_size, marks=self._marks
        )
        try:
            yield Receiving(self, video, incoming, original_name, label, mime, client_id, enhance=enhance)
        finally:
            await incoming.close()

    async def store(self, video: str, incoming: Incoming, sealed: Sealed, draft: _Draft) -> Stored:
        """Steps 2 to 5. Called by `Receiving.finish`."""
        made: list[Sidecar] = []

        def announce(path: Path) -> None:
            event = draft.event(path, sealed)
            made.append(Sidecar.of(video, event, source="upload", inode=sealed.inode))
            self._sidecars.write(made[-1])

        names = stored_names(draft.original_name, draft.label, draft.received_at.astimezone())
        path = await incoming.place(names, announce, lambda: self._sidecars.drop(video))
        event = made[-1].event
        logged = await self._append(made[-1])
        _log.info("video stored", video=video, path=str(path), size=event.size, damaged=event.damaged, logged=logged)
        return Stored(video, event, path, logged)

    async def probe(self, path: Path) -> Probed | ProbeFailure:
        """What the prober says of a file."""
        return await self._prober.probe(OsPath(str(path)))

    async def _require_room(self) -> None:
        folder = self._sidecars.folder
        try:
            await in_thread(require_space, folder, 0, self._marks)
        except OSError as error:
            raise refusal(error, folder) from error

    async def _append(self, sidecar: Sidecar) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._log_down_until:
            return False
        try:
            await self._log.append(sidecar.new_event(), timeout=APPEND_WITHIN)
            reach("upload.appended")
            await in_thread(self._sidecars.mark_logged, sidecar.video)
        except LogUnavailableError as error:
            self._log_down_until = asyncio.get_running_loop().time() + LOG_DOWN_FOR
            _log.warning("log is down: the upload is stored, its event follows", video=sidecar.video, error=str(error))
            return False
        except Exception:  # noqa: BLE001 - the bytes are durable, the manifest waits: no trouble of the sender's
            _log.exception("event of a stored upload could not be appended; it is tried again", video=sidecar.video)
            return False
        self._log_down_until = 0.0
        reach("upload.marked")
        return True


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known of an upload before it has a path."""

    original_name: str
    label: str
    mime: str
    client_id: str | None
    received_at: datetime
    seconds: float
    damaged: str | None
    enhance: bool

    def event(self, path: Path, sealed: Sealed) -> VideoStored:
        return VideoStored(
            door="upload",
            path=OsPath(str(path)),
            stored_name=path.name,
            filename=without_timestamp(path.name),
            original_name=printable(self.original_name),
            label=printable(self.label),
            mime=self.mime,
            size=sealed.size,
            sha256=sealed.sha256,
            received_at=self.received_at,
            modified_at=datetime.fromtimestamp(sealed.modified, UTC),
            duration_receiving=round(self.seconds, 3),
            damaged=self.damaged,
            client_id=self.client_id,
            enhance=self.enhance,
        )


class Receiving:
    """One upload under way: `write` the chunks, then `finish`."""

    def __init__(
        self,
        door: UploadDoor,
        video: str,
        incoming: Incoming,
        original_name: str,
        label: str,
        mime: str,
        client_id: str | None,
        *,
        enhance: bool,
    ) -> None:
        self._door, self._incoming = door, incoming
        self.video = video
        """Its id, should it be stored."""
        self._original_name, self._label, self._mime, self._client_id = original_name, label, mime, client_id
        self._enhance = enhance
        self._received_at, self._began = datetime.now(UTC), time.monotonic()
        self._head = bytearray()
        self._looked = False

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._incoming.received

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises RejectedError (413, 415, 500, 507)."""
        if not self._looked:
            self._head += chunk[: SNIFF - len(self._head)]
            if len(self._head) >= SNIFF:
                self._looked = True
                admit_kind(kind_of(bytes(self._head)))
        await self._incoming.write(chunk)

    async def finish(
        self,
        *,
        label: str | None = None,
        client_id: str | None = None,
    ) -> Stored:
        """All bytes are in: verify, store, announce. Raises RejectedError (400, 415, 500, 507).

        `label` and `client_id` replace those given at the start, for forms whose text fields come
        after the file.
        """
        check_client(client_id)
        if not self.received:
            raise RejectedError(400, "The file is empty. Send a video file.")
        kind = kind_of(bytes(self._head), whole=self.received <= SNIFF)
        admit_kind(kind)
        await self._incoming.flush()
        probing = asyncio.create_task(self._door.probe(self._incoming.path))
        try:
            sealed = await self._incoming.seal()
            damaged = admit(kind, await probing)
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        draft = _Draft(
            self._original_name,
            self._label if label is None else label,
            media_type(self._mime, kind),
            self._client_id if client_id is None else client_id,
            self._received_at,
            time.monotonic() - self._began,
            damaged,
            self._enhance,
        )
        return await self._door.store(self.video, self._incoming, sealed, draft)


def check_client(client_id: str | None) -> None:
    """Raise RejectedError (400) for what is no client's id; None is none, and fine."""
    if client_id is not None and not (client_id.isprintable() and 0 < len(client_id) <= MAX_CLIENT_ID):
        raise RejectedError(400, f"client_id must be 1 to {MAX_CLIENT_ID} printable characters.")

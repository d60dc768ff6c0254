"""Takes away what is not wanted any more: files of deleted downloads, what a newer take replaced, and what was left over.

What a download put into the media root is removed by its own names only, and only where it is still what was put there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from processors.storage.library import Library
from processors.storage.library_folders import LeadsOutError, below
from processors.storage.library_unfinished import prepared
from processors.storage.library_work import WorkHeldError, folder_of, held
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.downloads import Download, fold
from streams.errors import DependencyDownError, SettingsError, TransientError
from streams.events import (
    DownloadCancelled,
    DownloadDeleted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadStored,
    Event,
    FileRemoved,
)
from streams.identity import downloaded_video_id
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.processing import Context, First, processor
from streams.queries import Histories

SOURCE = "download"

LOCK_WITHIN = 20.0
"""Seconds that whoever fetches gets to see that it is not wanted any more."""

LOOK_AGAIN = 30.0
"""Seconds until a media root that cannot be written is looked at again."""


@processor(
    "download-removal",
    on=(DownloadDeleted, DownloadCancelled, DownloadStored, DownloadFailed),
    alias=("downloads",),
)
async def removal(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Look at a download that ended: what of it is to go, goes."""
    history = await context.service(Histories).history(recorded.subject)  # type: ignore[type-abstract]
    download = fold(history)
    if download is None:
        return
    removing = _Removing(download, history, context)
    try:
        if not download.is_open:
            await removing.work_folder()
        if download.phase == "deleted":
            if not removing.keeps_files():
                yield await removing.everything()
        else:
            async for event in removing.former_takes():
                yield event
    except WorkHeldError as error:
        raise TransientError("whoever fetches it has not let go of it yet", retry_after=2.0) from error
    except (OSError, SettingsError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise DependencyDownError(
            "the media root", f"what is to be removed cannot be: {told}", retry_after=LOOK_AGAIN, unreachable=False
        ) from error


class _Removing:
    def __init__(self, download: Download, history: Sequence[Recorded[Any]], context: Context) -> None:
        self._download, self._history, self._context = download, history, context
        self._library = Library(context.settings)

    async def work_folder(self) -> None:
        """Remove it, where its owner did not. Raises WorkHeldError, OSError, SettingsError."""
        unfinished = await in_thread(prepared, self._context.settings)
        place = folder_of(unfinished, self._download.number, self._download.key)
        if not await in_thread(place.is_dir):
            return
        async with held(place, patience=LOCK_WITHIN) as work:
            # What was put into its place just before its owner died is not half done: it is told of, or removed.
            video = work.state.video
            if video and await in_thread(self._library.kept, video, work.state) is None:
                await in_thread(self._library.undo, work)
            await in_thread(work.discard)

    def keeps_files(self) -> bool:
        """Whether the files of a deleted download are to stay."""
        deleted = [one.event for one in self._history if isinstance(one.event, DownloadDeleted)]
        return bool(deleted) and deleted[0].keep_file

    async def everything(self) -> DownloadFilesRemoved:
        """Remove the files of every take. Raises OSError."""
        removed: list[OsPath] = []
        told = {one.take: one for one in self._stored()}
        for take in range(1, self._download.take + 1):
            video = downloaded_video_id(self._download.key, take)
            removed += await self._video(video, await self._paths(video, told.get(take)), frozenset())
        return DownloadFilesRemoved(paths=tuple(removed))

    async def former_takes(self) -> AsyncIterator[DownloadFilesRemoved]:
        """Once a newer take is stored, what the ones before it had put there goes. Raises OSError."""
        stored = list(self._stored())
        current = next((one for one in stored if one.take == self._download.take), None)
        if current is None or self._download.path is None:
            return
        done = {one.event.take for one in self._history if isinstance(one.event, DownloadFilesRemoved)}
        keep = frozenset((current.path, *current.files))
        for one in stored:
            if one.take < current.take and one.take not in done:
                removed = await self._video(one.video, [one.path, *one.files], keep)
                yield DownloadFilesRemoved(paths=tuple(removed), take=one.take)
                reach("download.former_removed")

    def _stored(self) -> Iterator[DownloadStored]:
        return (one.event for one in self._history if isinstance(one.event, DownloadStored))

    async def _paths(self, video: str, told: DownloadStored | None) -> list[OsPath]:
        """The video first. What the log does not know of yet, its manifest does."""
        if told is not None:
            return [told.path, *told.files]
        kept = await in_thread(self._library.kept, video)
        return [] if kept is None else [kept.sidecar.event.path, *kept.files]

    async def _video(self, video: str, paths: list[OsPath], keep: frozenset[str]) -> list[OsPath]:
        """Remove one video's files, and tell its history. Raises OSError, LogUnavailableError."""
        if not paths:
            return []
        removed = await in_thread(self._library.remove, video, paths, keep)
        reach("download.files_removed")
        log, sidecar = self._context.service(Log), await in_thread(self._library.sidecars.get, video)
        if sidecar is not None:
            await log.append(sidecar.new_event())
        if await log.version(video):
            try:
                folders, name = below(self._library.root, paths[0])
                relative = "/".join((*folders, name))
            except LeadsOutError:
                relative = paths[0]
            gone = FileRemoved(root=OsPath(str(self._library.root)), relative=OsPath(relative))
            await log.append(new_event(video, gone, source=SOURCE))
        reach("download.removal_told")
        await in_thread(self._library.sidecars.forget, video)
        return removed

"""Objects as files below a folder on another disk: `file:///mnt/other-disk` is `<folder>/<bucket>/<key>`."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from processors.ports import StoredObject
from processors.storage.threads import in_thread
from streams.errors import DependencyDownError, PoisonError, StartError
from streams.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

NAME = "S3 directory"
SOON = 5.0
LATER = 60.0
UNFINISHED = ".unfinished"
"""Folder in the bucket's in which objects lie until they are whole."""
GIVEN_UP = 86_400.0
"""Seconds after which what lies there was left behind by a process that was killed."""


@asynccontextmanager
async def open_directory(settings: Settings) -> AsyncIterator[DirectoryStore]:
    """The store in the folder that `s3_endpoint` names. Raises StartError where originals lie on its disk."""
    await in_thread(refuse_no_replica, settings)
    yield DirectoryStore(settings)


def refuse_no_replica(settings: Settings) -> None:
    """Raise StartError where `s3_endpoint` is a folder on the disk of originals."""
    if (settings.s3_endpoint or "").startswith("file:"):
        reason = DirectoryStore(settings).no_replica()
        if reason is not None:
            raise StartError(f"{reason}. Name a folder on another disk (SPOOLHOUSE_S3_ENDPOINT)")


class DirectoryStore:
    """The ObjectStore that is a folder; see `ports.ObjectStore`. Open it with `open_directory`.

    The folder itself is never made: where it is missing, its disk is not mounted.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = Path(unquote(urlsplit(settings.s3_endpoint or "").path))
        self._bucket = self._folder / settings.bucket
        # The default media root counts not: who never downloads anything may have copies on the disk of `data`.
        named = () if settings.media_root is None else (settings.downloads,)
        self._originals = (settings.uploads, *named, *settings.watch_roots)
        self._device: int | None = None
        self.label = f"file://{self._bucket}"

    def no_replica(self) -> str | None:
        """Why a copy in the folder would be none: originals lie on the same file system. None where all is well."""
        try:
            ours = self._folder.stat().st_dev
        except OSError:
            return None  # said when it is used: it may be mounted by then
        for place in self._originals:
            if _device_of(place) == ours:
                return (
                    f"{self._folder} lies on the same file system as {place}: "
                    "a copy there would be lost together with the original"
                )
        return None

    async def prepare(self) -> None:
        """Make the bucket's folder; see `ports.ObjectStore`."""
        await self._do(self._make_bucket)

    async def put(self, key: str, data: bytes, *, sha256: str, md5: str) -> str:  # noqa: ARG002 - files have no ETag
        """Store an object; see `ports.ObjectStore`. The answer is empty: files have no ETag."""
        await self._do(self._write, self._place(key), data)
        return ""

    async def get(self, key: str) -> bytes | None:
        """An object's content; see `ports.ObjectStore`."""
        return await self._do(self._read, self._place(key))

    async def head(self, key: str) -> StoredObject | None:
        """What is known of an object; see `ports.ObjectStore`."""
        size = await self._do(self._size, self._place(key))
        return None if size is None else StoredObject(key, size, None)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose key begins with `prefix`; see `ports.ObjectStore`."""
        for key, size in await self._do(self._found, prefix):
            yield StoredObject(key, size, None)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; see `ports.ObjectStore`."""
        await self._do(self._remove, [self._place(key) for key in keys])

    async def _do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work in a thread; what the disk says about it, in our words."""
        try:
            return await in_thread(function, *args, **kwargs)
        except OSError as error:
            why, after = f"{error.strerror or error} ({error.filename or self._bucket})", SOON
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                why, after = f"there is no room left in {self._folder}. Make room, and copying goes on by itself", LATER
            elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                why, after = f"{why}: this user must be allowed to write there", LATER
            raise DependencyDownError(NAME, why, retry_after=after, unreachable=False) from error

    def _place(self, key: str) -> Path:
        """Where an object lies. Raises PoisonError for a key that would lie elsewhere."""
        parts = key.split("/")
        if any(part in {"", ".", "..", UNFINISHED} or "\0" in part or len(os.fsencode(part)) > 255 for part in parts):
            raise PoisonError(f"{key!r} is no key of an object: it must stay below {self._bucket}")
        return self._bucket.joinpath(*parts)

    def _make_bucket(self) -> None:
        self._watch_disk()
        if (reason := self.no_replica()) is not None:
            raise DependencyDownError(
                NAME, f"{reason}. Is its disk no longer mounted?", retry_after=SOON, unreachable=False
            )
        if not self._bucket.is_dir():
            self._bucket.mkdir(exist_ok=True)
            _sync(self._folder)
        unfinished = self._bucket / UNFINISHED
        unfinished.mkdir(exist_ok=True)
        for left in unfinished.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > GIVEN_UP:
                    left.unlink()

    def _watch_disk(self) -> None:
        """Raise DependencyDownError where the folder is missing, or on another disk than it was."""
        try:
            device = self._folder.stat().st_dev
        except FileNotFoundError as error:
            raise DependencyDownError(
                NAME, f"{self._folder} is not there. Mount its disk, or make the folder", retry_after=SOON
            ) from error
        if self._device is None:
            self._device = device
        if device != self._device:
            why = f"another file system is in {self._folder} than before. Mount the disk that was there"
            raise DependencyDownError(NAME, why, retry_after=SOON, unreachable=False)

    def _look_for_bucket(self) -> None:
        """Raise DependencyDownError without a bucket: nothing is said to be missing that is merely not mounted."""
        self._watch_disk()
        if not self._bucket.is_dir():
            raise DependencyDownError(NAME, f"{self._bucket} is not there: is its disk mounted?", retry_after=SOON)

    def _write(self, place: Path, data: bytes) -> None:
        self._look_for_bucket()
        handle, unfinished = tempfile.mkstemp(dir=self._bucket / UNFINISHED)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            for folder in reversed([one for one in place.parents if self._bucket in one.parents]):
                if not folder.is_dir():
                    folder.mkdir(exist_ok=True)
                    _sync(folder.parent)
            Path(unfinished).replace(place)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        _sync(place.parent)

    def _read(self, place: Path) -> bytes | None:
        self._look_for_bucket()
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return place.read_bytes()
        return None

    def _size(self, place: Path) -> int | None:
        self._look_for_bucket()
        with suppress(FileNotFoundError, NotADirectoryError):
            if place.is_file():
                return place.stat().st_size
        return None

    def _found(self, prefix: str) -> Sequence[tuple[str, int]]:
        self._look_for_bucket()
        inner = prefix.rpartition("/")[0]
        start = self._place(inner) if inner else self._bucket
        return sorted((key, size) for key, size in self._below(start) if key.startswith(prefix))

    def _below(self, folder: Path) -> Iterator[tuple[str, int]]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != UNFINISHED:
                        yield from self._below(Path(entry.path))
                    continue
                with suppress(FileNotFoundError):
                    yield os.path.relpath(entry.path, self._bucket), entry.stat().st_size

    def _remove(self, places: Sequence[Path]) -> None:
        self._look_for_bucket()
        for place in places:
            place.unlink(missing_ok=True)
        for folder in {place.parent for place in places} - {self._bucket}:
            with suppress(OSError):  # it holds something yet, or is gone already
                folder.rmdir()
                _sync(folder.parent)


def _device_of(place: Path) -> int | None:
    """The file system that a folder lies on, or will lie on once it is made."""
    for one in (place, *place.parents):
        with suppress(OSError):
            return one.stat().st_dev
    return None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Requests for downloads: for each a small file, which can bring it back where the log lost it.

A request's file is on disk before anyone is told that it was taken. Its name is its number, so a
number that the log hands out twice, after it lost its tail, is noticed here:

    downloads/0000/12.json   what is known of download 12: its first event and, once it has ended, how
    downloads/new/12         the log may not have its first event yet
    downloads/config.json    the last change of the configuration

It holds events with their ids and times, so appending them again doubles nothing. Everything here
blocks: call it in threads. Safe for several processes at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from processors.storage.files import ABANDONED, TEMPORARY, appear, fsync_folder, make_folder, write_durably
from streams.codec import decode, encode, timestamp
from streams.entries import NewEvent
from streams.events import DownloadRequested
from streams.identity import DOWNLOAD_CONFIG, download_subject

_log = structlog.get_logger(__name__)

FORMAT = 1
SHARD = 1000
"""Files of one folder."""

LOCK_WITHIN = 10.0
"""Seconds that another process may take to replace a file."""


@dataclass(frozen=True, slots=True)
class RequestFile:
    """What a file holds: the request's first event, and what became of it, in order."""

    number: int
    events: tuple[NewEvent, ...]

    @property
    def key(self) -> str:
        """The request's own id."""
        first = self.events[0].event
        assert isinstance(first, DownloadRequested)
        return first.key


class RequestFiles:
    """The files below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.new = folder, folder / "new"
        self._told: set[int] = set()

    def create(self, requests: Sequence[RequestFile]) -> list[bool]:
        """Write new files, durable on return; for each whether the number is now (or was already) this request's.

        False: the number belongs to another one. Raises OSError, ValueError (too large); some may be there then.
        """
        encoded = [_dump(one) for one in requests]
        make_folder(self.new)
        made, folders = [], {self.new}
        for request, data in zip(requests, encoded, strict=True):
            (self.new / str(request.number)).touch()
            home = self._home(request.number)
            make_folder(home.parent)
            folders.add(home.parent)
            ours = self._claim(home, data)
            if not ours:
                found = self.get(request.number)
                ours = found is not None and found.key == request.key
            made.append(ours)
        for folder in folders:
            fsync_folder(folder)
        return made

    def mark_logged(self, numbers: Sequence[int]) -> None:
        """The log has the first events of these. Harmless to repeat."""
        for number in numbers:
            (self.new / str(number)).unlink(missing_ok=True)

    def any_pending(self) -> bool:
        """Whether the log may lack any: one look at a folder, for a caller who asks all the time."""
        return next(iter(_names(self.new)), None) is not None

    def pending(self) -> list[RequestFile]:
        """What the log may not have yet, by number. Marks of files that were not written after all are removed."""
        found = []
        for number in sorted(int(name) for name in _names(self.new) if name.isdecimal()):
            request = self.get(number)
            if request is not None:
                found.append(request)
            elif not self._home(number).exists() and _age(self.new / str(number)) > ABANDONED:
                self.mark_logged([number])
        return found

    def get(self, number: int) -> RequestFile | None:
        """The file of a number; None where there is none that can be read."""
        path = self._home(number)
        try:
            request = _load(path.read_bytes(), number)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            if number not in self._told:
                self._told.add(number)
                _log.error("the request of a download cannot be read", path=str(path), error=str(error))
            return None
        return request

    def numbers(self) -> list[int]:
        """Every number that has a file, in order."""
        shards = [self.folder / name for name in _names(self.folder) if name.isdecimal()]
        names = [name.removesuffix(".json") for shard in shards for name in _names(shard)]
        return sorted(int(name) for name in names if name.isdecimal())

    def all(self) -> Iterator[RequestFile]:
        """Every file that can be read, by number, one after the other."""
        return (found for number in self.numbers() if (found := self.get(number)) is not None)

    def keep(self, request: RequestFile) -> None:
        """Put what is known of a download by now into its file; durable on return. What is older than it is not put.

        Raises OSError, ValueError.
        """
        home, data = self._home(request.number), _dump(request)
        with self._alone():
            there = self.get(request.number)
            if there is not None and (there.key != request.key or there.events[-1].time > request.events[-1].time):
                return
            write_durably(home, data)

    def keep_config(self, change: NewEvent) -> None:
        """Put the last change of the configuration into its file. Raises OSError."""
        with self._alone():
            there = self.config()
            if there is None or there.time <= change.time:
                write_durably(self._config, orjson.dumps(_stored(change), option=orjson.OPT_INDENT_2))

    def config(self) -> NewEvent | None:
        """The last change of the configuration that was kept."""
        try:
            return _event(DOWNLOAD_CONFIG, orjson.loads(self._config.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the kept configuration of downloads cannot be read", path=str(self._config), error=str(error))
            return None

    def sweep(self) -> None:
        """Remove what processes that were killed while writing left behind."""
        for folder in (self.folder, *(self.folder / name for name in _names(self.folder) if name.isdecimal())):
            for name in _names(folder, hidden=True):
                if name.endswith(TEMPORARY) and _age(folder / name) > ABANDONED:
                    (folder / name).unlink(missing_ok=True)

    @property
    def _config(self) -> Path:
        return self.folder / "config.json"

    def _home(self, number: int) -> Path:
        return self.folder / f"{number // SHARD:04d}" / f"{number}.json"

    def _claim(self, home: Path, data: bytes) -> bool:
        """Let a file appear whole under its name, unless there is one; its folder is not made durable yet."""
        if home.exists():
            return False
        temporary = home.parent / f".{home.stem}.{uuid.uuid4().hex}{TEMPORARY}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            appear(temporary, home)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else replaces a file during the body."""
        make_folder(self.folder)
        fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(fd)
            yield
        finally:
            os.close(fd)


def _lock(fd: int) -> None:
    deadline = time.monotonic() + LOCK_WITHIN
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        except OSError:
            return  # locks are not known here: the times in the files tell


def _names(folder: Path, *, hidden: bool = False) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(".") == hidden]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _age(path: Path) -> float:
    """Seconds since it was written; 0 for what is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _stored(new: NewEvent) -> dict[str, Any]:
    return {
        "id": new.id,
        "source": new.source,
        "time": timestamp(new.time),
        "cause": new.cause,
        "corr": new.corr,
        "type": type(new.event).__name__,
        "sv": type(new.event).sv,
        "data": orjson.Fragment(encode(new.event)),
    }


def _event(subject: str, stored: dict[str, Any]) -> NewEvent:
    return NewEvent(
        subject=subject,
        event=decode(stored["type"], stored["sv"], orjson.dumps(stored["data"])),
        id=str(stored["id"]),
        source=str(stored["source"]),
        cause=stored["cause"],
        corr=stored["corr"],
        time=datetime.fromisoformat(stored["time"]),
    )


def _dump(request: RequestFile) -> bytes:
    document = {"format": FORMAT, "number": request.number, "events": [_stored(one) for one in request.events]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _load(data: bytes, number: int) -> RequestFile:
    stored: Any = orjson.loads(data)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored["number"] != number:
        raise ValueError(f"it is not a request of format {FORMAT} for number {number}")
    events = tuple(_event(download_subject(number), one) for one in stored["events"])
    if not events or not isinstance(events[0].event, DownloadRequested):
        raise ValueError("it does not begin with a request")
    return RequestFile(number, events)

"""The log files that people grep: `video_uploads.log`, and the notifier's file a day.

A projection with files instead of tables. Its table holds how long each file is after the last
committed batch: lines are written and fsynced inside the transaction, before it commits, and what
lies behind the committed length is cut when following begins. A file that the table does not know
yet (a new day, a rotated file) is first noted in the owner's lock file. Lines stand in the order in which
events arrived; after a rebuild they are sorted by the events' time. Times are local.

One process owns the files of a folder: it holds a lock there as long as it lives.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import orjson
from sqlalchemy import BigInteger, Column, String, Text, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.activity_lines import notifier_lines, upload_lines
from projections.database import Database
from projections.dialects import upsert_many
from projections.projection import OwnedElsewhereError, Projection
from projections.tables import Tables
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.settings import Settings

UPLOADS = "video_uploads.log"
NOTIFIER = "_vfs_tusker_notifier_videos.log"
KEPT_DAYS = 30
"""Days for which the notifier's files are kept."""

activity_log_files = tables.table(
    "activity_log_files",
    # `uploads` or `notifier`, a slash, the file's name
    Column("name", String(255), primary_key=True),
    Column("path", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
)


class ActivityLogProjection(Projection):
    """Writes the lines of contract 1 and 2."""

    name = "activity_log"
    version = 1
    tables = (activity_log_files,)
    ordered = True
    compared = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock: IO[str] | None = None
        # What we left each file as: (inode, length). Another state is noted before we append.
        self._left: dict[Path, tuple[int, int]] = {}

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Events that have a line."""
        return bool(upload_lines(recorded) or notifier_lines(recorded))

    async def opened(self, conn: AsyncConnection, tables: Tables) -> None:
        """Cut what was written and never committed; finish a swap that was interrupted."""
        self._own()
        target = tables["activity_log_files"]
        if tables.suffix:
            for folder in {self.settings.logs, self.settings.notifier_logs}:
                for leftover in folder.glob(f"*.log{tables.suffix}"):
                    leftover.unlink()
            return
        rows = (await conn.execute(select(target))).all()
        self._cut_noted({row.inode for row in rows})
        self._left.clear()
        for row in rows:
            path = Path(row.path)
            building = _suffixed(path, "__next")
            if _inode(path) != row.inode and _inode(building) == row.inode:
                building.replace(path)
            # Another inode: someone rotated the file; what is there now is theirs until we append.
            if _inode(path) == row.inode:
                _cut(path, row.length)
                self._left[path] = (row.inode, path.stat().st_size)

    async def apply(self, conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> None:
        """Append the lines, make them durable, and take down the new lengths."""
        lines: dict[tuple[str, Path], list[str]] = defaultdict(list)
        # Dated files begin with the oldest day that is still kept.
        oldest = datetime.now().astimezone().date() - timedelta(days=KEPT_DAYS)
        for one in events:
            at = one.time.astimezone()
            for level, message in upload_lines(one):
                lines["uploads", self.settings.logs / UPLOADS].append(_line(at, level, message))
            if at.date() > oldest:
                for level, message in notifier_lines(one):
                    dated = self.settings.notifier_logs / f"{at:%d-%m-%Y}{NOTIFIER}"
                    lines["notifier", dated].append(_line(at, level, message))
        rows = []
        for (kind, path), written in lines.items():
            data = "".join(written).encode()
            if not tables.suffix:
                await asyncio.to_thread(self._note, path)
            length, inode = await asyncio.to_thread(_append, _suffixed(path, tables.suffix), data)
            if not tables.suffix:
                self._left[path] = (inode, length)
            rows.append({"name": f"{kind}/{path.name}", "path": str(path), "length": length, "inode": inode})
        reach("activity_log.written")
        if rows:
            await upsert_many(conn, tables["activity_log_files"], rows)
        if any(kind == "notifier" for kind, _ in lines):
            await self._forget_old(conn, tables, oldest)

    async def before_swap(self, database: Database, live: Tables, following: Tables) -> None:
        """The rebuilt files take the old ones' places when following begins; files it has no lines for stay."""

    def closed(self) -> None:
        """Let another process own the files."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _own(self) -> None:
        """Become the owner of the files. Raises OwnedElsewhereError while another process is."""
        if self._lock is not None:
            return
        for folder in (self.settings.logs, self.settings.notifier_logs):
            folder.mkdir(parents=True, exist_ok=True)
        lock = (self.settings.logs / f".{UPLOADS}.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise OwnedElsewhereError(
                "activity log", f"another process writes {self.settings.logs / UPLOADS}"
            ) from None
        self._lock = lock

    def _note(self, path: Path) -> None:
        """Before the first line in a file (or in one that someone else changed): note where it ended."""
        path.touch()
        stat = path.stat()
        now = (tables.signed(stat.st_ino), stat.st_size)
        if self._left.get(path) != now and self._lock is not None:
            self._lock.write(orjson.dumps([str(path), *now]).decode() + "\n")
            self._lock.flush()
            os.fsync(self._lock.fileno())
            _sync_folder(path.parent)

    def _cut_noted(self, committed: set[int]) -> None:
        """Cut what was written into files that no committed batch knows, and forget the notes."""
        if self._lock is None:
            return
        self._lock.seek(0)
        for line in self._lock.read().splitlines():
            try:
                path, inode, length = orjson.loads(line)
            except ValueError:
                continue  # killed while noting: nothing was written then
            if inode not in committed and _inode(Path(path)) == inode:
                _cut(Path(path), length)
        self._lock.truncate(0)

    async def _forget_old(self, conn: AsyncConnection, tables: Tables, oldest: date) -> None:
        """Remove the notifier's files of days that are no longer kept."""
        for path in self.settings.notifier_logs.glob(f"*{NOTIFIER}"):
            found = re.fullmatch(r"(\d\d)-(\d\d)-(\d{4})", path.name.removesuffix(NOTIFIER))
            if found and _day(found) <= oldest:
                path.unlink(missing_ok=True)
                target = tables["activity_log_files"]
                await conn.execute(delete(target).where(target.c.name == f"notifier/{path.name}"))


def _day(found: re.Match[str]) -> date:
    try:
        return date(int(found[3]), int(found[2]), int(found[1]))
    except ValueError:
        return date.max  # 99-99-2024 is nobody's day: leave it alone


def _line(at: datetime, level: str, message: str) -> str:
    """`%Y-%m-%d %H:%M:%S - LEVEL - message`; a name with a line break stays on its line."""
    flat = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    return f"{at:%Y-%m-%d %H:%M:%S} - {level} - {flat}\n"


def _append(path: Path, data: bytes) -> tuple[int, int]:
    """Append durably; the file's length and inode afterwards."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        stat = os.fstat(file.fileno())
    return stat.st_size, tables.signed(stat.st_ino)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _cut(path: Path, length: int) -> None:
    if path.stat().st_size > length:
        with path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())


def _inode(path: Path) -> int | None:
    try:
        return tables.signed(path.stat().st_ino)
    except FileNotFoundError:
        return None


def _suffixed(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)

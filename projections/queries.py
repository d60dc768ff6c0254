"""What the API, the CLI and the sources ask of the catalogue. Reads only."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Select, and_, false, func, literal, or_, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import checkpoints, media_queries, tables
from projections.catalogue import catalogue
from projections.copy_queries import all_copies, as_copy, copies_of, narrowed
from projections.database import Database, NotMadeYetError
from projections.download_queries import DownloadQueries
from projections.legacy_videos import all_rows, foreign_rows
from projections.storage_stats import storage_stats
from projections.subscription_queries import SubscriptionQueries
from streams.collecting import garbage_uncollected
from streams.errors import RejectedError
from streams.log import Log
from streams.media import MediaOf
from streams.paths import escape_path, unescape_path
from streams.queries import KnownFile, LegacyRow, VideoCopies

Sort = Literal["created", "filename", "size", "duration"]
Video = dict[str, Any]
"""A row of the catalogue, times aware, with `duplicate_of`: the id of the oldest video of equal content.

Also with `replicas`, its copies as `projections.copy_queries.Copy`; not in `Catalogue.files`.
"""

# `Catalogue.list` hides the builtin inside the class.
KnownFiles = list[KnownFile]
LegacyRowList = list[LegacyRow]
Numbers = list[tuple[int, str]]

PAGE = 500
"""Rows that a stream fetches at a time."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to; None: no matter."""

    door: str | None = None
    """None: every one but `rendition`."""
    state: str | None = None
    text: str | None = None
    """Part of the file name, or of what people wrote into the file."""
    codec: str | None = None
    """Of picture or sound."""
    replica: str | None = None
    """Where a copy lies: `s3` or `drive`."""
    copied: bool | None = None
    """Whether the current content lies there (in any place) as a whole copy; None: whether anything was begun."""
    min_size: int | None = None
    """Bytes."""
    max_size: int | None = None
    min_height: int | None = None
    """Rows of the picture."""
    max_height: int | None = None
    min_duration: float | None = None
    """Seconds."""
    max_duration: float | None = None
    hdr: bool | None = None
    playable: bool | None = None
    """Whether there is a rendition of the current content that every browser plays."""
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list."""

    videos: list[Video]
    cursor: str | None
    """Hand it in again for what follows; None: that was all."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What lies there."""

    count: int
    size: int
    """Bytes."""


class Catalogue(DownloadQueries, SubscriptionQueries):
    """Queries on the catalogue. Every method raises DependencyDownError where it cannot be reached."""

    def __init__(self, database: Database, log: Log | None = None) -> None:
        """`log` is needed for `caught_up` and `copies_caught_up` only."""
        self._database, self._log = database, log

    async def list(
        self,
        filters: Filters = Filters(),
        *,
        sort: Sort = "created",
        descending: bool = True,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """A page of the catalogue. Raises RejectedError (400) for a cursor that is none of this list."""
        page = await self._page(filters, sort, cursor, limit, descending=descending)
        await self._add_copies(page.videos)
        return page

    async def _page(self, filters: Filters, sort: Sort, cursor: str | None, limit: int, *, descending: bool) -> Page:
        key = _SORTS[sort]
        query = select(catalogue, _duplicate_of()).where(*_conditions(filters))
        if cursor is not None:
            value, last = _read_cursor(cursor, sort, descending)
            beyond = key < value if descending else key > value
            last_id = catalogue.c.id < last if descending else catalogue.c.id > last
            query = query.where(or_(beyond, and_(key == value, last_id)))
        order = (key.desc(), catalogue.c.id.desc()) if descending else (key, catalogue.c.id)
        async with self._database.reading() as conn:
            found = (
                await conn.execute(query.add_columns(key.label("_key")).order_by(*order).limit(limit + 1))
            ).mappings()
            rows = [dict(row) for row in found]
        following = _write_cursor(sort, descending, rows[limit - 1]) if len(rows) > limit else None
        return Page([_video(row) for row in rows[:limit]], following)

    async def get(self, video: str) -> Video | None:
        """One video by its id."""
        async with self._database.reading() as conn:
            found = await _one(conn, select(catalogue, _duplicate_of()).where(catalogue.c.id == video))
        await self._add_copies([] if found is None else [found])
        return found

    async def ids_beginning(self, start: str, limit: int = 10) -> Sequence[str]:
        """Ids of videos that begin with `start`, in order."""
        query = select(catalogue.c.id).where(catalogue.c.id.startswith(start, autoescape=True))
        async with self._database.reading() as conn:
            return list((await conn.execute(query.order_by(catalogue.c.id).limit(limit))).scalars())

    async def by_filename(self, name: str, *, door: str | None = None) -> Video | None:
        """The video that lies there under this name: an upload's stored name, a watched file's relative path.

        Uploads win a name, then the oldest. `name` is as `os` gives it.
        """
        stored = escape_path(name)
        by_name = select(catalogue.c.id, literal(0).label("rank")).where(catalogue.c.stored_name == stored)
        by_path = select(catalogue.c.id, literal(1).label("rank")).where(catalogue.c.relative == stored)
        named = union_all(by_name, by_path).subquery()
        query = (
            select(catalogue, _duplicate_of())
            .join(named, named.c.id == catalogue.c.id)
            .where(catalogue.c.state == "present", _behind(catalogue.c.door, door))
            .order_by(named.c.rank, (catalogue.c.door != "upload"), catalogue.c.created, catalogue.c.id)
            .limit(1)
        )
        async with self._database.reading() as conn:
            found = await _one(conn, query)
        await self._add_copies([] if found is None else [found])
        return found

    async def files(self, door: str | None = "upload") -> AsyncIterator[Video]:
        """What lies there, of one door or of all, oldest first; fetched page by page while it is consumed."""
        cursor: str | None = None
        while True:
            page = await self._page(Filters(door=door, state="present"), "created", cursor, PAGE, descending=False)
            for video in page.videos:
                yield video
            if (cursor := page.cursor) is None:
                return

    async def totals(self, door: str | None = "upload", *, state: str = "present") -> Totals:
        """How much lies there (or is `offloaded`, …), of one door or of all. One indexed look at the statistics."""
        conditions = [storage_stats.c.state == state, _behind(storage_stats.c.door, door)]
        query = select(func.sum(storage_stats.c.videos), func.sum(storage_stats.c.bytes)).where(*conditions)
        async with self._database.reading() as conn:
            count, size = (await conn.execute(query)).one()
        return Totals(int(count or 0), int(size or 0))

    async def _add_copies(self, videos: Sequence[Video]) -> None:
        if not videos:
            return
        copies: dict[str, Any] = {}
        try:
            async with self._database.reading() as conn:
                copies = await copies_of(conn, [video["id"] for video in videos])
        except NotMadeYetError:
            pass  # just upgraded: what is known of the videos is shown until that of their copies is there
        for video in videos:
            video["replicas"] = [as_copy(row, video["revision"]) for row in copies.get(video["id"], ())]

    # ---------------------------------------------------------------- Replicas

    def copies(
        self, *, state: str | None = None, door: str | None = None, created_before: datetime | None = None
    ) -> AsyncIterator[VideoCopies]:
        """Every video with its copies, oldest first, page by page; see `streams.queries.Replicas`."""
        return all_copies(self._database, state=state, door=door, created_before=created_before)

    async def copies_caught_up(self, timeout: float) -> bool:
        """Wait until videos and copies have applied all that the log held at the call; False when time is up."""
        heads = await self._heads()
        deadline = time.monotonic() + timeout
        return await checkpoints.reached(self._database, "catalogue", heads, timeout) and await checkpoints.reached(
            self._database, "replicas", heads, max(0.0, deadline - time.monotonic())
        )

    # ---------------------------------------------------------------- work on videos

    async def media(self, video: str) -> MediaOf | None:
        """How the work on one video stands, and what came of it; None for what is no video that came in."""
        return await media_queries.media_of_video(self._database, video)

    async def media_of(self, videos: Sequence[str]) -> dict[str, MediaOf]:
        """The same of many, by id, without their metadata documents."""
        return await media_queries.media_of_videos(self._database, videos)

    async def media_of_client(self, client_id: str, limit: int, *, everyone: bool = False) -> Sequence[MediaOf]:
        """A client's videos (or everyone's), newest first, without their metadata documents."""
        return await media_queries.media_of_client(self._database, client_id, limit, everyone=everyone)

    async def media_positions(self) -> Sequence[int] | None:
        """Up to where in each partition what is known of that work follows the log; None: not made yet."""
        return await media_queries.media_positions(self._database)

    # ---------------------------------------------------------------- WatchedFiles

    async def known(self, root: str) -> KnownFiles:
        """Every path of a watched root at its newest generation, with those whose file is gone.

        Adopted rows below the root are among them, with revision 0 until the file was seen.
        """
        escaped = escape_path(root)
        prefix = escaped.rstrip("/") + "/"
        c = catalogue.c
        # 100,000 rows are usual here: no column is read that is not needed, rows are taken apart by position.
        # An adopted row that was never seen has its path only. Those first: one that is seen meanwhile comes twice
        # and counts as what it is now.
        rest = (c.id, c.ver, c.size, c.modified_ns, c.device, c.inode, c.revision, c.generation, c.number, c.state,
                c.moves, c.removals)  # fmt: skip
        adopted = and_(c.state == "adopted", func.substr(c.path, 1, len(prefix)) == prefix)
        queries = (
            select(func.substr(c.path, len(prefix) + 1), *rest).where(c.door == "watch", adopted),
            select(c.relative, *rest).where(c.door == "watch", c.root == escaped, c.state != "adopted"),
        )
        newest: dict[str, KnownFile] = {}
        async with self._database.reading(timeout=120) as conn:
            with garbage_uncollected():
                for query in queries:
                    for (
                        path, id, ver, size, modified_ns, device, inode, revision, generation, number, state, moves, removals
                    ) in (await conn.execute(query)).all():  # fmt: skip
                        relative = str(unescape_path(path)) if "\\" in path else path
                        present = state == "present"
                        former = newest.get(relative)
                        # A file that was moved here counts more than one that was removed from here before.
                        if former is not None and (former.present, former.generation) > (present, generation):
                            continue
                        newest[relative] = KnownFile(
                            id, ver, relative, size or 0, modified_ns or 0,
                            tables.unsigned(device or 0), tables.unsigned(inode or 0),
                            revision, generation, number or 0, present, moves, removals,
                        )  # fmt: skip
        return list(newest.values())

    async def caught_up(self, timeout: float) -> bool:
        """Wait until the catalogue has applied all that the log held at the call; False when time is up."""
        return await checkpoints.reached(self._database, "catalogue", await self._heads(), timeout)

    async def _heads(self) -> Sequence[int]:
        if self._log is None:
            raise ValueError("this catalogue was opened without a log")
        return await self._log.heads()

    # ---------------------------------------------------------------- LegacyRows

    async def foreign_rows(self) -> LegacyRowList:
        """Rows of the legacy `videos` table that no event explains, by number."""
        return await foreign_rows(self._database)

    async def all_rows(self) -> list[tuple[LegacyRow, str | None]]:  # type: ignore[valid-type]
        """Every row of the legacy `videos` table, by number, each with the id of its video where one is known."""
        return await all_rows(self._database)


_SORTS: dict[str, Any] = {
    "created": catalogue.c.created,
    "filename": catalogue.c.filename,
    "size": func.coalesce(catalogue.c.size, -1),
    "duration": func.coalesce(catalogue.c.duration, -1.0),
}


def _duplicate_of() -> Any:
    """The oldest video with the same content, where that is another one. Asked, not stored: a rebuild is equal."""
    other = catalogue.alias("other")
    older = or_(
        other.c.created < catalogue.c.created, and_(other.c.created == catalogue.c.created, other.c.id < catalogue.c.id)
    )
    return (
        select(other.c.id)
        .where(other.c.sha256 == catalogue.c.sha256, older)
        .order_by(other.c.created, other.c.id)
        .limit(1)
        .correlate(catalogue)
        .scalar_subquery()
        .label("duplicate_of")
    )


def _conditions(filters: Filters) -> Sequence[Any]:
    c = catalogue.c
    conditions: list[Any] = []
    conditions.append(_behind(c.door, filters.door))
    if filters.state is not None:
        conditions.append(c.state == filters.state)
    if filters.text is not None:
        part = filters.text.lower()
        conditions.append(
            or_(func.lower(c.filename).contains(part, autoescape=True), c.words.contains(part, autoescape=True))
        )
    if filters.codec is not None:
        conditions.append(or_(c.video_codec == filters.codec, c.audio_codec == filters.codec))
    conditions += narrowed(filters.replica, filters.copied)
    if filters.min_size is not None:
        conditions.append(c.size >= filters.min_size)
    if filters.max_size is not None:
        conditions.append(c.size <= filters.max_size)
    for column, least, most in (
        (c.height, filters.min_height, filters.max_height),
        (c.duration, filters.min_duration, filters.max_duration),
    ):
        conditions += [column >= least] if least is not None else []
        conditions += [column <= most] if most is not None else []
    if filters.hdr is not None:
        conditions.append(c.hdr.is_(true()) if filters.hdr else or_(c.hdr.is_(None), c.hdr.is_(false())))
    if filters.playable is not None:
        conditions.append(c.playable.is_not(None) if filters.playable else c.playable.is_(None))
    if filters.created_from is not None:
        conditions.append(c.created >= tables.utc(filters.created_from))
    if filters.created_before is not None:
        conditions.append(c.created < tables.utc(filters.created_before))
    return conditions


def _behind(column: Any, door: str | None) -> Any:
    """Of one door; None: of every door through which videos come in. Renditions are there when they are asked for."""
    return column != "rendition" if door is None else column == door


async def _one(conn: AsyncConnection, query: Select[Any]) -> Video | None:
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _video(dict(row))


def _video(row: dict[str, Any]) -> Video:
    row.pop("_key", None)
    for name in ("created", "modified", "updated"):
        row[name] = tables.aware(row[name])
    for name in ("device", "inode"):
        row[name] = None if row[name] is None else tables.unsigned(row[name])
    return row


def _write_cursor(sort: str, descending: bool, row: dict[str, Any]) -> str:
    key = row["_key"]
    value = key.isoformat(timespec="microseconds") if isinstance(key, datetime) else key
    return base64.urlsafe_b64encode(orjson.dumps([sort, descending, value, row["id"]])).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str, descending: bool) -> tuple[Any, str]:
    """The sort key and id that a cursor stands for."""
    try:
        stored = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        of_sort, of_order, value, last = stored
        if (of_sort, of_order) != (sort, descending) or not isinstance(last, str):
            raise ValueError("another list's")
        if sort == "created":
            value = datetime.fromisoformat(value)
        elif not isinstance(value, str if sort == "filename" else (int, float)):
            raise ValueError("no such key")
    except (ValueError, TypeError, binascii.Error) as error:
        raise RejectedError(400, "the cursor is not one of this list: begin again without it") from error
    return value, last

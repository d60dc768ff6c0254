"""What is asked about copies: those of a page of videos, and those of all videos, one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, not_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.catalogue import catalogue
from projections.database import Database
from projections.replicas import PLACES, key, replicas
from streams.paths import unescape_path
from streams.queries import CopyState, VideoCopies

PAGE = 500
"""Videos that are fetched at a time."""

Copy = dict[str, Any]
"""A copy as people see it: replica, revision, state, target, store, link, size, chunks, progress
(percent), started, completed, verified (aware), verified_deep, fault.

`state` is that of the table or `outdated`: it is whole, of content that was replaced since.
"""


async def copies_of(conn: AsyncConnection, videos: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of `replicas` of each of these videos, by its id, the object store first. One query."""
    found: dict[str, list[dict[str, Any]]] = {video: [] for video in videos}
    keys = [key(video, place) for video in videos for place in PLACES]
    for start in range(0, len(keys), 2 * PAGE):
        rows = await conn.execute(select(replicas).where(replicas.c.id.in_(keys[start : start + 2 * PAGE])))
        for row in rows.mappings():
            found[row["video"]].append(dict(row))
    for copies in found.values():
        copies.sort(key=lambda row: PLACES.index(row["replica"]))
    return found


def as_copy(row: dict[str, Any], revision: int) -> Copy:
    """A row of `replicas` as people see it, of a video of this revision."""
    state = row["state"]
    if row["revision"] < revision and state in {"complete", "damaged"}:
        # Parked before the copy of the newer content could even begin: that counts more.
        state = "failed" if row["fault"] and state == "complete" else "outdated"
    size, reached = row["size"], row["reached"]
    done = row["completed"] is not None or (size is not None and reached >= size > 0)
    return {
        "replica": row["replica"],
        "revision": row["revision"],
        "state": state,
        "target": row["target"] or None,
        "store": row["store"],
        "link": row["link"],
        "size": size,
        "chunks": row["chunks"],
        "progress": 100 if done else 100 * reached // size if size else 0,
        **{name: tables.aware(row[name]) for name in ("started", "completed", "verified")},
        "verified_deep": row["verified_deep"],
        "fault": row["fault"],
    }


def narrowed(replica: str | None, copied: bool | None) -> list[Any]:
    """Conditions on the catalogue: whether the current content has a whole copy (in one place, or in any)."""
    if replica is None and copied is None:
        return []
    r, c = replicas.c, catalogue.c
    of_this = and_(r.state == "complete", r.revision == c.revision) if copied is not None else true()
    # One for each place: each is a look at one primary key.
    there = or_(*(exists().where(r.id == c.id + f"/{place}", of_this) for place in ([replica] if replica else PLACES)))
    return [not_(there) if copied is False else there]


async def all_copies(
    database: Database, *, state: str | None, door: str | None, created_before: datetime | None
) -> AsyncIterator[VideoCopies]:
    """Every video with its copies, oldest first; see `streams.queries.Replicas`."""
    c = catalogue.c
    columns = (c.id, c.door, c.state, c.root, c.path, c.filename, c.size, c.created, c.revision)
    query = select(*columns).order_by(c.created, c.id).limit(PAGE)
    if state is not None:
        query = query.where(c.state == state)
    if door is not None:
        query = query.where(c.door == door)
    if created_before is not None:
        query = query.where(c.created < tables.utc(created_before))
    beyond: Any = None
    while True:
        async with database.reading(timeout=60) as conn:
            page = query if beyond is None else query.where(beyond)
            videos = (await conn.execute(page)).all()
            copies = await copies_of(conn, [video.id for video in videos])
        for video in videos:
            yield _video(video, copies[video.id])
        if len(videos) < PAGE:
            return
        last = videos[-1]
        beyond = or_(c.created > last.created, and_(c.created == last.created, c.id > last.id))


def _video(row: Any, copies: Sequence[dict[str, Any]]) -> VideoCopies:
    created = tables.aware(row.created)
    assert created is not None  # the column is not nullable
    return VideoCopies(
        id=row.id,
        door=row.door,
        state=row.state,
        root=None if row.root is None else unescape_path(row.root),
        path=unescape_path(row.path),
        filename=row.filename,
        size=row.size or 0,
        created=created,
        revision=row.revision,
        replicas=tuple(
            CopyState(
                video=one["video"],
                replica=one["replica"],
                revision=one["revision"],
                state=one["state"],
                target=one["target"],
                completed=tables.aware(one["completed"]),
                verified=tables.aware(one["verified"]),
                verified_deep=bool(one["verified_deep"]),
            )
            for one in copies
        ),
    )

"""What lies there and what happened to it: the upload service's lists, and the catalogue of every door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from api.formats import gigabytes, json_answer, json_bytes, local, megabytes
from api.parameters import Parameters
from api.services import SERVICES
from projections.copy_queries import Copy
from projections.queries import Filters, Sort, Video
from streams.errors import NotFoundError
from streams.paths import unescape_path

_log = structlog.get_logger(__name__)

DOORS = ("upload", "watch", "download", "rendition", "all")
STATES = ("present", "offloaded", "removed", "adopted", "all")
REPLICAS = ("s3", "drive", "any")
COPIED = {"yes": True, "no": False, "any": None}
SORTS: tuple[Sort, ...] = ("created", "filename", "size", "duration")

_SEARCHED = {
    *("door", "state", "q", "codec", "replica", "copied", "min_size", "max_size", "from", "before"),
    *("sort", "order", "limit", "cursor"),
}

CHUNK = 64 * 1024
"""Bytes of a streamed list that are sent at once."""


async def list_uploads(request: web.Request) -> web.StreamResponse:
    """`GET /api/videos/list?door=&limit=&cursor=`: what lies there, oldest first; all of it without a limit."""
    catalogue, asked = request.app[SERVICES].catalogue, Parameters(request.query, {"door", "limit", "cursor"})
    door = _door(asked, "upload")
    limit, cursor = asked.integer("limit", 1, 1000), asked.text("cursor")
    if limit is None and cursor is None:
        return await _stream(request, catalogue.files(door))
    page = await catalogue.list(
        Filters(door=door, state="present"), descending=False, cursor=cursor, limit=limit or 100
    )
    total = sum(video["size"] or 0 for video in page.videos)
    return json_answer(
        {
            "success": True,
            "videos": [_as_file(video) for video in page.videos],
            "count": len(page.videos),
            "total_size_mb": megabytes(total),
            "next": page.cursor,
        }
    )


async def storage_stats(request: web.Request) -> web.Response:
    """`GET /api/videos/storage-stats?door=`: how many and how much."""
    services, asked = request.app[SERVICES], Parameters(request.query, {"door"})
    totals = await services.catalogue.totals(_door(asked, "upload"))
    return json_answer(
        {
            "success": True,
            "video_count": totals.count,
            "total_size_bytes": totals.size,
            "total_size_mb": megabytes(totals.size),
            "total_size_gb": gigabytes(totals.size),
            "storage_path": str(services.settings.uploads),
        }
    )


async def video_info(request: web.Request) -> web.Response:
    """`GET /api/video-info/<filename>?door=`: one file by its name (a watched one: its path below the root)."""
    asked = Parameters(request.query, {"door"})
    name = request.match_info["filename"]
    # Lists show what is not UTF-8 escaped, and so it is asked for; queries want it as `os` gives it.
    video = await request.app[SERVICES].catalogue.by_filename(unescape_path(name), door=_door(asked, "upload"))
    if video is None:
        raise NotFoundError(f"There is no video {name!r}.")
    return json_answer({"success": True, **_as_file(video), "id": video["id"]})


async def search(request: web.Request) -> web.Response:
    """`GET /api/videos`: the catalogue of every door, filtered, sorted, page by page.

    `?replica=s3&copied=no`: what has no whole copy there yet.
    """
    asked = Parameters(request.query, _SEARCHED)
    state, replica = asked.choice("state", STATES, "all"), asked.choice("replica", REPLICAS, "any")
    page = await request.app[SERVICES].catalogue.list(
        Filters(
            door=_door(asked, "all"),
            state=None if state == "all" else state,
            text=asked.text("q"),
            codec=asked.text("codec"),
            replica=None if replica == "any" else replica,
            copied=COPIED[asked.choice("copied", list(COPIED), "any")],
            min_size=asked.integer("min_size", 0, 2**62),
            max_size=asked.integer("max_size", 0, 2**62),
            created_from=asked.time("from"),
            created_before=asked.time("before"),
        ),
        sort=asked.choice("sort", SORTS, "created"),
        descending=asked.choice("order", ("asc", "desc"), "desc") == "desc",
        cursor=asked.text("cursor"),
        limit=asked.integer("limit", 1, 500) or 50,
    )
    return json_answer(
        {
            "success": True,
            "videos": [as_video(video) for video in page.videos],
            "count": len(page.videos),
            "next": page.cursor,
        }
    )


async def one(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>`: all that is known of one video."""
    video = await request.app[SERVICES].catalogue.get(request.match_info["id"])
    if video is None:
        raise _unknown(request)
    return json_answer({"success": True, **as_video(video)})


async def events(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>/events`: everything that happened to one video, in order, in words."""
    services, asked = request.app[SERVICES], Parameters(request.query, {"after", "limit"})
    after, limit = asked.integer("after", 0, 2**62) or 0, asked.integer("limit", 1, 10_000)
    found = await services.history(request.match_info["id"], after=after, limit=limit)
    if not found and not after:
        raise _unknown(request)
    return json_answer(
        {
            "success": True,
            "id": request.match_info["id"],
            "events": [as_happening(row) for row in found],
            "count": len(found),
        }
    )


def as_happening(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the timeline as the API shows it; `what` is for people, `data` for programs.

    Of a run of events (chunks), `data` is that of the newest, everything else that tells one event that of the first.
    """
    return {
        "ver": row["ver"],
        "last_ver": row["last_ver"],
        "events": row["events"],
        "time": local(row["time"]),
        "last_time": local(row["last_time"]),
        "type": row["type"],
        "what": row["summary"],
        "source": row["source"],
        "id": row["id"],
        "cause": row["cause"],
        "place": f"{row['partition']:02d}/{row['pos']}",
        "data": row["data"],
    }


def as_video(video: Video) -> dict[str, Any]:
    """A row of the catalogue as the API shows it: sizes in bytes, dates in local time."""
    return {
        "id": video["id"],
        "door": video["door"],
        "state": video["state"],
        "present": video["state"] not in {"removed", "offloaded"},
        "filename": video["filename"],
        "stored_name": video["stored_name"],
        "path": video["path"],
        "root": video["root"],
        "relative": video["relative"],
        "number": video["number"],
        "size_bytes": video["size"],
        "size_mb": None if video["size"] is None else megabytes(video["size"]),
        "created": local(video["created"]),
        "modified": local(video["modified"]),
        "duration": video["duration"],
        "width": video["width"],
        "height": video["height"],
        "video_codec": video["video_codec"],
        "audio_codec": video["audio_codec"],
        "container": video["container"],
        "frame_rate": video["frame_rate"],
        "bit_rate": video["bit_rate"],
        "mime": video["mime"],
        "label": video["label"],
        "original_name": video["original_name"],
        "sha256": video["sha256"],
        "revision": video["revision"],
        "adopted": video["adopted"],
        "damaged": video["damaged"],
        "probe_error": video["probe_error"],
        "parked": video["parked"],
        "duplicate_of": video["duplicate_of"],
        "poster": video["poster"],
        "playable": video["playable"],
        "rendition_of": video["rendition_of"],
        "replicas": [as_copy(copy) for copy in video["replicas"]],
    }


def as_copy(copy: Copy) -> dict[str, Any]:
    """A copy as the API shows it: sizes in bytes, `progress` in percent, dates in local time."""
    return {**copy, **{name: local(copy[name]) for name in ("started", "completed", "verified")}}


def _as_file(video: Video) -> dict[str, Any]:
    """The five facts of the upload service, and whether the content was there before."""
    size = video["size"] or 0
    shown: dict[str, Any] = {
        "filename": video["relative"] or video["stored_name"],
        "size_bytes": size,
        "size_mb": megabytes(size),
        "created": local(video["created"]),
        "modified": local(video["modified"]),
    }
    if video["duplicate_of"]:
        shown["duplicate_of"] = video["duplicate_of"]
    return shown


async def _stream(request: web.Request, videos: AsyncIterator[Video]) -> web.StreamResponse:
    """Everything, sent while it is read. The first row is awaited before anything is promised."""
    first = await anext(videos, None)
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    try:
        buffer, count, size = bytearray(b'{"success":true,"videos":['), 0, 0
        video = first
        while video is not None:
            buffer += (b"," if count else b"") + json_bytes(_as_file(video))
            count, size = count + 1, size + (video["size"] or 0)
            if len(buffer) > CHUNK:
                await response.write(bytes(buffer))
                buffer.clear()
            video = await anext(videos, None)
        buffer += b'],"count":%d,"total_size_mb":%s}' % (count, json_bytes(megabytes(size)))
        await response.write(bytes(buffer))
        await response.write_eof()
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was, the client must not take this for the whole list
        # Too late for another status: a connection that breaks says that the list is not whole.
        _log.exception("list broke off")
        if request.transport is not None:
            request.transport.abort()
    return response


def _door(asked: Parameters, default: str) -> str | None:
    door = asked.choice("door", DOORS, default)
    return None if door == "all" else door


def _unknown(request: web.Request) -> NotFoundError:
    return NotFoundError(f"There is no video {request.match_info['id']!r}.")

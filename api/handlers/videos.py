"""What lies there and what happened to it: the upload service's lists, and the catalogue of every door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import hdrs, web

from api.formats import gigabytes, json_answer, json_bytes, local, megabytes
from api.openapi.describing import Answer, documented
from api.openapi.examples import VIDEO
from api.parameters import Choice, Integer, Parameters, Text, Time
from api.services import SERVICES
from api.shapes import (
    Happening,
    History,
    OneFile,
    OneVideo,
    ShownCopy,
    ShownVideo,
    StorageStats,
    StoredFile,
    StoredFiles,
    Videos,
)
from projections.copy_queries import Copy
from projections.queries import Filters, Sort, Video
from streams.errors import NotFoundError
from streams.paths import unescape_path

_log = structlog.get_logger(__name__)

DOORS = ("upload", "watch", "download", "rendition", "all")
STATES = ("present", "offloaded", "removed", "adopted", "all")
REPLICAS = ("s3", "drive", "any")
YES_NO = {"yes": True, "no": False, "any": None}
SORTS: tuple[Sort, ...] = ("created", "filename", "size", "duration")

ID = {"id": "The video's id."}

UPLOADS_UNLESS = Choice("door", "Only what came in by this one; `all`: by any.", DOORS, "upload")
LIST_LIMIT = Integer("limit", "So many at the most, with a `next` for the following ones.", 1, 1000)
CURSOR = Text("cursor", "`next` of the page before.", opaque=True)

DOOR = Choice("door", "Only what came in by this one.", DOORS, "all")
STATE = Choice("state", "Only what is in this state.", STATES, "all")
NAME_PART = Text("q", "Part of the file's name, or of a title, tag or chapter in it, in any letter case.")
CODEC = Text("codec", "Codec of picture or sound, e.g. `h264`.")
REPLICA = Choice(
    "replica", "Only what has a copy in this place; with `copied=no`: what has no whole one.", REPLICAS, "any"
)
IS_COPIED = Choice("copied", "Whether there is a whole copy of the present content there.", tuple(YES_NO), "any")
MIN_SIZE = Integer("min_size", "Bytes, at least.", 0, 2**62)
MAX_SIZE = Integer("max_size", "Bytes, at the most.", 0, 2**62)
MIN_HEIGHT = Integer("min_height", "Rows of the picture, at least: 1080 for full HD.", 0, 2**31)
MAX_HEIGHT = Integer("max_height", "Rows of the picture, at the most.", 0, 2**31)
MIN_DURATION = Integer("min_duration", "Seconds, at least.", 0, 2**31)
MAX_DURATION = Integer("max_duration", "Seconds, at the most.", 0, 2**31)
HDR = Choice("hdr", "Whether it is in a high dynamic range.", tuple(YES_NO), "any")
PLAYABLE = Choice(
    "playable", "Whether there is a rendition of the present content that every browser plays.", tuple(YES_NO), "any"
)
FROM = Time("from", "Came in at this time or later.")
BEFORE = Time("before", "Came in earlier than this.")
SORT = Choice("sort", "What it is sorted by.", SORTS, "created")
ORDER = Choice("order", "Up or down.", ("asc", "desc"), "desc")
LIMIT = Integer("limit", "So many at the most.", 1, 500, 50)

SEARCHED = (
    *(DOOR, STATE, NAME_PART, CODEC, REPLICA, IS_COPIED, MIN_SIZE, MAX_SIZE, FROM, BEFORE),
    *(MIN_HEIGHT, MAX_HEIGHT, MIN_DURATION, MAX_DURATION, HDR, PLAYABLE),
    *(SORT, ORDER, LIMIT, CURSOR),
)

AFTER = Integer("after", "Only what came after this version of the video.", 0, 2**62)
EVENTS_LIMIT = Integer("limit", "So many at the most.", 1, 10_000)

CHUNK = 64 * 1024
"""Bytes of a streamed list that are sent at once."""


@documented(
    "Uploads",
    {200: Answer("The list.", StoredFiles)},
    refuses=(503,),
    query=(UPLOADS_UNLESS, LIST_LIMIT, CURSOR),
)
async def list_uploads(request: web.Request) -> web.StreamResponse:
    """`GET /api/videos/list?door=&limit=&cursor=`: what lies there, oldest first. All of it without a limit."""
    catalogue = request.app[SERVICES].catalogue
    asked = Parameters(request.query, (UPLOADS_UNLESS, LIST_LIMIT, CURSOR))
    door = _or_none(asked[UPLOADS_UNLESS], "all")
    limit, cursor = asked[LIST_LIMIT], asked[CURSOR]
    if limit is None and cursor is None:
        return await _stream(request, catalogue.files(door))
    page = await catalogue.list(
        Filters(door=door, state="present"), descending=False, cursor=cursor, limit=limit or 100
    )
    total = sum(video["size"] or 0 for video in page.videos)
    told: StoredFiles = {
        "success": True,
        "videos": [_as_file(video) for video in page.videos],
        "count": len(page.videos),
        "total_size_mb": megabytes(total),
        "next": page.cursor,
    }
    return json_answer(told)


@documented("Uploads", {200: Answer("The figures.", StorageStats)}, refuses=(503,), query=(UPLOADS_UNLESS,))
async def storage_stats(request: web.Request) -> web.Response:
    """`GET /api/videos/storage-stats?door=`: how many and how much."""
    services, asked = request.app[SERVICES], Parameters(request.query, (UPLOADS_UNLESS,))
    totals = await services.catalogue.totals(_or_none(asked[UPLOADS_UNLESS], "all"))
    told: StorageStats = {
        "success": True,
        "video_count": totals.count,
        "total_size_bytes": totals.size,
        "total_size_mb": megabytes(totals.size),
        "total_size_gb": gigabytes(totals.size),
        "storage_path": str(services.settings.uploads),
    }
    return json_answer(told)


@documented(
    "Uploads",
    {200: Answer("The file.", OneFile)},
    refuses=(404, 503),
    path={"filename": "As in the list; slashes of a path below a watched root stay as they are."},
    query=(UPLOADS_UNLESS,),
)
async def video_info(request: web.Request) -> web.Response:
    """`GET /api/video-info/<filename>?door=`: one file by its name (a watched one: its path below the root)."""
    asked = Parameters(request.query, (UPLOADS_UNLESS,))
    name = request.match_info["filename"]
    # Lists show what is not UTF-8 escaped, and so it is asked for; queries want it as `os` gives it.
    door = _or_none(asked[UPLOADS_UNLESS], "all")
    video = await request.app[SERVICES].catalogue.by_filename(unescape_path(name), door=door)
    if video is None:
        raise NotFoundError(f"There is no video {name!r}.")
    told: OneFile = {"success": True, **_as_file(video), "id": video["id"]}
    return json_answer(told)


@documented(
    "Catalogue",
    {200: Answer("A page.", Videos, example={"success": True, "videos": [VIDEO], "count": 1, "next": None})},
    refuses=(503,),
    query=SEARCHED,
)
async def search(request: web.Request) -> web.Response:
    """`GET /api/videos`: the catalogue of every door, filtered, sorted, page by page.

    `?replica=s3&copied=no`: what has no whole copy there yet.
    """
    asked = Parameters(request.query, SEARCHED)
    page = await request.app[SERVICES].catalogue.list(
        Filters(
            door=_or_none(asked[DOOR], "all"),
            state=_or_none(asked[STATE], "all"),
            text=asked[NAME_PART],
            codec=asked[CODEC],
            replica=_or_none(asked[REPLICA], "any"),
            copied=YES_NO[asked[IS_COPIED]],
            min_size=asked[MIN_SIZE],
            max_size=asked[MAX_SIZE],
            min_height=asked[MIN_HEIGHT],
            max_height=asked[MAX_HEIGHT],
            min_duration=asked[MIN_DURATION],
            max_duration=asked[MAX_DURATION],
            hdr=YES_NO[asked[HDR]],
            playable=YES_NO[asked[PLAYABLE]],
            created_from=asked[FROM],
            created_before=asked[BEFORE],
        ),
        sort=asked[SORT],
        descending=asked[ORDER] == "desc",
        cursor=asked[CURSOR],
        limit=asked[LIMIT] or 50,
    )
    told: Videos = {
        "success": True,
        "videos": [as_video(video) for video in page.videos],
        "count": len(page.videos),
        "next": page.cursor,
    }
    return json_answer(told)


@documented(
    "Catalogue",
    {200: Answer("The video.", OneVideo, example={"success": True, **VIDEO})},
    refuses=(404, 503),
    path=ID,
)
async def one(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>`: all that is known of one video."""
    video = await request.app[SERVICES].catalogue.get(request.match_info["id"])
    if video is None:
        raise _unknown(request)
    told: OneVideo = {"success": True, **as_video(video)}
    return json_answer(told)


@documented(
    "Catalogue", {200: Answer("Its history.", History)}, refuses=(404, 503), path=ID, query=(AFTER, EVENTS_LIMIT)
)
async def events(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>/events`: everything that happened to one video, in order, in words."""
    services, asked = request.app[SERVICES], Parameters(request.query, (AFTER, EVENTS_LIMIT))
    after, limit = asked[AFTER] or 0, asked[EVENTS_LIMIT]
    found = await services.history(request.match_info["id"], after=after, limit=limit)
    if not found and not after:
        raise _unknown(request)
    told: History = {
        "success": True,
        "id": request.match_info["id"],
        "events": [as_happening(row) for row in found],
        "count": len(found),
    }
    return json_answer(told)


def as_happening(row: dict[str, Any]) -> Happening:
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


def as_video(video: Video) -> ShownVideo:
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
        "title": video["title"],
        "recorded": video["recorded"],
        "profile": video["profile"],
        "pixel_format": video["pixel_format"],
        "rotation": video["rotation"],
        "hdr": video["hdr"],
        "channels": video["channels"],
        "poster": video["poster"],
        "playable": video["playable"],
        "rendition_of": video["rendition_of"],
        "replicas": [as_copy(copy) for copy in video["replicas"]],
    }


def as_copy(copy: Copy) -> ShownCopy:
    """A copy as the API shows it: sizes in bytes, `progress` in percent, dates in local time."""
    return {
        "replica": copy["replica"],
        "revision": copy["revision"],
        "state": copy["state"],
        "target": copy["target"],
        "store": copy["store"],
        "link": copy["link"],
        "size": copy["size"],
        "chunks": copy["chunks"],
        "progress": copy["progress"],
        "started": local(copy["started"]),
        "completed": local(copy["completed"]),
        "verified": local(copy["verified"]),
        "verified_deep": copy["verified_deep"],
        "fault": copy["fault"],
    }


def _as_file(video: Video) -> StoredFile:
    """The five facts of the upload service, and whether the content was there before."""
    size = video["size"] or 0
    shown: StoredFile = {
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
    if request.method == hdrs.METH_HEAD:
        return response
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


def _or_none(choice: str, all_of_them: str) -> str | None:
    return None if choice == all_of_them else choice


def _unknown(request: web.Request) -> NotFoundError:
    return NotFoundError(f"There is no video {request.match_info['id']!r}.")

"""How the work on one file stands: `GET /internal/<task>-status/{file_id}`."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from api.formats import json_answer
from api.media_shapes import TaskStatus
from api.openapi.describing import Answer, documented
from api.openapi.examples import VIDEO_ID
from api.percentages import PERCENTAGES
from api.standings import STANDINGS
from streams.errors import NotFoundError
from streams.media import Task

RESULTS: Mapping[Task, str] = {
    "video-enhancement": "/processed_videos/{}",
    "metadata-extraction": "/metadata/{}.json",
    "previews": "/api/videos/{}/poster",
}
"""Where what came of a task can be had."""

_NOT_ASKED = {
    "video-enhancement": "nobody asked for it: `spoolhouse enhance {}` does, and so does every POST /upload",
    "metadata-extraction": "it is not read",
    "previews": "no pictures are made here (SPOOLHOUSE_PREVIEWS)",
}


FILE_ID = {"file_id": "What the upload was given."}

ENHANCING: TaskStatus = {
    "file_id": VIDEO_ID,
    "filename": "clip.mp4",
    "task": "video-enhancement",
    "status": "processing",
    "progress": 42.5,
    "message": "encoding",
    "error": None,
    "time": "2024-11-12T14:30:58.120+01:00",
    "result": None,
}
EXTRACTED: TaskStatus = {
    **ENHANCING,
    "task": "metadata-extraction",
    "status": "completed",
    "progress": 100.0,
    "message": "done",
    "result": f"/metadata/{VIDEO_ID}.json",
}


@documented("Media", {200: Answer("How it stands.", TaskStatus, example=ENHANCING)}, refuses=(404, 503), path=FILE_ID)
async def enhancement(request: web.Request) -> web.Response:
    """`GET /internal/video-enhancement-status/{file_id}`: how far the enhancement of a video is."""
    return await _answer(request, "video-enhancement")


@documented("Media", {200: Answer("How it stands.", TaskStatus, example=EXTRACTED)}, refuses=(404, 503), path=FILE_ID)
async def extraction(request: web.Request) -> web.Response:
    """`GET /internal/metadata-extraction-status/{file_id}`: how far reading a video's metadata is."""
    return await _answer(request, "metadata-extraction")


async def _answer(request: web.Request, task: Task) -> web.Response:
    """200 with the status, `none` where nobody asked for the task; 404 for what is no file that came in."""
    file_id = request.match_info["file_id"]
    media = await request.app[STANDINGS].of(file_id)
    if media is None:
        raise NotFoundError(f"There is no file {file_id[:100]!r}.")
    state = media.tasks.get(task)
    shown = None if state is None else request.app[PERCENTAGES].shown(media.video, state)
    told: TaskStatus = {
        "file_id": file_id,
        "filename": media.filename,
        "task": task,
        "status": "none" if shown is None else shown.status,
        "progress": 0 if shown is None else shown.percent,
        "message": _NOT_ASKED[task].format(media.video) if shown is None else shown.message,
        "error": None,
        "time": None if state is None else state.at.astimezone().isoformat(timespec="milliseconds"),
        "result": None,
    }
    if state is not None and told["status"] != "processing":
        told["error"] = state.error
    if told["status"] == "completed":
        told["result"] = RESULTS[task].format(media.video)
    return json_answer(told)

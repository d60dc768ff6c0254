"""How the work on one file stands: `GET /internal/<task>-status/{file_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.formats import json_answer
from api.percentages import PERCENTAGES
from api.standings import STANDINGS
from streams.errors import NotFoundError
from streams.media import MediaOf, Task

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


async def enhancement(request: web.Request) -> web.Response:
    """`GET /internal/video-enhancement-status/{file_id}`."""
    return await _answer(request, "video-enhancement")


async def extraction(request: web.Request) -> web.Response:
    """`GET /internal/metadata-extraction-status/{file_id}`."""
    return await _answer(request, "metadata-extraction")


async def _answer(request: web.Request, task: Task) -> web.Response:
    """200 with the status, `none` where nobody asked for the task; 404 for what is no file that came in."""
    file_id = request.match_info["file_id"]
    media = await request.app[STANDINGS].of(file_id)
    if media is None:
        raise NotFoundError(f"There is no file {file_id[:100]!r}.")
    return json_answer({"file_id": file_id, "filename": media.filename, "task": task, **_stands(request, media, task)})


def _stands(request: web.Request, media: MediaOf, task: Task) -> dict[str, Any]:
    state = media.tasks.get(task)
    if state is None:
        message = _NOT_ASKED[task].format(media.video)
        return {"status": "none", "progress": 0, "message": message, "error": None, "time": None, "result": None}
    shown = request.app[PERCENTAGES].shown(media.video, state)
    return {
        "status": shown.status,
        "progress": shown.percent,
        "message": shown.message,
        "error": state.error if shown.status != "processing" else None,
        "time": state.at.astimezone().isoformat(timespec="milliseconds"),
        "result": RESULTS[task].format(media.video) if shown.status == "completed" else None,
    }

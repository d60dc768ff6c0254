"""`POST /api/videos/{id}/enhance`: renditions of a video."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from api.enhancing import ask
from api.formats import json_answer
from api.media_shapes import EnhanceWish
from api.openapi.describing import Answer, Body, documented
from api.services import SERVICES
from api.shapes import EnhancementAsked
from api.standings import STANDINGS
from streams.errors import RejectedError

KNOWN = {"preset", "hls"}


@documented(
    "Media",
    {202: Answer("It is in the queue.", EnhancementAsked)},
    refuses=(400, 404, 409, 413, 503),
    path={"id": "The video's id."},
    body=Body("What is wanted; nothing at all is fine, too.", EnhanceWish, example={"preset": "web"}, required=False),
)
async def enhance(request: web.Request) -> web.Response:
    """Ask for a rendition of a video that every browser plays.

    What is there already by the same preset is not made again. `status_url` tells what becomes of it, and so do
    the WebSocket messages; then `GET /processed_videos/{file_id}` streams it.
    """
    services = request.app[SERVICES]
    preset, hls = _wish(await request.read())
    asked = await ask(services.log, services.settings, request.match_info["id"], preset, hls=hls)
    request.app[STANDINGS].asked(asked.video, asked.ver)
    told: EnhancementAsked = {
        "success": True,
        "id": asked.video,
        "preset": asked.preset,
        "hls": asked.hls or services.settings.hls,
        "message": f"A rendition by the preset {asked.preset} is in the queue.",
        "status_url": f"/internal/video-enhancement-status/{asked.video}",
    }
    return json_answer(told, status=202)


def _wish(body: bytes) -> tuple[str | None, bool]:
    """What a body asks for. Raises RejectedError (400)."""
    try:
        told: Any = orjson.loads(body) if body.strip() else {}
    except ValueError as error:
        raise RejectedError(400, f"The body is no JSON: {error}.") from error
    if not isinstance(told, dict):
        raise RejectedError(400, 'The body must be a JSON object such as {"preset": "web"}.')
    if unknown := sorted(set(told) - KNOWN):
        raise RejectedError(400, f"Unknown {', '.join(unknown)[:200]}. There are: {', '.join(sorted(KNOWN))}.")
    preset, hls = told.get("preset"), told.get("hls", False)
    if preset is not None and not isinstance(preset, str):
        raise RejectedError(400, "`preset` must be the name of a preset.")
    if not isinstance(hls, bool):
        raise RejectedError(400, "`hls` must be true or false.")
    return preset or None, hls

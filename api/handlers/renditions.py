"""`POST /api/videos/{id}/enhance`: renditions of a video."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from api.enhancing import ask
from api.formats import json_answer
from api.services import SERVICES
from streams.errors import RejectedError

KNOWN = {"preset", "hls"}


async def enhance(request: web.Request) -> web.Response:
    """Ask for a rendition: `{"preset": "web", "hls": false}`, both optional. 202; the status endpoints tell the rest."""
    services = request.app[SERVICES]
    preset, hls = _wish(await request.read())
    asked = await ask(services.log, services.settings, request.match_info["id"], preset, hls=hls)
    return json_answer(
        {
            "success": True,
            "id": asked.video,
            "preset": asked.preset,
            "hls": asked.hls or services.settings.hls,
            "message": f"A rendition by the preset {asked.preset} is in the queue.",
            "status_url": f"/internal/video-enhancement-status/{asked.video}",
        },
        status=202,
    )


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

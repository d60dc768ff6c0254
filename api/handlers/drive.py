"""`POST /api/videos/{id}/drive/retry`: once more to Google Drive."""

from __future__ import annotations

from aiohttp import web

from api.drive_retrying import retry
from api.formats import json_answer
from api.services import SERVICES


async def retry_drive(request: web.Request) -> web.Response:
    """200 where it is in Drive already, 202 where it is tried now; 404, 409 and 503 say why not."""
    services = request.app[SERVICES]
    done = await retry(services.log, services.settings, request.match_info["id"])
    complete = done.outcome == "complete"
    return json_answer(
        {
            "success": True,
            "id": done.video,
            "state": done.outcome,
            "video_id": done.file_id if complete else done.video,
            "drive_link": done.link,
            "message": f"The video {done.words}.",
            "status_url": f"/api/videos/{done.video}",
        },
        status=200 if complete else 202,
    )

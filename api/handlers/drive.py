"""`POST /api/videos/{id}/drive/retry`: once more to Google Drive."""

from __future__ import annotations

from aiohttp import web

from api.drive_retrying import retry
from api.formats import json_answer
from api.openapi.describing import Answer, documented
from api.services import SERVICES
from api.shapes import DriveRetried


@documented(
    "Catalogue",
    {
        200: Answer("It is in Drive already.", DriveRetried),
        202: Answer("It is tried now.", DriveRetried),
    },
    refuses=(404, 409, 503),
    path={"id": "The video's id."},
)
async def retry_drive(request: web.Request) -> web.Response:
    """Once more to Google Drive.

    For a video whose copy there failed: what was given up is taken up again, what waits for its next try has
    it now, what was never asked for is. Whether it then works, `GET /api/videos/{id}` tells.
    """
    services = request.app[SERVICES]
    done = await retry(services.log, services.settings, request.match_info["id"])
    complete = done.outcome == "complete"
    told: DriveRetried = {
        "success": True,
        "id": done.video,
        "state": done.outcome,
        "video_id": done.file_id if complete else done.video,
        "drive_link": done.link,
        "message": f"The video {done.words}.",
        "status_url": f"/api/videos/{done.video}",
    }
    return json_answer(told, status=200 if complete else 202)

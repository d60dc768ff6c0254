"""`POST /api/upload-video`: a form with a `video` file and, before or after it, a `contentType` text."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from api.drive_waiting import DRIVE, Failed, Pending
from api.formats import json_answer, megabytes, refusal
from api.metrics import METRICS
from api.receiving import Fields, receive
from api.services import SERVICES, Stored
from api.standings import STANDINGS
from streams.paths import escape_path

FORM = Fields(file="video", label="contentType")


async def upload_video(request: web.Request) -> web.Response:
    """Take one video in. Without Google Drive: 200 once it is durable, whatever else is down.

    With Drive the answer waits for the copy there: 200 with its link, 502 where it failed, 202 where it
    follows later. Nothing of an upload that is refused or broken off is left behind.
    """
    stored = await receive(request, FORM)
    request.app[STANDINGS].stored(stored)
    if not request.app[SERVICES].settings.drive_configured:
        return json_answer(_told(stored, stored.video, None))
    return await _with_drive(request, stored)


async def _with_drive(request: web.Request, stored: Stored) -> web.Response:
    drive = request.app[METRICS].drive
    follows = {"status_url": f"/api/videos/{stored.video}"}
    if not stored.logged:  # the video is safe, and all else follows once Redis is back
        drive.labels("pending").inc()
        return json_answer(_told(stored, stored.video, None) | follows)
    began = time.monotonic()
    outcome = await request.app[DRIVE].outcome(stored, lambda: request.transport is None)
    match outcome:
        case Failed():
            drive.labels("failed").inc()
            return refusal(
                502,
                f"Failed to upload to Drive: {outcome.reason}",
                local_backup=escape_path(str(stored.path)),
                message="Video saved locally but Drive upload failed. Video is NOT lost.",
                id=stored.video,
                **follows,
            )
        case Pending():
            drive.labels("pending").inc()
            return json_answer(_told(stored, stored.video, None) | follows, status=202)
        case _:
            drive.labels("completed").inc()
            request.app[METRICS].drive_seconds.observe(time.monotonic() - began)
            return json_answer(_told(stored, outcome.file_id, outcome.link))


def _told(stored: Stored, video_id: str, link: str | None) -> dict[str, Any]:
    """What scripts read of a video that was taken in."""
    return {
        "success": True,
        "video_id": video_id,
        "drive_link": link,
        "filename": stored.event.filename,
        "local_backup": escape_path(str(stored.path)),
        "file_size_mb": megabytes(stored.event.size),
        "id": stored.video,
    }

"""`POST /api/upload-video`: a form with a `video` file and, before or after it, a `contentType` text."""

from __future__ import annotations

import time

from aiohttp import web

from api.drive_waiting import DRIVE, Failed, Pending
from api.formats import json_answer, megabytes, refusal
from api.metrics import METRICS
from api.openapi.describing import MULTIPART, Answer, Body, documented
from api.receiving import Fields, receive
from api.services import SERVICES, Stored
from api.shapes import DriveRefusal, Uploaded, VideoForm
from api.standings import STANDINGS
from streams.paths import escape_path

FORM = Fields(file="video", label="contentType")

UPLOADED: Uploaded = {
    "success": True,
    "video_id": "1pQdV9cQn0wJmM6sXo0b7l7kq2o4yJ8fT",
    "drive_link": "https://drive.google.com/file/d/1pQdV9cQn0wJmM6sXo0b7l7kq2o4yJ8fT/view",
    "filename": "Tutorial_video.mp4",
    "local_backup": "/srv/spoolhouse/uploaded_videos/20241112_143052_Tutorial_video.mp4",
    "file_size_mb": 15.5,
    "id": "8f0a4c1e-6a53-4f0e-9a2b-3d1f7a5c9e10",
}


@documented(
    "Uploads",
    {
        200: Answer("It is stored; with Drive configured, its copy is there too.", Uploaded, example=UPLOADED),
        202: Answer("It is stored, and its copy in Drive follows; `status_url` tells.", Uploaded),
        502: Answer("It is stored, and its copy in Drive failed; that is tried again by itself.", DriveRefusal),
    },
    refuses=(400, 408, 413, 415, 417, 507),
    body=Body("One video, and whatever else in any order.", VideoForm, MULTIPART),
)
async def upload_video(request: web.Request) -> web.Response:
    """Take one video in. Without Google Drive: 200 once it is durable, whatever else is down.

    With Drive the answer waits for the copy there: 200 with its link, 502 where it failed, 202 where it
    follows later. Nothing of an upload that is refused or broken off is left behind.
    What is positively no video is refused (415); a damaged one is taken and marked.
    """
    stored = await receive(request, FORM)
    request.app[STANDINGS].stored(stored)
    if not request.app[SERVICES].settings.drive_configured:
        return json_answer(_told(stored, stored.video, None))
    return await _with_drive(request, stored)


async def _with_drive(request: web.Request, stored: Stored) -> web.Response:
    drive = request.app[METRICS].drive
    status_url = f"/api/videos/{stored.video}"
    follows: Uploaded = {**_told(stored, stored.video, None), "status_url": status_url}
    if not stored.logged:  # the video is safe, and all else follows once Redis is back
        drive.labels("pending").inc()
        return json_answer(follows)
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
                status_url=status_url,
            )
        case Pending():
            drive.labels("pending").inc()
            return json_answer(follows, status=202)
        case _:
            drive.labels("completed").inc()
            request.app[METRICS].drive_seconds.observe(time.monotonic() - began)
            return json_answer(_told(stored, outcome.file_id, outcome.link))


def _told(stored: Stored, video_id: str, link: str | None) -> Uploaded:
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

"""`POST /upload`: a form with a `file`; what plays in every browser is made of it."""

from __future__ import annotations

from aiohttp import web

from api.formats import json_answer
from api.media_shapes import FileForm, FileTaken
from api.openapi.describing import MULTIPART, Answer, Body, documented
from api.openapi.examples import VIDEO_ID
from api.receiving import Fields, receive
from api.standings import STANDINGS

FORM = Fields(file="file", client="client_id", enhance=True)


TAKEN: FileTaken = {"file_id": VIDEO_ID, "filename": "clip.mp4", "status": "uploaded", "client_id": "test_client"}


@documented(
    "Media",
    {200: Answer("It is stored.", FileTaken, example=TAKEN)},
    refuses=(400, 408, 413, 415, 417, 507),
    body=Body("One video, and who wants to hear of it.", FileForm, MULTIPART),
)
async def upload(request: web.Request) -> web.Response:
    """Take one video in, to be enhanced. 200 once it is durable, whatever else is down.

    What follows (reading its metadata, making a rendition that every browser plays, taking pictures of it) is told
    by its status and over the WebSocket. What is positively no video is refused (415) with the reason.

    `client_id`, before or after the file: whoever opens `/ws/{client_id}` hears of it.
    """
    stored = await receive(request, FORM)
    request.app[STANDINGS].stored(stored)
    told: FileTaken = {
        "file_id": stored.video,
        "filename": stored.event.original_name,
        "status": "uploaded",
        "client_id": stored.event.client_id,
    }
    return json_answer(told)

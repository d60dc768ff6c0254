"""`POST /upload`: a form with a `file`; what plays in every browser is made of it."""

from __future__ import annotations

from aiohttp import web

from api.formats import json_answer
from api.receiving import Fields, receive
from api.standings import STANDINGS

FORM = Fields(file="file", client="client_id", enhance=True)


async def upload(request: web.Request) -> web.Response:
    """Take one video in: 200 once it is durable, whatever else is down. What follows is told by its status.

    `client_id`, before or after the file: whoever opens `/ws/{client_id}` hears of it.
    """
    stored = await receive(request, FORM)
    request.app[STANDINGS].stored(stored)
    return json_answer(
        {
            "file_id": stored.video,
            "filename": stored.event.original_name,
            "status": "uploaded",
            "client_id": stored.event.client_id,
        }
    )

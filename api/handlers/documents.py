"""What is known of a video's insides, as one document."""

from __future__ import annotations

import hashlib

from aiohttp import web

from api.conditions import refused_by
from api.formats import json_bytes
from api.lookups import LOOKUPS, id_in
from api.unplayable import not_finished
from streams.paths import escape_path

CACHING = "private, no-cache"


async def metadata(request: web.Request) -> web.Response:
    """`GET /metadata/<id>.json`: container, streams, tags, with the names that the video goes by here."""
    media = await request.app[LOOKUPS].media(id_in(request))
    if media.metadata is None:
        return not_finished(media, "metadata-extraction")
    body = json_bytes(
        {
            **media.metadata,
            "file_id": media.video,
            "filename": escape_path(media.filename),
            "revision": media.revision,
        }
    )
    tag = hashlib.sha256(body).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHING}
    if status := refused_by(request, tag):
        return web.Response(status=status, headers=headers)
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)

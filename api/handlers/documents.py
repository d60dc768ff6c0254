"""What is known of a video's insides, as one document."""

from __future__ import annotations

import hashlib

from aiohttp import web

from api.conditions import refused_by
from api.formats import json_bytes
from api.lookups import LOOKUPS, id_in
from api.media_shapes import Metadata, NotPlayable
from api.openapi.describing import Answer, documented
from api.openapi.examples import METADATA, VIDEO_ID
from api.unplayable import not_finished
from streams.media import metadata_document

CACHING = "private, no-cache"


@documented(
    "Media",
    {
        200: Answer(
            "All of it.",
            Metadata,
            example={**METADATA, "file_id": VIDEO_ID, "filename": "clip.mp4", "revision": 1},
            headers={"ETag": "Changes with the content."},
        ),
        304: Answer("Unchanged since the ETag in `If-None-Match`."),
        409: Answer("It was not read yet, or could not be.", NotPlayable),
        412: Answer("It is not what `If-Match` names."),
    },
    refuses=(404, 503),
    path={"file_id": "What the upload was given."},
)
async def metadata(request: web.Request) -> web.Response:
    """`GET /metadata/<id>.json`: what is known of a video's insides. Container, streams and tags, as FFmpeg reads them,
    with the names that the video goes by here.
    """
    media = await request.app[LOOKUPS].media(id_in(request))
    if media.metadata is None:
        return not_finished(media, "metadata-extraction")
    body = json_bytes(metadata_document(media.video, media.filename, media.revision, media.metadata))
    tag = hashlib.sha256(body).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHING}
    if status := refused_by(request, tag):
        return web.Response(status=status, headers=headers)
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)

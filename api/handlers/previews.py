"""A video's poster and the sheet of small pictures for scrubbing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aiohttp import web

from api.conditions import refused_by
from api.lookups import LOOKUPS, id_in
from api.openapi.describing import Answer, documented
from api.opening import READER, open_below
from api.parameters import Choice, Parameter, Parameters
from api.services import SERVICES
from streams.errors import NotFoundError
from streams.media import MediaOf, PreviewFiles
from streams.paths import OsPath

CACHING = "private, max-age=300"
"""They are made anew when the video's content changes, which may show some minutes later."""

MAX_PICTURE = 32 * 2**20
"""Bytes; ours have a hundredth of it."""

FORMATS: tuple[Literal["auto", "jpg", "webp"], ...] = ("auto", "jpg", "webp")


FORMAT = Choice("format", "`auto`: what the `Accept` header likes better.", FORMATS, "auto")
ID = {"id": "The video's id."}


def _answers(about: str, *media: str) -> Mapping[int, Answer]:
    return {
        200: Answer(about, media=media, headers={"ETag": "Changes with the content."}),
        304: Answer("Unchanged since the ETag in `If-None-Match`."),
        412: Answer("It is not what `If-Match` names."),
    }


@documented("Media", _answers("The picture.", "image/jpeg", "image/webp"), refuses=(404, 503), path=ID, query=(FORMAT,))
async def poster(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>/poster?format=jpg|webp`: a picture out of the video."""
    asked = Parameters(request.query, (FORMAT,))[FORMAT]
    webp = asked == "webp" or (asked == "auto" and likes_webp(request.headers.get("Accept", "")))
    media, files = await _previews(request, (FORMAT,))
    answer = (
        await _show(request, media, files.poster_webp, "image/webp")
        if webp
        else await _show(request, media, files.poster, "image/jpeg")
    )
    answer.headers["Vary"] = "Accept"
    return answer


@documented("Media", _answers("The sheet.", "image/jpeg"), refuses=(400, 404, 503), path=ID)
async def sprite(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>/sprite.jpg`: a sheet of small pictures, for scrubbing."""
    media, files = await _previews(request)
    return await _show(request, media, files.sprite, "image/jpeg")


@documented("Media", _answers("The list.", "text/vtt"), refuses=(400, 404, 503), path=ID)
async def thumbnails(request: web.Request) -> web.Response:
    """`GET /api/videos/<id>/thumbnails.vtt`: which part of the sheet belongs to which time. WebVTT, which names
    `sprite.jpg` beside it.
    """
    media, files = await _previews(request)
    return await _show(request, media, files.thumbnails, "text/vtt")


def likes_webp(accept: str) -> bool:
    """Whether an `Accept` header names WebP, and JPEG not before it. `*/*` is no wish for it: curl sends that."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(",", 50):
        kind, *parameters = (one.strip() for one in part.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    webp = weights.get("image/webp", 0.0)
    return webp > 0 and webp >= weights.get("image/jpeg", 0.0)


async def _previews(request: web.Request, known: Sequence[Parameter[Any]] = ()) -> tuple[MediaOf, PreviewFiles]:
    Parameters(request.query, known)
    media = await request.app[LOOKUPS].recent(id_in(request, "id"))
    if media.previews is None:
        raise NotFoundError(_why_none(media))
    return media, media.previews


async def _show(request: web.Request, media: MediaOf, path: OsPath | None, mime: str) -> web.Response:
    if path is None:
        raise NotFoundError(f"There is no sheet of small pictures of video {media.video}: its length is not known.")
    folder = request.app[SERVICES].settings.previews_folder

    def read() -> tuple[bytes, str] | None:
        file = open_below(folder, path)
        if file is None:
            return None
        with file:
            content = file.read(0, file.size) if file.size <= MAX_PICTURE else b""
        return content, hashlib.sha256(content).hexdigest()

    found = await request.app[READER].do(read)
    if found is None or not found[0]:
        raise NotFoundError(f"The pictures of video {media.video} were made, but their files are not there any more.")
    content, tag = found
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHING}
    if status := refused_by(request, tag):
        return web.Response(status=status, headers=headers)
    charset = "utf-8" if mime.startswith("text/") else None
    return web.Response(body=content, content_type=mime, charset=charset, headers=headers)


def _why_none(media: MediaOf) -> str:
    state = media.tasks.get("previews")
    if state is None:
        return f"No pictures were made of video {media.video}: SPOOLHOUSE_PREVIEWS says whether they are."
    if state.status == "failed":
        return f"No pictures could be made of video {media.video}: {state.error or state.message}"
    return f"There are no pictures of video {media.video} yet: ask again in a while."

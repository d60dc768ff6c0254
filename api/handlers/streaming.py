"""Plays what was made of a video: one file by ranges, or a ladder of them for adaptive streaming.

What a URL shows may be replaced by a newer rendition, so caches ask each time whether theirs is
still the one (`no-cache`); the entity tag is the rendition's sha256, so for the same content it
always is. Nothing is for shared caches: who may see a video is not ours to know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from api import playlists
from api.conditions import dated, http_date, range_wanted, refused_by
from api.formats import refusal
from api.lookups import LOOKUPS, id_in
from api.media_shapes import NotPlayable
from api.openapi.describing import Answer, documented
from api.opening import READER, OpenFile, open_below
from api.parameters import Parameters, Text
from api.ranges import Span, UnsatisfiableError, asked_for
from api.sending import send
from api.services import SERVICES
from api.unplayable import not_finished, not_on_disk
from streams.errors import NotFoundError
from streams.media import MediaOf, Rendition

CACHING = "private, no-cache"
PLAYLIST = "application/vnd.apple.mpegurl"

MAX_PLAYLIST = 8 * 2**20
"""Bytes of a media playlist that are served: segments of six seconds, for weeks."""

Choice = Callable[[MediaOf], Rendition | None]

_EXTENSIONS = {"video/mp4": ".mp4", "video/webm": ".webm"}


FILE_ID = {"file_id": "What the upload was given."}
RUNG = FILE_ID | {"rendition": "A rung's id, as the master playlist names it."}
RENDITION = Text("rendition", "The id of one rendition; without it the newest that is one file.")

RANGED = {
    "Range": "`bytes=0-1023`: only these. Several that lie apart are answered with the whole.",
    "If-Range": "The ETag (or date) of which the range is meant; of anything else the whole is sent.",
}
_TAGGED = {"ETag": "The sha256 of the content.", "Accept-Ranges": "`bytes`."}
_KINDS = ("video/mp4", "video/webm", "application/octet-stream")

_NOT_HERE: dict[int, Answer] = {
    304: Answer("Unchanged since the ETag in `If-None-Match`, or the date in `If-Modified-Since`."),
    409: Answer("There is nothing to play (yet): how the work stands, and what to do.", NotPlayable),
    412: Answer("It is not what `If-Match` names, or newer than `If-Unmodified-Since`."),
}
_MEDIA: dict[int, Answer] = {
    200: Answer("All of it.", media=_KINDS, headers=_TAGGED),
    206: Answer(
        "The range.", media=_KINDS, headers=_TAGGED | {"Content-Range": "Which bytes these are, and of how many."}
    ),
    **_NOT_HERE,
}
_PLAYLIST: dict[int, Answer] = {200: Answer("The playlist.", media=(PLAYLIST,)), **_NOT_HERE}


@documented("Media", _MEDIA, refuses=(404, 416, 503), path=FILE_ID, query=(RENDITION,), headers=RANGED, head=True)
async def processed_video(request: web.Request) -> web.StreamResponse:
    """`GET /processed_videos/<id>?rendition=`: play what was made of a video. The newest rendition that is one file,
    or the one that is named. Players fetch it by ranges.
    """
    wanted = Parameters(request.query, (RENDITION,))[RENDITION]
    if wanted is None:
        return await _play(request, MediaOf.playable)
    return await _play(request, lambda media: _named(media, wanted.lower()), wanted)


@documented("Media", _MEDIA, refuses=(404, 416, 503), path=RUNG, headers=RANGED)
async def hls_media(request: web.Request) -> web.StreamResponse:
    """`GET /processed_videos/<id>/hls/<rendition>.mp4`: the media of a ladder's rung, by ranges."""
    wanted = id_in(request, "rendition")
    return await _play(request, lambda media: _rung(media, wanted), wanted)


@documented("Media", _PLAYLIST, refuses=(404, 503), path=RUNG)
async def hls_playlist(request: web.Request) -> web.StreamResponse:
    """`GET /processed_videos/<id>/hls/<rendition>.m3u8`: the segments of a ladder's rung."""
    video, wanted = id_in(request), id_in(request, "rendition")
    media = await request.app[LOOKUPS].media(video)
    rung = _rung(media, wanted)
    if rung is None:
        raise _unknown(media, wanted)
    processed = request.app[SERVICES].settings.processed
    body = await request.app[READER].do(lambda: _read_playlist(processed, rung))
    return await _missing(request, media, rung) if body is None else _playlist(request, body)


@documented("Media", _PLAYLIST, refuses=(404, 503), path=FILE_ID)
async def hls_master(request: web.Request) -> web.StreamResponse:
    """`GET /processed_videos/<id>/master.m3u8`: a ladder for adaptive streaming. The rungs of the newest one whose
    files are there; where a video has none, it plays as one file.
    """
    media = await request.app[LOOKUPS].media(id_in(request))
    rungs, processed = media.ladder(), request.app[SERVICES].settings.processed
    if not rungs:
        if media.playable() is None:
            return not_finished(media, "video-enhancement")
        raise NotFoundError(f"There is no ladder of this video: it plays as one file, /processed_videos/{media.video}.")
    there = await request.app[READER].do(lambda: [rung for rung in rungs if _is_there(processed, rung)])
    if not there:
        return await _missing(request, media, rungs[0])
    return _playlist(request, playlists.master(there).encode())


# ---------------------------------------------------------------- which


def _named(media: MediaOf, rendition: str) -> Rendition | None:
    return next((one for one in media.renditions if one.id == rendition), None)


def _rung(media: MediaOf, rendition: str) -> Rendition | None:
    return next((one for one in media.renditions if one.id == rendition and one.kind == "hls"), None)


def _unknown(media: MediaOf, rendition: str) -> NotFoundError:
    return NotFoundError(f"There is no such rendition {rendition[:80]!r} of what video {media.video} is now.")


async def _missing(request: web.Request, media: MediaOf, rendition: Rendition) -> web.Response:
    row = await request.app[SERVICES].catalogue.get(rendition.id)
    return not_on_disk(media, rendition, offloaded=row is not None and row["state"] == "offloaded")


# ---------------------------------------------------------------- media


async def _play(request: web.Request, choose: Choice, wanted: str | None = None) -> web.StreamResponse:
    """What is chosen of what is known, first of what is remembered, then of what the catalogue says now."""
    video, lookups, reader = id_in(request), request.app[LOOKUPS], request.app[READER]
    processed = request.app[SERVICES].settings.processed
    for ask in (lookups.recent, lookups.media):
        media = await ask(video)
        rendition = choose(media)
        file = rendition and await reader.open(processed, rendition.path, rendition.size, rendition.sha256)
        if rendition and file:
            with file:
                return await _serve(request, media, rendition, file)
    if rendition:
        return await _missing(request, media, rendition)
    if wanted is not None:
        raise _unknown(media, wanted)
    return not_finished(media, "video-enhancement")


async def _serve(request: web.Request, media: MediaOf, rendition: Rendition, file: OpenFile) -> web.StreamResponse:
    modified = dated(rendition.stored)
    headers = {
        "ETag": f'"{rendition.sha256}"',
        "Last-Modified": http_date(modified),
        "Cache-Control": CACHING,
        "Accept-Ranges": "bytes",
    }
    if status := refused_by(request, rendition.sha256, modified):
        return web.Response(status=status, headers=headers)
    try:
        span = asked_for(range_wanted(request, rendition.sha256, modified), file.size)
    except UnsatisfiableError as error:
        answer = refusal(416, str(error))
        answer.headers.update({**headers, "Content-Range": f"bytes */{file.size}"})
        return answer
    headers["Content-Type"] = rendition.mime if rendition.mime in _EXTENSIONS else "application/octet-stream"
    headers["Content-Disposition"] = _disposition(media.filename, _EXTENSIONS.get(rendition.mime, ""))
    if span is None:
        return await send(request, 200, headers, file, Span(0, file.size), request.app[READER])
    headers["Content-Range"] = span.of(file.size)
    return await send(request, 206, headers, file, span, request.app[READER])


def _disposition(filename: str, extension: str) -> str:
    """Shown, not saved; and saved under the video's name (RFC 6266), with the extension of what it is now."""
    stem = filename.rpartition(".")[0] or filename or "video"
    plain = "".join(one if one.isascii() and (one.isalnum() or one in " -_.()") else "_" for one in stem)
    coded = quote(stem.encode("utf-8", "replace"), safe="")
    return f"inline; filename=\"{plain}{extension}\"; filename*=UTF-8''{coded}{extension}"


# ---------------------------------------------------------------- playlists


def _playlist(request: web.Request, body: bytes) -> web.Response:
    tag = hashlib.sha256(body).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHING}
    if status := refused_by(request, tag):
        return web.Response(status=status, headers=headers)
    return web.Response(body=body, content_type=PLAYLIST, headers=headers)


def _read_playlist(processed: Path, rung: Rendition) -> bytes | None:
    file = None if rung.playlist is None else open_below(processed, rung.playlist)
    if file is None:
        return None
    with file:
        return file.read(0, file.size) if file.size <= MAX_PLAYLIST else None


def _is_there(processed: Path, rung: Rendition) -> bool:
    """Whether both files of a rung can be served."""
    if _read_playlist(processed, rung) is None:
        return False
    file = open_below(processed, rung.path, rung.size)
    if file is None:
        return False
    file.let_go()
    return True

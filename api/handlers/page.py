"""The web page: a few files, nothing from elsewhere."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.resources import files

from aiohttp import web

from api.guards import PAGE_POLICY
from api.openapi.describing import Answer, documented
from streams.errors import NotFoundError

_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "downloads.js": "text/javascript",
    "player.js": "text/javascript",
    "words.js": "text/javascript",
    "work.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@documented(
    "Page",
    {200: Answer("The page.", media=("text/html",)), 304: Answer("Unchanged since the ETag in `If-None-Match`.")},
)
async def index(request: web.Request) -> web.Response:
    """The page itself."""
    return _answer(request, "index.html")


@documented(
    "Page",
    {
        200: Answer("The file.", media=("text/html", "text/css", "text/javascript", "image/svg+xml")),
        304: Answer("Unchanged since the ETag in `If-None-Match`."),
    },
    refuses=(404,),
    path={"name": "`page.css`, `page.js`, `icon.svg` or `index.html`."},
)
async def static(request: web.Request) -> web.Response:
    """What the page needs."""
    return _answer(request, request.match_info["name"])


def _answer(request: web.Request, name: str) -> web.Response:
    if name not in _TYPES:
        raise NotFoundError(f"There is nothing at {request.path}.")
    body, tag = _content(name)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=_TYPES[name], charset="utf-8", headers=headers)


@lru_cache(maxsize=len(_TYPES))
def _content(name: str) -> tuple[bytes, str]:
    body = files("api").joinpath("static", name).read_bytes()
    return body, f'"{sha256(body).hexdigest()[:32]}"'

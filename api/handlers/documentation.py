"""The API's own description: `/openapi.json`, and the pages that show it."""

from __future__ import annotations

import asyncio
from functools import cached_property
from hashlib import sha256
from pathlib import PurePath

from aiohttp import web

from api.formats import json_bytes
from api.openapi.assets import DOCS_POLICY, REDOC_POLICY, TYPES, asset, redoc_page, swagger_page
from api.openapi.describing import Answer, documented
from api.openapi.document import document

UNCHANGED = Answer("Unchanged since the ETag in `If-None-Match`.")


class Described:
    """The document of an application's routes, made when it is first asked for."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        self._router = router

    @cached_property
    def body(self) -> bytes:
        """As JSON."""
        return json_bytes(document(self._router))


DESCRIBED = web.AppKey("described", Described)


@documented("Documentation", {200: Answer("The document.", dict[str, object]), 304: UNCHANGED})
async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI 3.1 document of every route."""
    described = request.app[DESCRIBED]
    # The first time it takes some tenths of a second, which other requests need not wait for.
    body = await asyncio.to_thread(lambda: described.body)
    return _answer(request, body, "application/json")


@documented("Documentation", {200: Answer("The page.", media=("text/html",)), 304: UNCHANGED})
async def docs(request: web.Request) -> web.Response:
    """The document in Swagger UI, where every route can be tried."""
    return _answer(request, swagger_page("/docs", "/openapi.json").encode(), "text/html", DOCS_POLICY)


@documented("Documentation", {200: Answer("The page.", media=("text/html",)), 304: UNCHANGED})
async def redoc(request: web.Request) -> web.Response:
    """The document in ReDoc, for reading."""
    return _answer(request, redoc_page("/docs", "/openapi.json").encode(), "text/html", REDOC_POLICY)


@documented(
    "Documentation",
    {200: Answer("The file.", media=tuple(TYPES.values())), 304: UNCHANGED},
    refuses=(404,),
    path={"name": "The file's name."},
)
async def docs_asset(request: web.Request) -> web.Response:
    """A script or a style sheet that these pages need."""
    name = request.match_info["name"]
    return _answer(request, asset(name), TYPES[PurePath(name).suffix], DOCS_POLICY)


def _answer(request: web.Request, body: bytes, kind: str, policy: str | None = None) -> web.Response:
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if policy is not None:
        headers["Content-Security-Policy"] = policy
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

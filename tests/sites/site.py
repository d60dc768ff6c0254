"""The server.

Files, each with `manners` from its query:
    `/film.mp4`, `/films/<any>.mp4` (a seed of its own each), `/film.webm`, `/film.m4a`, `/poster.jpg`,
    `/subtitles/<language>.vtt`, `/hls/index.m3u8`, `/hls-aes/index.m3u8`, `/dash/manifest.mpd`
    and whatever is in `site.files`
Pages: see `pages.DEFAULT`, or set `site.pages[path]`
Lists: `/feed` and whatever is in `site.feeds`, as RSS; `/many?count=500`: one page with that many films
Others: `/to?url=…&code=302` (a redirect to anywhere), `/around` (to itself), `/status/<code>`,
    `/empty` (a page without a film), `/huge` (ten megabytes of HTML; `count` of 11 bytes), `/text` (no film, though it says so),
    `/live.m3u8` (a stream that goes on until `site.live_ended`)
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from tests.sites import films, lists
from tests.sites.lists import Item
from tests.sites.manners import Manners
from tests.sites.pages import DEFAULT, Page

PIECE = 64 * 1024
_STAMP = "Thu, 06 May 2021 07:08:09 GMT"


class Site:
    """A web site. Open it with `open_site`."""

    def __init__(self, host: str) -> None:
        self.host, self.port = host, 0
        self.requests: Counter[str] = Counter()
        """Path → how often it was asked for."""
        self.sent: Counter[str] = Counter()
        """Path → bytes of content that were sent."""
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Path and headers of the last thousand requests."""
        self.working: Counter[str] = Counter()
        """Path → answers under way."""
        self.manners: dict[str, Manners] = {}
        """Path, or its beginning if that ends in a slash → how it is served."""
        self.pages: dict[str, Page] = dict(DEFAULT)
        self.files: dict[str, tuple[bytes, str]] = {}
        """Path → content and its type: whatever a test wants to be there."""
        self.feeds: dict[str, list[Item]] = {"/feed": [Item(f"/films/{n}.mp4", f"Film {n}") for n in range(3)]}
        """Path → entries; may be changed at any time."""
        self.live_ended = False
        self._live = itertools.count(1)
        self._faults: Counter[str] = Counter()
        self._runner: web.ServerRunner | None = None

    @property
    def base(self) -> str:
        """`http://127.0.0.1:<port>`."""
        return f"http://{self.host}:{self.port}"

    def url(self, path: str, **query: Any) -> str:
        """A URL here; `query` says manners."""
        said = "&".join(f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in query.items())
        return f"{self.base}{path}{'?' if said else ''}{said}"

    async def start(self) -> None:
        """Listen: at first on a free port, then on the same again."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        listening = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await listening.start()
        self.port = listening._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def vanish(self) -> None:
        """Break every connection and take no more, until `start`."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for connection in list(runner.server.connections if runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    # ------------------------------------------------------------ answers

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        self.requests[path] += 1
        self.seen = [*self.seen[-999:], (path, dict(request.headers))]
        self.working[path] += 1
        try:
            return await self._found(request, path)
        finally:
            self.working[path] -= 1

    async def _found(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        manners = self._manners_of(path, request.query)
        match path.split("/")[1:]:
            case ["film.mp4"]:
                return await self._file(request, manners, films.film(), "video/mp4")
            case ["films", name] if name.endswith(".mp4"):
                seed = manners.seed or zlib.crc32(name.encode())
                manners = Manners(**{**vars(manners), "seed": seed, "size": manners.size or 100_000 + seed % 100_000})
                return await self._file(request, manners, films.film(), "video/mp4")
            case ["film.webm"]:
                return await self._file(request, manners, films.film("webm"), "video/webm")
            case ["film.m4a"]:
                return await self._file(request, manners, films.film("m4a"), "audio/mp4")
            case ["poster.jpg"]:
                return await self._file(request, manners, films.picture(), "image/jpeg")
            case ["subtitles", name]:
                text = f"WEBVTT\n\n00:00.000 --> 00:02.000\nIt comes ({name})\n"
                return await self._file(request, manners, text.encode(), "text/vtt")
            case ["hls" | "hls-aes" as kind, name]:
                content = films.hls(encrypted=kind == "hls-aes").get(name)
                return await self._file(request, manners, content, _type_of(name))
            case ["dash", name]:
                return await self._file(request, manners, films.dash().get(name), _type_of(name))
            case ["live.m3u8"]:
                return await self._file(request, manners, self._live_playlist(), "application/vnd.apple.mpegurl")
            case ["to"]:
                return web.Response(
                    status=int(request.query.get("code", 302)), headers={"Location": request.query["url"]}
                )
            case ["around"]:
                return web.Response(status=302, headers={"Location": path})
            case ["status", code]:
                retry_after = {} if manners.retry_after is None else {"Retry-After": manners.retry_after}
                return web.Response(status=int(code), headers=retry_after, text="no")
            case ["text"]:
                return await self._file(request, manners, b"this is no film\n" * 1000, "video/mp4")
            case _ if path in self.files:
                return await self._file(request, manners, *self.files[path])
            case _:
                return await self._page(request, path, manners)

    async def _page(self, request: web.BaseRequest, path: str, manners: Manners) -> web.StreamResponse:
        html = "text/html; charset=utf-8"
        if path in self.pages:
            return await self._file(request, manners, self.pages[path].html(self.base).encode(), html)
        if path in self.feeds:
            text = lists.feed(f"Feed {path}", self.feeds[path], self.base)
            return await self._file(request, manners, text.encode(), "application/rss+xml")
        if path == "/many":
            text = lists.many_videos(int(request.query.get("count", 500)), self.base)
            return await self._file(request, manners, text.encode(), html)
        if path == "/huge":
            count = int(request.query.get("count", 950_000))
            return await self._file(request, manners, b"<html><title>Huge</title>" + b"<p>much</p>" * count, html)
        if path == "/empty":
            return await self._file(request, manners, b"<html><title>Empty</title><p>no film</p>", html)
        return web.Response(status=404, text="there is no such thing")

    def _live_playlist(self) -> bytes:
        """Of a stream that shows one more segment each time somebody looks."""
        until = len(films.hls()) - 1 if self.live_ended else min(len(films.hls()) - 1, next(self._live))
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
        for number in range(until):
            lines += ["#EXTINF:1.0,", f"/hls/segment{number}.ts"]
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if self.live_ended else []), ""]).encode()

    def _manners_of(self, path: str, query: MultiMapping[str]) -> Manners:
        beginnings = [one for one in self.manners if path == one or (one.endswith("/") and path.startswith(one))]
        manners = self.manners[max(beginnings, key=len)] if beginnings else Manners()
        manners = manners.said({name: query[name] for name in query})
        if manners.times is not None:
            if self._faults[path] >= manners.times:
                return manners.mended()
            if manners.status is not None:
                self._faults[path] += 1
        return manners

    async def _file(
        self, request: web.BaseRequest, manners: Manners, content: bytes | None, kind: str
    ) -> web.StreamResponse:
        if manners.delay:
            await asyncio.sleep(manners.delay)
        if content is None or manners.status is not None:
            retry_after = {} if manners.retry_after is None else {"Retry-After": manners.retry_after}
            return web.Response(status=manners.status or 404, headers=retry_after, text="no")
        body = films.Body(content, manners.size, manners.seed)
        response = web.StreamResponse(headers={"Content-Type": kind, "Last-Modified": _STAMP})
        start, end = 0, body.size
        if manners.etag:
            response.headers["ETag"] = f'"{zlib.crc32(content):08x}-{body.size}-{manners.seed}"'
        if manners.ranges:
            response.headers["Accept-Ranges"] = "bytes"
            asked = request.http_range
            if asked.start is not None:
                start = asked.start if asked.start >= 0 else max(0, body.size + asked.start)
                end = body.size if asked.stop is None else min(asked.stop, body.size)
                if start >= body.size:
                    return web.Response(status=416, headers={"Content-Range": f"bytes */{body.size}"})
                response.set_status(206)
                response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{body.size}"
        if manners.length and not manners.endless:
            response.content_length = end - start if manners.claims is None else max(0, manners.claims - start)
        await response.prepare(request)
        if request.method != "HEAD":
            with suppress(ConnectionError):  # it has heard enough
                await self._send(request, response, manners, body, start, end)
        return response

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, manners: Manners, body: films.Body,
        start: int, end: int,
    ) -> None:  # fmt: skip
        clock = asyncio.get_running_loop().time
        began, at = clock(), start
        fault = manners.cut if manners.cut is not None else manners.stop
        until = end if fault is None else min(end, start + fault)
        piece = PIECE if manners.speed is None else max(1, min(PIECE, manners.speed // 20))
        while at < until or manners.endless:
            data = body.read(at, min(piece, until - at)) if at < until else bytes(piece)
            await response.write(data)
            at += len(data)
            self.sent[request.path] += len(data)
            if manners.speed is not None:
                await asyncio.sleep(max(0.0, began + (at - start) / manners.speed - clock()))
        if fault is not None and until < end:
            self._faults[request.path] += 1
            if manners.cut is None:
                await asyncio.Event().wait()
        short = manners.claims is not None and manners.claims > end
        if (fault is not None and until < end) or short:
            await asyncio.sleep(0.05)  # what was written is on its way first
            if request.transport is not None:
                request.transport.close()
            response.force_close()


def _type_of(name: str) -> str:
    kinds = {"m3u8": "application/vnd.apple.mpegurl", "mpd": "application/dash+xml", "ts": "video/mp2t"}
    return kinds.get(name.rpartition(".")[2], "application/octet-stream")


@asynccontextmanager
async def open_site(host: str = "127.0.0.1") -> AsyncIterator[Site]:
    """A site that runs while the body does."""
    site = Site(host)
    await site.start()
    try:
        yield site
    finally:
        await site.vanish()

"""The real API on a real port, with the projections and the reconciler beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from api.app import make_app
from api.bootstrap import api_services
from api.server import serving
from api.services import Services
from processors.reconciling import Reconciler
from projections.database import open_database
from projections.projection import discover
from projections.runner import Runner
from streams.background import running
from streams.log import open_log
from streams.settings import Settings


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    """Decoded JSON, or text."""
    headers: Any = field(repr=False)


@dataclass(slots=True)
class Api:
    """A running API as tests use it."""

    url: str
    settings: Settings
    services: Services
    session: aiohttp.ClientSession
    runner: Runner | None
    app: web.Application

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    async def ask(self, method: str, path: str, **how: Any) -> Answer:
        """Any request."""
        async with self.session.request(method, self.url + path, **how) as response:
            as_json = response.content_type == "application/json"
            body = await response.json() if as_json else await response.text()
            return Answer(response.status, body, response.headers)

    async def get(self, path: str, **how: Any) -> Answer:
        """A GET."""
        return await self.ask("GET", path, **how)

    async def upload(
        self, content: bytes | Path, name: str = "lesson.mp4", label: str | None = None, *, label_first: bool = True
    ) -> Answer:
        """Upload as curl does."""
        form = aiohttp.FormData(quote_fields=False)
        if label is not None and label_first:
            form.add_field("contentType", label)
        form.add_field("video", BytesIO(_bytes(content)), filename=name, content_type="video/mp4")
        if label is not None and not label_first:
            form.add_field("contentType", label)
        return await self.ask("POST", "/api/upload-video", data=form)

    async def settled(self) -> None:
        """Wait until the projections have applied all that the log holds."""
        assert self.runner is not None
        assert await self.runner.caught_up(20)

    def left_over(self) -> list[Path]:
        """Files in the upload folder, hidden ones too, and waiting manifests."""
        folders = (self.settings.uploads, self.settings.sidecars)
        return [path for folder in folders if folder.exists() for path in folder.rglob("*") if path.is_file()]


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


@asynccontextmanager
async def running_api(settings: Settings, *, projections: bool = True) -> AsyncIterator[Api]:
    """The API of these settings until the block ends; `projections`: what a worker does for it, too."""
    async with AsyncExitStack() as stack:
        runner: Runner | None = None
        if projections:
            assert settings.redis_url is not None
            log = await stack.enter_async_context(open_log(settings, settings.redis_url.get_secret_value()))
            database = await stack.enter_async_context(open_database(settings))
            runner = Runner(log, database, discover(settings))
            reconciler = Reconciler(log, settings, look=0.05, survey=3600.0)
            await stack.enter_async_context(running(runner.run(), reconciler.run()))
        services = await stack.enter_async_context(api_services(settings))
        app = make_app(services)
        addresses = await stack.enter_async_context(serving(app, settings))
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        yield Api(addresses[0], settings, services, session, runner, app)


async def until(true: Callable[[], bool | Awaitable[bool]], timeout: float = 60.0) -> None:
    """Wait for a condition. Raises AssertionError when it does not come true."""
    deadline = time.monotonic() + timeout
    while True:
        found = true()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)

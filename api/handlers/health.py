"""Is the process alive, is the system well, what are its figures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import asdict
from typing import Any

from aiohttp import web

from api.formats import json_answer
from api.live import LIVE
from api.metrics import METRICS
from api.openapi.describing import Answer, documented
from api.readiness import READINESS, Report
from api.services import SERVICES
from api.shapes import Alive
from processors.diskspace import folders_of
from processors.storage.disk import space
from streams.errors import DependencyDownError, LogUnavailableError
from streams.inspecting import group_partitions, totals

SCRAPE_WITHIN = 3.0
"""Seconds that figures from outside may take; the rest is told all the same."""


@documented("Operation", {200: Answer("It is.", Alive)})
async def healthz(_: web.Request) -> web.Response:
    """The process is alive; nothing else is asked."""
    alive: Alive = {"alive": True, "pid": os.getpid()}
    return json_answer(alive)


@documented(
    "Operation",
    {
        200: Answer("Everything works.", Report),
        503: Answer("Something does not; `problems` says what.", Report),
    },
)
async def readyz(request: web.Request) -> web.Response:
    """Whether everything works. Problems and warnings are named in words, and each worker gives its account."""
    report = await request.app[READINESS].report()
    return json_answer(asdict(report), status=200 if report.ready else 503)


@documented("Operation", {200: Answer("The figures.", media=("text/plain",))})
async def metrics(request: web.Request) -> web.Response:
    """Figures in Prometheus' text format. What cannot be asked just now keeps its last value."""
    figures, services = request.app[METRICS], request.app[SERVICES]
    figures.websockets.set(request.app[LIVE].listeners)

    async def storage() -> None:
        stored = await services.catalogue.totals("upload")
        figures.videos.set(stored.count)
        figures.bytes.set(stored.size)
        offloaded = await services.catalogue.totals(None, state="offloaded")
        figures.offloaded.set(offloaded.count)
        figures.offloaded_bytes.set(offloaded.size)

    async def groups() -> None:
        figures.groups(totals(await group_partitions(services.log, timeout=SCRAPE_WITHIN)))

    async def within(part: Any) -> None:
        try:
            async with asyncio.timeout(SCRAPE_WITHIN):
                await part
        except (TimeoutError, LogUnavailableError, DependencyDownError):
            return

    report, *_ = await asyncio.gather(request.app[READINESS].report(), within(storage()), within(groups()))
    figures.ready.set(report.ready)
    with contextlib.suppress(OSError):
        figures.free.set(shutil.disk_usage(services.settings.uploads).free)
    for folder in folders_of(services.settings):
        with contextlib.suppress(OSError):
            figures.disk_free.labels(str(folder)).set(space(folder).free)
    return web.Response(body=figures.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

"""Serves the application on every configured port, and ends without breaking an upload off."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import AsyncIterator, Iterator

import structlog
from aiohttp import web

from api.app import make_app
from api.bootstrap import api_services
from api.draining import DRAINING
from streams.errors import StartError
from streams.settings import Settings

_log = structlog.get_logger(__name__)

BACKLOG = 512
"""Connections that may wait to be accepted."""

LAST_WORDS = 1.0
"""Seconds for what is left of answers, once the requests have been waited for."""

READ_AHEAD = 2**18
"""Bytes of a body that are read before someone takes them: what an upload costs in memory, twice."""


async def run_api(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; uploads under way then get `settings.drain` seconds to finish.

    Raises StartError for a port that cannot be had.
    """
    stopping = asyncio.Event()
    with _heeding(stopping):
        async with api_services(settings) as services, serving(make_app(services), settings) as addresses:
            _log.info("API is listening", addresses=addresses)
            await stopping.wait()
            _log.info("API is stopping: what is under way may finish", seconds=settings.drain)
    _log.info("API has stopped")


@contextlib.asynccontextmanager
async def serving(app: web.Application, settings: Settings) -> AsyncIterator[list[str]]:
    """The application on all ports while the body runs; yields its addresses.

    In the end nothing new is accepted, idle connections are closed, and what is under way gets
    `settings.drain` seconds.
    """
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        shutdown_timeout=LAST_WORDS,
        read_bufsize=READ_AHEAD,
        keepalive_timeout=75,
    )
    await runner.setup()
    try:
        for port in settings.port:
            await _listen(runner, settings.host, port)
        yield [_address(*place[:2]) for place in runner.addresses]
    finally:
        for site in list(runner.sites):
            await site.stop()
        if left := await app[DRAINING].drained(settings.drain):
            _log.warning("requests did not end in time and are broken off", requests=left, seconds=settings.drain)
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"Port {port} of {host} is in use by another program. End that one, or choose another port "
                "(SPOOLHOUSE_PORT)."
            ) from error
        raise StartError(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from error


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _heeding(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

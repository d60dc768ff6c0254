"""What the tests of downloads on the whole system share: a site beside the test, and what is asked of a Spoolhouse."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.e2e.running import PATIENCE, Running, until
from tests.sites import Site, open_site

T = TypeVar("T")


class SiteBeside:
    """A web site in a loop and a thread of its own. Made by `site_beside`."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.site, self._loop = site, loop

    def vanish(self) -> None:
        """Break every connection and take no more."""
        self._call(self.site.vanish())

    def come_back(self) -> None:
        """Listen where it listened before."""
        self._call(self.site.start())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@contextmanager
def site_beside() -> Iterator[SiteBeside]:
    """A site that runs while the body does."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    opened: list[Site] = []

    async def serve() -> None:
        async with open_site() as site:
            opened.append(site)
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        until(lambda: opened or not thread.is_alive(), why="the site")
        yield SiteBeside(opened[0], loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()


def opened_to(site: Site) -> dict[str, str]:
    """Settings: the site lies on loopback, which has to be opened by name; and what fails is soon tried again."""
    return {"SPOOLHOUSE_DOWNLOAD_ALLOW": f"127.0.0.1:{site.port}", "SPOOLHOUSE_DOWNLOAD_RETRY": "0.5"}


def ask(running: Running, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON of a request with a JSON body."""
    content = None if body is None else json.dumps(body).encode()
    return running.ask(method, path, content, {"Content-Type": "application/json"})


def add(running: Running, url: str, **more: Any) -> int:
    """Queue a URL; its number."""
    status, told = ask(running, "POST", "/videos", {"url": url, **more})
    assert status == 200, (status, told)
    number: int = told["id"]
    return number


def stored(running: Running, number: int) -> dict[str, Any]:
    """Wait until a download is there; how it stands then."""
    return ends(running, number, "Downloaded")


def ends(running: Running, number: int, status: str) -> dict[str, Any]:
    """Wait until a download stands so, without ever having come to another end."""

    def ended() -> dict[str, Any] | None:
        nonlocal told
        told = running.get(f"/videos/{number}") or told
        return told if told.get("status") in {"Downloaded", "Error"} else None

    told: dict[str, Any] = {}
    try:
        until(ended, why=f"the end of download {number}")
        assert told["status"] == status
    except AssertionError:
        print(told)
        raise
    return told

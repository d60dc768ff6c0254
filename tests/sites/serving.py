"""The site for tests that have no loop of their own: it runs in one beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sites.site import Site, open_site

PATIENCE = 60.0
"""Seconds that it gets to come up, and to end."""


@contextmanager
def serving() -> Iterator[Site]:
    """A site in a thread of its own. Change what it offers before it is asked."""
    ready, opened, ends = threading.Event(), list[Site](), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        stop = asyncio.Event()
        async with open_site() as site:
            opened.append(site)
            ends.append((asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield opened[0]
    finally:
        [(loop, stop)] = ends
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()

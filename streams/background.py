"""Loops beside a body: they run while it runs, and one that fails takes it down, loudly.

A loop that died in silence would leave a process that looks alive and does nothing; a process that
ends is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run endless coroutines beside the body; they are cancelled when it ends.

    A loop that raises cancels the body, and its error is raised here.
    """
    body = asyncio.current_task()
    assert body is not None
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failures:
            failures.append(error)
            body.cancel()

    tasks = [asyncio.create_task(loop) for loop in loops]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if not failures:
            raise
        body.uncancel()
        raise failures[0] from None
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def stop_if_cancelled() -> None:
    """End an endless loop whose cancellation was swallowed by a call below it; begin each round with this.

    `asyncio.wait_for` before Python 3.12 loses a cancellation that comes just as its awaitable ends,
    and redis-py uses it. A loop that goes round for ever would then never be ended.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

"""The threads in which storage waits for disks and hashes, so that the event loop never does.

They are our own: a slow disk must not keep name look-ups waiting, which share asyncio's default ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="storage")


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Start `function` in a thread.

    Shield what comes back where the thread must not be left behind: cancelling a wait does not
    stop a thread.
    """
    return asyncio.get_running_loop().run_in_executor(_pool(), partial(function, *args, **kwargs))

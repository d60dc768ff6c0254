"""A few threads of a root's own: a file server that hangs must not stop anyone else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import structlog

SLOW = 60.0
"""Seconds after which a file system that does not answer is complained about."""

_log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs what may block on a file system."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(max_workers=3, thread_name_prefix="watching")
        self.closing = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a thread. There is no way to give up a system call: a slow one is said, and waited for."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))
        try:
            while not (await asyncio.wait({future}, timeout=SLOW))[0]:
                _log.warning("the file system is slow to answer", root=self._name, doing=function.__name__)
        except asyncio.CancelledError:
            future.cancel()
            raise
        return future.result()

    def close(self) -> None:
        """Let go of the threads; what runs is told through `closing` to end."""
        self.closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)

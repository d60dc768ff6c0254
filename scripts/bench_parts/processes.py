"""Processor time and memory of a process and all below it, from /proc."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
import uvloop

T = TypeVar("T")

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20


def tree(pid: int) -> list[int]:
    """A process and everything below it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())
        except OSError:
            continue  # it ended while we looked
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that these have used so far, with that of children they have waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use; 0 where it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident_tree(pid: int) -> int:
    """The same of a process and all below it."""
    return sum(map(resident, tree(pid)))


class Peak:
    """Watches the memory of a process and all below it while a block runs."""

    def __init__(self, pid: int, interval: float = 0.05) -> None:
        self._pid, self._interval = pid, interval
        self._over = threading.Event()
        self.before = self.peak = 0
        """Bytes at the beginning, and the most that was seen."""

    @property
    def growth(self) -> int:
        """Bytes by which it grew at the most."""
        return self.peak - self.before

    def __enter__(self) -> Self:
        self.before = self.peak = resident_tree(self._pid)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            self.peak = max(self.peak, resident_tree(self._pid))


@contextmanager
def timed(results: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a block took, in seconds."""
    began = time.perf_counter()
    try:
        yield
    finally:
        results[name] = time.perf_counter() - began


def run_loop(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a coroutine function in the event loop that the product uses."""

    async def called() -> T:
        return await main(*args)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(called())


def in_child(main: Callable[..., Awaitable[T]], *args: Any, timeout: float = 900.0) -> T:
    """The same in a fresh process, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1, initializer=quiet) as pool:
        return pool.apply_async(run_loop, (main, *args)).get(timeout)


def quiet() -> None:
    """Log errors only."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )

"""Threads that hand work on to each other: bounded in what lies between them, and all of them stop when one fails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """Another thread failed: there is no use in going on."""


class Channel(Generic[T]):
    """What one or more threads have done and another one takes up. Holds a bounded number of bytes."""

    def __init__(self, capacity: int, producers: int = 1) -> None:
        self._capacity, self._producers = capacity, producers
        self._items: deque[tuple[T, int]] = deque()
        self._held = 0
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int) -> None:
        """Hand on. Waits while there is no room, unless it is empty. Raises StoppedError."""
        with self._changed:
            while self._items and self._held + size > self._capacity and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise StoppedError
            self._items.append((item, size))
            self._held += size
            self._changed.notify_all()

    def close(self) -> None:
        """One producer has nothing more."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Everything, until all producers are done. Raises StoppedError."""
        while True:
            with self._changed:
                while not self._items and self._producers and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    raise StoppedError
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._held -= size
                self._changed.notify_all()
            yield item


class Crew:
    """The threads and the channels between them."""

    def __init__(self) -> None:
        self._channels: list[Channel[Any]] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.failure: Exception | None = None
        """Of whoever failed first."""

    def channel(self, capacity: int, producers: int = 1) -> Channel[Any]:
        """A channel that stops when anyone fails."""
        channel: Channel[Any] = Channel(capacity, producers)
        self._channels.append(channel)
        return channel

    def start(self, work: Callable[[], None], *outlets: Channel[Any]) -> None:
        """Do this in a thread; `outlets` are closed after it."""

        def run() -> None:
            with self:
                work()
                for outlet in outlets:
                    outlet.close()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Let all of them end, and wait until they have."""
        for channel in self._channels:
            channel.stop()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> None:
        """What fails within stops everyone; whoever called `start` asks `failure` for it."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None:
            return False
        if isinstance(error, Exception):
            with self._lock, suppress(StoppedError):
                if self.failure is None and not isinstance(error, StoppedError):
                    self.failure = error
            for channel in self._channels:
                channel.stop()
            return True
        return False

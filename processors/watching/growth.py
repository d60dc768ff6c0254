"""What a watched root tells of files that are still being written, for whoever copies them meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from processors.watching.comparing import Found
from processors.watching.registering import Registrar
from streams.paths import OsPath


class Growing(Protocol):
    """Copies the files of one root while they are being written. Nothing here waits for a store."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Work beside the body, as a context manager; all of it has ended when that ends."""
        ...

    def told(self, relative: str, found: Found) -> None:
        """Someone is writing to this file, and it looks like this now."""

    def went(self, relative: str) -> None:
        """This path is not being written any more, and nothing new is to be registered there."""

    async def unfinished(self, settled: Mapping[str, Found]) -> set[str]:
        """Those of the complete files that may not be registered yet: something is still on its way.

        Ask again soon. It takes a bounded time for each file, whatever becomes of the store.
        """
        ...


class NoGrowth:
    """Nothing is copied before it is complete."""

    def __init__(self, root: OsPath, registrar: Registrar) -> None:
        """Nothing to remember."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing runs."""
        yield

    def told(self, relative: str, found: Found) -> None:
        """It will be copied once it is complete."""

    def went(self, relative: str) -> None:
        """Nothing was copied."""

    async def unfinished(self, settled: Mapping[str, Found]) -> set[str]:  # noqa: ARG002 # see the Protocol
        """Nothing is on its way."""
        return set()


GrowingOf = Callable[[OsPath, Registrar], Growing]
"""Makes what copies the growing files of a root, anew for each time that the root is watched."""

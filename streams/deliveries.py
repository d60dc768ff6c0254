"""What a member of a group has in hand: the partitions that are its own just now, and their entries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.background import stop_if_cancelled
from streams.leases import Lease

ASKED = -1
"""A partition's `rescan` while a read of its pending entries is under way."""

DOUBT = 0.05
"""Seconds between two looks whether a lease that ran out is ours again."""


class Delivery:
    """An entry on its way to a handler."""

    __slots__ = ("again", "carrier", "fields", "owned", "partition", "pos")

    def __init__(self, owned: Owned, pos: int, fields: Mapping[bytes, bytes], again: bool) -> None:
        self.owned, self.partition, self.pos, self.fields = owned, owned.partition, pos, fields
        self.again = again
        """It was delivered before and nobody knows what became of it: its owner may have died of it."""
        self.carrier: Any = None
        """What a transport carries it in, where there is one."""

    def valid(self) -> bool:
        """Whether its partition is ours just now."""
        return self.owned.lease.valid() and not self.owned.gone


class Owned:
    """A partition that is ours just now."""

    __slots__ = (
        "_landed", "in_flight", "lease", "leaving", "lost", "nothing_until", "partition", "paused", "position", "rescan",
        "void",
    )  # fmt: skip

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.partition = lease.partition
        self.position = 0
        """The last position that was delivered to the group."""
        self.nothing_until = 0
        """Up to here nothing was left to deliver when we asked; may lie beyond `position`."""
        self.rescan: int | None = 0
        """Where the reading of pending entries stands; None when all are in flight."""
        self.in_flight: set[int] = set()
        self.leaving = False
        self.lost = False
        self.paused = False
        """Whoever takes its entries has enough of them: none are fetched (see `resume`)."""
        self.void = False
        """Its positions mean other entries by now: what was done with the former ones acknowledges nothing."""
        self._landed: set[int] | None = None

    @property
    def gone(self) -> bool:
        """Whether it is ours no more, for good."""
        return self.lost or self.void

    async def kept(self) -> bool:
        """Whether it is ours. While its lease has run out that is not known: waits until Redis has told.

        Nobody else may begin what we have in hand before then without a token that fences us.
        """
        while not self.gone:
            stop_if_cancelled()
            if self.lease.valid():
                return True
            await asyncio.sleep(DOUBT)
        return False

    @property
    def asked_until(self) -> int:
        """What lies beyond this has not been asked for."""
        return max(self.position, self.nothing_until)

    def landed(self, positions: Iterable[int]) -> None:
        """These entries are done and Redis knows it."""
        self.in_flight.difference_update(positions)
        if self._landed is not None:
            self._landed.update(positions)

    @contextlib.contextmanager
    def rescanning(self) -> Iterator[set[int]]:
        """What lands within the block: a list of pending entries that was made before may still name it."""
        landed: set[int] = set()
        self._landed = landed
        try:
            yield landed
        finally:
            self._landed = None

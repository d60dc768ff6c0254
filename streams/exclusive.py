"""Work that only one process may do at a time: watching a root, for instance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from streams.background import stop_if_cancelled
from streams.errors import LogUnavailableError
from streams.keys import partition_of
from streams.leases import Lease, Leases
from streams.log import Log

_log = structlog.get_logger(__name__)


async def run_exclusively(log: Log, name: str, member: str, ttl: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` whenever the lease `name` is ours, for ever; it is cancelled when the lease is lost.

    The lease is released when we are cancelled, so another process goes on at once.
    """
    leases = Leases(log.redis, log.keys, name, member, ttl)
    partition = partition_of(name, log.partitions)
    while True:
        stop_if_cancelled()
        lease = None
        with contextlib.suppress(LogUnavailableError):
            lease = await leases.acquire(partition)
        if lease is None:
            await asyncio.sleep(min(1.0, ttl / 3))
            continue
        await _while_held(leases, lease, name, ttl, work)


async def _while_held(leases: Leases, lease: Lease, name: str, ttl: float, work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work())
    try:
        while lease.valid() and not task.done():
            await asyncio.wait({task}, timeout=ttl / 3)
            with contextlib.suppress(LogUnavailableError):
                await leases.renew([lease])
        if task.done():
            task.result()
        else:
            _log.warning("lease lost: the work stops until it is ours again", name=name)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(LogUnavailableError):
            await leases.release(lease)

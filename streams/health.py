"""What each worker says of itself, so that any process can tell whether all is well.

A worker writes its account into Redis every few seconds, with a time to live. `/readyz` and
`spoolhouse streams` read them: a dead worker is one that says nothing any more.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from cattrs.preconf.orjson import make_converter

from streams.background import stop_if_cancelled
from streams.connections import told_plainly
from streams.errors import LogUnavailableError
from streams.log import Log
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.hosting import Host

EVERY = 2.0
"""Seconds between two accounts."""

_log = structlog.get_logger(__name__)
_converter = make_converter()


@dataclass(slots=True)
class GroupAccount:
    """One processor in one worker."""

    group: str
    partitions: list[int]
    lag: int
    in_flight: int
    handled: int
    breaker: str | None = None
    """Why its work is paused, where it is."""
    stalled: str | None = None
    """What does not move, where something does not."""


@dataclass(slots=True)
class Account:
    """What a worker says of itself."""

    member: str
    host: str
    pid: int
    started: float
    """Epoch seconds."""
    at: float
    """When it was written, epoch seconds."""
    groups: list[GroupAccount] = field(default_factory=list)
    projections: dict[str, Any] = field(default_factory=dict)
    """Name → what the projection runner says of it."""
    problems: list[str] = field(default_factory=list)
    """What keeps the system from being ready."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know of."""


async def publish(log: Log, account: Account) -> None:
    """Write an account; it is forgotten when the next ones do not come. Raises LogUnavailableError."""
    told = _converter.dumps(account)
    with told_plainly():
        pipeline = log.redis.pipeline(transaction=False)
        pipeline.set(log.keys.worker(account.member), told, px=int(EVERY * 4000))
        pipeline.zadd(log.keys.workers(), {account.member: account.at * 1000})
        pipeline.zremrangebyscore(log.keys.workers(), "-inf", (account.at - 60) * 1000)
        await pipeline.execute()


async def withdraw(log: Log, member: str) -> None:
    """Take an account back: its worker stops on purpose."""
    with told_plainly():
        await log.redis.delete(log.keys.worker(member))
        await log.redis.zrem(log.keys.workers(), member)


async def accounts(log: Log) -> list[Account]:
    """The accounts of all living workers, by name. Raises LogUnavailableError."""
    with told_plainly():
        members: Any = await log.redis.zrange(log.keys.workers(), 0, -1)
        if not members:
            return []
        told = await log.redis.mget([log.keys.worker(member.decode()) for member in members])
    return [_converter.loads(one, Account) for one in told if one is not None]


class Watchdog:
    """Notices processors that have work and do not move."""

    def __init__(self, stall_after: float) -> None:
        self._stall_after = stall_after
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}
        self._told: set[str] = set()

    def look(self, host: Host, now: float) -> GroupAccount:
        """The account of a processor, its stall included."""
        group, owned = host.processor.group, dict(host.consumer.owned)
        in_flight = sum(len(one.in_flight) for one in owned.values())
        lag = host.consumer.lag()
        progress = (host.handling.handled, sum(one.position for one in owned.values()))
        before, since = self._seen.get(group, (progress, now))
        if progress != before or not (lag or in_flight):
            since = now
        self._seen[group] = (progress, since)
        since = max(since, host.handling.last_beat)
        breaker = host.handling.breaker.reason
        stalled = None
        if (lag or in_flight) and breaker is None and now - since > self._stall_after:
            stalled = (
                f"{group} has {lag} events before it and {in_flight} in hand, and nothing has moved "
                f"for {now - since:.0f} s"
            )
            if group not in self._told:
                self._told.add(group)
                _log.error("processor is stalled", group=group, lag=lag, in_flight=in_flight)
        else:
            self._told.discard(group)
        return GroupAccount(group, sorted(owned), lag, in_flight, host.handling.handled, breaker, stalled)


class Reporter:
    """Publishes a worker's account, again and again."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        member: str,
        hosts: Sequence[Host],
        *,
        projections: Callable[[], dict[str, Any]] = dict,
        problems: Callable[[], list[str]] = list,
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        self._log, self._member, self._hosts = log, member, hosts
        self._projections, self._problems, self._warnings = projections, problems, warnings
        self._watchdog = Watchdog(settings.stall_after)
        self._started = time.time()

    def account(self) -> Account:
        """The worker's account as of now."""
        now = time.monotonic()
        groups = [self._watchdog.look(host, now) for host in self._hosts]
        problems = list(self._problems())
        for group in groups:
            problems += [found for found in (group.breaker, group.stalled) if found]
        return Account(
            member=self._member,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            at=time.time(),
            groups=groups,
            projections=self._projections(),
            problems=problems,
            warnings=list(self._warnings()),
        )

    async def run(self) -> None:
        """Publish for ever; a log that is gone is no error here, readers notice by themselves."""
        while True:
            stop_if_cancelled()
            try:
                await publish(self._log, self.account())
            except LogUnavailableError as error:
                _log.debug("account not written", error=str(error))
            await asyncio.sleep(EVERY)

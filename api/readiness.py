"""Puts together what `/readyz` says: what this process sees, and what the workers say of themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from api.draining import Draining
from api.services import Services
from streams.errors import SpoolhouseError
from streams.health import Account, accounts

WITHIN = 2.0
"""Seconds for each thing that is asked."""

FRESH = 0.5
"""Seconds for which a report is given to everyone who asks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know."""

    what: str
    """`redis`, `catalogue`, `worker`, `shutdown`."""
    message: str


@dataclass(slots=True)
class Report:
    """What `/readyz` says."""

    ready: bool = True
    problems: list[Finding] = field(default_factory=list)
    """What keeps the system from doing all of its work."""
    warnings: list[Finding] = field(default_factory=list)
    workers: list[Account] = field(default_factory=list)


class Readiness:
    """Asks, with a timeout on everything, and at most twice a second."""

    def __init__(self, services: Services, draining: Draining) -> None:
        self._services, self._draining = services, draining
        self._asking: asyncio.Task[Report] | None = None
        self._asked = 0.0

    async def report(self) -> Report:
        """How everything is, as of half a second ago at the most."""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked > FRESH):
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        """End what is still being asked."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> Report:
        log, report = self._services.log, Report()
        workers: list[Account] = []

        async def redis() -> None:
            if not await log.ping(WITHIN):
                raise SpoolhouseError("Redis does not answer: uploads are taken, everything else waits for it.")
            workers.extend(await accounts(log))

        down = await asyncio.gather(_checked("redis", redis), _checked("catalogue", self._catalogue))
        report.problems += [finding for finding in down if finding is not None]
        report.workers = workers
        if not workers and not any(finding.what == "redis" for finding in report.problems):
            report.problems.append(
                Finding(
                    "worker", "No worker is alive: nothing is watched, probed or listed. Start one: spoolhouse worker"
                )
            )
        for worker in workers:
            name = f"worker {worker.member}"
            report.problems += [Finding(name, text) for text in worker.problems]
            report.warnings += [Finding(name, text) for text in worker.warnings]
        if self._draining.stopping:
            report.problems.append(Finding("shutdown", "This process is shutting down."))
        report.ready = not report.problems
        self._asked = time.monotonic()
        return report

    async def _catalogue(self) -> None:
        await self._services.catalogue.totals("upload")


async def _checked(what: str, ask: Callable[[], Awaitable[None]]) -> Finding | None:
    """What is wrong with one thing; None when it is well."""
    try:
        async with asyncio.timeout(WITHIN * 2):
            await ask()
    except SpoolhouseError as error:
        return Finding(what, str(error))
    except TimeoutError:
        return Finding(what, f"{what} did not answer within {WITHIN * 2:g} s.")
    return None


READINESS = web.AppKey("readiness", Readiness)

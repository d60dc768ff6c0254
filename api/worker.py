"""The worker: projections, sources and processors in one process, opened in order, drained in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Collection, Iterator

import structlog

from api import rebuilding
from api.bootstrap import WorkerParts, worker_parts
from streams.background import running, stop_if_cancelled
from streams.errors import DependencyDownError, LogUnavailableError, SettingsError
from streams.exclusive import run_exclusively
from streams.gate import Gate
from streams.health import Reporter, withdraw
from streams.hosting import Host
from streams.log import Log
from streams.processing import PROCESSORS, Processor
from streams.settings import Settings

_log = structlog.get_logger(__name__)


async def run_worker(settings: Settings, *, only: Collection[str] = ()) -> None:
    """Work until SIGTERM or SIGINT; running work then gets `settings.drain` seconds.

    With `only`, just the processors of these names run: no sources, no projections. Raises
    SettingsError for a name that no processor has.
    """
    stopping = asyncio.Event()
    member = member_name(settings)
    with _heeding(stopping):
        async with worker_parts(settings) as parts, contextlib.AsyncExitStack() as stack:
            processors = chosen(only, settings)
            hosts: list[Host] = []
            stack.push_async_callback(_withdraw, parts.log, member)
            if only:
                reporter = Reporter(parts.log, settings, member, hosts)
                await stack.enter_async_context(running(reporter.run()))
            else:
                gate = Gate(parts.log, parts.projections, parts.restorers, member, settings.lease_ttl)
                reporter = Reporter(
                    parts.log,
                    settings,
                    member,
                    hosts,
                    projections=parts.projections.told,
                    problems=lambda: [
                        *([gate.reason] if gate.reason else []),
                        *parts.projections.problems(),
                        *parts.problems(),
                    ],
                    warnings=parts.warnings,
                )
                await stack.enter_async_context(
                    running(
                        reporter.run(),
                        parts.projections.run(),
                        gate.run(parts.projections.started),
                        _run_sources(parts, gate, member, settings),
                        rebuilding.serve(parts.log, parts.projections.runner),
                    )
                )
            for processor in processors:
                host = await stack.enter_async_context(
                    parts.hosted(processor, parts.log, parts.services, settings, member)
                )
                hosts.append(host)
            _log.info("worker is at work", member=member, processors=[one.group for one in processors])
            await stopping.wait()
            _log.info("worker is stopping: what runs may finish", seconds=settings.drain)
            # All at once: one after the other they would take as many times the time that is given.
            await asyncio.gather(*(host.drain() for host in hosts))
    _log.info("worker has stopped")


def member_name(settings: Settings) -> str:
    """What this worker is called among the members of its groups.

    A configured name is kept over restarts, so that a worker which died has its partitions back at
    once; the token in each lease keeps an earlier life of it from doing harm.
    """
    return settings.worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def chosen(only: Collection[str], settings: Settings) -> list[Processor]:
    """The processors to run: all whose dependencies are configured, or those that are named.

    Raises SettingsError for a name that none has.
    """
    if not only:
        return [one for one in PROCESSORS.values() if one.needs(settings)]
    by_name = {name: one for one in PROCESSORS.values() for name in (one.group, *one.alias)}
    if unknown := [name for name in only if name not in by_name]:
        raise SettingsError(f"there is no processor {', '.join(unknown)}; there are {', '.join(sorted(by_name))}")
    return list({by_name[name].group: by_name[name] for name in only}.values())


async def _run_sources(parts: WorkerParts, gate: Gate, member: str, settings: Settings) -> None:
    """Sources run while the gate is open: what they append rests on what the projections hold."""
    while True:
        stop_if_cancelled()
        closed = await gate.opened()
        await _open_registry(parts)
        loops = [
            asyncio.create_task(run_exclusively(parts.log, source.name, member, settings.lease_ttl, source.run))
            for source in parts.sources()
        ]
        closing = asyncio.create_task(closed.wait())
        try:
            done, _ = await asyncio.wait([closing, *loops], return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                if ended is not closing and (error := ended.exception()):
                    _log.error("a source failed; all are started again", error=repr(error), exc_info=error)
                    await asyncio.sleep(5)
        finally:
            for task in (closing, *loops):
                task.cancel()
            await asyncio.gather(closing, *loops, return_exceptions=True)


async def _open_registry(parts: WorkerParts) -> None:
    """Reserve and adopt the rows that were there; waits for whatever is down."""
    pause = 0.5
    while True:
        try:
            if await parts.projections.caught_up(timeout=30):
                await parts.registry.open()
                return
        except (LogUnavailableError, DependencyDownError) as error:
            _log.warning("sources wait", error=str(error))
            await asyncio.sleep(pause)
            pause = min(10.0, pause * 2)


async def _withdraw(log: Log, member: str) -> None:
    with contextlib.suppress(LogUnavailableError):
        await withdraw(log, member)


@contextlib.contextmanager
def _heeding(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

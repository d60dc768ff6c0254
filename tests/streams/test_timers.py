"""What a processor's timers may rely on, whoever hosts it: one process runs them, and goes on when the others die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from streams.codec import Recorded
from streams.errors import TransientError
from streams.events import Event
from streams.faust.hosting import FaustHost, hosted_by_faust
from streams.hosting import Host, hosted
from streams.keys import partition_of
from streams.log import Log, open_log
from streams.processing import Context, Processor, Timer
from streams.settings import Settings
from tests.streams.driving import WorkerProcess, eventually

Hosting = Callable[..., AbstractAsyncContextManager[Host]]
Run = Callable[[Context], Awaitable[None]]

EVERY = 0.05


@pytest.fixture(params=["core", "faust"])
def host_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def hosting(host_name: str) -> Hosting:
    return hosted if host_name == "core" else hosted_by_faust


def ticking(*runs: Run) -> Processor:
    """A processor that has nothing but timers to do."""

    async def nothing(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        return
        yield

    timers = tuple(Timer(f"timer-{number}", run, every=lambda _: EVERY) for number, run in enumerate(runs))
    return Processor("test", frozenset({"VideoNumbered"}), nothing, timers=timers)


async def test_timers_run_again_and_again_with_what_a_processor_gets(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    got: list[int] = []
    others: list[bool] = []

    async def run(context: Context) -> None:
        got.append(context.service(int))
        assert context.settings is settings

    async def another(context: Context) -> None:
        others.append(context.draining.is_set())

    async with hosting(ticking(run, another), log, {int: 7}, settings, "one"):
        await eventually(lambda: len(got) >= 3 and len(others) >= 3)
    assert set(got) == {7}
    assert set(others) == {False}
    assert len(got) == (ended := len(got))
    await asyncio.sleep(3 * EVERY)
    assert len(got) == ended


async def test_timer_that_fails_is_run_again(hosting: Hosting, log: Log, settings: Settings) -> None:
    """Given one timer that raises whatever it likes, then it is run again and another one is not held up."""
    failures: list[Exception] = []
    well: list[None] = []

    async def fail(_: Context) -> None:
        failures.append(TransientError("not yet") if len(failures) % 2 else ZeroDivisionError("a fault"))
        raise failures[-1]

    async def run(_: Context) -> None:
        well.append(None)

    async with hosting(ticking(fail, run), log, {}, settings, "one"):
        await eventually(lambda: len(failures) >= 3 and len(well) >= 3)


async def test_one_of_two_runs_them_and_the_other_takes_over(
    hosting: Hosting, settings: Settings, redis_url: str
) -> None:
    """Given two hosts, then only the leader's timer runs; when it leaves, the other's does."""
    runs: list[str] = []

    def noting(name: str) -> Run:
        async def run(_: Context) -> None:
            runs.append(name)

        return run

    @contextlib.asynccontextmanager
    async def working(name: str) -> AsyncIterator[Host]:
        async with (
            open_log(settings, redis_url) as log,
            hosting(ticking(noting(name)), log, {}, settings, name) as host,
        ):
            yield host

    async with contextlib.AsyncExitStack() as rest:
        async with working("one") as one:
            two = await rest.enter_async_context(working("two"))
            await eventually(
                lambda: one.consumer.owned and two.consumer.owned and one.timers.leads() != two.timers.leads()
            )
            leader, other = (one, two) if one.timers.leads() else (two, one)
            home = partition_of("test", settings.partitions)
            assert home in leader.consumer.owned
            assert home not in other.consumer.owned
            runs.clear()
            await eventually(lambda: len(runs) >= 3)
            assert set(runs) == {"one" if leader is one else "two"}
        runs.clear()
        await eventually(lambda: runs.count("two") >= 3)
        assert two.timers.leads()
        assert set(runs) == {"two"}


async def test_timer_is_ended_when_its_process_leads_no_more(hosting: Hosting, log: Log, settings: Settings) -> None:
    """Given a timer that hangs, when its lease is someone else's by now, then it is ended; draining ends it as well."""
    began: list[asyncio.Event] = []

    async def hang(_: Context) -> None:
        ended = asyncio.Event()
        began.append(ended)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with hosting(ticking(hang), log, {}, settings, "one") as host:
        await eventually(lambda: began)
        home = partition_of("test", settings.partitions)
        await log.redis.set(log.keys.lease(home, "test"), "stranger 1000", px=1500)
        await asyncio.wait_for(began[0].wait(), 30)
        assert not host.timers.leads()
        await eventually(lambda: len(began) > 1)
        assert await log.redis.get(log.keys.lease(home, "test")) != b"stranger 1000"
    assert began[-1].is_set()


async def test_fausts_own_timers_know_the_leader(log: Log, settings: Settings) -> None:
    """Given `on_leader=True` in an App that we host, then Faust asks our leases, and no topic is made for it."""
    async with hosted_by_faust(ticking(), log, {}, settings, "one") as host:
        assert isinstance(host, FaustHost)
        await eventually(lambda: host.app is not None and host.app.is_leader())
        assert host.timers.leads()
        assert [key async for key in log.redis.scan_iter("*leader*")] == []
        host.handling.draining.set()
        assert not host.app.is_leader()


async def test_processes_never_run_one_at_the_same_time_and_survive_kill(
    host_name: str, redis_url: str, tmp_path: Path, settings: Settings
) -> None:
    """Given three processes, when the leader is killed twice, then another one takes over within its lease's time."""

    def ticks() -> list[tuple[str, int, int]]:
        try:
            lines = (tmp_path / "ticks").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(name, int(began), int(ended)) for name, began, ended in (line.split() for line in lines)]

    options = {"host": host_name, "tick_every": EVERY, "ttl": 1.0}
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(WorkerProcess(redis_url, tmp_path, member=name, **options))
            for name in ("one", "two", "three")
        }
        for _ in range(2):
            known = len(ticks())
            await eventually(lambda known=known: len(ticks()) >= known + 5)
            leader = ticks()[-1][0]
            workers.pop(leader).kill()
            await eventually(lambda leader=leader: ticks()[-1][0] != leader)
        known = len(ticks())
        await eventually(lambda: len(ticks()) >= known + 5)
        for worker in workers.values():
            worker.stop()
    found = sorted(ticks(), key=lambda one: one[1])
    for (name, _, ended), (other, began, _) in itertools.pairwise(found):
        assert name == other or began >= ended, f"{name} and {other} ran it at the same time"
    assert len({name for name, _, _ in found}) == 3

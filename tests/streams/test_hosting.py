"""What a processor may rely on, whoever hosts it: the bare core or Faust."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from streams.codec import Recorded
from streams.entries import position
from streams.errors import DependencyDownError, PoisonError, TransientError
from streams.events import AttemptFailed, EntryParked, Event, NumbersReserved, VideoNumbered
from streams.faust.hosting import hosted_by_faust
from streams.hosting import Host, hosted
from streams.log import Log, new_event, open_log
from streams.processing import Context, First, Processor
from streams.retries import Retries
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy

Behaviour = Callable[[Recorded[Any], Context], Awaitable[None]]
Hosting = Callable[..., AbstractAsyncContextManager[Host]]

GROUP = "work"


@pytest.fixture(params=["core", "faust"])
def hosting(request: pytest.FixtureRequest) -> Hosting:
    return hosted if request.param == "core" else hosted_by_faust


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(partitions=4, lease_ttl=1.5, drain=5.0)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    async with open_log(settings, redis_url) as opened:
        yield opened


async def eventually(holds: Callable[[], Any], *, within: float = 60.0, what: str = "") -> Any:
    """Wait for a condition (or an awaitable of one) to hold."""
    until = time.monotonic() + within
    while True:
        found = holds()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < until, what or "it did not happen in time"
        await asyncio.sleep(0.02)


class Work:
    """A processor that remembers what it was given and does as a test says."""

    def __init__(self, behaviour: Behaviour | None = None, **options: Any) -> None:
        self.seen: list[tuple[str, str, int]] = []
        """(subject, video, attempt) of each start."""
        self.done: list[tuple[str, str]] = []
        self.behaviour = behaviour
        self.processor = Processor(GROUP, frozenset({"VideoNumbered"}), self._handle, **options)

    async def _handle(self, recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
        self.seen.append((recorded.subject, recorded.event.video, context.attempt))
        if self.behaviour:
            await self.behaviour(recorded, context)
        yield NumbersReserved(through=int(recorded.event.video))
        self.done.append((recorded.subject, recorded.event.video))


async def give(log: Log, subject: str, *videos: int) -> None:
    await log.append_all([new_event(subject, VideoNumbered(video=str(video)), source="test") for video in videos])


async def results(log: Log, subject: str) -> list[int]:
    return [r.event.through for r in await log.history(subject) if isinstance(r.event, NumbersReserved)]


async def nothing_pending(log: Log) -> bool:
    """Whether the group was given everything, and all of it is acknowledged."""
    for partition, head in enumerate(await log.heads()):
        groups = await log.redis.xinfo_groups(log.keys.log(partition)) if head else []
        if head and not groups:
            return False
        for group in groups:
            if position(group["last-delivered-id"]) < head or group["pending"]:
                return False
    return True


async def all_parked(log: Log) -> list[Any]:
    retries = Retries(log.redis, log.keys, GROUP)
    return [parked for partition in range(log.partitions) for parked in await retries.parked(partition)]


async def test_each_event_is_handled_once_and_its_results_appended(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    work = Work()
    for subject in range(20):
        await give(log, f"s{subject}", *range(5))
    async with hosting(work.processor, log, {}, settings, "one"):
        await eventually(lambda: len(work.done) >= 100)
        await give(log, "s0", 5)
        await eventually(lambda: len(work.done) >= 101)
        await eventually(lambda: nothing_pending(log))
    assert len(work.seen) == 101
    assert await results(log, "s0") == [0, 1, 2, 3, 4, 5]
    assert await results(log, "s7") == [0, 1, 2, 3, 4]


async def test_events_of_other_types_are_acknowledged_unseen(hosting: Hosting, log: Log, settings: Settings) -> None:
    work = Work()
    await log.append(new_event("s", NumbersReserved(through=1), source="test"))
    async with hosting(work.processor, log, {}, settings, "one"):
        await eventually(lambda: nothing_pending(log))
    assert work.seen == []


async def test_subjects_go_side_by_side_and_each_in_order(hosting: Hosting, log: Log, settings: Settings) -> None:
    """Given a handler that hangs for one subject, then the others go on, and the hanging one keeps its order."""
    gate = asyncio.Event()

    async def slow_for_a(recorded: Recorded[Any], _: Context) -> None:
        if recorded.subject == "a":
            await gate.wait()

    work = Work(slow_for_a)
    await give(log, "a", 1, 2, 3)
    for subject in range(8):
        await give(log, f"b{subject}", 1, 2)
    async with hosting(work.processor, log, {}, settings, "one"):
        await eventually(lambda: len(work.done) == 16)
        assert [video for subject, video, _ in work.seen if subject == "a"] == ["1"]
        gate.set()
        await eventually(lambda: len(work.done) == 19)
    assert [video for subject, video in work.done if subject == "a"] == ["1", "2", "3"]


async def test_a_transient_failure_is_retried_and_blocks_its_subject_only(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    async def fails_twice(recorded: Recorded[Any], context: Context) -> None:
        if recorded.subject == "a" and recorded.event.video == "1" and context.attempt < 3:
            raise TransientError("not now", retry_after=0.05)

    work = Work(fails_twice)
    await give(log, "a", 1, 2)
    await give(log, "b", 1)
    async with hosting(work.processor, log, {}, settings, "one"):
        await eventually(lambda: len(work.done) == 3)
        await eventually(lambda: nothing_pending(log))
    assert [(v, attempt) for s, v, attempt in work.seen if s == "a"] == [("1", 1), ("1", 2), ("1", 3), ("2", 1)]
    failed = [r.event for r in await log.history("a") if isinstance(r.event, AttemptFailed)]
    assert [one.attempt for one in failed] == [1, 2]
    assert failed[0].reason == "not now"


async def test_an_unexpected_error_counts_as_transient(hosting: Hosting, log: Log, settings: Settings) -> None:
    async def stumbles(_: Recorded[Any], context: Context) -> None:
        if context.attempt == 1:
            raise ZeroDivisionError("a fault of ours")

    work = Work(stumbles)
    await give(log, "a", 1)
    async with hosting(work.processor, log, {}, settings, "one"):
        await eventually(lambda: work.done == [("a", "1")])
    assert [attempt for _, _, attempt in work.seen] == [1, 2]


async def test_poison_is_parked_at_once_and_replay_drains_its_subject_in_order(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    broken = True

    async def poisonous(recorded: Recorded[Any], _: Context) -> None:
        if broken and recorded.event.video == "1":
            raise PoisonError("corrupt")

    work = Work(poisonous)
    await give(log, "a", 1, 2)
    async with hosting(work.processor, log, {}, settings, "one"):
        [parked] = await eventually(lambda: all_parked(log))
        assert (parked.subject, parked.reason, parked.type) == ("a", "corrupt", "VideoNumbered")
        await give(log, "a", 3)
        await eventually(lambda: nothing_pending(log))
        assert work.done == []

        broken = False
        await Retries(log.redis, log.keys, GROUP).replay(parked)
        await eventually(lambda: len(work.done) == 3)
    assert [video for _, video in work.done] == ["1", "2", "3"]
    assert await all_parked(log) == []
    assert [r.event.reason for r in await log.history("a") if isinstance(r.event, EntryParked)] == ["corrupt"]


async def test_what_fails_too_often_is_parked_and_discard_lets_the_rest_go_on(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    async def never(recorded: Recorded[Any], _: Context) -> None:
        if recorded.event.video == "1":
            raise TransientError("never", retry_after=0.01)

    work = Work(never, attempts=2)
    await give(log, "a", 1, 2)
    async with hosting(work.processor, log, {}, settings, "one"):
        [parked] = await eventually(lambda: all_parked(log))
        assert parked.attempts == 2
        await Retries(log.redis, log.keys, GROUP).discard(parked)
        await eventually(lambda: work.done == [("a", "2")])


async def test_an_undecodable_entry_is_parked_alone(hosting: Hosting, log: Log, settings: Settings) -> None:
    work = Work()
    await log.redis.execute_command("XADD", log.keys.log(0), "1-0", "what", "is this")
    async with hosting(work.processor, log, {}, settings, "one"):
        for subject in range(8):
            await give(log, f"s{subject}", 1)
        await eventually(lambda: len(work.done) == 8)
        [parked] = await eventually(lambda: all_parked(log))
        assert (parked.partition, parked.pos) == (0, 1)
        await eventually(lambda: nothing_pending(log))


async def test_while_a_dependency_is_down_no_attempt_is_spent(hosting: Hosting, log: Log, settings: Settings) -> None:
    down = True

    async def needs_it(_: Recorded[Any], __: Context) -> None:
        if down:
            raise DependencyDownError("S3", "connection refused")

    work = Work(needs_it, attempts=2)
    await give(log, "a", 1, 2)
    async with hosting(work.processor, log, {}, settings, "one") as host:
        await eventually(lambda: len(work.seen) >= 3)
        assert host.handling.breaker.reason is not None
        down = False
        await eventually(lambda: len(work.done) == 2)
    assert {attempt for _, _, attempt in work.seen} == {1}
    assert not [r for r in await log.history("a") if isinstance(r.event, AttemptFailed)]


async def test_stopping_lets_what_runs_finish_and_leaves_the_rest_to_the_next(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    gate = asyncio.Event()

    async def waits(_: Recorded[Any], context: Context) -> None:
        if not gate.is_set():
            await context.draining.wait()

    first = Work(waits, concurrency=2)
    for subject in range(10):
        await give(log, f"s{subject}", 1)
    async with hosting(first.processor, log, {}, settings, "one"):
        await eventually(lambda: len(first.seen) == 2)
    assert len(first.done) == len(first.seen) == 2
    gate.set()
    second = Work(waits)
    async with hosting(second.processor, log, {}, settings, "two"):
        await eventually(lambda: len(second.done) == 8)
        await eventually(lambda: nothing_pending(log))
    assert {s for s, _ in first.done} & {s for s, _ in second.done} == set()


async def test_what_does_not_finish_in_time_is_cancelled_and_resumes_elsewhere(
    hosting: Hosting, log: Log, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(partitions=4, lease_ttl=1.5, drain=0.2)
    cancelled = False

    async def hangs(_: Recorded[Any], __: Context) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    first, second = Work(hangs), Work()
    await give(log, "a", 1)
    async with hosting(first.processor, log, {}, settings, "one"):
        await eventually(lambda: first.seen)
    assert cancelled
    assert first.done == []
    async with hosting(second.processor, log, {}, settings, "two"):
        await eventually(lambda: second.done == [("a", "1")])


async def test_workers_that_join_and_leave_neither_lose_nor_double(
    hosting: Hosting, log: Log, settings: Settings
) -> None:
    one, two = Work(), Work()

    async def feed() -> None:
        for video in range(60):
            for subject in range(10):
                await give(log, f"s{subject}", video)
            await asyncio.sleep(0.02)

    async with hosting(one.processor, log, {}, settings, "one") as first:
        feeding = asyncio.create_task(feed())
        await eventually(lambda: len(one.done) > 50)
        async with hosting(two.processor, log, {}, settings, "two") as second:
            await eventually(lambda: len(second.consumer.owned) == 2)
            assert len(first.consumer.owned) == 2
            already = len(two.done)
            for subject in range(10):
                await give(log, f"s{subject}", 1000)
            await eventually(lambda: len(two.done) > already)
        await feeding
        await eventually(lambda: len(one.done) + len(two.done) >= 610)
        await eventually(lambda: nothing_pending(log))
    handled = one.done + two.done
    assert len(handled) == len(set(handled)) == 610
    for subject in range(10):
        assert [v for v in await results(log, f"s{subject}") if v < 1000] == list(range(60))


async def test_a_silent_worker_is_fenced_and_another_goes_on(
    hosting: Hosting, settings: Settings, redis_server: RedisServer
) -> None:
    """Given a worker that Redis has not heard of for longer than its lease, then what it yields is refused."""
    gate = asyncio.Event()

    async def waits(_: Recorded[Any], __: Context) -> None:
        await gate.wait()

    first, second = Work(waits), Work()
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        async with (
            open_log(settings, proxy.redis_url) as far,
            open_log(settings, redis_server.url) as near,
            hosting(first.processor, far, {}, settings, "one"),
        ):
            await give(near, "a", 1)
            await eventually(lambda: first.seen)
            proxy.stall()
            async with hosting(second.processor, near, {}, settings, "two"):
                await eventually(lambda: second.done == [("a", "1")])
                gate.set()
                proxy.flow()
                await eventually(lambda: nothing_pending(near))
            assert await results(near, "a") == [1]


async def test_long_work_outlives_an_outage_of_redis(
    hosting: Hosting, make_settings: Callable[..., Settings], own_redis: RedisServer
) -> None:
    """Given work in hand when Redis goes away for longer than the lease, then it is not begun again: what it
    did meanwhile is written down under the next token, and what waits behind it keeps its place.
    """
    settings = make_settings(partitions=4, lease_ttl=0.6, drain=5.0)
    gate = asyncio.Event()

    async def waits(recorded: Recorded[Any], _: Context) -> None:
        if recorded.event.video == "1":
            await gate.wait()

    work = Work(waits)
    async with (
        open_log(settings, own_redis.url) as log,
        hosting(work.processor, log, {}, settings, "one") as host,
    ):
        await give(log, "a", 1, 2, 3)
        await eventually(lambda: work.seen)
        [owned] = [one for one in host.consumer.owned.values() if one.in_flight]
        before = owned.lease.token
        own_redis.stop()
        await eventually(lambda: not owned.lease.valid())
        gate.set()
        await give_time_to_notice(lambda: work.done)
        assert work.seen == [("a", "1", 1)]
        own_redis.start()
        await eventually(lambda: len(work.done) == 3)
        await eventually(lambda: nothing_pending(log))
        assert await results(log, "a") == [1, 2, 3]
        assert work.seen == [("a", str(video), 1) for video in (1, 2, 3)]
        assert owned.lease.token > before


async def give_time_to_notice(wrong: Callable[[], Any], turns: int = 20) -> None:
    """Let everything that is ready run a number of times: what must not happen would have happened."""
    for _ in range(turns):
        await asyncio.sleep(0.01)
        assert not wrong()


async def test_it_goes_on_by_itself_after_redis_restarted(
    hosting: Hosting, settings: Settings, own_redis: RedisServer
) -> None:
    work = Work()
    async with open_log(settings, own_redis.url) as log, hosting(work.processor, log, {}, settings, "one"):
        await give(log, "a", 1)
        await eventually(lambda: len(work.done) == 1)
        own_redis.restart(kill=True)
        await eventually(log.ping)
        await give(log, "a", 2)
        await give(log, "b", 1)
        await eventually(lambda: len(set(work.done)) == 3)
        await eventually(lambda: nothing_pending(log))
        assert await results(log, "a") == [1, 2]


async def test_it_starts_while_redis_is_down(hosting: Hosting, settings: Settings, own_redis: RedisServer) -> None:
    work = Work()
    own_redis.stop()
    async with open_log(settings, own_redis.url) as log, hosting(work.processor, log, {}, settings, "one"):
        own_redis.start()
        await eventually(log.ping)
        await log.prepare()
        await give(log, "a", 1)
        await eventually(lambda: work.done == [("a", "1")])


async def test_a_replys_loss_doubles_nothing(hosting: Hosting, settings: Settings, redis_server: RedisServer) -> None:
    work = Work()
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        async with (
            open_log(settings, proxy.redis_url) as log,
            open_log(settings, redis_server.url) as near,
            hosting(work.processor, log, {}, settings, "one"),
        ):
            await give(near, "a", 0)
            await eventually(lambda: len(work.done) == 1)
            for video in range(1, 30):
                proxy.drop_reply((b"XREADGROUP", b"XACK", b"EVALSHA")[video % 3])
                await give(near, "a", video)
                await give(near, "b", video)
            await eventually(lambda: len(set(work.done)) == 59)
            await eventually(lambda: nothing_pending(near))
            assert await results(near, "a") == list(range(30))
            assert await results(near, "b") == list(range(1, 30))
        assert proxy.dropped > 3


async def test_a_faust_app_that_crashes_is_not_left_dead_in_silence(log: Log, settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with hosted_by_faust(Work().processor, log, {}, settings, "one") as host:
            await eventually(lambda: host.app is not None and host.app.consumer.held)
            await host.app.crash(ZeroDivisionError("a fault in Faust"))
            await asyncio.Event().wait()

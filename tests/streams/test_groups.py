"""Consumer groups when things go wrong: nothing stranded, nothing doubled, each subject in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.codec import Recorded
from streams.entries import new_event
from streams.errors import NotFoundError, PoisonError, TransientError
from streams.events import Event
from streams.groups import CONSUMER, GroupConsumer
from streams.keys import partition_of
from streams.log import Log, open_log
from streams.processing import Context, First
from streams.retries import Parked, Retries
from streams.setting_aside import REASON
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy
from tests.streams.driving import (
    answering,
    check_log,
    eventually,
    numbered,
    of_type,
    pending,
    working,
)


async def answers(log: Log, subject: str) -> list[int]:
    """The numbers of a subject's answers, in order."""
    return [event.event.epoch for event in of_type(await log.history(subject), "EpochRaised")]


async def all_answered(log: Log, subjects: int, each: int) -> bool:
    """Whether every event of every subject has its answer."""
    for subject in range(subjects):
        if len(await answers(log, f"video-{subject}")) < each:
            return False
    return True


async def check_all(log: Log, subjects: int, each: int) -> None:
    """Everything answered once, in order; the log dense; nothing pending."""
    await eventually(lambda: all_answered(log, subjects, each))
    histories = await check_log(log)
    for subject in range(subjects):
        found = [event.event.epoch for event in of_type(histories[f"video-{subject}"], "EpochRaised")]
        assert found == list(range(each)), f"video-{subject}"
    await eventually(lambda: _nothing_pending(log))


async def _nothing_pending(log: Log) -> bool:
    return await pending(log) == 0


def in_order(seen: list[Recorded[Any]]) -> dict[str, list[int]]:
    """Each subject's numbers in the order of their first handling."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in seen:
        number = int(event.event.video)
        if number not in found[event.subject]:
            found[event.subject].append(number)
    return found


async def parked(log: Log) -> list[Parked]:
    """What is parked in the tests' group."""
    retries = Retries(log.redis, log.keys, "test")
    return [one for partition in range(log.partitions) for one in await retries.parked(partition)]


# ---------------------------------------------------------------- broken connections


async def test_replies_lost_in_the_middle_of_fetching_strand_nothing(
    settings: Settings, redis_server: RedisServer, log: Log
) -> None:
    """The server delivered, the reply never came: it is pending, and read again, and in order."""
    seen: list[Recorded[Any]] = []
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        async with working(answering(seen), settings, proxy.redis_url) as host:
            await eventually(lambda: len(host.consumer.owned) == 4)
            for round_ in range(10):
                proxy.drop_reply(b"XREADGROUP")
                await log.append_all([numbered(f"video-{s}", round_) for s in range(20)])
                dropped = proxy.dropped
                await eventually(lambda dropped=dropped: proxy.dropped > dropped)
            await check_all(log, 20, 10)
    assert all(numbers == list(range(10)) for numbers in in_order(seen).values())


async def test_connections_cut_at_random_lose_and_double_nothing(
    settings: Settings, redis_server: RedisServer, log: Log, rng: random.Random
) -> None:
    """Appends, fetches, acknowledgements and renewals all break off, again and again."""
    seen: list[Recorded[Any]] = []
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        async with working(answering(seen), settings, proxy.redis_url):

            async def cut() -> None:
                while True:
                    await asyncio.sleep(rng.uniform(0.005, 0.1))
                    proxy.cut()

            cutting = asyncio.create_task(cut())
            for number in range(30):
                await log.append_all([numbered(f"video-{s}", number) for s in range(10)])
                await asyncio.sleep(0.02)
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            await check_all(log, 10, 30)
    assert all(numbers == list(range(30)) for numbers in in_order(seen).values())


async def test_frozen_redis_past_the_lease_keeps_order(
    settings: Settings, own_redis: RedisServer, rng: random.Random
) -> None:
    """Work is let go and begun again under a new lease; no later event of a subject overtakes."""
    done: dict[str, list[int]] = defaultdict(list)

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        await asyncio.sleep(rng.uniform(0, 0.05))
        number = int(event.event.video)
        if number not in done[event.subject]:
            done[event.subject].append(number)
        async for one in answering()(event, context):
            yield one

    async with open_log(settings, own_redis.url) as log, working(handle, settings, own_redis.url) as host:
        await log.append_all([numbered(f"video-{s}", n) for n in range(20) for s in range(10)])
        for _ in range(3):
            await eventually(lambda: sum(len(numbers) for numbers in done.values()) % 7 == 3 or len(host.lanes) == 0)
            with own_redis.frozen():
                await eventually(lambda: not any(o.lease.valid() for o in host.consumer.owned.values()))
        await check_all(log, 10, 20)
    assert all(numbers == list(range(20)) for numbers in done.values())


async def test_log_that_goes_away_in_mid_work_keeps_order(settings: Settings, own_redis: RedisServer) -> None:
    """A handler's answer cannot be appended for a while: what comes after it in its subject waits."""
    begun = asyncio.Event()
    gone = asyncio.Event()
    order: list[int] = []

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        order.append(int(event.event.video))
        if int(event.event.video) == 0:
            begun.set()
            await gone.wait()
        async for one in answering()(event, context):
            yield one

    async with open_log(settings, own_redis.url) as log, working(handle, settings, own_redis.url):
        await log.append_all([numbered("video-0", n) for n in range(5)])
        await begun.wait()
        own_redis.kill()
        gone.set()
        own_redis.start()
        await check_all(log, 1, 5)
    assert [n for i, n in enumerate(order) if n not in order[:i]] == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------- hands in Redis


async def test_stranded_entries_are_found_by_the_audit(settings: Settings, log: Log, redis_url: str) -> None:
    """Someone read for the group with redis-cli and went away."""
    seen: list[Recorded[Any]] = []
    async with working(answering(seen), settings, redis_url) as host:
        await eventually(lambda: len(host.consumer.owned) == 4)
        partition = partition_of("video-0", 4)
        owned = host.consumer.owned[partition]
        await eventually(lambda: owned.rescan is None)  # else its own first look would find them
        owned.paused = True
        await log.append_all([numbered("video-0", n) for n in range(5)])
        [(_, stolen)] = await log.redis.xreadgroup("test", CONSUMER, {log.keys.log(partition): ">"})
        assert len(stolen) == 5
        with capture_logs() as logs:
            host.consumer.resume(owned)
            await log.append(numbered("video-0", 5))
            await eventually(lambda: len({event.pos for event in seen}) == 6)
        assert "pending entries were not in flight" in {entry["event"] for entry in logs}
        await eventually(lambda: _nothing_pending(log))


async def test_destroyed_group_begins_again(settings: Settings, log: Log, redis_url: str) -> None:
    """XGROUP DESTROY: from the first entry, never from the end; repeats do no harm."""
    seen: list[Recorded[Any]] = []
    async with working(answering(seen), settings, redis_url):
        await log.append_all([numbered(f"video-{s}", n) for n in range(3) for s in range(8)])
        await check_all(log, 8, 3)
        for partition in range(4):
            await log.redis.xgroup_destroy(log.keys.log(partition), "test")
        await log.append_all([numbered(f"video-{s}", 3) for s in range(8)])
        await check_all(log, 8, 4)
    assert all(numbers == [0, 1, 2, 3] for numbers in in_order(seen).values())


async def test_emptied_redis_is_worked_on_anew(
    settings: Settings, log: Log, redis_url: str, redis_server: RedisServer
) -> None:
    """FLUSHALL under a working group: what comes then is handled, under higher tokens."""
    seen: list[Recorded[Any]] = []
    async with working(answering(seen), settings, redis_url) as host:
        await log.append_all([numbered(f"video-{s}", n) for n in range(3) for s in range(8)])
        await check_all(log, 8, 3)
        tokens = {partition: owned.lease.token for partition, owned in host.consumer.owned.items()}
        redis_server.flush()
        seen.clear()
        await log.append_all([numbered(f"video-{s}", n) for n in range(3) for s in range(8)])
        await check_all(log, 8, 3)
        assert all(host.consumer.owned[partition].lease.token > token for partition, token in tokens.items())
    assert all(numbers == [0, 1, 2] for numbers in in_order(seen).values())


async def test_deleted_entries_are_let_go(settings: Settings, log: Log, redis_url: str) -> None:
    """XDEL of entries that were delivered to a worker which is gone: nothing is left to handle."""
    [first, *_] = await log.append_all([numbered("video-0", n) for n in range(6)])
    key = log.keys.log(first.partition)
    await log.redis.xgroup_create(key, "test", "0")
    await log.redis.xreadgroup("test", CONSUMER, {key: ">"}, count=3)
    await log.redis.xdel(key, "2-0", "5-0")
    seen: list[Recorded[Any]] = []
    async with working(answering(seen), settings, redis_url):
        await eventually(lambda: len(seen) == 4)
        await eventually(lambda: _nothing_pending(log))
    assert [int(event.event.video) for event in seen] == [0, 2, 3, 5]


async def test_group_set_back_by_hand_keeps_order_behind_a_parked_event(
    settings: Settings, log: Log, redis_url: str
) -> None:
    """XGROUP SETID 0 while a subject is blocked: earlier events are put before the later ones."""
    seen: list[Recorded[Any]] = []
    broken = True

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        seen.append(event)
        if int(event.event.video) == 2 and broken:
            raise PoisonError("not this one")
        async for one in answering()(event, context):
            yield one

    await log.append_all([numbered("video-0", n) for n in range(5)])
    async with working(handle, settings, redis_url):
        await eventually(lambda: parked(log))
        await eventually(lambda: _nothing_pending(log))
    partition = partition_of("video-0", 4)
    await log.redis.xgroup_setid(log.keys.log(partition), "test", "0")
    broken = False
    seen.clear()
    async with working(handle, settings, redis_url):
        await eventually(lambda: _waiting_behind(log, partition, 5))
        [one] = await parked(log)
        await Retries(log.redis, log.keys, "test").replay(one)
        await eventually(lambda: len(seen) == 5)
    assert [int(event.event.video) for event in seen] == [0, 1, 2, 3, 4]


async def _waiting_behind(log: Log, partition: int, count: int) -> bool:
    return bool(await log.redis.xlen(log.keys.behind(partition, "test", "video-0")) == count)


@pytest.mark.parametrize("entry_id", ["*", "900-0", "3-7"])
async def test_entry_put_in_by_hand_holds_nobody_up(
    settings: Settings, every_redis: RedisServer, entry_id: str
) -> None:
    """With a place of its own it is parked, between two positions it is left out; the rest goes on."""
    async with open_log(settings, every_redis.url) as log:
        seen: list[Recorded[Any]] = []
        with capture_logs() as logs:
            async with working(answering(seen), settings, every_redis.url):
                await log.append_all([numbered("video-0", n) for n in range(3)])
                await eventually(lambda: len(seen) == 3)
                await eventually(lambda: _nothing_pending(log))
                partition = partition_of("video-0", 4)
                heads = await log.heads()
                key = log.keys.log(partition)
                by_hand = entry_id if entry_id != "3-7" else f"{heads[partition]}-7"
                await log.redis.xadd(key, {b"hello": b"\xff world"}, id=by_hand)
                await log.append_all([numbered("video-0", n) for n in range(3, 6)])
                await eventually(lambda: len(seen) == 6)
                await eventually(lambda: _nothing_pending(log))
            if entry_id == "3-7":
                assert await parked(log) == []
                assert any("was left out" in entry["event"] for entry in logs)
            else:
                [one] = await parked(log)
                assert one.subject == f"!{one.pos}"
                assert "no field" in one.reason
        assert [int(event.event.video) for event in seen] == list(range(6))


async def test_undecodable_entry_can_be_replayed_and_discarded(settings: Settings, log: Log, redis_url: str) -> None:
    """Replayed it is parked again, while anyone works; discarded it is gone."""
    retries = Retries(log.redis, log.keys, "test")
    await log.redis.xadd(log.keys.log(0), {"type": "VideoNumbered", "data": "{"})
    async with working(answering(), settings, redis_url):
        await eventually(lambda: parked(log))
        [one] = await parked(log)
        assert (await retries.body(one))["type"] == "VideoNumbered"
        await retries.replay(one)
        assert await parked(log) == []
        await eventually(lambda: parked(log))
        [again] = await parked(log)
        assert (again.pos, again.subject) == (one.pos, one.subject)
        assert await retries.discard(again) == 0
        assert await parked(log) == []
        for work in (retries.replay(again), retries.discard(again), retries.body(again)):
            with pytest.raises(NotFoundError, match=f"nothing parked at 00/{one.pos}"):
                await work


async def test_entry_in_the_wrong_partition_is_parked_alone(settings: Settings, log: Log, redis_url: str) -> None:
    """Copied by hand, decodable, but no lease covers its subject there: nobody is fenced because of it."""
    seen: list[Recorded[Any]] = []
    first = await log.append(numbered("video-0", 0))
    [entry] = await log.read(first.partition)
    other = (first.partition + 1) % 4
    async with working(answering(seen), settings, redis_url) as host:
        await eventually(lambda: len(seen) == 1)
        tokens = {partition: owned.lease.token for partition, owned in host.consumer.owned.items()}
        await log.redis.xadd(log.keys.log(other), dict(entry.fields))
        await eventually(lambda: parked(log))
        await log.append(numbered("video-0", 1))
        await eventually(lambda: len(seen) == 2)
        assert {partition: owned.lease.token for partition, owned in host.consumer.owned.items()} == tokens
    [one] = await parked(log)
    assert f"belongs to partition {first.partition:02d}" in one.reason


async def test_undecodable_entry_behind_a_blocked_subject_stays_parked(
    settings: Settings, log: Log, redis_url: str
) -> None:
    """When its turn comes it is parked on its own, and what is behind it goes on."""
    seen: list[Recorded[Any]] = []
    broken = True

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        seen.append(event)
        if int(event.event.video) == 0 and broken:
            raise PoisonError("not yet")
        async for one in answering()(event, context):
            yield one

    async with working(handle, settings, redis_url):
        first = await log.append(numbered("video-0", 0))
        await eventually(lambda: parked(log))
        [entry] = await log.read(first.partition, count=1)
        key = log.keys.log(first.partition)
        await eventually(lambda: _nothing_pending(log))
        head = (await log.heads())[first.partition]
        await log.redis.xadd(key, {**entry.fields, b"data": b"{"}, id=f"{head + 1}-0")
        await log.append(numbered("video-0", 1))
        await eventually(lambda: _waiting_behind(log, first.partition, 3))
        broken = False
        [one] = await parked(log)
        await Retries(log.redis, log.keys, "test").replay(one)
        await eventually(lambda: len(seen) == 3)
        await eventually(lambda: parked(log))
    [left] = await parked(log)
    assert left.pos == head + 1
    assert [int(event.event.video) for event in seen] == [0, 0, 1]
    assert not await log.redis.exists(log.keys.behind(first.partition, "test", "video-0"))
    assert (await Retries(log.redis, log.keys, "test").body(left))["data"] == "{"


# ---------------------------------------------------------------- failures with a message


@pytest.mark.parametrize("poison", [True, False])
async def test_reasons_that_are_not_utf8_are_told_all_the_same(
    settings: Settings, log: Log, redis_url: str, poison: bool
) -> None:
    """An error message may name a file whose name is bytes; it may be very long, too."""

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        if context.attempt == 1:
            reason = "cannot read /inbox/\udcff.mp4 " + "x" * 100_000
            raise PoisonError(reason) if poison else TransientError(reason, retry_after=0.01)
        async for one in answering()(event, context):
            yield one

    async with working(handle, settings, redis_url):
        await log.append(numbered("video-0", 0))
        name = "EntryParked" if poison else "AttemptFailed"
        told = await log.wait_for("video-0", {name}, timeout=30)
        assert told is not None
        assert told.event.reason.startswith("cannot read /inbox/\\udcff.mp4 x")
        assert len(told.event.reason) < REASON + 10
        if not poison:
            assert await log.wait_for("video-0", {"EpochRaised"}, timeout=30)


async def test_cancelled_subtask_is_a_failure_like_any_other(settings: Settings, log: Log, redis_url: str) -> None:
    """A processor waits for something that is cancelled under it: its event is tried again, and nothing overtakes."""
    seen: list[tuple[int, int]] = []

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        seen.append((int(event.event.video), context.attempt))
        if seen == [(0, 1)]:
            inner = asyncio.create_task(asyncio.sleep(60))
            inner.cancel()
            await inner
        async for one in answering()(event, context):
            yield one

    async with working(handle, settings, redis_url):
        await log.append_all([numbered("video-0", n) for n in range(3)])
        await check_all(log, 1, 3)
    assert seen == [(0, 1), (0, 2), (1, 1), (2, 1)]


async def test_many_retries_of_many_subjects(settings: Settings, log: Log, redis_url: str, rng: random.Random) -> None:
    """Each event fails a few times: each attempt is told once, every subject stays in order."""
    failures = {(s, n): rng.randrange(3) for s in range(12) for n in range(5)}
    done: dict[str, list[int]] = defaultdict(list)

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        subject, number = int(event.subject.split("-")[1]), int(event.event.video)
        if context.attempt <= failures[subject, number]:
            raise TransientError("again, please", retry_after=rng.uniform(0, 0.05))
        done[event.subject].append(number)
        async for one in answering()(event, context):
            yield one

    async with working(handle, settings, redis_url):
        await log.append_all([numbered(f"video-{s}", n) for n in range(5) for s in range(12)])
        await check_all(log, 12, 5)
    assert all(numbers == list(range(5)) for numbers in done.values())
    histories = await check_log(log)
    for subject, events in histories.items():
        failed = of_type(events, "AttemptFailed")
        wanted = sum(failures[int(subject.split("-")[1]), n] for n in range(5))
        assert len(failed) == wanted
    left = [key async for key in log.redis.scan_iter("*:behind:*")] + [
        key async for key in log.redis.scan_iter("*:attempts:*")
    ]
    assert left == [], "nothing is left of what is over"


# ---------------------------------------------------------------- bounds


async def test_back_pressure_bounds_what_is_in_hand(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Ten thousand events before a slow processor: only some of them are taken."""
    settings = make_settings(partitions=4, lease_ttl=2.0, drain=0.1, concurrency=4)
    release = asyncio.Event()

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        await release.wait()
        return
        yield

    async with open_log(settings, redis_url) as log:
        await log.append_all([numbered(f"video-{n % 400}", n) for n in range(10_000)], timeout=60)
        async with working(handle, settings, redis_url) as host:
            await eventually(lambda: len(host.lanes) >= 2000)
            for _ in range(5):
                await asyncio.sleep(0.1)
                assert len(host.lanes) <= 2000 + 4 * 200
            assert await pending(log) <= 2000 + 4 * 200
            release.set()
            await eventually(lambda: host.handling.handled == 10_000)
            await eventually(lambda: _nothing_pending(log))


async def test_drain_is_bounded_with_redis_gone(make_settings: Callable[..., Settings], own_redis: RedisServer) -> None:
    """Nothing can be given back: the end comes all the same."""
    settings = make_settings(partitions=4, lease_ttl=1.0, drain=0.5)

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        await asyncio.sleep(60)
        return
        yield

    async with open_log(settings, own_redis.url) as log:
        await log.append_all([numbered(f"video-{n}", n) for n in range(20)])
        async with working(handle, settings, own_redis.url) as host:
            await eventually(lambda: len(host.lanes.running) > 3)
            own_redis.kill()
            started = time.monotonic()
        assert time.monotonic() - started < 20


async def test_worker_that_leaves_is_followed_at_once(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """A clean end gives leases back: nobody waits until they run out."""
    settings = make_settings(partitions=4, lease_ttl=20.0, drain=5.0)
    async with open_log(settings, redis_url) as log:
        async with working(answering(), settings, redis_url, member="first") as first:
            await eventually(lambda: len(first.consumer.owned) == 4)
        assert [key async for key in log.redis.scan_iter("*:lease:*")] == []
        assert await log.redis.zcard(log.keys.members("test")) == 0
        started = time.monotonic()
        async with working(answering(), settings, redis_url, member="second") as second:
            await eventually(lambda: len(second.consumer.owned) == 4)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("own_redis", [None], indirect=True)
async def test_full_redis_is_drained(settings: Settings, own_redis: RedisServer) -> None:
    """Without memory nothing is appended, but leases are kept, entries read and acknowledged."""

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        return
        yield

    async with open_log(settings, own_redis.url) as log:
        async with working(handle, settings, own_redis.url) as host:
            await eventually(lambda: len(host.consumer.owned) == 4)
            owned = dict(host.consumer.owned)
            for one in owned.values():
                one.paused = True
            await log.append_all([numbered(f"video-{n}", n) for n in range(100)])
            await log.redis.config_set("maxmemory", "1mb")
            for one in owned.values():
                host.consumer.resume(one)
            await eventually(lambda: host.handling.handled == 100)
            await eventually(lambda: _nothing_pending(log))
            deadline = time.monotonic() + 2.5
            while time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                assert host.consumer.owned == owned, "leases are kept for longer than they last"
            await log.redis.config_set("maxmemory", "0")


@pytest.mark.parametrize("own_redis", [None], indirect=True)
async def test_answers_wait_while_redis_is_full(settings: Settings, own_redis: RedisServer) -> None:
    """A processor that has something to say tries again, without haste, and says it once."""
    async with open_log(settings, own_redis.url) as log:
        async with working(answering(), settings, own_redis.url) as host:
            await eventually(lambda: len(host.consumer.owned) == 4)
            owned = list(host.consumer.owned.values())
            for one in owned:
                one.paused = True
            await log.append_all([numbered(f"video-{s}", n) for n in range(3) for s in range(5)])
            await log.redis.config_set("maxmemory", "1mb")
            for one in owned:
                host.consumer.resume(one)
            await eventually(lambda: host.lanes.running)
            before = (await log.redis.info("stats"))["total_commands_processed"]
            await asyncio.sleep(0.5)
            spent = (await log.redis.info("stats"))["total_commands_processed"] - before
            assert spent < 500, "it hammers a full Redis"
            await log.redis.config_set("maxmemory", "0")
            await check_all(log, 5, 3)


# ---------------------------------------------------------------- the bare consumer


async def test_bare_consumer_reads_acknowledges_and_rescans(settings: Settings, log: Log) -> None:
    """Without processors: deliveries once, `drop` brings one again, `flush` tells Redis."""
    consumer = GroupConsumer(log.redis, log.keys, log.reader, 4, "bare", "me", ttl=5.0)
    await log.append_all([numbered("video-0", n) for n in range(5)])
    running = asyncio.create_task(consumer.run())
    try:
        await eventually(lambda: len(consumer.owned) == 4)
        got = []
        while len(got) < 5:
            got += await consumer.fetch(10, 5.0)
        assert [delivery.again for delivery in got] == [False] * 5
        assert await pending(log, "bare") == 5
        for delivery in got[1:]:
            consumer.ack(delivery)
        await consumer.flush()
        assert await pending(log, "bare") == 1
        consumer.drop(got[0], reread=True)
        [again] = await consumer.fetch(10, 5.0)
        assert again.pos == got[0].pos
        assert not again.again, "we let it go ourselves"
        consumer.ack(again)
        await consumer.flush()
        assert [found async for found in _drained(consumer)] == []
        assert await pending(log, "bare") == 0
        await consumer.stop()
        assert consumer.owned == {}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _drained(consumer: GroupConsumer) -> AsyncIterator[Any]:
    for delivery in await consumer.fetch(10, 0.2):
        yield delivery


async def test_what_another_worker_left_is_delivered_as_such(settings: Settings, log: Log) -> None:
    """`again` tells that nobody knows what became of it."""
    await log.append_all([numbered("video-0", n) for n in range(3)])
    key = log.keys.log(partition_of("video-0", 4))
    await log.redis.xgroup_create(key, "bare", "0")
    await log.redis.xreadgroup("bare", CONSUMER, {key: ">"}, count=2)
    consumer = GroupConsumer(log.redis, log.keys, log.reader, 4, "bare", "me", ttl=5.0)
    running = asyncio.create_task(consumer.run())
    try:
        await eventually(lambda: len(consumer.owned) == 4)
        got = []
        while len(got) < 3:
            got += await consumer.fetch(10, 5.0)
        assert [(delivery.pos, delivery.again) for delivery in got] == [(1, True), (2, True), (3, False)]
        await consumer.stop()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_first_event_of_another_subject_is_written_once(settings: Settings, log: Log, redis_url: str) -> None:
    """`First` is nothing where the subject exists, whoever wrote it."""

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Any]:
        yield First("other", numbered("other", 99).event)
        async for one in answering()(event, context):
            yield one

    async with working(handle, settings, redis_url):
        await log.append_all([numbered("video-0", n) for n in range(3)])
        await eventually(lambda: all_answered(log, 1, 3))
        await eventually(lambda: _nothing_pending(log))
    others = await log.history("other")
    assert [event.event.video for event in of_type(others, "VideoNumbered")] == ["99"]
    assert others[0].cause == (await log.history("video-0"))[0].id


async def test_chain_keeps_its_root(settings: Settings, log: Log, redis_url: str) -> None:
    """`corr` is the id of the event at the root, `cause` of the one before."""
    async with working(answering(), settings, redis_url):
        await log.append(new_event("video-0", numbered("video-0", 0).event, source="door"))
        await eventually(lambda: all_answered(log, 1, 1))
    root, result = await log.history("video-0")
    assert (result.cause, result.corr, result.source) == (root.id, root.id, "test")

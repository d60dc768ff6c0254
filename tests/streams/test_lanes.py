"""Lanes and breaker: what runs side by side, what waits, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict

import pytest
from structlog.testing import capture_logs

from streams import lanes as lanes_module
from streams.background import stop_if_cancelled
from streams.breaker import Breaker
from streams.lanes import Lanes
from streams.retries import backoff
from tests.streams.driving import eventually

Item = tuple[str, int]


async def test_one_key_in_order_many_side_by_side(rng: random.Random) -> None:
    """Never more than `concurrency` at once, never two of one key."""
    seen: dict[str, list[int]] = defaultdict(list)
    running: list[str] = []
    most = 0

    async def handle(item: Item) -> None:
        nonlocal most
        assert item[0] not in running
        running.append(item[0])
        most = max(most, len(running))
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        running.remove(item[0])
        seen[item[0]].append(item[1])

    some: Lanes[Item] = Lanes(handle, concurrency=5)
    for number in range(1000):
        some.submit(f"key {number % 13}", (f"key {number % 13}", number))
        if rng.random() < 0.05:
            await asyncio.sleep(0)
    await eventually(lambda: len(some) == 0)
    assert most == 5
    assert seen == {f"key {k}": list(range(k, 1000, 13)) for k in range(13)}


async def test_a_slow_key_holds_nobody_else_up() -> None:
    release = asyncio.Event()
    done: list[Item] = []

    async def handle(item: Item) -> None:
        if item[0] == "slow":
            await release.wait()
        done.append(item)

    some: Lanes[Item] = Lanes(handle, concurrency=2)
    for number in range(100):
        some.submit("slow", ("slow", number))
        some.submit("quick", ("quick", number))
    await eventually(lambda: len(done) == 100)
    assert {item[0] for item in done} == {"quick"}
    release.set()
    await eventually(lambda: len(some) == 0)


async def test_room_is_the_back_pressure() -> None:
    """Whoever submits waits while `limit` items are there."""
    release = asyncio.Event()

    async def handle(item: Item) -> None:
        await release.wait()

    some: Lanes[Item] = Lanes(handle, concurrency=2, limit=10)
    for number in range(10):
        await some.room()
        some.submit(number, ("", number))
    waiting = asyncio.create_task(some.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    await asyncio.wait_for(waiting, 20)
    await some.close(5)


async def test_a_failing_handler_leaves_its_lane_usable() -> None:
    seen: list[int] = []

    async def handle(item: Item) -> None:
        seen.append(item[1])
        if item[1] == 1:
            raise RuntimeError("a test's own")

    some: Lanes[Item] = Lanes(handle, concurrency=1)
    with capture_logs() as logs:
        for number in range(3):
            some.submit("key", ("key", number))
        await eventually(lambda: len(some) == 0)
    assert seen == [0, 1, 2]
    assert [entry["event"] for entry in logs] == ["a lane's handler failed unexpectedly"]


async def test_discard_takes_what_has_not_begun() -> None:
    """What runs goes on; the others of the lane stay in order."""
    release = asyncio.Event()
    seen: list[int] = []

    async def handle(item: Item) -> None:
        await release.wait()
        seen.append(item[1])

    some: Lanes[Item] = Lanes(handle, concurrency=1)
    for number in range(6):
        some.submit("key", ("key", number))
    some.submit("other", ("other", 100))
    await asyncio.sleep(0)
    taken = some.discard(lambda item: item[1] % 2 == 0)
    assert [item[1] for item in taken] == [2, 4, 100]
    release.set()
    await eventually(lambda: len(some) == 0)
    assert seen == [0, 1, 3, 5]


async def test_finish_waits_then_cancels() -> None:
    ended: list[str] = []

    async def handle(item: Item) -> None:
        try:
            await asyncio.sleep(0.05 if item[0] == "short" else 60)
            ended.append(item[0])
        except asyncio.CancelledError:
            ended.append("cancelled " + item[0])
            raise

    some: Lanes[Item] = Lanes(handle, concurrency=4)
    for key in ("short", "long"):
        some.submit(key, (key, 0))
    await eventually(lambda: len(some.running) == 2)
    started = time.monotonic()
    await some.finish(lambda _: True, 0.3)
    assert time.monotonic() - started < 5
    assert ended == ["short", "cancelled long"]
    assert len(some) == 0


async def test_a_handler_that_will_not_be_cancelled_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain is bounded whatever a handler does; that it goes on is said."""
    monkeypatch.setattr(lanes_module, "GRACE", 0.2)
    release = asyncio.Event()

    async def handle(item: Item) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    some: Lanes[Item] = Lanes(handle, concurrency=4)
    some.submit("stubborn", ("stubborn", 0))
    await eventually(lambda: some.running)
    with capture_logs() as logs:
        started = time.monotonic()
        await some.close(0.1)
        assert time.monotonic() - started < 5
    assert logs[0]["event"] == "handlers go on although they were cancelled"
    release.set()
    await eventually(lambda: len(some) == 0)
    await some.close(1)


async def test_a_swallowed_cancellation_hits_no_other_item() -> None:
    """What `finish` meant for one item ends with it, even where the item would not hear of it."""
    begun = asyncio.Event()
    done: list[Item] = []

    async def handle(item: Item) -> None:
        stop_if_cancelled()
        if item[0] == "deaf":
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        done.append(item)

    some: Lanes[Item] = Lanes(handle, concurrency=1)
    some.submit("deaf", ("deaf", 0))
    for number in range(3):
        some.submit("other", ("other", number))
    await begun.wait()
    await some.finish(lambda item: item[0] == "deaf", 0.0)
    await eventually(lambda: len(some) == 0)
    assert done == [("deaf", 0), ("other", 0), ("other", 1), ("other", 2)]


# ---------------------------------------------------------------- the breaker


async def test_closed_breaker_lets_all_pass() -> None:
    breaker = Breaker("s3")
    await breaker.admit()
    await breaker.succeeded()
    assert breaker.reason is None


async def test_one_tries_while_the_others_wait() -> None:
    """And what it finds decides for all."""
    breaker = Breaker("s3", first=0.05, longest=0.05)
    await breaker.failed("no route")
    assert breaker.reason == "no route"
    admitted: list[int] = []

    async def work(number: int) -> None:
        await breaker.admit()
        admitted.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(20)]
    await eventually(lambda: admitted)
    await asyncio.sleep(0.2)
    assert len(admitted) == 1
    await breaker.failed("still no route")
    await eventually(lambda: len(admitted) == 2)
    await breaker.abandoned()
    await eventually(lambda: len(admitted) == 3)
    await breaker.succeeded()
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert len(admitted) == 20
    assert breaker.reason is None


async def test_whoever_wants_to_end_does_not_wait_for_what_is_down() -> None:
    """A worker that stops gives its paused work back at once; while all is well nothing changes."""
    breaker, stopping = Breaker("s3", first=60, longest=60), asyncio.Event()
    await breaker.failed("gone", retry_after=60)
    waiting = asyncio.create_task(breaker.admit(unless=stopping))
    await asyncio.sleep(0)
    stopping.set()
    await breaker.recheck()
    assert await asyncio.wait_for(waiting, 5) is False
    await breaker.succeeded()
    assert await breaker.admit(unless=stopping) is True


async def test_a_crowd_that_fails_at_once_does_not_lengthen_the_pause() -> None:
    """Sixteen who were at work when it broke say one thing: the first try comes soon."""
    breaker = Breaker("s3", first=0.2, longest=60)
    for _ in range(16):
        await breaker.failed("gone")
    started = time.monotonic()
    await asyncio.wait_for(breaker.admit(), 20)
    assert time.monotonic() - started < 2


async def test_pauses_grow_to_a_bound() -> None:
    breaker = Breaker("s3", first=0.01, longest=0.04)
    await breaker.failed("gone")
    for _ in range(8):
        await asyncio.wait_for(breaker.admit(), 20)
        await breaker.failed("gone")
        assert breaker._retry_at - time.monotonic() <= 0.04


def test_backoff_spreads_and_is_bounded() -> None:
    """Full jitter: anything from at once to the bound, which doubles up to the longest."""
    for attempt, bound in ((1, 1.0), (2, 2.0), (3, 4.0), (20, 300.0), (10_000, 300.0)):
        found = [backoff(attempt) for _ in range(200)]
        assert all(0 <= pause <= bound for pause in found)
        assert max(found) > bound / 2
        assert min(found) < bound / 2

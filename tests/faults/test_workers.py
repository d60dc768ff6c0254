"""Workers that are stopped, frozen and killed: real processes, real signals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams.log import Log, open_log
from streams.retries import Retries
from streams.settings import Settings
from tests.servers import RedisServer
from tests.streams.driving import Effects, WorkerProcess, check_log, eventually, numbered, of_type, pending


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """As the worker processes have them."""
    return make_settings(partitions=4, lease_ttl=1.0)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log that they work on."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """What they did."""
    found = Effects(tmp_path)
    found.prepare()
    return found


async def finished(log: Log, effects: Effects, subjects: int, each: int) -> None:
    """Wait for the end, then: each event handled, effects once and in order, answers once, log dense."""

    async def all_done() -> bool:
        done = effects.done()
        return len(done) == subjects and all(len(vers) == each for vers in done.values()) and not await pending(log)

    await eventually(all_done, timeout=90, every=0.05)
    histories = await check_log(log)
    assert len(histories) == subjects
    for subject, events in histories.items():
        inputs = [event.ver for event in of_type(events, "VideoNumbered")]
        assert effects.done()[subject] == inputs, f"{subject} was not handled in order"
        assert [event.event.epoch for event in of_type(events, "EpochRaised")] == list(range(1, each + 1)), subject


async def owned_by(log: Log, member: str) -> int:
    """How many leases a worker holds."""
    count = 0
    for partition in range(log.partitions):
        lease = await log.redis.get(log.keys.lease(partition, "test"))
        count += lease is not None and lease.decode().rpartition(" ")[0] == member
    return count


async def test_frozen_worker_is_fenced(log: Log, redis_url: str, tmp_path: Path, effects: Effects) -> None:
    """SIGSTOP past its lease, in the middle of work: another goes on, and when it wakes it does no harm."""
    with WorkerProcess(redis_url, tmp_path, member="first", pause=0.02) as first:
        await eventually(lambda: owned_by(log, "first"))
        await log.append_all([numbered(f"video-{s}", n) for n in range(1, 11) for s in range(8)])
        await eventually(lambda: len(effects.starts()) > 10)
        first.freeze()
        begun = len(effects.starts())
        assert begun < 80, "it was frozen too late"
        with WorkerProcess(redis_url, tmp_path, member="second", pause=0.02) as second:
            await eventually(lambda: owned_by(log, "second"))
            await eventually(lambda: len(effects.starts()) > begun + 5)
            first.thaw()
            await finished(log, effects, 8, 10)
            assert {member for _, _, member in effects.starts()} == {"first", "second"}
            second.stop()
        first.stop()
    told = first.told()
    assert "fenced" in told or "partition lost" in told
    await finished(log, effects, 8, 10)


async def test_killed_workers_lose_nothing(
    log: Log, redis_url: str, tmp_path: Path, effects: Effects, rng: random.Random
) -> None:
    """SIGKILL, again and again, while two work: each event once as seen from outside, each subject in order."""
    await log.append_all([numbered(f"video-{s}", n) for n in range(1, 21) for s in range(10)])
    workers: list[WorkerProcess] = []

    def start() -> None:
        workers.append(WorkerProcess(redis_url, tmp_path, member=f"worker-{len(workers)}", pause=0.01))

    try:
        start()
        start()
        for _ in range(4):
            before = len(effects.starts())
            wanted = before + rng.randrange(5, 25)
            await eventually(lambda wanted=wanted: len(effects.starts()) >= wanted or _all(effects, 200))
            rng.choice([worker for worker in workers if worker.alive]).kill()
            start()
        await finished(log, effects, 10, 20)
        for worker in workers:
            if worker.alive:
                worker.stop()
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)


def _all(effects: Effects, count: int) -> bool:
    return sum(len(vers) for vers in effects.done().values()) == count


async def test_workers_join_and_leave_cleanly(log: Log, redis_url: str, tmp_path: Path, effects: Effects) -> None:
    """Partitions are shared out, and on SIGTERM given back: no event is begun twice, none is left."""
    await log.append_all([numbered(f"video-{s}", n) for n in range(1, 16) for s in range(10)])
    with WorkerProcess(redis_url, tmp_path, member="a", pause=0.02, ttl=3) as a:
        await eventually(lambda: len(effects.starts()) > 20)
        with WorkerProcess(redis_url, tmp_path, member="b", pause=0.02, ttl=3) as b:
            await eventually(lambda: owned_by(log, "b"))
            await eventually(lambda: any(member == "b" for _, _, member in effects.starts()) or _all(effects, 150))
            a.stop()
            await finished(log, effects, 10, 15)
            b.stop()
    starts = [(subject, ver) for subject, ver, _ in effects.starts()]
    assert len(starts) == len(set(starts)) == 150, "an event was begun twice although everyone left cleanly"
    assert await log.redis.zcard(log.keys.members("test")) == 0


async def test_event_that_kills_its_worker_is_parked(
    log: Log, redis_url: str, tmp_path: Path, effects: Effects
) -> None:
    """After as many deaths as an event has attempts, and everything else goes on."""
    await log.append_all([numbered(f"video-{s}", n) for n in range(1, 4) for s in range(6)])
    await log.append(numbered("deadly", 66))
    await log.append(numbered("deadly", 67))
    deaths = 0
    parked = []
    retries = Retries(log.redis, log.keys, "test")
    while not parked:
        assert deaths < 12, "it is never parked"
        with WorkerProcess(redis_url, tmp_path, member=f"w{deaths}", crash_on=66, ttl=0.5, attempts=3) as worker:

            async def ended(worker: WorkerProcess = worker) -> bool:
                return not worker.alive or bool(await _parked(log, retries))

            await eventually(ended)
            parked = await _parked(log, retries)
            if parked:
                await eventually(lambda: _all(effects, 18))
                worker.stop()
            else:
                assert worker.process.returncode == -9
                deaths += 1
    assert 3 <= deaths <= 5
    [one] = parked
    assert one.subject == "deadly"
    assert "died" in one.reason
    assert _all(effects, 18), "those that were at work beside it are not parked with it"
    found = [event.type for event in await log.history("deadly")]
    assert found == ["VideoNumbered", "VideoNumbered", "EntryParked"]
    # Whoever repairs it replays it; what waited behind it follows.
    await retries.replay(one)
    with WorkerProcess(redis_url, tmp_path, member="repaired"):
        await eventually(lambda: effects.done().get("deadly") == [1, 2])
    histories = await check_log(log)
    assert [event.event.epoch for event in of_type(histories["deadly"], "EpochRaised")] == [66, 67]


async def _parked(log: Log, retries: Retries) -> list:  # type: ignore[type-arg]
    return [one for partition in range(log.partitions) for one in await retries.parked(partition)]


async def test_retry_that_kills_its_worker_is_parked(
    log: Log, redis_url: str, tmp_path: Path, effects: Effects
) -> None:
    """Deaths are counted, too, where the event had been set aside before."""
    retries = Retries(log.redis, log.keys, "test")
    with WorkerProcess(redis_url, tmp_path, member="first", fail_on=7) as first:
        await log.append(numbered("video-0", 7))
        await eventually(lambda: len(effects.starts()) >= 1)
        first.kill()
    deaths, parked = 0, []
    done = {"video-0": [1]}
    while not parked and effects.done() != done:
        assert deaths < 12, "it is never parked"
        with WorkerProcess(redis_url, tmp_path, member=f"w{deaths}", crash_on=7, ttl=0.5, attempts=3) as worker:

            async def ended(worker: WorkerProcess = worker) -> bool:
                return not worker.alive or bool(await _parked(log, retries))

            await eventually(ended)
            parked = await _parked(log, retries)
            deaths += not parked
    assert effects.done() == done or (parked and 3 <= deaths <= 6)


async def test_killed_in_long_work_it_is_begun_again(
    log: Log, redis_url: str, tmp_path: Path, effects: Effects
) -> None:
    """What a worker died in is the next one's first; on SIGTERM it is cancelled after the drain time."""
    with WorkerProcess(redis_url, tmp_path, member="first", hang_on=1) as first:
        await log.append(numbered("video-0", 1))
        await eventually((tmp_path / "hung").exists)
        first.kill()
    with WorkerProcess(redis_url, tmp_path, member="second"):
        await finished(log, effects, 1, 1)
    (tmp_path / "hung").unlink()
    with WorkerProcess(redis_url, tmp_path, member="third", hang_on=2, drain=0.2) as third:
        await log.append(numbered("video-0", 2))
        await eventually((tmp_path / "hung").exists)
        third.stop(timeout=20)
    with WorkerProcess(redis_url, tmp_path, member="fourth"):
        await finished(log, effects, 1, 2)


async def test_redis_restarts_under_working_processes(
    settings: Settings, own_redis: RedisServer, tmp_path: Path, effects: Effects, rng: random.Random
) -> None:
    """Killed and started again a few times under load: nothing lost, nothing doubled (scripts/soak runs it for long)."""
    common = {"produce": 30, "subjects": 4, "pace": 0.005, "pause": 0.005}
    with (
        WorkerProcess(own_redis.url, tmp_path, member="one", prefix="one", **common) as one,
        WorkerProcess(own_redis.url, tmp_path, member="two", prefix="two", **common) as two,
    ):
        for _ in range(4):
            await asyncio.sleep(rng.uniform(0.2, 0.8))
            own_redis.kill()
            await asyncio.sleep(rng.uniform(0, 0.3))
            own_redis.start()
        async with open_log(settings, own_redis.url) as log:
            await eventually(lambda: (tmp_path / "produced-one").exists() and (tmp_path / "produced-two").exists())
            await finished(log, effects, 8, 30)
        one.stop()
        two.stop()

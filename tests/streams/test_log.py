"""The log's promises, on every Redis that is there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.codec import recorded
from streams.entries import Fence, NewEvent, new_event
from streams.errors import (
    ConflictError,
    FencedError,
    LogFullError,
    LogUnavailableError,
    PartitionCountError,
    UndecodableError,
)
from streams.events import NumbersReserved, RootRegistered, VideoNumbered, VideoProbeFailed
from streams.keys import partition_of
from streams.leases import Leases
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy, free_port
from tests.streams.driving import check_log, eventually, everything, numbered

# ---------------------------------------------------------------- append


async def test_first_event_stands_at_the_beginning(any_log: Log) -> None:
    """Position 1 of its partition, version 1 of its subject, id `1-0`, and every field readable."""
    new = numbered("video-1", 7)
    placed = await any_log.append(new)
    assert (placed.pos, placed.ver, placed.duplicate) == (1, 1, False)
    [entry] = await any_log.read(placed.partition)
    event = recorded(entry.partition, entry.pos, entry.fields)
    assert event.event == VideoNumbered(video="7")
    assert (event.id, event.subject, event.source, event.cause, event.corr) == (new.id, "video-1", "test", None, new.id)
    [(entry_id, fields)] = await any_log.redis.xrange(any_log.keys.log(placed.partition))
    assert entry_id == b"1-0"
    assert set(fields) == {b"id", b"type", b"subject", b"ver", b"time", b"source", b"cause", b"corr", b"sv", b"data"}


async def test_positions_and_versions_are_dense_whatever_comes_at_once(any_log: Log, rng: random.Random) -> None:
    """Many writers, single events and batches, repeats among them."""
    news = [numbered(f"video-{s}", n) for s in range(20) for n in range(10)]
    rng.shuffle(news)
    batches: list[list[NewEvent]] = []
    while news:
        size = rng.choice((1, 1, 3, 40))
        batches.append(news[:size])
        news = news[size:]
    again = [batch for batch in batches if rng.random() < 0.3]
    await asyncio.gather(*(any_log.append_all(batch) for batch in batches + again))
    histories = await check_log(any_log)
    assert {subject: len(events) for subject, events in histories.items()} == {f"video-{s}": 10 for s in range(20)}


async def test_same_id_again_answers_with_the_original_place(any_log: Log) -> None:
    """Later, in the same batch, and from another client."""
    first = await any_log.append(numbered("video-1", 1))
    second, other = await any_log.append_all([numbered("video-1", 1), numbered("video-1", 2)])
    assert (second.pos, second.ver, second.duplicate) == (first.pos, first.ver, True)
    assert (other.ver, other.duplicate) == (2, False)
    a, b, c = await any_log.append_all([numbered("video-1", 3), numbered("video-1", 3), numbered("video-1", 1)])
    assert (a.duplicate, b.duplicate, c.duplicate) == (False, True, True)
    assert (a.pos, a.ver) == (b.pos, b.ver)
    assert c.pos == first.pos
    await check_log(any_log)


async def test_duplicate_is_no_conflict(any_log: Log) -> None:
    """What was written under an expected version can be written again, whatever came since."""
    new = numbered("video-1", 1, expected=0)
    first = await any_log.append(new)
    await any_log.append(numbered("video-1", 2))
    assert (await any_log.append(new)).pos == first.pos


async def test_expected_version_is_kept(any_log: Log) -> None:
    """Of two who saw the same version one writes, and the other is told the version there is."""
    await any_log.append(numbered("video-1", 1, expected=0))
    with pytest.raises(ConflictError, match="at version 1, not 0") as refused:
        await any_log.append(numbered("video-1", 2, expected=0))
    assert (refused.value.expected, refused.value.actual) == (0, 1)
    taken = await any_log.append(numbered("video-1", 2, expected=1))
    assert taken.ver == 2
    assert not (await any_log.append(numbered("video-1", 3))).duplicate
    await check_log(any_log)


async def test_refused_event_can_be_written_later(any_log: Log) -> None:
    """A conflict leaves nothing behind: the same id is no duplicate afterwards."""
    with pytest.raises(ConflictError):
        await any_log.append(numbered("video-1", 1, expected=5))
    assert await any_log.version("video-1") == 0
    placed = await any_log.append(numbered("video-1", 1))
    assert (placed.pos, placed.ver, placed.duplicate) == (1, 1, False)


async def test_conflict_in_a_batch_concerns_its_event_alone(any_log: Log) -> None:
    """The others are appended, and `try_append_all` says what became of each."""
    good, bad, later = await any_log.try_append_all(
        [numbered("video-1", 1), numbered("video-1", 2, expected=7), numbered("video-1", 3)]
    )
    assert isinstance(bad, ConflictError)
    assert bad.actual == 1
    assert [getattr(one, "ver", None) for one in (good, later)] == [1, 2]
    with pytest.raises(ConflictError):
        await any_log.append_all([numbered("video-2", 1, expected=3), numbered("video-2", 2)])
    assert [event.event.video for event in await any_log.history("video-2")] == ["2"]


async def test_fenced_append_needs_the_lease(any_log: Log) -> None:
    """Written while the lease is held, refused once it is another's, or nobody's."""
    partition = partition_of("video-1", any_log.partitions)
    leases = Leases(any_log.redis, any_log.keys, "test", "me", 60)
    lease = await leases.acquire(partition)
    assert lease is not None
    fence = leases.fence(lease)
    await any_log.append(numbered("video-1", 1, fence=fence))
    await leases.release(lease)
    with pytest.raises(FencedError):
        await any_log.append(numbered("video-1", 2, fence=fence))
    assert await Leases(any_log.redis, any_log.keys, "test", "another", 60).acquire(partition)
    with pytest.raises(FencedError):
        await any_log.append(numbered("video-1", 2, fence=fence))
    # What was written before stays a duplicate: the former owner learns where it stands.
    assert (await any_log.append(numbered("video-1", 1, fence=fence))).duplicate
    forged = Fence(partition, "test", "another 1")
    with pytest.raises(FencedError):
        await any_log.append(numbered("video-1", 2, fence=forged))
    assert await any_log.version("video-1") == 1


async def test_checkpoint_fields_are_set_with_the_event_and_only_then(any_log: Log) -> None:
    """They stand on the subject's hash; a refused event sets none, `ver` cannot be forged."""
    await any_log.append(numbered("video-1", 1, checkpoint={"offset": "10485760", "name": "ä \n"}))
    assert await any_log.checkpoint("video-1") == {"ver": "1", "offset": "10485760", "name": "ä \n"}
    with pytest.raises(ConflictError):
        await any_log.append(numbered("video-1", 2, expected=9, checkpoint={"offset": "0"}))
    await any_log.append(numbered("video-1", 1, checkpoint={"offset": "1"}))  # a duplicate
    assert (await any_log.checkpoint("video-1"))["offset"] == "10485760"
    await any_log.append(numbered("video-1", 2, checkpoint={"offset": "20971520"}))
    assert await any_log.checkpoint("video-1") == {"ver": "2", "offset": "20971520", "name": "ä \n"}


async def test_batch_across_partitions_keeps_each_subjects_order(any_log: Log) -> None:
    """Answers come in the order of the events, whatever partition they went to."""
    news = [numbered(f"video-{n % 37}", n) for n in range(3000)]
    placed = await any_log.append_all(news, timeout=30)
    assert [one.id for one in placed] == [new.id for new in news]
    assert {one.partition for one in placed} == set(range(any_log.partitions))
    histories = await check_log(any_log)
    for subject, events in histories.items():
        assert [int(event.event.video) for event in events] == list(range(int(subject.split("-")[1]), 3000, 37))


async def test_ten_thousand_events_of_one_subject(any_log: Log) -> None:
    """Far more than one script call takes: all in order."""
    placed = await any_log.append_all([numbered("video-1", n) for n in range(10_000)], timeout=60)
    assert [one.ver for one in placed] == list(range(1, 10_001))
    assert len(await any_log.history("video-1")) == 10_000


async def test_nothing_to_append(any_log: Log) -> None:
    """An empty list is no error."""
    assert await any_log.append_all([]) == []


async def test_what_cannot_be_encoded_harms_nobody(any_log: Log) -> None:
    """A subject, a reason or a checkpoint that UTF-8 cannot hold, data that is too large: ValueError, at once."""
    bad = [
        replace(numbered("video-1", 1), subject="video-\udcff"),
        numbered("video-1", 1, checkpoint={"name": "\udcff"}),
        new_event("video-1", VideoProbeFailed(revision=1, reason="\udcff"), source="test"),
        new_event("video-1", VideoProbeFailed(revision=1, reason="x" * 70_000), source="test"),
    ]
    for new in bad:
        with pytest.raises(ValueError):
            await any_log.append(new)
    assert (await any_log.append(numbered("video-1", 1))).ver == 1


async def test_path_that_is_not_utf8_comes_back_as_it_was(any_log: Log) -> None:
    """A file name on Linux is bytes."""
    path = OsPath("/inbox/\udcff\\x41 ä.mp4")
    await any_log.append(new_event("root:1", RootRegistered(path=path), source="test"))
    assert (await any_log.history("root:1"))[0].event.path == path


async def test_scripts_are_loaded_again_where_redis_forgot_them(any_log: Log, every_redis: RedisServer) -> None:
    """SCRIPT FLUSH in the middle of a busy time: nothing is lost, doubled or out of order."""
    for round_ in range(10):
        assert every_redis.command("SCRIPT", "FLUSH").startswith(b"+OK")
        news = [numbered(f"video-{s}", round_ * 10 + n) for n in range(10) for s in range(5)]
        await asyncio.gather(*(any_log.append(new) for new in news))
    histories = await check_log(any_log)
    for events in histories.values():
        assert [int(event.event.video) for event in events] == list(range(100))


async def test_emptied_redis_is_a_new_log(any_log: Log, every_redis: RedisServer) -> None:
    """FLUSHALL under a living connection: the log is made again, and followers are not deaf afterwards."""
    await any_log.append_all([numbered("video-1", n) for n in range(50)])
    await any_log.heads()
    every_redis.flush()
    waiting = asyncio.create_task(any_log.wait_for("video-1", {"VideoNumbered"}, timeout=PATIENCE_SHORT))
    await asyncio.sleep(0)
    placed = await any_log.append(numbered("video-1", 1))
    assert (placed.pos, placed.ver) == (1, 1)
    found = await waiting
    assert found is not None
    assert found.pos == 1
    assert (await any_log.redis.hgetall(any_log.keys.meta(0)))[b"partitions"] == b"4"


PATIENCE_SHORT = 20.0


# ---------------------------------------------------------------- the number of partitions


@pytest.mark.parametrize(("made", "asked"), [(16, 8), (8, 16)])
async def test_other_number_of_partitions_is_refused(
    make_settings: Callable[..., Settings], every_redis: RedisServer, made: int, asked: int
) -> None:
    """At start, with the number to set."""
    async with open_log(make_settings(partitions=made), every_redis.url) as log:
        await log.append(numbered("video-1", 1))
    with pytest.raises(PartitionCountError, match=f"SPOOLHOUSE_PARTITIONS={made}"):
        async with open_log(make_settings(partitions=asked), every_redis.url):
            pytest.fail("it must not open")


@pytest.mark.parametrize(("made", "asked"), [(16, 8), (8, 16)])
async def test_other_number_of_partitions_is_found_even_when_redis_came_late(
    make_settings: Callable[..., Settings], own_redis: RedisServer, made: int, asked: int
) -> None:
    """Opened while Redis was down, so nothing could be compared: no append is taken."""
    async with open_log(make_settings(partitions=made), own_redis.url) as log:
        await log.append(numbered("video-1", 1))
    own_redis.stop()
    async with open_log(make_settings(partitions=asked), own_redis.url) as log:
        own_redis.start()
        for number in range(asked):
            with pytest.raises(PartitionCountError, match=f"SPOOLHOUSE_PARTITIONS={made}"):
                await log.append(numbered(f"video-{number}", 1), timeout=20)
    async with open_log(make_settings(partitions=made), own_redis.url) as log:
        await check_log(log)


async def test_same_number_of_partitions_is_kept(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """A second start goes on where the first one stopped."""
    for number in (1, 2):
        async with open_log(make_settings(partitions=8), redis_url) as log:
            assert (await log.append(numbered("video-1", number))).ver == number


async def test_namespaces_are_apart(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Two logs in one Redis, each with its own number of partitions."""
    async with (
        open_log(make_settings(namespace="one", partitions=2), redis_url) as one,
        open_log(make_settings(namespace="two", partitions=3), redis_url) as two,
    ):
        await one.append(numbered("video-1", 1))
        assert await two.version("video-1") == 0
        assert (await two.append(numbered("video-1", 1))).ver == 1


# ---------------------------------------------------------------- Redis in trouble


@pytest.mark.parametrize("own_redis", [None], indirect=True)
async def test_full_redis_says_so_and_recovers(settings: Settings, own_redis: RedisServer) -> None:
    """At maxmemory with noeviction: LogFullError at once; nothing half-written; later it goes on."""
    async with open_log(settings, own_redis.url) as log:
        await log.append_all([numbered("video-1", n) for n in range(10)])
        await log.redis.config_set("maxmemory", "1mb")
        started = time.monotonic()
        with pytest.raises(LogFullError, match="maxmemory"):
            await log.append_all([numbered("video-1", n) for n in range(10, 2000)])
        assert time.monotonic() - started < 3
        assert len(await everything(log)) == 10, "reading goes on"
        await log.redis.config_set("maxmemory", "0")
        await log.append_all([numbered("video-1", n) for n in range(10, 2000)], timeout=20)
        histories = await check_log(log)
        assert [int(event.event.video) for event in histories["video-1"]] == list(range(2000))


async def test_unreachable_redis_is_told_in_time_and_waited_for(
    settings: Settings, own_redis: RedisServer, rng: random.Random
) -> None:
    """LogUnavailableError within the timeout; when Redis is back the same log works again, and nothing is doubled."""
    async with open_log(settings, own_redis.url) as log:
        await log.append(numbered("video-1", 0))
        own_redis.kill()
        started = time.monotonic()
        with pytest.raises(LogUnavailableError, match="safe to append again"):
            await log.append(numbered("video-1", 1), timeout=0.5)
        assert 0.4 < time.monotonic() - started < 5
        with pytest.raises(LogUnavailableError):
            await log.version("video-1")
        with pytest.raises(LogUnavailableError):
            await log.read(0)
        assert not await log.ping()
        waiting = asyncio.create_task(log.append(numbered("video-1", 1), timeout=PATIENCE_SHORT))
        own_redis.start()
        assert (await waiting).ver == 2
        assert await log.ping()
        assert (await log.append(numbered("video-1", 1))).duplicate
        histories = await check_log(log)
        assert len(histories["video-1"]) == 2


async def test_frozen_redis_is_told_in_time(settings: Settings, own_redis: RedisServer) -> None:
    """It takes connections and answers nothing: the timeout holds all the same."""
    async with open_log(settings, own_redis.url) as log:
        await log.append(numbered("video-1", 0))
        with own_redis.frozen():
            started = time.monotonic()
            with pytest.raises(LogUnavailableError):
                await log.append(numbered("video-1", 1), timeout=0.5)
            assert time.monotonic() - started < 5
            assert not await log.ping(0.2)
        await log.append_all([numbered("video-1", 1), numbered("video-1", 2)], timeout=PATIENCE_SHORT)
        histories = await check_log(log)
        assert [event.event.video for event in histories["video-1"]] == ["0", "1", "2"]


async def test_log_opens_with_redis_down(settings: Settings, own_redis: RedisServer) -> None:
    """It says so; and once Redis is there the log is created and appended to."""
    own_redis.stop()
    with capture_logs() as logs:
        async with open_log(settings, own_redis.url) as log:
            with pytest.raises(LogUnavailableError):
                await log.append(numbered("video-1", 1), timeout=0.3)
            own_redis.start()
            assert (await log.append(numbered("video-1", 1), timeout=PATIENCE_SHORT)).ver == 1
            await check_log(log)
    assert "log cannot be reached yet" in {entry["event"] for entry in logs}


async def test_log_opens_where_nobody_listens(settings: Settings) -> None:
    """A wrong port is not worth more than a warning at start."""
    async with open_log(settings, f"redis://127.0.0.1:{free_port()}/0") as log:
        assert not await log.ping()


async def test_dropped_replies_double_nothing(settings: Settings, redis_server: RedisServer) -> None:
    """The server appended, the reply was lost: the repeat is recognised, in batches too."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy, open_log(settings, proxy.redis_url) as log:
        await log.append(numbered("video-1", 0))
        for number in range(1, 11):
            proxy.drop_reply(b"EVALSHA")
            placed = await log.append(numbered("video-1", number), timeout=PATIENCE_SHORT)
            assert placed.duplicate, "the first try did append it"
        proxy.drop_reply(b"EVALSHA", times=3)
        await log.append_all([numbered(f"video-{n % 7}", n) for n in range(100, 2100)], timeout=PATIENCE_SHORT)
        assert proxy.dropped > 10
        histories = await check_log(log)
    assert sum(len(events) for events in histories.values()) == 11 + 2000


async def test_connections_cut_at_random_double_nothing(
    settings: Settings, redis_server: RedisServer, rng: random.Random
) -> None:
    """Many writers while every connection is reset again and again: each event once, each subject in order."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy, open_log(settings, proxy.redis_url) as log:

        async def write(subject: int) -> None:
            for number in range(60):
                await log.append(numbered(f"video-{subject}", number), timeout=PATIENCE_SHORT)

        async def cut() -> None:
            while True:
                await asyncio.sleep(rng.uniform(0.005, 0.05))
                proxy.cut()

        cutting = asyncio.create_task(cut())
        await asyncio.gather(*(write(subject) for subject in range(10)))
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
        histories = await check_log(log)
    assert {s: [int(e.event.video) for e in events] for s, events in histories.items()} == {
        f"video-{subject}": list(range(60)) for subject in range(10)
    }


async def test_abandoned_appends_leave_room_for_others(settings: Settings, own_redis: RedisServer) -> None:
    """Callers that were cancelled while Redis was away do not keep later ones waiting."""
    async with open_log(settings, own_redis.url) as log:
        await log.append(numbered("video-1", 0))
        with own_redis.frozen():
            waiting = [asyncio.create_task(log.append(numbered("video-2", n), timeout=60)) for n in range(200)]
            await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        assert (await log.append(numbered("video-1", 1), timeout=PATIENCE_SHORT)).ver == 2
        await check_log(log)


async def test_more_commands_at_once_than_connections(any_log: Log) -> None:
    """They wait their turn; none is refused."""
    await any_log.append(numbered("video-1", 1))
    versions = await asyncio.gather(*(any_log.version("video-1") for _ in range(300)))
    assert versions == [1] * 300


# ---------------------------------------------------------------- read, wait


async def test_read_goes_on_from_a_position(any_log: Log) -> None:
    """Beyond `after`, oldest first, at most `count`."""
    await any_log.append_all([numbered("video-1", n) for n in range(10)])
    partition = partition_of("video-1", any_log.partitions)
    assert [entry.pos for entry in await any_log.read(partition, after=3, count=4)] == [4, 5, 6, 7]
    assert await any_log.read(partition, after=10) == []
    assert (await any_log.heads())[partition] == 10
    assert await any_log.read((partition + 1) % 4) == []


async def test_history_is_one_subjects_alone(any_log: Log) -> None:
    """In order, also where other subjects share its partition."""
    await any_log.append_all([numbered(f"video-{n % 11}", n) for n in range(110)])
    assert [int(event.event.video) for event in await any_log.history("video-3")] == list(range(3, 110, 11))
    assert await any_log.history("nobody") == []
    assert await any_log.version("nobody") == 0


async def test_wait_for_finds_what_is_there(any_log: Log) -> None:
    """Without waiting; `after` is a version."""
    await any_log.append_all([numbered("video-1", n) for n in range(3)])
    found = await any_log.wait_for("video-1", {"VideoNumbered"}, timeout=5)
    assert found is not None
    assert found.ver == 1
    found = await any_log.wait_for("video-1", {"VideoNumbered"}, after=2, timeout=5)
    assert found is not None
    assert found.ver == 3


async def test_wait_for_finds_what_comes(settings: Settings, every_redis: RedisServer) -> None:
    """From another process, between events of other subjects and types, soon after it is appended."""
    async with open_log(settings, every_redis.url) as log, open_log(settings, every_redis.url) as other:
        await other.append(numbered("video-1", 1))
        waiting = asyncio.create_task(log.wait_for("video-1", {"NumbersReserved"}, after=1, timeout=PATIENCE_SHORT))
        await eventually(lambda: log.reader._followers == 1)
        await other.append_all([numbered(f"video-{n}", 2) for n in range(20)])
        assert not waiting.done()
        started = time.monotonic()
        await other.append(new_event("video-1", NumbersReserved(through=5), source="test"))
        found = await waiting
        assert time.monotonic() - started < 2
        assert found is not None
        assert found.event == NumbersReserved(through=5)


async def test_wait_for_gives_up(any_log: Log) -> None:
    """None when time is up."""
    await any_log.append(numbered("video-1", 1))
    started = time.monotonic()
    assert await any_log.wait_for("video-1", {"VideoNumbered"}, after=1, timeout=0.3) is None
    assert 0.2 < time.monotonic() - started < 5


async def test_wait_for_outlives_a_restart_of_redis(settings: Settings, own_redis: RedisServer) -> None:
    """Whoever waits for an answer is not told of it; the answer comes."""
    async with open_log(settings, own_redis.url) as log, open_log(settings, own_redis.url) as other:
        waiting = asyncio.create_task(log.wait_for("video-1", {"VideoNumbered"}, timeout=PATIENCE_SHORT * 2))
        await eventually(lambda: log.reader._followers == 1)
        own_redis.kill()
        await eventually(lambda: not any(log.reader._heads))
        own_redis.start()
        await other.append(numbered("video-1", 1), timeout=PATIENCE_SHORT)
        found = await waiting
        assert found is not None


async def test_wait_for_with_redis_down_ends_in_time(settings: Settings, own_redis: RedisServer) -> None:
    """Never an error, never longer than asked."""
    async with open_log(settings, own_redis.url) as log:
        own_redis.stop()
        assert await log.wait_for("video-1", {"VideoNumbered"}, timeout=0.5) is None


async def test_wait_beyond_returns_on_news_and_on_time(settings: Settings, every_redis: RedisServer) -> None:
    """At once where there is something already, soon after something comes, else at the timeout."""
    async with open_log(settings, every_redis.url) as log, open_log(settings, every_redis.url) as other:
        heads = await log.heads()
        started = time.monotonic()
        await log.wait_beyond(heads, timeout=0.2)
        assert 0.1 < time.monotonic() - started < 5
        waiting = asyncio.create_task(log.wait_beyond(heads, timeout=PATIENCE_SHORT))
        await eventually(lambda: log.reader._followers == 1)
        await other.append(numbered("video-1", 1))
        started = time.monotonic()
        await waiting
        assert time.monotonic() - started < 2
        await log.wait_beyond(heads, timeout=PATIENCE_SHORT)
        assert (await log.heads()) != heads


async def test_followers_hear_after_redis_was_away(settings: Settings, own_redis: RedisServer) -> None:
    """The loop that follows the log does not die of a broken connection, however often it breaks."""
    async with open_log(settings, own_redis.url) as log, open_log(settings, own_redis.url) as other:
        for number in range(3):
            heads = await log.heads()
            waiting = asyncio.create_task(log.wait_beyond(heads, timeout=PATIENCE_SHORT * 2))
            await eventually(lambda: log.reader._followers == 1)
            own_redis.restart(kill=True)
            await other.append(numbered("video-1", number), timeout=PATIENCE_SHORT)
            await waiting
            assert sum(await log.heads()) == number + 1


async def test_waiting_costs_nothing_when_nobody_waits(any_log: Log) -> None:
    """No command goes to Redis while nobody follows."""
    before = (await any_log.redis.info("stats"))["total_commands_processed"]
    await asyncio.sleep(0.3)
    assert (await any_log.redis.info("stats"))["total_commands_processed"] - before < 3


async def test_is_ours(any_log: Log) -> None:
    """What the script wrote is; what a person put in is not, however well it is copied."""
    placed = await any_log.append(numbered("video-1", 1))
    [entry] = await any_log.read(placed.partition)
    assert await any_log.is_ours(entry)
    key = any_log.keys.log(placed.partition)
    await any_log.redis.xadd(key, dict(entry.fields))
    await any_log.redis.xadd(key, {"hello": "world"})
    await any_log.redis.xadd(key, {b"subject": b"\xff\xfe", b"id": b"\xff"})
    foreign = await any_log.read(placed.partition, after=placed.pos)
    assert [await any_log.is_ours(entry) for entry in foreign] == [False, False, False]


async def test_mirror_shows_followers_to_redis_cli(any_log: Log) -> None:
    """A follower's positions, as a group; forwards and backwards."""
    await any_log.append_all([numbered(f"video-{n}", n) for n in range(40)])
    heads = await any_log.heads()
    for positions in ([0] * 4, heads, [1] * 4):
        await any_log.mirror("catalogue", positions)
        for partition, position in enumerate(positions):
            [group] = await any_log.redis.xinfo_groups(any_log.keys.log(partition))
            assert (group["name"], group["last-delivered-id"]) == (b"catalogue", f"{position}-0".encode())
            if "lag" in group:
                assert group["lag"] == heads[partition] - position


async def test_epoch_is_kept(any_log: Log) -> None:
    """1 until it is raised."""
    assert await any_log.epoch() == 1
    await any_log.raise_epoch(4)
    assert await any_log.epoch() == 4


# ---------------------------------------------------------------- put in by hand


@pytest.mark.parametrize("entry_id", ["*", "7-0", "7-3"])
async def test_entry_put_in_by_hand_stops_nobody(any_log: Log, entry_id: str) -> None:
    """With a time, a position of its own choice, or between two positions: later appends go on behind it."""
    first = await any_log.append(numbered("video-1", 1))
    key = any_log.keys.log(first.partition)
    by_hand = await any_log.redis.xadd(key, {"hello": "world"}, id=entry_id)
    second, third = await any_log.append_all([numbered("video-1", 2), numbered("video-1", 3)])
    assert (second.pos, third.pos) == (int(by_hand.split(b"-")[0]) + 1, int(by_hand.split(b"-")[0]) + 2)
    assert (second.ver, third.ver) == (2, 3)
    entries = await any_log.read(first.partition)
    assert [entry.pos for entry in entries] == [1, second.pos - 1, second.pos, third.pos]
    with pytest.raises(UndecodableError, match="no field"):
        recorded(entries[1].partition, entries[1].pos, entries[1].fields)
    assert [event.event.video for event in await any_log.history("video-1")] == ["1", "2", "3"]
    found = await any_log.wait_for("video-1", {"VideoNumbered"}, after=2, timeout=5)
    assert found is not None


async def test_impossible_position_put_in_by_hand_is_told_and_can_be_put_right(any_log: Log) -> None:
    """A nanosecond clock as an id: refused with the way out; nothing is half-written meanwhile."""
    first = await any_log.append(numbered("video-1", 1))
    key = any_log.keys.log(first.partition)
    await any_log.redis.xadd(key, {"hello": "world"}, id="1700000000000000000-0")
    with pytest.raises(LogUnavailableError, match="XSETID"):
        await any_log.append(numbered("video-1", 2), timeout=5)
    await any_log.redis.xdel(key, "1700000000000000000-0")
    await any_log.redis.execute_command("XSETID", key, "1-0")
    assert (await any_log.append(numbered("video-1", 2))).pos == 2
    await check_log(any_log)


async def test_only_entry_was_put_in_by_hand(any_log: Log) -> None:
    """Before anything of ours."""
    partition = partition_of("video-1", any_log.partitions)
    await any_log.redis.xadd(any_log.keys.log(partition), {"a": "b"}, id="41-0")
    assert (await any_log.append(numbered("video-1", 1))).pos == 42


async def test_deleted_entries_leave_positions_alone(any_log: Log) -> None:
    """XDEL of the last entry, or of all: positions never come again."""
    placed = await any_log.append_all([numbered("video-1", n) for n in range(3)])
    key = any_log.keys.log(placed[0].partition)
    await any_log.redis.xdel(key, "3-0")
    assert (await any_log.append(numbered("video-1", 3))).pos == 4
    await any_log.redis.xtrim(key, maxlen=0, approximate=False)
    assert (await any_log.append(numbered("video-1", 4))).pos == 5
    assert (await any_log.heads())[placed[0].partition] == 5


# ---------------------------------------------------------------- durability


async def test_durable_redis_is_not_warned_about(any_log: Log) -> None:
    """The tests' own is as it should be."""
    assert await any_log.prepare() == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("appendonly", "no", "append-only file"),
        ("appendfsync", "everysec", "appendfsync always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_what_is_not_durable_is_said(
    settings: Settings, own_redis: RedisServer, name: str, value: str, said: str
) -> None:
    """At start, in words that tell what to set."""
    own_redis.command("CONFIG", "SET", name, value)
    with capture_logs() as logs:
        async with open_log(settings, own_redis.url):
            pass
    [finding] = [entry["finding"] for entry in logs if entry["event"] == "log is not durable"]
    assert said in finding
    assert name in finding


async def test_config_may_be_refused(settings: Settings, tmp_path: Path) -> None:
    """Where CONFIG is forbidden (managed Redis), it says what to make sure of."""
    with RedisServer(tmp_path, args=("--rename-command", "CONFIG", "")) as server:
        async with open_log(settings, server.url) as log:
            [warning] = await log.prepare()
            assert "appendfsync always" in warning
            assert (await log.append(numbered("video-1", 1))).ver == 1


async def test_wrong_password_is_told_and_not_shown(settings: Settings, tmp_path: Path) -> None:
    """The log cannot be reached; the password stands nowhere."""
    with RedisServer(tmp_path, args=("--requirepass", "right-secret")) as server:
        with capture_logs() as logs:
            async with open_log(settings, f"redis://:wrong-secret@127.0.0.1:{server.port}/0") as log:
                with pytest.raises(LogUnavailableError):
                    await log.append(numbered("video-1", 1), timeout=0.3)
        assert "secret" not in str(logs)
        async with open_log(settings, f"redis://:right-secret@127.0.0.1:{server.port}/0") as log:
            assert (await log.append(numbered("video-1", 1))).ver == 1

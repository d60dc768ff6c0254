"""Redis Streams as a transport for Faust: what an app with agents and channels may rely on."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from faust import transport as transports
from faust.exceptions import ImproperlyConfigured
from redis.asyncio import Redis

from streams.events import NumbersReserved
from streams.faust import Transport
from streams.log import new_event, open_log
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy

ROOT = Path(__file__).parents[2]


async def eventually(holds: Callable[[], Any], *, within: float = 60.0, what: str = "it did not happen in time") -> Any:
    until = time.monotonic() + within
    while True:
        found = holds()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < until, what
        await asyncio.sleep(0.02)


NewApp = Callable[..., faust.App]


@pytest.fixture
def new_app(redis_url: str, tmp_path: Path) -> NewApp:
    def make(app_id: str = "shop", **options: Any) -> faust.App:
        defaults: dict[str, Any] = {
            "broker": redis_url,
            "datadir": str(tmp_path / f"datadir-{time.monotonic_ns()}"),
            "web_enabled": False,
            "topic_partitions": 4,
            "broker_session_timeout": 6.0,
            "broker_heartbeat_interval": 0.3,
            "value_serializer": "raw",
        }
        return faust.App(app_id, **{**defaults, **options})

    return make


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@asynccontextmanager
async def running(*apps: faust.App) -> AsyncIterator[None]:
    try:
        for app in apps:
            await app.start()
        yield
    finally:
        for app in reversed(apps):
            async with asyncio.timeout(20):
                await app.stop()


async def send_all(topic: Any, count: int, keys: int = 50) -> list[Any]:
    sent = [await topic.send(key=b"k%d" % (i % keys), value=b"%d" % i) for i in range(count)]
    return list(await asyncio.gather(*sent))


async def pending(redis: Redis, topic: str, group: str, partitions: int = 4) -> int:
    total = 0
    for partition in range(partitions):
        for found in await redis.xinfo_groups(f"{topic}:{{{partition:02d}}}:log"):
            if found["name"] == group.encode():
                total += found["pending"]
    return total


async def entries(redis: Redis, topic: str, partitions: int = 4) -> list[dict[bytes, bytes]]:
    found = [await redis.xrange(f"{topic}:{{{partition:02d}}}:log") for partition in range(partitions)]
    return [fields for partition in found for _, fields in partition]


# ---------------------------------------------------------------- the entry point


@pytest.mark.parametrize(
    ("broker", "connects_to"),
    [
        ("redis://127.0.0.1:6379/3", {"host": "127.0.0.1", "port": 6379, "db": 3}),
        ("rediss://u:p%40ss@example.org:6380/0", {"host": "example.org", "port": 6380, "password": "p@ss"}),
        ("redis+unix:///run/redis/redis.sock", {"path": "/run/redis/redis.sock"}),
        ("redis+unix:///run/redis/redis.sock?db=2", {"path": "/run/redis/redis.sock", "db": 2}),
    ],
)
def test_faust_finds_the_transport_by_the_brokers_url(
    new_app: NewApp, broker: str, connects_to: dict[str, Any]
) -> None:
    app = new_app(broker=broker)
    assert transports.by_url(app.conf.broker[0]) is Transport
    assert type(app.transport) is Transport
    options = app.transport.redis.connection_pool.connection_kwargs
    assert {name: options[name] for name in connects_to} == connects_to


def test_the_packages_import_without_faust() -> None:
    program = "import streams.faust, streams.faust.hosting, sys; sys.exit('faust' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, timeout=60).returncode == 0


# ---------------------------------------------------------------- sending and receiving


async def test_five_thousand_messages_arrive_once_and_in_order_by_key(new_app: NewApp, redis: Redis) -> None:
    app = new_app()
    numbers = app.topic("numbers", key_type=bytes, value_type=bytes)
    got: list[tuple[bytes, int]] = []

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for key, value in stream.items():
            got.append((key, int(value)))

    async with running(app):
        placed = await send_all(numbers, 5000)
        await eventually(lambda: len(got) >= 5000)
        await eventually(lambda: _none(pending(redis, "numbers", "shop")))
    assert len(got) == 5000
    for key in {key for key, _ in got}:
        assert [value for k, value in got if k == key] == list(range(int(key[1:]), 5000, 50))
    for partition in range(4):
        offsets = [one.offset for one in placed if one.partition == partition]
        assert offsets == list(range(1, len(offsets) + 1))
    assert all(one.partition == zlib.crc32(b"k%d" % (i % 50)) % 4 for i, one in enumerate(placed))


async def _none(counting: Awaitable[int]) -> bool:
    return await counting == 0


async def test_entries_are_readable_and_come_back_whole(new_app: NewApp, redis: Redis) -> None:
    app = new_app(topic_partitions=1)
    topic = app.topic("things", key_type=bytes, value_type=bytes)
    got: list[Any] = []

    @app.agent(topic)
    async def collect(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            got.append((message.key, message.value, list(message.headers or []), message.timestamp, message.offset))

    async with running(app):
        await topic.send(key=b"k", value=b"\x00\xff", timestamp=1700000000.25, headers={"trace": b"\xfe1"})
        await topic.send(value=b"plain")
        await eventually(lambda: len(got) == 2)
    [(entry_id, first), (_, second)] = await redis.xrange("things:{00}:log")
    assert entry_id == b"1-0"
    assert first == {
        b"time": b"2023-11-14T22:13:20.250000+00:00",
        b"key": b"k",
        b"value": b"\x00\xff",
        b"headers": '[["trace","þ1"]]'.encode(),
    }
    assert set(second) == {b"time", b"value"}
    assert got[0] == (b"k", b"\x00\xff", [("trace", b"\xfe1")], 1700000000.25, 1)
    assert got[1][:3] == (None, b"plain", [])


async def test_an_app_may_send_without_a_worker_and_send_soon(new_app: NewApp, redis: Redis) -> None:
    app = new_app()
    topic = app.topic("later", value_type=bytes)
    for number in range(300):
        topic.send_soon(value=b"%d" % number)
    producer = await app.maybe_start_producer()
    await producer.flush()
    assert len(await entries(redis, "later")) == 300
    await producer.stop()


async def test_events_of_the_log_are_messages_too(
    new_app: NewApp, redis_url: str, make_settings: Callable[..., Settings]
) -> None:
    app = new_app("reader")
    topic = app.topic("spoolhouse", key_type=bytes, value_type=bytes)
    got: list[Any] = []

    @app.agent(topic)
    async def collect(stream: Any) -> None:
        async for event in stream.events():
            got.append((event.key, event.value, dict(event.message.headers)["type"]))  # noqa: PERF401

    async with open_log(make_settings(partitions=2), redis_url) as log:
        await log.append(new_event("s", NumbersReserved(through=7), source="test"))
        async with running(app):
            await eventually(lambda: got)
            with pytest.raises(ImproperlyConfigured, match="log of events"):
                await topic.send(value=b"no")
    assert got == [(b"s", b'{"through":7}', b"NumbersReserved")]


async def test_agents_ask_and_answer(new_app: NewApp) -> None:
    app = new_app(value_serializer="json", topic_disable_leader=True)

    @app.agent(app.topic("double", value_type=int))
    async def double(stream: Any) -> AsyncIterator[int]:
        async for number in stream:
            yield number * 2

    async with running(app):
        assert await asyncio.wait_for(double.ask(21), 30) == 42


async def test_channels_and_isolated_partitions_work(new_app: NewApp) -> None:
    app = new_app()
    topic = app.topic("isolated", key_type=bytes, value_type=bytes)
    channel = app.channel()
    actors: set[int] = set()
    got: list[bytes] = []

    @app.agent(topic, isolated_partitions=True)
    async def split(stream: Any) -> None:
        async for value in stream:
            actors.add(id(stream))
            await channel.put(value)

    @app.agent(channel)
    async def collect(stream: Any) -> None:
        async for value in stream:
            got.append(value)  # noqa: PERF401

    async with running(app):
        await eventually(lambda: len(app.consumer.assignment()) == 5)
        await send_all(topic, 200)
        await eventually(lambda: len(got) == 200)
    assert len(actors) == 4


async def test_a_slow_agent_holds_fetching_back(new_app: NewApp, redis: Redis) -> None:
    app = new_app(stream_buffer_maxsize=20, topic_partitions=2)
    topic = app.topic("slow", key_type=bytes, value_type=bytes)
    gate = asyncio.Event()
    got = 0

    @app.agent(topic)
    async def slow(stream: Any) -> None:
        nonlocal got
        async for _ in stream:
            await gate.wait()
            got += 1

    async with running(app):
        await send_all(topic, 3000)
        await eventually(lambda: any(owned.paused for owned in app.consumer.held.values()))
        delivered = await pending(redis, "slow", "shop", 2)
        assert 0 < delivered <= 2 * 200 + 400
        gate.set()
        await eventually(lambda: got == 3000)


# ---------------------------------------------------------------- failing, and going on


async def test_a_message_whose_agent_raised_comes_again(new_app: NewApp, redis: Redis) -> None:
    app = new_app()
    topic = app.topic("fragile", key_type=bytes, value_type=bytes)
    tries: Counter[bytes] = Counter()
    done: set[bytes] = set()

    @app.agent(topic)
    async def fragile(stream: Any) -> None:
        async for value in stream:
            tries[value] += 1
            if value == b"3" and tries[value] < 3:
                raise RuntimeError("not this one")
            done.add(value)

    async with running(app):
        await send_all(topic, 10)
        await eventually(lambda: len(done) == 10)
        await eventually(lambda: _none(pending(redis, "fragile", "shop")))
    assert tries[b"3"] == 3


async def test_what_cannot_be_decoded_holds_nothing_up(new_app: NewApp, redis: Redis) -> None:
    app = new_app(topic_partitions=1)
    topic = app.topic("typed", value_type=int, value_serializer="json")
    got: list[int] = []

    @app.agent(topic)
    async def collect(stream: Any) -> None:
        async for number in stream:
            got.append(number)  # noqa: PERF401

    async with running(app):
        for value in (b"1", b"nonsense", b"2"):
            await app.send("typed", value=value, value_serializer="raw")
        await eventually(lambda: got == [1, 2])
        await eventually(lambda: _none(pending(redis, "typed", "shop", 1)))


async def test_dropped_replies_double_nothing(new_app: NewApp, redis: Redis, redis_server: RedisServer) -> None:
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        app = new_app(broker=proxy.redis_url)
        topic = app.topic("once", key_type=bytes, value_type=bytes)
        got: Counter[bytes] = Counter()

        @app.agent(topic)
        async def collect(stream: Any) -> None:
            async for value in stream:
                got[value] += 1

        async with running(app):
            await send_all(topic, 10)
            for batch in range(10):
                proxy.drop_reply(b"EVALSHA")
                sent = [await topic.send(key=b"a", value=b"%d-%d" % (batch, i)) for i in range(20)]
                offsets = [one.offset for one in await asyncio.gather(*sent)]
                assert offsets == list(range(offsets[0], offsets[0] + 20))
            await eventually(lambda: len(got) == 210)
        assert proxy.dropped >= 10
    stored = Counter(fields[b"value"] for fields in await entries(redis, "once"))
    assert len(stored) == 210
    assert set(stored.values()) == {1}


async def test_redis_killed_and_restarted_loses_nothing(new_app: NewApp, own_redis: RedisServer) -> None:
    app = new_app(broker=own_redis.url)
    topic = app.topic("durable", key_type=bytes, value_type=bytes)
    got: Counter[bytes] = Counter()

    @app.agent(topic)
    async def collect(stream: Any) -> None:
        async for value in stream:
            got[value] += 1

    async with running(app):
        sent = [await topic.send(key=b"%d" % i, value=b"%d" % i) for i in range(500)]
        own_redis.restart(kill=True)
        sent += [await topic.send(key=b"%d" % i, value=b"%d" % i) for i in range(500, 1000)]
        await asyncio.gather(*sent)
        await eventually(lambda: len(got) == 1000)
        async with Redis.from_url(own_redis.url) as client:
            assert len(await entries(client, "durable")) == 1000


async def test_it_works_over_a_unix_socket(new_app: NewApp, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("unix")
    socket = f"/tmp/spoolhouse-test-{os.getpid()}.sock"
    with RedisServer(place, args=("--unixsocket", socket)):
        app = new_app(broker=f"redis+unix://{socket}")
        topic = app.topic("near", value_type=bytes)
        got: list[bytes] = []

        @app.agent(topic)
        async def collect(stream: Any) -> None:
            async for value in stream:
                got.append(value)  # noqa: PERF401

        async with running(app):
            await topic.send(value=b"hello")
            await eventually(lambda: got == [b"hello"])


# ---------------------------------------------------------------- several workers


@contextmanager
def worker(redis_url: str, name: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(Path(__file__).with_name("faust_worker.py")), redis_url, name, str(tmp_path / name)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


async def handled(redis: Redis, *names: str) -> Counter[bytes]:
    return Counter([value for name in names for value in await redis.lrange(f"handled:{name}", 0, -1)])


async def feed(app: faust.App, count: int, pace: float) -> None:
    topic = app.topic("jobs", key_type=bytes, value_type=bytes)
    for number in range(count):
        await topic.send(key=b"%d" % (number % 97), value=b"%d" % number)
        if number % 20 == 0:
            await asyncio.sleep(pace)


async def test_workers_join_and_leave_without_a_lost_or_doubled_message(
    new_app: NewApp, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    sender = new_app("sender")
    producer = await sender.maybe_start_producer()
    with worker(redis_url, "one", tmp_path):
        await eventually(lambda: redis.exists("ready:one"))
        feeding = asyncio.create_task(feed(sender, 4000, 0.02))
        with worker(redis_url, "two", tmp_path):
            await eventually(lambda: redis.llen("handled:two"), within=40)
        await feeding
        await producer.flush()
        await eventually(lambda: _all_of(handled(redis, "one", "two"), 4000), within=40)
    both = await handled(redis, "one", "two")
    assert set(both.values()) == {1}
    assert await pending(redis, "jobs", "workers") == 0
    await producer.stop()


async def _all_of(counting: Awaitable[Counter[bytes]], count: int) -> bool:
    return len(await counting) == count


async def test_what_a_killed_worker_had_begun_is_done_by_another(
    new_app: NewApp, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    sender = new_app("sender")
    producer = await sender.maybe_start_producer()
    with worker(redis_url, "one", tmp_path) as first, worker(redis_url, "two", tmp_path):
        await eventually(lambda: redis.exists("ready:one", "ready:two"))
        feeding = asyncio.create_task(feed(sender, 3000, 0.02))
        await eventually(lambda: redis.llen("handled:one"), within=40)
        await eventually(lambda: redis.llen("handled:two"), within=40)
        os.kill(first.pid, signal.SIGKILL)
        await feeding
        await producer.flush()
        await eventually(lambda: _all_of(handled(redis, "one", "two"), 3000), within=60)
        await eventually(lambda: _none(pending(redis, "jobs", "workers")))
    doubled = [value for value, times in (await handled(redis, "one", "two")).items() if times > 1]
    # At the most what it had handled and not acknowledged when it died.
    assert len(doubled) <= 300
    await producer.stop()


async def test_one_worker_leads_and_another_takes_over(new_app: NewApp) -> None:
    first, second = new_app(), new_app()
    async with running(first):
        await eventually(first.is_leader)
        async with running(second):
            await eventually(lambda: first.is_leader() != second.is_leader())
            leader, other = (first, second) if first.is_leader() else (second, first)
            if leader is first:
                await first.stop()
                await eventually(other.is_leader)


# ---------------------------------------------------------------- the example of the manual


async def test_the_example_of_the_manual_runs(new_app: NewApp, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    example = ROOT / "docs" / "faust_example.py"
    code = [line for line in example.read_text().splitlines() if line.strip()]
    assert len(code) <= 20
    env = {**os.environ, "BROKER": redis_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(example), "--datadir", str(tmp_path / "d"), "worker", "--without-web", "-l", "warn"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env)
    sender = new_app("sender", value_serializer="json")
    producer = await sender.maybe_start_producer()
    try:
        orders = sender.topic("orders", key_type=str, value_type=dict)
        for number in range(5000):
            await orders.send(key=f"c{number % 30}", value={"customer": f"c{number % 30}", "amount": number})
        await producer.flush()
        await eventually(lambda: _count(redis, "bills", 5000), within=60)
        await eventually(lambda: _none(pending(redis, "orders", "billing")))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        await producer.stop()
    for line in (ROOT / "docs" / "faust.md").read_text().splitlines():
        if line.startswith("redis-cli "):
            said = _redis_cli(redis_url, line)
            assert said.returncode == 0, (line, said.stderr)
            assert not said.stdout.startswith(("ERR", "NOGROUP", "WRONGTYPE")), (line, said.stdout)
    amounts = Counter(int(fields[b"value"]) for fields in await entries(redis, "bills"))
    assert amounts == Counter(range(5000))


def _redis_cli(url: str, line: str) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(line, comments=True)[1:]
    return subprocess.run(["redis-cli", "-u", url, *arguments], capture_output=True, text=True, check=False, timeout=30)


async def _count(redis: Redis, topic: str, count: int) -> bool:
    lengths = [await redis.xlen(f"{topic}:{{{partition:02d}}}:log") for partition in range(4)]
    return sum(lengths) >= count


# ---------------------------------------------------------------- what is refused


async def test_tables_are_refused(new_app: NewApp) -> None:
    app = new_app()
    app.Table("totals", default=int)

    @app.agent(app.topic("t", value_type=bytes))
    async def work(stream: Any) -> None:
        async for _ in stream:
            pass

    with pytest.raises(ImproperlyConfigured, match=r"tables.*totals.*Redis hash"):
        await app.start()
    await app.stop()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"processing_guarantee": "exactly_once"}, "at_least_once"),
        ({"broker": "redis://a:6379;redis://b:6379"}, "one Redis is one broker"),
        ({"stream_publish_on_commit": True}, "send from the agent"),
        ({"producer_threaded": True}, "without a thread"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(new_app: NewApp, options: dict[str, Any], words: str) -> None:
    app = new_app(**options)
    with pytest.raises(ImproperlyConfigured, match=words):
        _ = app.transport


async def test_topics_that_cannot_be_are_refused(new_app: NewApp, redis: Redis) -> None:
    app = new_app(topic_allow_declare=False)
    producer = await app.maybe_start_producer()
    with pytest.raises(ImproperlyConfigured, match="topic_allow_declare"):
        await app.topic("unknown", value_type=bytes).send(value=b"x")
    with pytest.raises(ImproperlyConfigured, match="compacted"):
        await producer.create_topic("log", 1, 1, compacting=True)
    with pytest.raises(ImproperlyConfigured, match="no name for a topic"):
        await app.send("a{b}c", value=b"x")
    assert await redis.keys() == []
    await producer.stop()


async def test_the_first_to_declare_a_topic_decides_its_partitions(new_app: NewApp) -> None:
    first, second = new_app("a", topic_partitions=2), new_app("b", topic_partitions=8)
    producer = await first.maybe_start_producer()
    await first.topic("shared", value_type=bytes).send(value=b"x")
    other = await second.maybe_start_producer()
    await second.topic("shared", value_type=bytes).send(value=b"x")
    assert second.transport.topics.known("shared").partitions == 2
    with pytest.raises(ValueError, match="partitions 0 to 1"):
        await second.topic("shared", value_type=bytes).send(value=b"x", partition=5)
    await producer.stop()
    await other.stop()

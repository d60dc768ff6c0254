"""What is down is waited for; what cannot be read is never skipped in silence; what is killed goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from projections.database import Database, supported_version
from projections.queries import Catalogue
from streams.codec import encode
from streams.errors import DependencyDownError, UnsupportedCatalogueError
from streams.settings import Settings
from tests.projections.conftest import World, applied, until, world_at
from tests.servers import MariaDBServer, RedisServer

REPO = Path(__file__).parents[2]


# ---------------------------------------------------------------- the database


@pytest.mark.parametrize(
    ("said", "is_"),
    [
        ("10.11.6-MariaDB-0+deb12u1", "MariaDB 10.11.6"),
        ("5.5.5-10.6.12-MariaDB-log", "MariaDB 10.6.12"),
        ("8.0.36", "MySQL 8.0.36"),
        ("8.4.0-commercial", "MySQL 8.4.0"),
        ("11.4.2-MariaDB", "MariaDB 11.4.2"),
    ],
)
def test_supported_servers_are_taken(said: str, is_: str) -> None:
    """As `SELECT VERSION()` words it."""
    assert supported_version(said) == is_


@pytest.mark.parametrize("said", ["5.7.44-log", "5.6.51", "10.5.23-MariaDB", "5.5.5-10.3.39-MariaDB", "5.7.25-TiDB-v7"])
def test_servers_that_are_too_old_are_refused(said: str) -> None:
    """The version is named, and what to do."""
    with pytest.raises(UnsupportedCatalogueError, match="too old: upgrade it") as told:
        supported_version(said)
    assert said in str(told.value)


def test_other_databases_are_refused() -> None:
    """Postgres, say."""
    with pytest.raises(UnsupportedCatalogueError, match="postgresql"):
        Database("postgresql://x/y")


async def test_a_server_that_is_not_there_is_said_so() -> None:
    """With the address and without the password."""
    database = Database("mysql+aiomysql://root:secret@127.0.0.1:1/x")
    with pytest.raises(DependencyDownError, match=r"127\.0\.0\.1") as told:
        await database.check()
    assert "secret" not in str(told.value)
    await database.close()


async def test_rows_are_not_sent_one_by_one(
    mariadb_world: World, mariadb_server: MariaDBServer, rng: random.Random
) -> None:
    """`Com_insert` counts statements: a thousand events are a few."""

    def statements() -> dict[str, int]:
        engine = create_engine(mariadb_server.url("").replace("aiomysql", "pymysql"))
        with engine.connect() as conn:
            rows = conn.execute(text("SHOW GLOBAL STATUS LIKE 'Com_%'")).all()
        engine.dispose()
        return {name: int(value) for name, value in rows if value.isdigit()}

    async with mariadb_world.running() as runner:
        await mariadb_world.happenings.reserve()
        await mariadb_world.happenings.upload(0)
        await applied(runner)
        before = statements()
        await mariadb_world.happenings.uploads_many(1000, start=1)
        await applied(runner)
        after = statements()
        grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        assert grown.get("Com_insert", 0) <= 60, grown
        assert grown.get("Com_update", 0) <= 60, grown
        before = after
        await runner.rebuild()
        after = statements()
        assert after["Com_insert"] - before["Com_insert"] <= 60


async def test_the_database_stops_and_starts(
    own_mariadb: MariaDBServer, make_settings: Callable[..., Settings], redis_url: str, rng: random.Random
) -> None:
    """Killed under load: the status says what is missing, then it goes on by itself, each event once."""
    settings = make_settings(catalogue_url=own_mariadb.new_database("catalogue"), partitions=4)
    async with world_at(settings, redis_url, rng) as world, world.running() as runner:
        await world.happenings.uploads_many(200)
        await applied(runner)
        for round_ in range(1, 4):
            own_mariadb.kill()
            await world.happenings.uploads_many(200, start=200 * round_)
            waiting = await until(
                lambda: all(one.waiting for one in runner.status() if one.lag) and runner.status()[0].waiting,
                "the wait",
            )
            assert "catalogue is unreachable" in waiting
            with pytest.raises(DependencyDownError):
                await Catalogue(world.database, world.log).get("x")
            own_mariadb.start()
            await applied(runner, 60)
        assert [row["videos"] for row in await world.rows("storage_stats")] == [800]
        assert len(await world.rows("timeline")) == 800
        assert not any((await runner.rebuild(compare=True)).values())


async def test_it_starts_while_the_database_is_down(
    own_mariadb: MariaDBServer, make_settings: Callable[..., Settings], redis_url: str, rng: random.Random
) -> None:
    """And makes its tables when it comes."""
    settings = make_settings(catalogue_url=own_mariadb.new_database("catalogue"), partitions=4)
    own_mariadb.stop()
    async with world_at(settings, redis_url, rng) as world, world.running() as runner:
        await world.happenings.uploads_many(10)
        await until(lambda: "unreachable" in (runner.status()[0].waiting or ""), "the wait")
        own_mariadb.start()
        await applied(runner, 60)


# ---------------------------------------------------------------- the log


async def test_an_entry_put_in_by_hand_is_stepped_over(world: World) -> None:
    """Counted, said, and the rest goes on; also past a restart."""
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(10)
        await applied(runner)
        for partition in range(world.log.partitions):
            await world.log.redis.xadd(world.log.keys.log(partition), {"hello": "world"})
        await world.happenings.uploads_many(10, start=10)
        await applied(runner)
        assert runner.feed.foreign == world.log.partitions
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(10, start=20)
        await applied(runner)
        assert runner.status()[0].stopped is None
        assert not any((await runner.rebuild(compare=True)).values())
    assert len(await world.rows("catalogue")) == 30


async def test_an_entry_of_ours_that_cannot_be_read_stops_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer version wrote it: what stands before it is applied, nothing behind it."""
    from streams import events

    async with world.running("catalogue") as runner:
        runner.followers["catalogue"].retry = 0.1
        video = await world.happenings.upload(1)
        await applied(runner)
        event = world.happenings.stored(2)[1]
        monkeypatch.setattr(events.VideoStored, "sv", 99)
        assert encode(event)
        await world.happenings.say(video, event, "a newer version")
        monkeypatch.setattr(events.VideoStored, "sv", 1)
        await world.happenings.probed(video)
        reason = await until(lambda: runner.status()[0].stopped, "the stop")
        assert "is of version 99" in reason
        assert [row["ver"] for row in await world.rows("catalogue")] == [1]
        await until(lambda: runner.status()[0].lag == 2, "the lag")


async def test_a_log_that_lost_its_tail_closes_the_gate(
    own_redis: RedisServer, make_settings: Callable[..., Settings], catalogue_url: str, rng: random.Random
) -> None:
    """Nothing is applied on top; after the gate's work a rebuild goes on."""
    settings = make_settings(catalogue_url=catalogue_url, partitions=1)
    async with world_at(settings, own_redis.url, rng) as world, world.running("catalogue") as runner:
        await world.happenings.uploads_many(20)
        await applied(runner)
        key = world.log.keys.log(0)
        await world.log.redis.execute_command("XTRIM", key, "MAXLEN", 0)
        await world.log.redis.execute_command("DEL", key)
        for n in range(30):
            await world.log.redis.execute_command("XADD", key, f"{n + 1}-0", "hello", "world")
        await until(lambda: runner.gate_closed, "the gate")
        assert "lost its tail" in (runner.gate_closed or "")
        assert len(await world.rows("catalogue")) == 20
        await world.log.raise_epoch(2)
        await runner.rebuild()
        await applied(runner)
        await until(lambda: runner.gate_closed is None, "the gate to open")
        assert await world.rows("catalogue") == []


async def test_redis_stops_and_starts(
    own_redis: RedisServer, make_settings: Callable[..., Settings], catalogue_url: str, rng: random.Random
) -> None:
    """It waits, says so, goes on."""
    settings = make_settings(catalogue_url=catalogue_url, partitions=4)
    async with world_at(settings, own_redis.url, rng) as world, world.running() as runner:
        await world.happenings.uploads_many(50)
        await applied(runner)
        own_redis.stop()
        await until(lambda: runner.feed.down, "the outage")
        assert "Redis" in (runner.status()[0].waiting or "")
        own_redis.start()
        await world.happenings.uploads_many(50, start=50)
        await applied(runner)
        assert [one.stopped for one in runner.status()] == [None] * len(runner.followers)


# ---------------------------------------------------------------- kill -9


@pytest.mark.parametrize(
    "point",
    [
        "projection.moved",
        "projection.applied:2",
        "projection.committed:3",
        "activity_log.written",
        "rebuild.batch",
        "rebuild.before_swap",
        "rebuild.swapped:2",
    ],
)
async def test_killed_at_any_step_each_event_counts_once(world: World, point: str) -> None:
    """A worker dies there, another takes over: tables equal a rebuild, log lines stand once."""
    await world.happenings.reserve()
    building = point.startswith("rebuild")
    if not building:
        assert await _worker(world, "", until_applied=True) == 0
    for n in range(20):
        await world.happenings.upload(n)
        await world.happenings.settle(f"{n}.mp4", size=n)
    assert await _worker(world, point, until_applied=False) == -signal.SIGKILL
    async with world.running() as runner:
        await applied(runner)
        assert not any((await runner.rebuild(compare=True)).values())
        await applied(runner)
    assert {(row["door"], row["videos"]) for row in await world.rows("storage_stats")} == {
        ("upload", 20),
        ("watch", 20),
    }
    assert [row["id"] for row in await world.rows("videos")] == list(range(1, 21))
    lines = (world.settings.logs / "video_uploads.log").read_text()
    assert lines.count("Received video upload") == 20
    assert lines.endswith("bytes)\n")


async def _worker(world: World, crash_at: str, *, until_applied: bool) -> int | None:
    """Run the projections in a process of their own until they die or have applied everything."""
    program = (
        "import asyncio, sys\n"
        "from tests.projections.worker import main\n"
        f"asyncio.run(main({str(world.settings.data)!r}, {world.url!r}, sys.argv[1], {until_applied!r}))\n"
    )
    url = str(world.log.redis.connection_pool.connection_kwargs["port"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, f"redis://127.0.0.1:{url}/0", cwd=REPO,
        env={**os.environ, "SPOOLHOUSE_CRASH_AT": crash_at},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            return await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None

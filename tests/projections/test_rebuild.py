"""A rebuilt table equals the live one, row for row, and takes its place in one step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from projections import rebuild
from projections.runner import Runner
from projections.tables import NEXT, Tables
from tests.projections.conftest import World, applied, until

TABLES = ("catalogue", "media", "replicas", "storage_stats", "storage_stats_video", "timeline", "legacy_rows", "videos")


async def snapshot(world: World) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    return {name: await world.rows(name, "1, 2") for name in TABLES}


async def happen(world: World, times: int) -> None:
    """Anything, many times over."""
    for _ in range(times):
        await world.happenings.anything()


async def test_a_rebuild_equals_the_live_tables(world: World) -> None:
    """Whatever happened: random histories, `--seed` repeats them."""
    await world.happenings.reserve(5)
    async with world.running() as runner:
        for _ in range(6):
            await happen(world, 40)
            await asyncio.sleep(0)
        await applied(runner)
        before = await snapshot(world)
        differences = await runner.rebuild(compare=True)
        assert differences == {name: [] for name in runner.followers}
        await applied(runner)
        assert await snapshot(world) == before
        # It goes on from there.
        await happen(world, 30)
        await applied(runner)
        assert not any((await runner.rebuild(compare=True)).values())
    assert len(before["videos"]) == len(before["legacy_rows"]) > 0


async def test_a_difference_is_told(world: World) -> None:
    """Someone changed a row behind our back: the rebuild says so and puts it right."""
    async with world.running() as runner:
        await world.happenings.uploads_many(30)
        await applied(runner)
        await world.sql("UPDATE catalogue SET size = 1 WHERE filename LIKE '%_7.mp4'")
        await world.sql("DELETE FROM timeline WHERE ver = 1 AND subject LIKE '%3'")
        differences = await runner.rebuild(compare=True)
        assert [text for text in differences["catalogue"] if "size is 1, rebuilt 1007" in text]
        assert len(differences["timeline"]) == 3
        assert "only in the rebuilt table" in differences["timeline"][0]
        assert not any((await runner.rebuild(compare=True)).values())


async def test_events_go_on_while_it_is_rebuilt(world: World) -> None:
    """Nothing is lost between build and swap."""
    async with world.running() as runner:
        await world.happenings.uploads_many(500)
        await applied(runner)
        rebuilding = asyncio.create_task(runner.rebuild())
        start = 500
        while not rebuilding.done():
            await world.happenings.uploads_many(5, start=start)
            start += 5
            await asyncio.sleep(0.01)
        await rebuilding
        await applied(runner)
        assert not any((await runner.rebuild(compare=True)).values())
    assert len(await world.rows("catalogue")) == start


async def test_the_former_tables_are_kept_until_the_next_rebuild(world: World) -> None:
    """`catalogue__old`, and nothing is left of the build."""
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(10)
        await applied(runner)
        for _ in range(2):
            await runner.rebuild()
            assert len(await world.rows("catalogue__old")) == 10
    async with world.database.transaction() as conn:
        from sqlalchemy import inspect

        names = await conn.run_sync(lambda sync: inspect(sync).get_table_names())
    assert not [name for name in names if name.endswith(NEXT)]


async def test_a_new_version_is_built_while_the_former_serves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the version: the next start rebuilds by itself."""
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(200)
        await applied(runner)
    await world.sql("UPDATE catalogue SET filename = 'of the former version'")
    (projection,) = world.projections("catalogue")
    following = projection.version + 1
    monkeypatch.setattr(type(projection), "version", following)
    seen: list[str] = []

    async def look(*_: Any) -> None:
        seen.append((await world.rows("catalogue"))[0]["filename"])

    monkeypatch.setattr(type(projection), "before_swap", lambda self, *_: look())
    async with world.running("catalogue") as runner:
        await applied(runner)
    assert seen == ["of the former version"]
    assert len(await world.rows("catalogue")) == 200
    assert not [row for row in await world.rows("catalogue") if row["filename"] == "of the former version"]
    assert [(row["name"], row["version"]) for row in await world.rows("projections")] == [("catalogue", following)]


async def test_an_older_process_does_not_write_into_newer_tables(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left running through an upgrade: its checkpoint no longer fits."""
    async with world.running("catalogue") as old:
        await world.happenings.uploads_many(20)
        await applied(old)
        (projection,) = world.projections("catalogue")
        follower = old.followers["catalogue"]
        monkeypatch.setattr(type(projection), "version", projection.version + 1)
        newer = Runner(world.log, world.database, [projection])
        await newer.rebuild()
        follower.build = "1-of-the-past"
        await world.happenings.uploads_many(5, start=20)
        reason = await until(lambda: old.status()[0].stopped, "the stop")
        assert "taken over" in reason
        assert len(await world.rows("catalogue")) == 20


async def test_a_lost_table_is_rebuilt(world: World) -> None:
    """Someone dropped it."""
    async with world.running("storage_stats") as runner:
        await world.happenings.uploads_many(20)
        await applied(runner)
    await world.sql("DROP TABLE storage_stats_video")
    async with world.running("storage_stats") as runner:
        await applied(runner)
    assert [row["videos"] for row in await world.rows("storage_stats")] == [20]
    assert len(await world.rows("storage_stats_video")) == 20


async def test_a_table_of_someone_else_is_left_alone(world: World) -> None:
    """A database that already has a table `catalogue`: refused, untouched, said."""
    await world.sql("CREATE TABLE catalogue (mine INTEGER)")
    await world.sql("INSERT INTO catalogue VALUES (42)")
    async with world.running("catalogue") as runner:
        status = await until(lambda: runner.status()[0].stopped, "the stop")
    assert "did not make" in status
    assert await world.rows("catalogue") == [{"mine": 42}]


async def test_two_builds_at_once_wait_for_each_other(world: World) -> None:
    """Two workers start on a log that holds something."""
    await world.happenings.uploads_many(300)
    async with world.running("catalogue") as one, world.running("catalogue") as two:
        await applied(one)
        await applied(two)
    assert len(await world.rows("catalogue")) == 300


async def test_comparing_pages_through_large_tables(world: World) -> None:
    """More rows than one page, a difference on the last."""
    async with world.running("timeline") as runner:
        await world.happenings.uploads_many(2500)
        await applied(runner)
    (projection,) = world.projections("timeline")
    live, other = Tables("timeline", projection.tables), Tables("timeline", projection.tables, "__x")
    async with world.database.transaction() as conn:
        await other.create(conn)
        await conn.exec_driver_sql("INSERT INTO timeline__x SELECT * FROM timeline")
    assert await rebuild.compare(world.database, live["timeline"], other["timeline"]) == []
    last = (await world.rows("timeline", "subject DESC"))[0]["subject"]
    await world.sql(f"UPDATE timeline__x SET summary = 'x' WHERE subject = '{last}'")
    assert len(await rebuild.compare(world.database, live["timeline"], other["timeline"])) == 1

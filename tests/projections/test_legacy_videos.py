"""The `videos` table of the watched-folder notifier: to the letter, and never taken from its users."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from projections.legacy_videos import foreign_rows
from projections.queries import Catalogue
from streams.identity import adopted_row_id
from streams.settings import Settings
from tests.projections.conftest import World, applied, until, world_at
from tests.projections.copying import Copied
from tests.projections.happenings import ROOT

pytestmark = pytest.mark.usefixtures("local_time")


async def test_its_structure_is_the_contract(mariadb_world: World) -> None:
    """As `SHOW CREATE TABLE` tells it."""
    async with mariadb_world.running("legacy_videos") as runner:
        await applied(runner)
        async with mariadb_world.database.reading() as conn:
            text = (await conn.exec_driver_sql("SHOW CREATE TABLE videos")).one()[1]
    assert re.sub(r"\s+", " ", re.sub(r" AUTO_INCREMENT=\d+", "", text)) == (
        "CREATE TABLE `videos` ( `id` int(11) NOT NULL AUTO_INCREMENT, `main_dir` varchar(512) DEFAULT NULL, "
        "`des_video_path` varchar(1024) NOT NULL, `status` int(11) DEFAULT 1, `created_date` datetime DEFAULT "
        "current_timestamp(), `des_url` varchar(1024) DEFAULT NULL, PRIMARY KEY (`id`), KEY `idx_des_video_path` "
        "(`des_video_path`(255)), KEY `idx_status` (`status`) ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 "
        "COLLATE=utf8mb4_general_ci"
    )


async def test_one_row_a_file_with_the_right_url(
    make_settings: Callable[..., Settings], redis_url: str, catalogue_url: str, rng: Any
) -> None:
    """Moves, removals and returns change the row; its id and date stay."""
    settings = make_settings(
        catalogue_url=catalogue_url, partitions=4, base_url="http://media.example/", base_path="/srv", port="8000"
    )
    async with world_at(settings, redis_url, rng) as world, world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("Ferien äöü/100% #1.mp4")
        await applied(runner)
        (row,) = await world.rows("videos")
        assert row["id"] == 1
        assert row["main_dir"] == ROOT
        assert row["des_video_path"] == "/srv/videos/Ferien äöü/100% #1.mp4"
        assert row["des_url"] == "http://media.example/videos/Ferien%20%C3%A4%C3%B6%C3%BC/100%25%20%231.mp4"
        assert row["status"] == 1
        (event,) = await world.log.history(one.id)
        assert str(row["created_date"])[:19] == event.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        await world.happenings.move(one, "b.mp4")
        await world.happenings.remove(one)
        await applied(runner)
        (after,) = await world.rows("videos")
        assert (after["id"], after["status"], after["des_video_path"]) == (1, 0, "/srv/videos/b.mp4")
        assert after["des_url"] == "http://media.example/videos/b.mp4"
        assert after["created_date"] == row["created_date"]
        await world.happenings.bring_back(one)
        await world.happenings.replace(one, 7)
        await applied(runner)
        (after,) = await world.rows("videos")
        assert (after["id"], after["status"]) == (1, 1)


async def test_rows_that_were_there_are_adopted_with_all_they_hold(world: World) -> None:
    """Id, status, date and URL stay; new ids start above."""
    await _notifier_table(world)
    await _row(world, 7, "/srv/videos/old.mp4", status=1)
    await _row(world, 9, "/elsewhere/x.mp4", status=5)
    before = await world.rows("videos")
    found = await foreign_rows(world.database)
    assert [(row.number, row.path, row.status, row.created) for row in found] == [
        (7, "/srv/videos/old.mp4", 1, "2020-01-02 03:04:05"),
        (9, "/elsewhere/x.mp4", 5, "2020-01-02 03:04:05"),
    ]
    async with world.running() as runner:
        await world.happenings.reserve(9)
        video = await world.happenings.adopt(7, "/srv/videos/old.mp4")
        await world.happenings.adopt(9, "/elsewhere/x.mp4", status=5, subject=adopted_row_id(9))
        await applied(runner)
        assert await world.rows("videos") == before
        catalogue = Catalogue(world.database, world.log)
        assert await catalogue.foreign_rows() == []
        (known,) = await catalogue.known(ROOT)
        assert (known.id, known.number, known.relative, known.revision, known.present) == (
            video,
            7,
            "old.mp4",
            0,
            False,
        )
        # The watcher finds the file: the row goes on, a new one gets the next number.
        await world.happenings.settle("old.mp4", number=7)
        await world.happenings.settle("new.mp4")
        await applied(runner)
        rows = await world.rows("videos")
        assert rows[:2] == before
        assert [row["id"] for row in rows] == [7, 9, 10]
        everything = await catalogue.all_rows()
        assert [(row.number, video) for row, video in everything if row.number != 9] == [
            (one.number, one.id) for one in world.happenings.watched
        ]
        assert not any((await runner.rebuild(compare=True)).values())
        assert await world.rows("videos") == rows


async def test_values_that_others_wrote_are_kept_through_a_rebuild(world: World) -> None:
    """A status of theirs, another URL, and rows of their own."""
    async with world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        one, two = await world.happenings.settle("a.mp4"), await world.happenings.settle("b.mp4")
        await applied(runner)
        await world.sql("UPDATE videos SET status = 3, des_url = 'http://cdn/a' WHERE id = 1")
        await _row(world, 500, "/theirs.mp4", status=1)
        await world.happenings.remove(one)
        await world.happenings.remove(two)
        await applied(runner)
        rows = {row["id"]: row for row in await world.rows("videos")}
        assert (rows[1]["status"], rows[1]["des_url"], rows[2]["status"]) == (3, "http://cdn/a", 0)
        await runner.rebuild()
        assert {row["id"]: row for row in await world.rows("videos")} == rows
        assert [row.number for row in await foreign_rows(world.database)] == [500]


async def test_a_number_taken_by_someone_else_stops_it_until_it_is_free(world: World) -> None:
    """Their row is never overwritten; what to do is said; then it goes on."""
    async with world.running("legacy_videos") as runner:
        runner.followers["legacy_videos"].retry = 0.1
        await world.happenings.reserve()
        await applied(runner)
        await _row(world, 1, "/theirs.mp4", status=1)
        await world.happenings.settle("a.mp4")
        reason = await until(lambda: runner.status()[0].stopped, "the stop")
        assert "row 1 of `videos` belongs to '/theirs.mp4'" in reason
        assert [row["des_video_path"] for row in await world.rows("videos")] == ["/theirs.mp4"]
        await world.sql("UPDATE videos SET id = 900 WHERE id = 1")
        await applied(runner)
    assert [row["id"] for row in await world.rows("videos")] == [1, 900]


async def test_a_table_of_another_structure_is_refused(world: World) -> None:
    """Nothing is changed in it, and every fault is named."""
    await world.sql("CREATE TABLE videos (id INTEGER PRIMARY KEY, des_video_path VARCHAR(100) NOT NULL)")
    async with world.running("legacy_videos") as runner:
        reason = await until(lambda: runner.status()[0].stopped, "the stop")
    assert "there is no column status" in reason
    assert "des_video_path holds 100 characters instead of 1024" in reason


async def test_a_restored_table_is_recognised(world: World) -> None:
    """Our own tables are lost, `videos` is not: no row is doubled, none stops us."""
    async with world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("a.mp4")
        await world.happenings.settle("b.mp4")
        await world.happenings.move(one, "c.mp4")
        await applied(runner)
    rows = await world.rows("videos")
    for table in ("legacy_rows", "legacy_videos_checkpoint", "projections"):
        await world.sql(f"DROP TABLE {table}")
    async with world.running("legacy_videos") as runner:
        await applied(runner)
        assert await world.rows("videos") == rows
    await world.sql("DROP TABLE videos")
    async with world.running("legacy_videos") as runner:
        await applied(runner)
        await until(lambda: runner.status()[0].waiting is None, "the start")
    assert await world.rows("videos") == rows


async def test_a_path_that_is_not_utf8_is_escaped(world: World) -> None:
    """And its URL has the very bytes."""
    async with world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        await world.happenings.settle("bad\udcff\\x.mp4")
        await applied(runner)
    (row,) = await world.rows("videos")
    assert row["des_video_path"] == "/srv/videos/bad\\xff\\\\x.mp4"
    assert row["des_url"].endswith("/srv/videos/bad%FF%5Cx.mp4")


async def test_a_path_that_does_not_fit_stops_it(world: World) -> None:
    """It is never cut, never skipped."""
    async with world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        await world.happenings.settle("x" * 1020)
        reason = await until(lambda: runner.status()[0].stopped, "the stop")
    assert "1024" in reason


async def test_other_settings_rebuild_the_urls(
    make_settings: Callable[..., Settings], redis_url: str, catalogue_url: str, rng: Any
) -> None:
    """NGINX_BASE_URL was changed and Spoolhouse restarted."""
    for base in ("http://one.example", "https://two.example"):
        settings = make_settings(catalogue_url=catalogue_url, partitions=4, base_url=base, base_path="/srv")
        async with world_at(settings, redis_url, rng) as world, world.running("legacy_videos") as runner:
            if base.endswith("one.example"):
                await world.happenings.reserve()
                await world.happenings.settle("a.mp4")
            await applied(runner)
            (row,) = await world.rows("videos")
            assert row["des_url"] == f"{base}/videos/a.mp4"


async def _notifier_table(world: World) -> None:
    from projections.legacy_videos import DDL, SQLITE_DDL

    for statement in SQLITE_DDL if world.database.dialect == "sqlite" else (DDL,):
        await world.sql(statement)


async def _row(world: World, number: int, path: str, *, status: int) -> None:
    await world.sql(
        "INSERT INTO videos (id, main_dir, des_video_path, status, created_date, des_url) VALUES "
        f"({number}, '/old', '{path}', {status}, '2020-01-02 03:04:05', 'http://old/x')"
    )


async def test_what_was_offloaded_is_not_there_for_those_who_follow_the_url(world: World) -> None:
    """Status 0 while the file is elsewhere only, 1 when it is back; the row stays what it is otherwise."""
    async with world.running("legacy_videos") as runner:
        await world.happenings.reserve()
        one = Copied((await world.happenings.settle("a.mp4")).id)
        await applied(runner)
        (before,) = await world.rows("videos")
        await world.happenings.copying.offload(one)
        await applied(runner)
        assert await world.rows("videos") == [{**before, "status": 0}]
        await world.happenings.copying.restore(one)
        await applied(runner)
        assert await world.rows("videos") == [before]

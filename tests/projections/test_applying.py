"""Events become rows, once each, whatever is restarted or doubled."""

from __future__ import annotations

import asyncio
from typing import Any

from projections.database import Database
from projections.queries import Catalogue
from tests.projections.conftest import World, applied, until


async def test_an_upload_becomes_a_row(world: World) -> None:
    """The catalogue holds what the event said."""
    async with world.running() as runner:
        video = await world.happenings.upload(1)
        await applied(runner)
        row = await Catalogue(world.database, world.log).get(video)
    assert row is not None
    assert (row["door"], row["state"], row["size"], row["ver"]) == ("upload", "present", 1001, 1)
    assert row["created"].isoformat() == "2024-11-12T14:30:53.250000+00:00"


async def test_nothing_is_applied_twice_after_a_restart(world: World) -> None:
    """The second runner begins where the first one committed."""
    async with world.running() as runner:
        await world.happenings.uploads_many(50)
        await applied(runner)
    async with world.running() as runner:
        await world.happenings.uploads_many(50, start=50)
        await applied(runner)
        assert all(one.lag == 0 and one.stopped is None for one in runner.status())
    stats = await world.rows("storage_stats")
    assert [(row["videos"], row["bytes"]) for row in stats] == [(100, sum(1000 + n for n in range(100)))]


async def test_two_runners_at_once_do_no_harm(world: World, settings: Any) -> None:
    """Both fold; each event counts once."""
    other = Database(world.url)
    try:
        async with world.running() as one, world.running(database=other) as two:
            for start in range(0, 600, 20):
                await world.happenings.uploads_many(20, start=start)
                await asyncio.sleep(0)
            names = [name for name in one.followers if name != "activity_log"]
            heads = await world.log.heads()
            assert await one.settle(heads, 60, names=names)
            assert await two.settle(heads, 60, names=names)
    finally:
        await other.close()
    stats = await world.rows("storage_stats")
    assert [(row["videos"], row["bytes"]) for row in stats] == [(600, sum(1000 + n for n in range(600)))]
    assert len(await world.rows("timeline")) == 600
    log_file = (world.settings.logs / "video_uploads.log").read_text()
    assert log_file.count("Received video upload") == 600


async def test_positions_are_mirrored_for_redis_cli(world: World) -> None:
    """`XINFO GROUPS` shows the group `projection.catalogue`."""
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(40)
        await applied(runner)
        heads = await world.log.heads()
        key = world.log.keys.log(0)

        async def shown() -> bool:
            groups = await world.log.redis.xinfo_groups(key)
            return any(
                str(group["name"]).strip("b'") == "projection.catalogue"
                and str(group["last-delivered-id"]).strip("b'") == f"{heads[0]}-0"
                for group in groups
            )

        await until(shown, "the mirrored group")

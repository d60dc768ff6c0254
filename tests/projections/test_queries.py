"""What the API and the sources ask of the catalogue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from projections.queries import Catalogue, Filters
from projections.storage_stats import StorageStat, storage
from projections.timeline import history
from streams.errors import DependencyDownError, RejectedError
from streams.paths import OsPath
from tests.projections.conftest import World, applied
from tests.projections.copying import Copied
from tests.projections.happenings import ROOT, SINCE


@pytest.mark.parametrize("sort", ["created", "filename", "size", "duration"])
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_give_every_row_once_in_order(world: World, sort: Any, descending: bool) -> None:
    """Whatever the page size; equal keys are told apart by id."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        for n in range(12):
            video = await world.happenings.upload(n, size=1000 + n // 3, received_at=SINCE + timedelta(seconds=n // 4))
            if n % 2:
                await world.happenings.probed(video)
        await applied(runner)
        whole = (await catalogue.list(sort=sort, descending=descending, limit=100)).videos
        paged: list[Any] = []
        cursor = None
        while True:
            page = await catalogue.list(sort=sort, descending=descending, limit=5, cursor=cursor)
            paged += page.videos
            if (cursor := page.cursor) is None:
                break
    assert paged == whole
    assert len(whole) == 12
    keys = [(row[sort] if row[sort] is not None else -1, row["id"]) for row in whole]
    assert keys == sorted(keys, reverse=descending)


async def test_a_cursor_of_another_list_is_rejected(world: World) -> None:
    """400, and what to do."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        await world.happenings.uploads_many(5)
        await applied(runner)
        page = await catalogue.list(limit=2)
        for sort, cursor in (("size", page.cursor), ("created", "nonsense"), ("created", "W10"), ("created", "\u00e4")):
            with pytest.raises(RejectedError, match="begin again") as told:
                await catalogue.list(sort=sort, cursor=cursor)  # type: ignore[arg-type]
            assert told.value.status == 400


async def test_filters_narrow_the_list(world: World) -> None:
    """Door, state, part of the name (with % and _ taken as they are), size, time, codec."""
    catalogue = Catalogue(world.database, world.log)

    async def names(**filters: Any) -> set[str]:
        return {row["filename"] for row in (await catalogue.list(Filters(**filters))).videos}

    async with world.running("catalogue") as runner:
        await world.happenings.reserve()
        await world.happenings.upload(1, filename="Ferien äöü.mp4", size=10)
        probed = await world.happenings.upload(2, filename="100% sure.mp4", size=20)
        await world.happenings.probed(probed)
        gone = await world.happenings.settle("sub/a_b.mkv", size=30)
        await world.happenings.remove(gone)
        await applied(runner)
        assert await names(door="watch") == {"a_b.mkv"}
        assert await names(state="present") == {"Ferien äöü.mp4", "100% sure.mp4"}
        assert await names(text="FERIEN") == {"Ferien äöü.mp4"}
        assert await names(text="0% s") == {"100% sure.mp4"}
        assert await names(text="a_b") == {"a_b.mkv"}
        assert await names(text="_") == {"a_b.mkv"}
        assert await names(min_size=20) == {"100% sure.mp4", "a_b.mkv"}
        assert await names(max_size=10) == {"Ferien äöü.mp4"}
        assert await names(codec="aac") == {"100% sure.mp4"}
        assert await names(created_before=SINCE + timedelta(seconds=2)) == {"Ferien äöü.mp4"}
        assert await names(created_from=SINCE + timedelta(seconds=2), door="upload") == {"100% sure.mp4"}


async def test_equal_content_is_noticed_and_kept_apart(world: World) -> None:
    """`duplicate_of` names the oldest; nothing is merged."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        for n, sha in ((1, "a"), (2, "b"), (3, "a"), (4, "a")):
            await world.happenings.upload(n, sha256=sha * 64)
        await applied(runner)
        rows = [row async for row in catalogue.files()]
    first = rows[0]["id"]
    assert [row["duplicate_of"] for row in rows] == [None, None, first, first]


async def test_a_file_is_found_by_its_name(world: World) -> None:
    """Uploads win a name, then the oldest; what was removed is not there; names are exact."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        await world.happenings.reserve()
        watched = await world.happenings.settle("sub/x.mp4")
        second = await world.happenings.upload(2, stored_name="x.mp4")
        await world.happenings.upload(3, stored_name="x.mp4")
        await world.happenings.settle("x.mp4")
        odd = await world.happenings.settle("bad\udcff.mp4")
        await applied(runner)

        async def found(name: str, door: str | None = None) -> str | None:
            row = await catalogue.by_filename(name, door=door)
            return row and row["id"]

        assert await found("x.mp4") == second
        assert await found("x.mp4", "watch") == world.happenings.watched[1].id
        assert await found("sub/x.mp4") == watched.id
        assert await found("bad\udcff.mp4") == odd.id
        assert await found("X.mp4") is None
        await world.happenings.remove(watched)
        await applied(runner)
        assert await found("sub/x.mp4") is None


async def test_files_are_streamed_page_by_page(world: World) -> None:
    """More than a page, oldest first, totals alongside."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue", "storage_stats") as runner:
        await world.happenings.uploads_many(1201)
        await applied(runner)
        sizes = [row["size"] async for row in catalogue.files("upload")]
        totals = await catalogue.totals("upload")
    assert sizes == [1000 + n for n in range(1201)]
    assert (totals.count, totals.size) == (1201, sum(sizes))


async def test_the_watcher_learns_what_is_known(world: World) -> None:
    """Present, gone, moved; unsigned inodes; another root is another matter."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("a.mp4")
        gone = await world.happenings.settle("bad\udcff.mp4")
        one.inode = 2**64 - 5
        await world.happenings.move(one, "b.mp4")
        await world.happenings.remove(gone)
        assert await catalogue.caught_up(10)
        await applied(runner)
        known = {file.relative: file for file in await catalogue.known(ROOT)}
        assert set(known) == {"b.mp4", "bad\udcff.mp4"}
        assert (known["b.mp4"].inode, known["b.mp4"].moves, known["b.mp4"].ver) == (2**64 - 5, 1, 2)
        assert (known["bad\udcff.mp4"].present, known["bad\udcff.mp4"].removals) == (False, 1)
        assert await catalogue.known("/srv/video") == []


async def test_the_sums_are_exact(world: World) -> None:
    """Through replacements, removals and returns."""
    async with world.running("storage_stats") as runner:
        await world.happenings.reserve()
        await world.happenings.upload(1, size=5)
        one = await world.happenings.settle("a.mp4", size=100)
        await world.happenings.settle("b.mp4", size=7)
        await world.happenings.replace(one, 40)
        await world.happenings.remove(one)
        await applied(runner)
        assert await storage(world.database) == [
            StorageStat("upload", "present", 1, 5),
            StorageStat("watch", "present", 1, 7),
            StorageStat("watch", "removed", 1, 40),
        ]
        await world.happenings.bring_back(one)
        await applied(runner)
        assert await storage(world.database) == [
            StorageStat("upload", "present", 1, 5),
            StorageStat("watch", "present", 2, 47),
        ]


async def test_what_was_offloaded_is_counted_by_itself(world: World) -> None:
    """It lies there no more, and is not gone: no list, no sum of what lies there, until it is back."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue", "storage_stats") as runner:
        one = Copied(await world.happenings.upload(1, size=5))
        await world.happenings.upload(2, size=7)
        await world.happenings.copying.offload(one)
        await applied(runner)
        found = await catalogue.get(one.id)
        assert found is not None
        assert found["state"] == "offloaded"
        assert [row["id"] async for row in catalogue.files()] == [world.happenings.uploads[1]]
        assert await catalogue.by_filename(found["stored_name"]) is None
        assert (await catalogue.totals()).size == 7
        assert await storage(world.database) == [
            StorageStat("upload", "offloaded", 1, 5),
            StorageStat("upload", "present", 1, 7),
        ]
        assert [row["id"] for row in (await catalogue.list(Filters(state="offloaded"))).videos] == [one.id]
        await world.happenings.copying.restore(one)
        await applied(runner)
        assert await storage(world.database) == [StorageStat("upload", "present", 2, 12)]
        assert (await catalogue.totals()).count == 2


async def test_a_watcher_that_misses_an_offloaded_file_says_nothing_new(world: World) -> None:
    """It stays offloaded; a file that is there again is present."""
    catalogue = Catalogue(world.database, world.log)

    async def states() -> tuple[str, list[StorageStat]]:
        row = await catalogue.get(one.id)
        assert row is not None
        return row["state"], await storage(world.database)

    async with world.running("catalogue", "storage_stats") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("a.mp4", size=9)
        await world.happenings.copying.offload(Copied(one.id))
        await world.happenings.remove(one)
        await applied(runner)
        assert await states() == ("offloaded", [StorageStat("watch", "offloaded", 1, 9)])
        await world.happenings.bring_back(one)
        await applied(runner)
        assert await states() == ("present", [StorageStat("watch", "present", 1, 9)])


async def test_the_content_of_watched_files_is_known_once_they_are_copied(world: World) -> None:
    """And equal content is noticed then; of replaced content nothing is known until it is copied, too."""
    catalogue = Catalogue(world.database, world.log)
    copying = world.happenings.copying

    async def read(video: str) -> tuple[str | None, str | None]:
        row = await catalogue.get(video)
        assert row is not None
        return row["sha256"], row["duplicate_of"]

    async with world.running("catalogue") as runner:
        await world.happenings.reserve()
        upload = await world.happenings.upload(1, sha256="a" * 64)
        one = await world.happenings.settle("a.mp4")
        await copying.replicate(Copied(one.id), "a" * 64)
        await copying.replicate(Copied(upload), "b" * 64)
        await applied(runner)
        assert await read(one.id) == ("a" * 64, upload)
        assert await read(upload) == ("a" * 64, None)
        await world.happenings.replace(one, 77)
        await copying.complete(Copied(one.id), "a" * 64)
        await applied(runner)
        assert await read(one.id) == (None, None)
        await copying.replicate(Copied(one.id, revision=2), "e" * 64)
        await applied(runner)
        assert await read(one.id) == ("e" * 64, None)


async def test_a_processor_that_gave_up_is_noted_until_it_succeeds(world: World) -> None:
    """Each by itself."""
    catalogue = Catalogue(world.database, world.log)
    one = Copied(await world.happenings.upload(1))
    copying = world.happenings.copying

    async def parked() -> str | None:
        await applied(runner)
        row = await catalogue.get(one.id)
        assert row is not None
        return row["parked"]

    async with world.running("catalogue") as runner:
        await copying.park(one, "probe", "it hangs\nand hangs")
        await copying.park(one, "replicate")
        await copying.park(one, "drive", "no quota")
        assert await parked() == "probe: it hangs and hangs\nreplicate: 403 Forbidden\ndrive: no quota"
        await copying.park(one, "replicate", "404")
        await world.happenings.probed(one.id)
        assert await parked() == "drive: no quota\nreplicate: 404"
        await copying.drive(one)
        assert await parked() == "replicate: 404"
        await copying.replicate(one)
        assert await parked() is None


async def test_a_history_reads_like_one(world: World) -> None:
    """Every event of a video, in order, in words, with its data."""
    async with world.running("timeline") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("bad\udcff.mp4", size=3 * 2**20)
        await world.happenings.probed(one.id)
        await world.happenings.move(one, "good.mp4")
        await world.happenings.remove(one)
        await applied(runner)
        told = await history(world.database, one.id)
        assert [row["ver"] for row in told] == [1, 2, 3, 4]
        assert [row["type"] for row in told] == ["FileSettled", "VideoProbed", "FileMoved", "FileRemoved"]
        assert told[0]["summary"] == "Complete: bad\\xff.mp4 (3.00 MB), number 1"
        assert told[0]["data"]["relative"] == "bad\\xff.mp4"
        assert told[2]["summary"] == "Moved from bad\\xff.mp4 to good.mp4"
        assert [row["ver"] for row in await history(world.database, one.id, after=1, limit=2)] == [2, 3]
    events = await world.log.history(one.id)
    assert [row["time"] for row in told] == [event.time for event in events]


async def test_new_content_forgets_what_was_read_of_the_old(world: World) -> None:
    """Revision 2 has no duration until it is probed; a late answer about revision 1 changes nothing."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("catalogue") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("a.mp4")
        await world.happenings.probed(one.id)
        await world.happenings.replace(one, 99)
        await world.happenings.probed(one.id, revision=1)
        await applied(runner)
        row = await catalogue.get(one.id)
        assert row is not None
        assert (row["revision"], row["duration"], row["video_codec"], row["size"]) == (2, None, None, 99)
        await world.happenings.probed(one.id, revision=2)
        await applied(runner)
        row = await catalogue.get(one.id)
        assert row is not None
        assert row["video_codec"] == "h264"


async def test_before_any_worker_has_started_a_query_says_so(world: World) -> None:
    """The tables are not made yet."""
    with pytest.raises(DependencyDownError, match="worker"):
        await Catalogue(world.database, world.log).get("x")
    assert not await Catalogue(world.database, world.log).caught_up(0.1)


async def test_an_impossible_mtime_does_not_stop_anything(world: World) -> None:
    """A file may claim the year 30000."""
    from streams.entries import new_event
    from streams.events import FileSettled

    event = FileSettled(
        root=ROOT, relative=OsPath("a.mp4"), number=1, revision=1, size=1, modified_ns=2**63 - 1, device=1, inode=1
    )  # fmt: skip
    async with world.running("catalogue") as runner:
        await world.log.append(new_event("11111111-0000-4000-8000-000000000000", event, source="watch"))
        await applied(runner)
    (row,) = await world.rows("catalogue")
    assert row["modified_ns"] == 2**63 - 1

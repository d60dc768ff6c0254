"""Little room on a disk: said once for each change, and nothing is taken in before it is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from processors.diskspace import DiskReports, Disks
from processors.media.probing import open_prober
from processors.storage.disk import Marks, require_space, space
from processors.uploads import UploadDoor
from streams.errors import RejectedError
from streams.events import DiskSpaceLow, DiskSpaceRecovered
from streams.identity import DISK
from streams.log import Log, open_log
from streams.settings import Settings
from tests.processors.test_uploads import left_in, send
from tests.processors.watched import Watched

MIB = 2**20
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(make_settings: MakeSettings, tmpfs: Path) -> Settings:
    """Uploads on a disk of 8 MiB, warnings below 4 and an end below 2; data elsewhere, with room enough."""
    return make_settings(partitions=2, upload_dir=tmpfs / "uploads", disk_low=4 * MIB, disk_hard=2 * MIB)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log."""
    async with open_log(settings, redis_url) as opened:
        yield opened


def leave(tmpfs: Path, free: float) -> None:
    """Fill the disk until only so many MiB are free."""
    filler = tmpfs / "filler"
    filler.write_bytes(b"")
    filler.write_bytes(bytes(space(tmpfs).free - int(free * MIB)))


async def levels(disks: Disks, tmpfs: Path, free: float) -> list[str]:
    """The levels of the disks that are not well, with so much room."""
    leave(tmpfs, free)
    await disks.look()
    return [disk.level for disk in disks.disks if disk.level != "ok"]


def test_default_marks_bow_to_small_disks_and_told_ones_do_not(make_settings: MakeSettings) -> None:
    """A disk of 8 MiB has always less than 5 GiB free."""
    default = Marks.of(make_settings())
    assert default.on(1000 * 2**30) == (5 * 2**30, 2**29)
    assert default.on(8 * MIB) == (8 * MIB // 10, 8 * MIB // 50)
    told = Marks.of(make_settings(disk_low=6 * MIB, disk_hard=4 * MIB))
    assert told.on(8 * MIB) == (6 * MIB, 4 * MIB)
    assert Marks.of(make_settings(disk_low=0)).on(8 * MIB) == (0, 0)


def test_what_leaves_too_little_is_refused_in_words(tmpfs: Path, settings: Settings) -> None:
    """By what would be left."""
    marks = Marks.of(settings)
    require_space(tmpfs, 5 * MIB, marks)
    require_space(tmpfs / "not" / "there" / "yet", 5 * MIB, marks)
    with pytest.raises(RejectedError, match=r"nearly full: 8.00 MB are free .* 2.00 MB are kept free") as caught:
        require_space(tmpfs, 7 * MIB, marks)
    assert caught.value.status == 507
    with pytest.raises(RejectedError, match="The disk is full"):
        require_space(tmpfs, 9 * MIB, marks)


async def test_each_change_is_said_once(settings: Settings, tmpfs: Path) -> None:
    """A mark that was passed is left behind only with some leeway."""
    disks = Disks(settings)
    with capture_logs() as told:
        assert await levels(disks, tmpfs, 5) == []
        assert await levels(disks, tmpfs, 3.9) == ["low"]
        assert await levels(disks, tmpfs, 4.2) == ["low"], "not yet: it may be a file that comes and goes"
        assert await levels(disks, tmpfs, 1.9) == ["hard"]
        assert await levels(disks, tmpfs, 2.1) == ["hard"]
        assert await levels(disks, tmpfs, 2.5) == ["low"]
        assert await levels(disks, tmpfs, 4.5) == []
    assert [one["event"] for one in told] == [
        "disk space is low",
        "disk is full",
        "disk space is low",
        "disk has room again",
    ]


async def test_each_change_is_an_event(settings: Settings, log: Log, tmpfs: Path) -> None:
    """Whoever reports, and however often; a new reporter knows what the one before had said."""
    disks = Disks(settings)
    reports = DiskReports(log, disks)
    for free in (5, 3.9, 3.8, 1.9, 1.8):
        await levels(disks, tmpfs, free)
        await reports.report()
    other = Disks(settings)
    takes_over = DiskReports(log, other)
    await levels(other, tmpfs, 2.1)  # within the leeway of what it had not seen
    assert await takes_over.report() == 0
    await levels(other, tmpfs, 6)
    assert await takes_over.report() == 1
    assert await takes_over.report() == 0
    await levels(disks, tmpfs, 6)
    assert await reports.report() == 0, "another one said it: it looks again"
    assert await reports.report() == 0
    folder = str(settings.uploads)
    history = [one.event for one in await log.history(DISK)]
    assert [
        (type(one), one.mark if isinstance(one, DiskSpaceLow) else None, one.path, one.warning) for one in history
    ] == [
        (DiskSpaceLow, "low", folder, 1),
        (DiskSpaceLow, "hard", folder, 2),
        (DiskSpaceRecovered, None, folder, 3),
    ]
    assert isinstance(history[1], DiskSpaceLow)
    assert (history[1].limit, history[1].free < 2 * MIB) == (2 * MIB, True)


async def test_what_a_person_reads(settings: Settings, tmpfs: Path) -> None:
    """A warning first, then a problem, which pauses watching."""
    disks = Disks(settings)
    await levels(disks, tmpfs, 3)
    assert (len(disks.warnings()), disks.problems(), disks.full()) == (1, [], None)
    assert "3.00 MB are free in" in disks.warnings()[0]
    await levels(disks, tmpfs, 1)
    assert disks.warnings() == []
    assert disks.full() == disks.problems()[0]
    assert "uploads are refused and watching pauses" in disks.problems()[0]


async def test_uploads_are_refused_below_the_hard_mark(
    settings: Settings, log: Log, tmpfs: Path, sample_videos: list[Path]
) -> None:
    """At once where it is announced; in the middle where it is not, or where others fill the disk meanwhile."""
    clip = sample_videos[1].read_bytes()
    async with open_prober(timeout=30, children=1) as prober:
        door = UploadDoor(log, settings, prober)
        for data, announced in ((clip, 7 * MIB), (clip + bytes(13 * MIB), None)):
            with pytest.raises(RejectedError) as caught:
                await send(door, data, expected_size=announced)
            assert caught.value.status == 507
        leave(tmpfs, 1.9)
        with pytest.raises(RejectedError, match="SPOOLHOUSE_DISK_HARD") as caught:
            await send(door, clip)
        assert caught.value.status == 507
        assert left_in(settings.uploads) == left_in(settings.sidecars) == []
        leave(tmpfs, 5)
        assert (await send(door, clip)).logged


async def test_watching_pauses_below_the_hard_mark(settings: Settings, log: Log, tmpfs: Path, tmp_path: Path) -> None:
    """What came meanwhile is taken in once there is room again."""
    root = tmp_path / "inbox"
    root.mkdir()
    disks = Disks(settings)
    watched = Watched(log, settings, root, paused=disks.full)
    await watched.reserve()
    async with watched.running():
        (root / "before.mp4").write_bytes(b"before")
        await watched.becomes("before.mp4")
        assert await levels(disks, tmpfs, 1) == ["hard"]
        with capture_logs() as told:
            (root / "meanwhile.mp4").write_bytes(b"meanwhile")
            async with asyncio.timeout(15):
                while not any(one["event"].startswith("watching pauses") for one in told):
                    await asyncio.sleep(0.02)
            assert await watched.present() == {"before.mp4"}
        await levels(disks, tmpfs, 6)
        await watched.becomes("before.mp4", "meanwhile.mp4")

"""The log files that people grep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from projections.activity_log import KEPT_DAYS
from streams.entries import NewEvent, new_event
from streams.events import DiskSpaceLow, DiskSpaceRecovered
from streams.identity import DISK
from streams.paths import OsPath
from streams.settings import Settings
from tests.projections.conftest import World, applied, until, world_at
from tests.projections.copying import PATH, Copied

pytestmark = pytest.mark.usefixtures("local_time")


async def test_an_upload_has_the_lines_of_the_contract(world: World) -> None:
    """In local time, by the event's time; adopted uploads and other doors have none."""
    async with world.running("activity_log") as runner:
        video = await world.happenings.upload(1, size=16252928, filename="Tutorial_video.mp4")
        await world.happenings.upload(2, adopted=True)
        await world.happenings.upload(3, door="download")
        await applied(runner)
    (event,) = await world.log.history(video)
    at = event.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert (world.settings.logs / "video_uploads.log").read_text() == (
        f"{at} - INFO - Received video upload: Tutorial_video.mp4 (15.50 MB, video/mp4)\n"
        f"{at} - INFO - Video saved locally: 20241112_143052_clip_1.mp4 (16252928 bytes)\n".replace(
            "clip_1", "Ferien äöü_1"
        )
    )


async def said(world: World) -> list[str]:
    """The lines, without their times."""
    return [line[22:] for line in (world.settings.logs / "video_uploads.log").read_text().splitlines()]


async def test_the_way_to_drive_has_the_lines_of_the_contract(world: World) -> None:
    """To the letter; resumes, sessions and chunks have none; other doors have none."""
    one = Copied(await world.happenings.upload(1, adopted=True), name="Tutorial_video.mp4")
    async with world.running("activity_log") as runner:
        await world.happenings.copying.drive(one)
        await world.happenings.copying.drive(Copied("11111111-0000-4000-8000-000000000001", door="watch"))
        await world.happenings.copying.drive_fail(Copied("11111111-0000-4000-8000-000000000002", door="download"))
        await applied(runner)
        assert await said(world) == [
            "INFO - Starting Drive upload for: Tutorial_video.mp4",
            f"INFO - Drive upload successful: Tutorial_video.mp4 (ID: {one.file_id})",
            f"INFO - Permissions set for: Tutorial_video.mp4 (ID: {one.file_id})",
            f"INFO - ✓ Complete upload success: Tutorial_video.mp4 (Drive ID: {one.file_id}, Local: {PATH})",
        ]


@pytest.mark.parametrize("begun", [True, False])
async def test_a_failed_way_to_drive_is_told_once_for_an_episode(world: World, begun: bool) -> None:
    """As people count it; where it failed before anything was begun, the start is told with it."""
    one = Copied(await world.happenings.upload(1, adopted=True), name="lesson.mp4")
    copying = world.happenings.copying
    async with world.running("activity_log") as runner:
        if begun:
            await copying.drive_begin(one)
        await copying.drive_fail(one, "Could not initialize Drive service", begun=begun)
        for _ in range(3):
            await copying.attempt_failed(one, "drive")
        await applied(runner)
    assert await said(world) == [
        "INFO - Starting Drive upload for: lesson.mp4",
        "ERROR - Drive upload failed for lesson.mp4: Could not initialize Drive service",
        f"INFO - Video backup available at: {PATH}",
        f"WARNING - Drive upload failed but video is saved locally: {PATH}",
    ]


async def test_another_file_in_drive_is_another_start(world: World) -> None:
    """What arrived differed: every byte is sent again. An expired session is not another start."""
    one = Copied(await world.happenings.upload(1, adopted=True))
    copying = world.happenings.copying
    async with world.running("activity_log") as runner:
        await copying.drive_begin(one)
        await copying.drive_session(one)
        one.files = 2
        await copying.drive(one)
        await applied(runner)
    assert [line for line in await said(world) if "Starting" in line] == [
        "INFO - Starting Drive upload for: clip.mp4"
    ] * 2  # fmt: skip


async def test_disks_that_fill_up_are_warned_about(world: World) -> None:
    """And said to have room again."""
    async with world.running("activity_log") as runner:
        for event in (
            DiskSpaceLow(path=OsPath("/data"), free=3 * 2**29, limit=5 * 2**30, mark="low", warning=1),
            DiskSpaceLow(path=OsPath("/data"), free=2**28, limit=2**29, mark="hard", warning=2),
            DiskSpaceRecovered(path=OsPath("/data"), free=2**33, warning=3),
        ):
            await world.happenings.say(DISK, event)
        await applied(runner)
    assert await said(world) == [
        "WARNING - Disk space low: 1.50 GB free at /data, less than 5.00 GB: make room soon",
        "WARNING - Disk space low: 0.25 GB free at /data, less than 0.50 GB: uploads are refused and watching pauses",
        "INFO - Disk space is enough again: 8.00 GB free at /data",
    ]


async def test_watched_files_have_a_file_a_day(
    make_settings: Callable[..., Settings], redis_url: str, sqlite_url: str, rng: Any, tmp_path: Any
) -> None:
    """`DD-MM-YYYY_vfs_tusker_notifier_videos.log` in LOG_BASE_DIRECTORY, 30 days kept."""
    folder = tmp_path / "notifier"
    folder.mkdir()
    today = datetime.now().astimezone()
    old = folder / f"{today - timedelta(days=KEPT_DAYS + 1):%d-%m-%Y}_vfs_tusker_notifier_videos.log"
    kept = folder / f"{today - timedelta(days=2):%d-%m-%Y}_vfs_tusker_notifier_videos.log"
    stranger = folder / "99-99-2020_vfs_tusker_notifier_videos.log"
    for path in (old, kept, stranger):
        path.write_text("before\n")
    settings = make_settings(catalogue_url=sqlite_url, partitions=4, notifier_log_dir=folder)
    async with world_at(settings, redis_url, rng) as world, world.running("activity_log") as runner:
        await world.happenings.reserve()
        one = await world.happenings.settle("a\nb.mp4")
        await world.happenings.remove(one)
        await applied(runner)
        (event, _) = await world.log.history(one.id)
    name = f"{event.time.astimezone():%d-%m-%Y}_vfs_tusker_notifier_videos.log"
    lines = (folder / name).read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" - INFO - New video: /srv/videos/a\\nb.mp4 (4096 bytes, id 1)")
    assert not old.exists()
    assert kept.read_text() == stranger.read_text() == "before\n"


async def test_what_was_never_committed_is_cut(world: World) -> None:
    """Lines behind the committed length are removed at start."""
    path = world.settings.logs / "video_uploads.log"
    async with world.running("activity_log") as runner:
        await world.happenings.upload(1)
        await applied(runner)
    before = path.read_text()
    with path.open("a") as file:
        file.write("2024-01-01 00:00:00 - INFO - half a li")
    async with world.running("activity_log") as runner:
        await world.happenings.upload(2)
        await applied(runner)
    assert path.read_text().startswith(before)
    assert "half a li" not in path.read_text()
    assert path.read_text().count("\n") == 4


async def test_a_rotated_file_is_taken_as_it_is(world: World) -> None:
    """Someone moved it away: the lines go on in a new one."""
    path = world.settings.logs / "video_uploads.log"
    async with world.running("activity_log") as runner:
        await world.happenings.upload(1)
        await applied(runner)
        path.rename(path.with_suffix(".1"))
        await world.happenings.upload(2)
        await applied(runner)
    assert path.read_text().count("Received") == 1
    assert path.with_suffix(".1").read_text().count("Received") == 1


async def test_a_rebuilt_file_is_sorted_by_time(world: World) -> None:
    """Order across partitions is that of arrival; a rebuild sorts."""
    events: list[NewEvent] = []
    for n in range(40):
        subject, event = world.happenings.stored(n)
        new = new_event(subject, event, source="upload")
        at = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=(n * 7) % 40)
        events.append(NewEvent(new.subject, new.event, new.id, new.source, time=at))
    path = world.settings.logs / "video_uploads.log"
    async with world.running("activity_log") as runner:
        await applied(runner)
        await world.log.append_all(events)
        await applied(runner)
        live = path.read_text().splitlines()
        await runner.rebuild()
        await until(lambda: not list(path.parent.glob("*__next")), "the swap of the files")
        rebuilt = path.read_text().splitlines()
        assert sorted(live) == sorted(rebuilt)
        times = [line[:19] for line in rebuilt]
        # In one partition the log's order stands, whatever the clock said.
        assert times != [line[:19] for line in live] or times == sorted(times)
        await world.happenings.upload(100)
        await applied(runner)
    assert path.read_text().splitlines()[:80] == rebuilt
    assert path.read_text().count("Received") == 41

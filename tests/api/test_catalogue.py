"""The catalogue of every door over HTTP: filters, order, pages, one video, its history."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

from streams.events import Event, FileSettled, VideoProbed
from streams.identity import watched_video_id
from streams.log import new_event
from streams.paths import OsPath
from tests.api.running import Api
from tests.projections.copying import Copied, Copying


async def say(api: Api, subject: str, event: Event, source: str) -> None:
    """Append what a processor would."""
    await api.services.log.append(new_event(subject, event, source=source))


async def watched(api: Api, relative: str, number: int, *, size: int = 5000) -> str:
    """A watched file that has settled, as a watcher says it."""
    video = watched_video_id("/films", relative)
    settled = FileSettled(
        root=OsPath("/films"),
        relative=OsPath(relative),
        number=number,
        revision=1,
        size=size,
        modified_ns=1_700_000_000_000_000_000,
        device=1,
        inode=number,
    )
    await api.services.log.append(new_event(video, settled, source="watch"))
    return video


async def probed(api: Api, video: str, duration: float) -> None:
    """What the probe says."""
    event = VideoProbed(
        revision=1,
        container="mov,mp4",
        duration=duration,
        width=1920,
        height=1080,
        video_codec="h264",
        audio_codec="aac",
        frame_rate=25.0,
        bit_rate=1000,
        size=5000,
    )
    await api.services.log.append(new_event(video, event, source="probe"))


async def test_every_door_is_in_the_catalogue_and_can_be_told_apart(every_api: Api, clip: Path) -> None:
    """Newest first; narrowed by door, text, size, codec."""
    api = every_api
    uploaded = (await api.upload(clip, "Lesson one.mp4")).body["id"]
    first = await watched(api, "holiday/beach.mkv", 1, size=10)
    second = await watched(api, "holiday/HILLS.mov", 2, size=20_000_000)
    await probed(api, second, 61.5)
    await api.settled()

    async def ids(query: str) -> list[str]:
        answer = await api.get(f"/api/videos?{query}")
        assert answer.status == 200, answer
        return [video["id"] for video in answer.body["videos"]]

    assert set(await ids("")) == {uploaded, first, second}
    assert await ids("door=upload") == [uploaded]
    assert set(await ids("door=watch")) == {first, second}
    assert await ids("q=hills") == [second]
    assert await ids("q=LESSON") == [uploaded]
    assert await ids("min_size=1000000") == [second]
    assert await ids("max_size=10") == [first]
    assert await ids("codec=h264") == [second]
    assert await ids("sort=size&order=asc") == [first, uploaded, second]
    assert (await ids("sort=duration"))[0] == second
    assert await ids("from=2999-01-01") == []
    assert set(await ids("from=2020-01-01T00:00:00&before=2999-01-01")) == {uploaded, first, second}

    shown = (await api.get(f"/api/videos/{second}")).body
    assert (shown["success"], shown["filename"], shown["relative"]) == (True, "HILLS.mov", "holiday/HILLS.mov")
    assert (shown["duration"], shown["width"], shown["video_codec"]) == (61.5, 1920, "h264")


async def test_pages_are_stable_while_more_comes_in(api: Api) -> None:
    """Every video once, in order, though others arrive between the pages."""
    old = {await watched(api, f"{number:02}.mp4", number) for number in range(1, 26)}
    await api.settled()
    seen: list[str] = []
    cursor, number = "", 100
    while True:
        page = (await api.get(f"/api/videos?limit=4&sort=filename&order=asc{cursor}")).body
        seen += [video["id"] for video in page["videos"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        await watched(api, f"00-{number}.mp4", number)
        number += 1
        await api.settled()
    assert len(seen) == len(set(seen))
    assert old <= set(seen)
    wrong = await api.get(f"/api/videos?sort=size{cursor}")
    assert wrong.status == 400


async def test_watched_files_are_listed_by_their_path(api: Api, clip: Path) -> None:
    """`?door=`: `filename` is the path below the root; uploads win a name."""
    name = Path((await api.upload(clip, "a.mp4")).body["local_backup"]).name
    await watched(api, "deep/er/b c.mp4", 1)
    await watched(api, name, 2)
    await api.settled()
    listed = (await api.get("/api/videos/list?door=watch")).body
    assert [video["filename"] for video in listed["videos"]] == ["deep/er/b c.mp4", name]
    assert (await api.get("/api/videos/list?door=all")).body["count"] == 3
    assert (await api.get("/api/videos/list")).body["count"] == 1
    assert (await api.get("/api/videos/storage-stats?door=all")).body["video_count"] == 3
    assert (await api.get("/api/video-info/deep/er/b%20c.mp4?door=watch")).body["size_bytes"] == 5000
    assert (await api.get("/api/video-info/deep/er/b%20c.mp4")).status == 404
    assert (await api.get(f"/api/video-info/{name}?door=all")).body["size_bytes"] == clip.stat().st_size


async def test_a_name_that_is_not_utf8_is_shown_escaped_and_found_so(api: Api) -> None:
    """What the list shows can be asked for."""
    await watched(api, b"caf\xe9\\1.mp4".decode("utf-8", "surrogateescape"), 1)
    await api.settled()
    (shown,) = (await api.get("/api/videos/list?door=watch")).body["videos"]
    assert shown["filename"] == "caf\\xe9\\\\1.mp4"
    answer = await api.session.get(f"{api.url}/api/video-info/", params={"door": "watch"})
    assert answer.status == 404
    found = await api.get("/api/video-info/caf%5Cxe9%5C%5C1.mp4?door=watch")
    assert found.body["filename"] == shown["filename"]


async def test_the_whole_history_in_words(every_api: Api) -> None:
    """Every event in order, for people and for programs."""
    api = every_api
    video = await watched(api, "clip.mp4", 7)
    await probed(api, video, 12.0)
    await api.settled()
    body = (await api.get(f"/api/videos/{video}/events")).body
    assert (body["success"], body["id"], body["count"]) == (True, video, 2)
    settled, probe = body["events"]
    assert (settled["ver"], settled["type"], settled["source"]) == (1, "FileSettled", "watch")
    assert "clip.mp4" in settled["what"]
    assert settled["data"]["number"] == 7
    assert (probe["ver"], probe["type"]) == (2, "VideoProbed")
    assert "1920" in probe["what"]
    assert (await api.get(f"/api/videos/{video}/events?after=1")).body["count"] == 1


async def test_a_long_list_is_streamed_whole(api: Api) -> None:
    """More than one page of rows and one piece of an answer."""
    news = []
    for number in range(1, 1801):
        video = watched_video_id("/films", f"{number}.mp4")
        settled = FileSettled(
            root=OsPath("/films"),
            relative=OsPath(f"{number}.mp4"),
            number=number,
            revision=1,
            size=number,
            modified_ns=1,
            device=1,
            inode=number,
        )
        news.append(new_event(video, settled, source="watch"))
    await api.services.log.append_all(news)
    await api.settled()
    answer = await api.get("/api/videos/list?door=watch")
    assert answer.headers.get("Transfer-Encoding") == "chunked"
    assert answer.body["count"] == len(answer.body["videos"]) == 1800
    assert len({video["filename"] for video in answer.body["videos"]}) == 1800
    assert answer.body["total_size_mb"] == round(sum(range(1, 1801)) / 2**20, 2)


async def test_copies_are_shown_with_each_video(every_api: Api, clip: Path) -> None:
    """How far they are and where they lie; what is not copied yet can be asked for."""
    api = every_api
    copying = Copying(lambda *happened: say(api, *happened), random.Random(1))
    done = Copied((await api.upload(clip, "one.mp4")).body["id"], name="one.mp4")
    under_way = Copied((await api.upload(clip, "two.mp4")).body["id"])
    await api.upload(clip, "three.mp4")
    await copying.replicate(done)
    await copying.verify(done, "s3")
    await copying.drive(done)
    await copying.begin(under_way)
    await copying.chunks(under_way, 0, 1)
    await api.settled()

    shown = (await api.get(f"/api/videos/{done.id}")).body
    s3, drive = shown["replicas"]
    assert (s3["replica"], s3["state"], s3["progress"], s3["target"]) == ("s3", "complete", 100, done.stream)
    assert datetime.fromisoformat(s3["verified"]).tzinfo is None
    assert (drive["replica"], drive["verified"]) == ("drive", None)
    assert drive["link"] == f"https://drive.google.com/file/d/{done.file_id}/view"

    lacking = (await api.get("/api/videos?replica=s3&copied=no&sort=filename&order=asc")).body["videos"]
    assert [video["filename"] for video in lacking] == ["three.mp4", "two.mp4"]
    assert [(copy["state"], copy["progress"]) for copy in lacking[1]["replicas"]] == [("started", 57)]
    copied = (await api.get("/api/videos?replica=drive&copied=yes")).body
    assert [video["id"] for video in copied["videos"]] == [done.id]
    answer = await api.get("/api/videos?replica=tape")
    assert (answer.status, answer.body["success"]) == (400, False)

    events = (await api.get(f"/api/videos/{done.id}/events")).body["events"]
    assert [(one["type"], one["events"]) for one in events if one["type"] == "ChunkUploaded"] == [("ChunkUploaded", 4)]
    assert "secret" not in str(events)


async def test_what_was_offloaded_lies_there_no_more(every_api: Api, clip: Path) -> None:
    """Lists, sums and information cover what lies there; the catalogue of every door still has it."""
    api = every_api
    copying = Copying(lambda *happened: say(api, *happened), random.Random(1))
    one = Copied((await api.upload(clip, "one.mp4")).body["id"])
    kept = (await api.upload(clip, "two.mp4")).body
    await copying.offload(one)
    await api.settled()
    listed = (await api.get("/api/videos/list")).body
    assert [Path(kept["local_backup"]).name] == [video["filename"] for video in listed["videos"]]
    assert (await api.get("/api/videos/storage-stats")).body["video_count"] == 1
    shown = (await api.get(f"/api/videos/{one.id}")).body
    assert (shown["state"], shown["present"]) == ("offloaded", False)
    assert (await api.get(f"/api/video-info/{shown['stored_name']}")).status == 404
    offloaded = (await api.get("/api/videos?state=offloaded")).body["videos"]
    assert [video["id"] for video in offloaded] == [one.id]

"""The upload service's API, to the letter."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.api.running import Api


async def test_an_upload_is_answered_as_ever(every_api: Api, clip: Path) -> None:
    """200, and all the keys that scripts read; the file lies there whole under its dated name."""
    answer = await every_api.upload(clip, "video.mp4", "Tutorial")
    assert answer.status == 200, answer
    body = answer.body
    assert list(body)[:6] == ["success", "video_id", "drive_link", "filename", "local_backup", "file_size_mb"]
    stored = Path(body["local_backup"])
    assert body["success"] is True
    assert body["video_id"] == body["id"]
    assert body["drive_link"] is None
    assert body["filename"] == "Tutorial_video.mp4"
    assert body["file_size_mb"] == round(clip.stat().st_size / 2**20, 2)
    assert re.fullmatch(r"\d{8}_\d{6}_Tutorial_video\.mp4", stored.name)
    assert stored.parent == every_api.settings.uploads
    assert stored.read_bytes() == clip.read_bytes()


async def test_without_a_content_type_the_name_has_no_label(api: Api, clip: Path) -> None:
    """`20241112_143513_lesson.mp4`."""
    answer = await api.upload(clip, "lesson.mp4")
    assert re.fullmatch(r"\d{8}_\d{6}_lesson\.mp4", Path(answer.body["local_backup"]).name)
    assert answer.body["filename"] == "lesson.mp4"


async def test_the_content_type_may_come_after_the_file(api: Api, clip: Path) -> None:
    """Forms put their fields in any order."""
    answer = await api.upload(clip, "video.mp4", "Tutorial", label_first=False)
    assert answer.body["filename"] == "Tutorial_video.mp4"


async def test_two_of_one_name_in_one_second_are_both_kept(api: Api, clip: Path) -> None:
    """Neither overwrites the other."""
    names = [Path((await api.upload(clip, "a.mp4")).body["local_backup"]) for _ in range(6)]
    assert len(set(names)) == 6
    assert all(name.read_bytes() == clip.read_bytes() for name in names)


async def test_list_stats_and_info(every_api: Api, clip: Path) -> None:
    """What was uploaded is told in three ways, with the sizes and dates of the contract."""
    api, size = every_api, clip.stat().st_size
    first = Path((await api.upload(clip, "one.mp4", "A")).body["local_backup"]).name
    second = Path((await api.upload(clip, "two.mp4")).body["local_backup"]).name
    await api.settled()

    listed = (await api.get("/api/videos/list")).body
    assert list(listed) == ["success", "videos", "count", "total_size_mb"]
    assert (listed["success"], listed["count"]) == (True, 2)
    assert listed["total_size_mb"] == round(2 * size / 2**20, 2)
    assert [video["filename"] for video in listed["videos"]] == [first, second]
    shown = listed["videos"][0]
    assert list(shown) == ["filename", "size_bytes", "size_mb", "created", "modified"]
    assert (shown["size_bytes"], shown["size_mb"]) == (size, round(size / 2**20, 2))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", shown["created"])
    # The date in the name and the one in the list are the same local time.
    assert shown["created"].replace("-", "").replace(":", "").replace("T", "_") == first[:15]

    stats = (await api.get("/api/videos/storage-stats")).body
    assert stats == {
        "success": True,
        "video_count": 2,
        "total_size_bytes": 2 * size,
        "total_size_mb": round(2 * size / 2**20, 2),
        "total_size_gb": round(2 * size / 2**30, 2),
        "storage_path": str(api.settings.uploads),
    }

    info = (await api.get(f"/api/video-info/{second}")).body
    assert list(info)[:6] == ["success", "filename", "size_bytes", "size_mb", "created", "modified"]
    assert (info["filename"], info["size_bytes"]) == (second, size)

    missing = await api.get("/api/video-info/nothing.mp4")
    assert (missing.status, missing.body["success"]) == (404, False)
    assert "nothing.mp4" in missing.body["error"]


async def test_equal_content_is_noticed_and_kept(api: Api, clip: Path) -> None:
    """`duplicate_of` names the first; both stay in the list."""
    first = (await api.upload(clip, "one.mp4")).body["id"]
    await api.upload(clip, "two.mp4")
    await api.settled()
    videos = (await api.get("/api/videos/list")).body["videos"]
    assert "duplicate_of" not in videos[0]
    assert videos[1]["duplicate_of"] == first


async def test_a_list_comes_in_pages_where_asked(api: Api, clip: Path) -> None:
    """`limit` and `cursor`; the pages together are the whole."""
    for number in range(5):
        await api.upload(clip, f"{number}.mp4")
    await api.settled()
    everything = [video["filename"] for video in (await api.get("/api/videos/list")).body["videos"]]
    paged: list[str] = []
    cursor = ""
    while True:
        page = (await api.get(f"/api/videos/list?limit=2{cursor}")).body
        paged += [video["filename"] for video in page["videos"]]
        assert page["count"] == len(page["videos"])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert paged == everything
    assert len(paged) == 5


async def test_the_storage_folder_is_never_served(api: Api, clip: Path) -> None:
    """No path leads into it."""
    name = Path((await api.upload(clip)).body["local_backup"]).name
    for path in (f"/uploaded_videos/{name}", f"/static/../data/uploaded_videos/{name}", f"/static/{name}"):
        async with api.session.get(URL(api.url + path, encoded=True)) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../etc/passwd.mp4", "passwd.mp4"),
        ("..\\..\\boot.mp4", "boot.mp4"),
        ("...mp4", "video.mp4"),
        ("größe 日本.mp4", "größe 日本.mp4"),
        ("x" * 300 + ".mp4", None),
        ("....", "video"),
        ("a\tb.mp4", "ab.mp4"),
    ],
)
async def test_names_are_made_safe(api: Api, clip: Path, name: str, stored: str | None) -> None:
    """Separators, control characters, dots and length: what is stored is one safe name, the bytes whole."""
    answer = await api.upload(clip, name)
    assert answer.status == 200, answer
    place = Path(answer.body["local_backup"])
    assert place.parent == api.settings.uploads
    assert len(place.name.encode()) <= 255
    assert place.suffix == ".mp4" or stored == "video"
    if stored is not None:
        assert answer.body["filename"] == stored
    assert hashlib.sha256(place.read_bytes()).digest() == hashlib.sha256(clip.read_bytes()).digest()
    await api.settled()
    assert (await api.get("/api/videos/list")).body["videos"][0]["filename"] == place.name


async def test_unknown_fields_are_overlooked(api: Api, clip: Path) -> None:
    """Within bounds."""
    for size, status in ((1000, 200), (2_000_000, 413)):
        form = aiohttp.FormData()
        form.add_field("note", BytesIO(b"x" * size))
        form.add_field("video", clip.read_bytes(), filename="a.mp4")
        assert (await api.ask("POST", "/api/upload-video", data=form)).status == status

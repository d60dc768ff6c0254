"""Videos are played by id: ranges, conditions, and what is answered where there is nothing to play."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from api import lookups
from streams.errors import DependencyDownError
from streams.settings import Settings
from tests.api.films import LAST_MODIFIED, VIDEO, Films, running_films

OTHER = "00000000-0000-4000-8000-0000000000ff"
PLACE = f"/processed_videos/{VIDEO}"


@pytest.fixture
async def films(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Films]:
    async with running_films(make_settings(redis_url=redis_url)) as running:
        yield running


async def fetch(films: Films, path: str = PLACE, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers; `if_range=` is `If-Range`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = URL(films.api.url + path, encoded=True)
    async with films.api.session.request(method, url, headers=named) as response:
        return response.status, await response.read(), response.headers


# ---------------------------------------------------------------- what is sent


async def test_the_whole(films: Films, clip: Path) -> None:
    """200, and everything that a player and a cache want to know."""
    one = films.put(clip)
    status, body, headers = await fetch(films)
    assert (status, body) == (200, clip.read_bytes())
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(one.size)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"] == f'"{one.sha256}"'
    assert headers["Last-Modified"] == LAST_MODIFIED
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Range" not in headers
    assert "Content-Encoding" not in headers
    assert headers["Content-Disposition"] == "inline; filename=\"My Lesson.mp4\"; filename*=UTF-8''My%20Lesson.mp4"


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-", 206, 0, 1000),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=200-299", 206, 200, 300),
        ("bytes=999-", 206, 999, 1000),
        ("bytes=-1", 206, 999, 1000),
        ("bytes=-3000", 206, 0, 1000),
        ("bytes=900-99999999999999999999999", 206, 900, 1000),
        ("bytes=0-9, 5-19", 206, 0, 20),
        ("bytes=0-9,5000-", 206, 0, 10),
        ("bytes=0-0,-1", 200, 0, 1000),
        ("bytes=" + ",".join(f"{n * 10}-{n * 10 + 1}" for n in range(90)), 200, 0, 1000),
        ("bytes=5-2", 200, 0, 1000),
        ("bytes=", 200, 0, 1000),
        ("bytes=a-z", 200, 0, 1000),
        ("frames=0-5", 200, 0, 1000),
        ("nonsense", 200, 0, 1000),
        ("bytes=1000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5000-6000,-0", 416, 0, 0),
    ],
)
async def test_ranges(films: Films, rng: random.Random, asked: str, status: int, start: int, stop: int) -> None:
    content = rng.randbytes(1000)
    one = films.put(content)
    answered, body, headers = await fetch(films, Range=asked)
    assert answered == status
    assert headers["ETag"] == f'"{one.sha256}"'
    assert headers["Accept-Ranges"] == "bytes"
    if status == 416:
        assert headers["Content-Range"] == "bytes */1000"
        assert json.loads(body)["success"] is False
        return
    assert body == content[start:stop]
    assert headers["Content-Length"] == str(stop - start)
    assert headers.get("Content-Range") == (f"bytes {start}-{stop - 1}/1000" if status == 206 else None)


async def test_pieces_of_every_size_join(films: Films, rng: random.Random) -> None:
    """Whatever lies in one read, in one slice or in many: the bytes are those of the file."""
    content = rng.randbytes(3_500_000)
    films.put(content)
    for _ in range(20):
        start = rng.randrange(len(content))
        stop = rng.randint(start, min(len(content), start + rng.choice([10, 200_000, 3_000_000])) - 1)
        status, body, headers = await fetch(films, Range=f"bytes={start}-{stop}")
        assert status == 206
        assert headers["Content-Range"] == f"bytes {start}-{stop}/{len(content)}"
        assert body == content[start : stop + 1]


async def test_two_range_headers_are_none(films: Films) -> None:
    """It stands once, or it means nothing."""
    films.put(b"0123456789")
    reader, writer = await asyncio.open_connection("127.0.0.1", films.api.port)
    writer.write(
        f"GET {PLACE} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\nRange: bytes=3-4\r\nConnection: close\r\n\r\n".encode()
    )
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"0123456789")
    writer.close()
    await writer.wait_closed()


async def test_an_empty_file(films: Films) -> None:
    """Nothing is sent, and no part of it exists."""
    films.put(b"")
    assert (await fetch(films))[:2] == (200, b"")
    status, _, headers = await fetch(films, Range="bytes=0-")
    assert (status, headers["Content-Range"]) == (416, "bytes */0")


async def test_head(films: Films, rng: random.Random) -> None:
    """The headers of the whole; ranges are for GET only."""
    films.put(rng.randbytes(300_000))
    for asked in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}):
        status, body, headers = await fetch(films, method="HEAD", **asked)
        assert (status, body) == (200, b"")
        assert headers["Content-Length"] == "300000"
        assert headers["Accept-Ranges"] == "bytes"
        assert "Content-Range" not in headers
    assert (await fetch(films, method="DELETE"))[0] == 405


async def test_webm_and_what_is_no_video(films: Films) -> None:
    """The type is the rendition's; one that browsers might run is never said."""
    films.put(b"webm", mime="video/webm")
    headers = (await fetch(films))[2]
    assert headers["Content-Type"] == "video/webm"
    assert 'filename="My Lesson.webm"' in headers["Content-Disposition"]
    films.put(b"<script>", OTHER, mime="text/html")
    assert (await fetch(films, f"/processed_videos/{OTHER}"))[2]["Content-Type"] == "application/octet-stream"


async def test_names_cannot_leave_the_header(films: Films) -> None:
    """Quotes, line ends, other scripts, and bytes that are no text."""
    names = [
        ('a"b\r\nSet-Cookie: x=1.avi', "a%22b%0D%0ASet-Cookie%3A%20x%3D1.mp4"),
        ("Übung – 講義.mov", "%C3%9Cbung%20%E2%80%93%20%E8%AC%9B%E7%BE%A9.mp4"),
        ("bad\udcff.mkv", "bad%3F.mp4"),
        (".mp4", ".mp4.mp4"),
        ("", "video.mp4"),
    ]
    for number, (name, coded) in enumerate(names):
        video = f"00000000-0000-4000-9000-{number:012x}"
        films.put(b"x", video)
        films.know(video, filename=name)
        headers = (await fetch(films, f"/processed_videos/{video}"))[2]
        assert headers["Content-Disposition"].endswith(f"filename*=UTF-8''{coded}")
        plain = headers["Content-Disposition"].split('"')
        assert len(plain) == 3
        assert plain[1].isascii()
        assert "Set-Cookie" not in headers


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "TAG"}, 304),
        ({"If-None-Match": "W/TAG"}, 304),
        ({"If-None-Match": '"other", TAG'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": LAST_MODIFIED}, 200),
        ({"If-Modified-Since": LAST_MODIFIED}, 304),
        ({"If-Modified-Since": "Sun, 01 Mar 2026 12:30:14 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": "TAG"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "W/TAG"}, 412),
        ({"If-Unmodified-Since": LAST_MODIFIED}, 200),
        ({"If-Unmodified-Since": "Sun, 01 Mar 2026 12:30:14 GMT"}, 412),
        ({"If-Match": "TAG", "If-Unmodified-Since": "Sun, 01 Mar 2020 12:30:14 GMT"}, 200),
        ({"If-Match": "TAG", "If-None-Match": "TAG"}, 304),
        ({"If-None-Match": "TAG", "Range": "bytes=0-1"}, 304),
        ({"If-Match": '"other"', "Range": "bytes=0-1"}, 412),
        ({"If-Range": "TAG", "Range": "bytes=0-1"}, 206),
        ({"If-Range": LAST_MODIFIED, "Range": "bytes=0-1"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=0-1"}, 200),
        ({"If-Range": "W/TAG", "Range": "bytes=0-1"}, 200),
        ({"If-Range": "Sun, 01 Mar 2026 12:30:16 GMT", "Range": "bytes=0-1"}, 200),
        ({"If-Range": "Sun, 01 Mar 2026 12:30:14 GMT", "Range": "bytes=0-1"}, 200),
        ({"If-Range": "nonsense", "Range": "bytes=0-1"}, 200),
        ({"If-Range": '"other"', "Range": "bytes=99999-"}, 200),
        ({"If-Range": "TAG", "Range": "bytes=99999-"}, 416),
        ({"If-Range": "TAG"}, 200),
    ],
)
async def test_conditions(films: Films, headers: dict[str, str], status: int) -> None:
    """In the order that RFC 9110 gives them."""
    one = films.put(b"0123456789")
    named = {name: value.replace("TAG", f'"{one.sha256}"') for name, value in headers.items()}
    answered, body, answers = await fetch(films, **named)
    assert answered == status
    assert answers["ETag"] == f'"{one.sha256}"'
    assert answers["Cache-Control"] == "private, no-cache"
    assert body == {304: b"", 412: b"", 206: b"01", 200: b"0123456789"}.get(status, body)


async def test_a_resumed_download_never_joins_two_files(films: Films) -> None:
    """A newer rendition has taken the place since: the whole of it, not the rest."""
    old = films.put(b"old old old")
    new = films.put(b"new new new")
    status, body, _ = await fetch(films, Range="bytes=4-", **{"If-Range": f'"{old.sha256}"'})
    assert (status, body) == (200, b"new new new")
    status, body, _ = await fetch(films, Range="bytes=4-", **{"If-Range": f'"{new.sha256}"'})
    assert (status, body) == (206, b"new new")


# ---------------------------------------------------------------- other origins


async def test_a_page_elsewhere_may_play_and_seek(films: Films) -> None:
    """CORS, with the headers that players read, and the preflight that `Range` may cost."""
    films.put(b"0123456789")
    headers = (await fetch(films, Range="bytes=0-1", Origin="https://example.com"))[2]
    assert headers["Access-Control-Allow-Origin"] == "*"
    exposed = {name.strip() for name in headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed >= {"Content-Range", "Content-Length", "Accept-Ranges", "ETag"}
    asking = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    status, _, headers = await fetch(
        films, method="OPTIONS", **asking, **{"Access-Control-Request-Headers": "range,if-range"}
    )
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Headers"] == "range,if-range"


# ---------------------------------------------------------------- which, and whether there is one


async def test_the_newest_is_played_and_others_by_name(films: Films) -> None:
    first = films.put(b"first")
    films.put(b"second", preset="small")
    films.put(b"rung", kind="hls")
    assert (await fetch(films))[1] == b"second"
    assert (await fetch(films, f"{PLACE}?rendition={first.id}"))[1] == b"first"
    assert (await fetch(films, f"{PLACE}?rendition={OTHER}"))[0] == 404
    assert (await fetch(films, f"{PLACE}?rendition=../../etc/passwd"))[0] == 404
    assert (await fetch(films, f"{PLACE}?path=/etc/passwd"))[0] == 400


async def test_a_newer_rendition_shows_within_a_moment(films: Films) -> None:
    """What is known is kept for seconds at the most, and a file that is gone is not believed in at all."""
    old = films.put(b"old")
    assert (await fetch(films))[1] == b"old"
    films.put(b"newer")
    async with asyncio.timeout(20):
        while (await fetch(films))[1] != b"newer":
            await asyncio.sleep(0.05)
    Path(old.path).unlink()
    async with asyncio.timeout(20):
        while (await fetch(films, f"{PLACE}?rendition={old.id}"))[0] != 409:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "path",
    [
        *("nothing", OTHER, f"{VIDEO}x", VIDEO[:-1], f"{VIDEO}%00", f"%00{VIDEO}", "%2e%2e%2fsecret", "..%2f..%2fsecret"),
        *(f"{VIDEO}%2f..%2fsecret", f"..%2F{VIDEO}", f"{VIDEO}.mp4", f"{VIDEO}/", f"{VIDEO}/../secret", "metadata"),
        *("%F0%9F%98%80", "%ff%fe", "a" * 4000, f"%20{VIDEO}", f"{VIDEO}%0d%0aX:1", f"{{{VIDEO}}}"),
    ],
)  # fmt: skip
async def test_only_ids_name_anything(films: Films, path: str) -> None:
    """404 for paths, and nothing of the disk is looked at."""
    films.put(b"film")
    (films.folder / "secret").write_bytes(b"secret")
    (films.folder.parent / "secret").write_bytes(b"secret")
    status, body, _ = await fetch(films, f"/processed_videos/{path}")
    assert status == 404
    assert b'"error"' in body


async def test_ids_in_capitals_are_the_same(films: Films) -> None:
    films.put(b"film")
    assert (await fetch(films, f"/processed_videos/{VIDEO.upper()}"))[1] == b"film"


@pytest.mark.parametrize(
    ("status", "word"), [("queued", "turn"), ("processing", "worked on"), ("failed", "no picture in it")]
)
async def test_not_finished(films: Films, status: Any, word: str) -> None:
    """409, as the status endpoints say it."""
    films.stands("video-enhancement", status, "there is no picture in it" if status == "failed" else None)
    answered, body, headers = await fetch(films, Range="bytes=0-1")
    said = json.loads(body)
    assert answered == 409
    assert said["success"] is False
    assert (said["file_id"], said["status"], said["progress"]) == (VIDEO, status, 0)
    assert said["message"] == f"It is {status}."
    assert word in said["error"]
    assert headers["Cache-Control"] == "no-store"


async def test_nobody_asked(films: Films) -> None:
    """409, and how to ask."""
    films.know()
    answered, body, _ = await fetch(films)
    said = json.loads(body)
    assert (answered, said["status"]) == (409, "none")
    assert f"spoolhouse enhance {VIDEO}" in said["error"]
    assert (await fetch(films, method="HEAD"))[0] == 409


async def test_what_plays_goes_on_while_a_newer_one_is_made(films: Films) -> None:
    films.put(b"film")
    films.stands("video-enhancement", "processing")
    assert (await fetch(films))[1] == b"film"


async def test_the_file_is_missing_or_offloaded(films: Films) -> None:
    """409 both times, each with what brings it back."""
    one = films.put(b"film")
    Path(one.path).unlink()
    answered, body, _ = await fetch(films)
    said = json.loads(body)
    assert (answered, said["status"], said["rendition"]) == (409, "missing", one.id)
    assert f"spoolhouse enhance {VIDEO}" in said["error"]
    films.known.rows[one.id] = {"state": "offloaded"}
    answered, body, _ = await fetch(films)
    said = json.loads(body)
    assert (answered, said["status"]) == (409, "offloaded")
    assert f"spoolhouse restore {one.id}" in said["error"]


async def test_films_go_on_while_the_catalogue_is_down(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was played a moment ago is played; of what was not, nobody can tell."""
    films.put(b"film")
    films.put(b"other", video=OTHER)
    assert (await fetch(films))[0] == 200
    films.known.down = True
    monkeypatch.setattr(lookups, "STALE", 0.0)
    assert (await fetch(films))[1] == b"film"
    status, _, headers = await fetch(films, f"/processed_videos/{OTHER}")
    assert (status, headers["Retry-After"]) == (503, "5")


# ---------------------------------------------------------------- the disk


async def test_links_are_not_followed(films: Films, tmp_path: Path) -> None:
    """Neither the file nor a folder on the way to it, nor out of the folder at all."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "film.mp4").write_bytes(b"secret")
    (films.folder / "link.mp4").symlink_to(secret / "film.mp4")
    (films.folder / "folder").symlink_to(secret)
    (films.folder / "inside").mkdir()
    (films.folder / "inside" / "film.mp4").write_bytes(b"film")
    (films.folder / "dir.mp4").mkdir()
    os.mkfifo(films.folder / "pipe.mp4")
    bad_ones = (
        films.folder / "link.mp4",
        films.folder / "folder" / "film.mp4",
        f"{films.folder}/../../secret/film.mp4",
        f"{films.folder}/inside/../inside/film.mp4",
        films.folder / "dir.mp4",
        films.folder / "pipe.mp4",
        secret / "film.mp4",
        "film.mp4",
        "",
        f"{films.folder}/a\0b",
        films.folder,
    )
    for number, bad in enumerate(bad_ones):
        video = f"00000000-0000-4000-9000-{number:012x}"
        films.put(b"secret", video, path=str(bad))
        assert (await fetch(films, f"/processed_videos/{video}"))[0] == 409, bad
    films.put(b"film", path=str(films.folder / "inside" / "film.mp4"))
    assert (await fetch(films))[1] == b"film"


async def test_the_whole_folder_may_be_a_link(
    make_settings: Callable[..., Settings], redis_url: str, tmp_path: Path
) -> None:
    """That is the owner's own doing: renditions on another disk."""
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "processed_videos").symlink_to(tmp_path / "large-disk")
    async with running_films(make_settings(redis_url=redis_url)) as films:
        films.put(b"film")
        assert (await fetch(films))[1] == b"film"


@pytest.mark.parametrize("size", [3, 5])
async def test_a_file_of_another_size_is_not_it(films: Films, size: int) -> None:
    one = films.put(b"film")
    Path(one.path).write_bytes(b"x" * size)
    assert (await fetch(films))[0] == 409


async def test_an_unreadable_disk_is_said(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    """503: it may be back."""

    def hangs(*_: Any) -> None:
        raise DependencyDownError("disk", "it did not answer")

    films.put(b"film")
    monkeypatch.setattr("api.opening.open_below", hangs)
    assert (await fetch(films))[0] == 503

"""What the API does not take: each with its status, words, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams.settings import Settings
from tests.api.running import Api, running_api, until

BOUNDARY = "----spoolhouse"


def form_bytes(content: bytes, name: str = "video", filename: str = "a.mp4") -> bytes:
    """A form as it goes over the wire."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def request_bytes(body: bytes, length: int | None = None, extra: str = "") -> bytes:
    """A whole request."""
    return (
        "POST /api/upload-video HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n{extra}\r\n"
    ).encode() + body


def refused(answer: Any, status: int) -> str:
    """Check the one shape of errors; the words."""
    assert answer.status == status, answer
    assert answer.body["success"] is False
    assert isinstance(answer.body["error"], str)
    return str(answer.body["error"])


async def test_no_video_part(api: Api) -> None:
    """400, also where the field is there but no file was chosen."""
    form = aiohttp.FormData({"contentType": "Tutorial"}, default_to_multipart=True)
    assert "video" in refused(await api.ask("POST", "/api/upload-video", data=form), 400)
    for name, filename in (("film", "a.mp4"), ("video", "")):
        form = aiohttp.FormData()
        form.add_field(name, b"x", filename=filename)
        refused(await api.ask("POST", "/api/upload-video", data=form), 400)
    assert api.left_over() == []


async def test_not_multipart(api: Api) -> None:
    """415, whatever it is instead."""
    for how in ({"json": {"video": 1}}, {"data": b"bytes"}, {"data": {"video": "urlencoded"}}, {}):
        refused(await api.ask("POST", "/api/upload-video", **how), 415)
    headers = {"Content-Type": "multipart/form-data"}
    refused(await api.ask("POST", "/api/upload-video", data=b"x", headers=headers), 400)


async def test_an_empty_file(api: Api) -> None:
    """400."""
    refused(await api.upload(b""), 400)
    assert api.left_over() == []


@pytest.mark.parametrize("content", [b"%PDF-1.7 " + b"x" * 5000, b"just text\n" * 500, b"PK\x03\x04" + b"z" * 3000])
async def test_not_a_video(api: Api, content: bytes) -> None:
    """415 with the reason, whatever the name says."""
    refused(await api.upload(content, "honest.mp4"), 415)
    assert api.left_over() == []


async def test_a_damaged_video_is_taken_and_marked(api: Api, clip: Path) -> None:
    """Half a video is still someone's video."""
    answer = await api.upload(clip.read_bytes()[: clip.stat().st_size // 2])
    assert answer.status == 200
    await api.settled()
    shown = (await api.get(f"/api/videos/{answer.body['id']}")).body
    assert shown["damaged"]


async def test_two_videos_in_one_request(api: Api, clip: Path) -> None:
    """Neither is half kept."""
    form = aiohttp.FormData()
    for name in ("a.mp4", "b.mp4"):
        form.add_field("video", clip.read_bytes(), filename=name)
    refused(await api.ask("POST", "/api/upload-video", data=form), 400)
    assert api.left_over() == []


async def test_too_large(make_settings: Callable[..., Settings], redis_url: str, clip: Path) -> None:
    """413: at once where the length is announced, else as soon as it is too much; nothing is left."""
    settings = make_settings(redis_url=redis_url, max_upload=clip.stat().st_size)
    async with running_api(settings, projections=False) as api:
        assert (await api.upload(clip)).status == 200
        kept = api.left_over()
        assert "SPOOLHOUSE_MAX_UPLOAD" in refused(await api.upload(clip.read_bytes() + b"x"), 413)

        async def pieces() -> Any:
            yield form_bytes(clip.read_bytes() + bytes(3_000_000))

        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        refused(await api.ask("POST", "/api/upload-video", data=pieces(), headers=headers), 413)
        assert api.left_over() == kept

        # Announced: refused before a byte of the body was sent, and without "100 Continue".
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(request_bytes(b"", 10 * 2**30, "Expect: 100-continue\r\n"))
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 413")
        writer.close()
        await writer.wait_closed()


async def test_expect_100_continue(api: Api, clip: Path) -> None:
    """As curl asks before large files."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    body = form_bytes(clip.read_bytes())
    writer.write(request_bytes(b"", len(body), "Expect: 100-continue\r\n"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_a_client_cut_off_at_any_byte_leaves_nothing(api: Api, clip: Path, rng: random.Random) -> None:
    """Whatever part of the request had come, by a close or a reset."""
    whole = request_bytes(form_bytes(clip.read_bytes()))
    head = whole.index(b"\r\n\r\n") + 4
    cuts = [
        1,
        head - 2,
        head,
        head + 10,
        len(whole) - 1,
        len(whole) - 5,
        *(rng.randrange(len(whole)) for _ in range(40)),
    ]
    for cut in cuts:
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(whole[:cut])
        await writer.drain()
        if rng.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
    await until(lambda: under_way(api))
    # Everything but the final line end had come with some cuts: those may be whole.
    ended_whole = sum(cut >= len(whole) - 2 for cut in cuts)
    await until(lambda: _only_whole(api, clip, ended_whole))
    assert (await api.upload(clip)).status == 200


async def under_way(api: Api) -> bool:
    """Whether no upload is being received any more."""
    return "spoolhouse_uploads_under_way 0.0" in (await api.get("/metrics")).body


def _only_whole(api: Api, clip: Path, most: int) -> bool:
    videos = [path for path in api.left_over() if path.suffix != ".json"]
    return len(videos) <= most and all(path.read_bytes() == clip.read_bytes() for path in videos)


@pytest.mark.parametrize("tmpfs", ["8m"], indirect=True)
async def test_a_full_disk(make_settings: Callable[..., Settings], redis_url: str, tmpfs: Path, clip: Path) -> None:
    """507 and nothing left, announced or found out on the way; what fits is taken."""
    settings = make_settings(redis_url=redis_url, upload_dir=tmpfs / "uploads")
    async with running_api(settings, projections=False) as api:
        large = clip.read_bytes() + bytes(12 * 2**20)
        refused(await api.upload(large), 507)

        async def pieces() -> Any:
            yield form_bytes(large)

        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        refused(await api.ask("POST", "/api/upload-video", data=pieces(), headers=headers), 507)
        assert api.left_over() == []
        assert (await api.upload(clip)).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "sort=nothing",
        "order=sideways",
        "limit=0",
        "limit=501",
        "limit=ten",
        "limit=-1",
        "min_size=1.5",
        "door=window",
        "state=gone",
        "from=yesterday",
        "cursor=nonsense",
        "cursor=W10",
        "colour=red",
        "q=%00",
        "limit=%F0%9F%98%80",
    ],
)
async def test_bad_queries(api: Api, query: str) -> None:
    """400, and words that name what is wrong."""
    await api.settled()
    words = refused(await api.get(f"/api/videos?{query}"), 400)
    assert query.partition("=")[0] in words


async def test_unknown_things(api: Api) -> None:
    """404 and 405 in the same shape."""
    await api.settled()
    refused(await api.get("/api/nothing"), 404)
    refused(await api.get("/api/videos/00000000-0000-4000-8000-000000000000"), 404)
    refused(await api.get("/api/videos/00000000-0000-4000-8000-000000000000/events"), 404)
    answer = await api.ask("DELETE", "/api/upload-video")
    refused(answer, 405)
    assert "POST" in answer.headers["Allow"]


async def test_what_goes_wrong_inside_stays_inside(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 with a request id to look for, and no word about our insides."""

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(api.services.catalogue), "get", broken)
    answer = await api.get("/api/videos/x", headers={"X-Request-ID": "find-me"})
    words = refused(answer, 500)
    assert "secret" not in words
    assert "find-me" in words

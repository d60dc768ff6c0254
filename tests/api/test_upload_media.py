"""`POST /upload` and the statuses of what follows, to the letter."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from api.folders import link_uploads, make_folders
from streams.events import VideoStored
from streams.media import Task
from streams.progress import Progress, Publisher
from streams.settings import Settings
from tests.api.running import Api, running_api, until
from tests.api.test_refusals import BOUNDARY, refused
from tests.api.watching import say, send
from tests.projections.enhancing import completed, failed, probed, rendition, requested, started
from tests.projections.happenings import stored
from tests.servers import RedisServer

ENHANCEMENT, EXTRACTION = "video-enhancement", "metadata-extraction"
UNKNOWN = "00000000-0000-4000-8000-00000000dead"


async def status(api: Api, file_id: str, task: Task = "video-enhancement") -> dict[str, object]:
    """What is told of a task."""
    answer = await api.get(f"/internal/{task}-status/{file_id}")
    assert answer.status == 200, answer
    body: dict[str, object] = answer.body
    return body


@pytest.mark.parametrize("client_first", [True, False])
async def test_an_upload_is_answered_with_its_id(every_api: Api, clip: Path, client_first: bool) -> None:
    """The client's id may stand before or after the file; the event asks for a rendition."""
    answer = await send(every_api, clip, client="me", client_first=client_first)
    assert answer.status == 200, answer
    assert list(answer.body) == ["file_id", "filename", "status", "client_id"]
    file_id = answer.body["file_id"]
    assert str(uuid.UUID(file_id)) == file_id
    assert answer.body == {"file_id": file_id, "filename": "Ferien äöü.mp4", "status": "uploaded", "client_id": "me"}
    (first, *_) = await every_api.services.log.history(file_id)
    assert isinstance(first.event, VideoStored)
    assert (first.event.enhance, first.event.client_id, first.event.door) == (True, "me", "upload")
    assert Path(first.event.path).read_bytes() == clip.read_bytes()
    # Under the name that users of that service know the folder by.
    assert (every_api.settings.data / "uploads" / first.event.stored_name).read_bytes() == clip.read_bytes()


async def test_nobody_has_to_say_who_they_are(api: Api, clip: Path) -> None:
    """Without `client_id`, and with the empty one of a form that was not filled in."""
    for client in (None, ""):
        answer = await send(api, clip, client=client)
        assert (answer.status, answer.body["client_id"]) == (200, None)


async def test_other_uploads_are_not_enhanced(api: Api, clip: Path) -> None:
    """Nobody asked: the status says so, and who would."""
    file_id = (await api.upload(clip)).body["id"]
    told = await status(api, file_id)
    assert (told["status"], told["progress"], told["error"]) == ("none", 0, None)
    assert f"spoolhouse enhance {file_id}" in str(told["message"])
    assert (await status(api, file_id, EXTRACTION))["status"] == "queued"


@pytest.mark.parametrize("client", ["x" * 10_000, "x" * 129, "a\nb", "a\0b", "\u202e"])
@pytest.mark.parametrize("client_first", [True, False])
async def test_client_ids_that_are_none(api: Api, clip: Path, client: str, client_first: bool) -> None:
    """400, and nothing is kept of the upload."""
    assert "client_id" in refused(await send(api, clip, client=client, client_first=client_first), 400)
    assert api.left_over() == []


async def test_what_is_refused_as_everywhere(api: Api, clip: Path) -> None:
    """Not a video, no file, two files, another method of sending."""
    refused(await send(api, b"%PDF-1.4 not a video " * 100), 415)
    assert "file" in refused(
        await api.ask("POST", "/upload", data=aiohttp.FormData({"file": "x"}, default_to_multipart=True)), 400
    )
    refused(await api.ask("POST", "/upload", json={"file": "x"}), 415)
    form = aiohttp.FormData()
    for name in ("a.mp4", "b.mp4"):
        form.add_field("file", clip.read_bytes(), filename=name)
    refused(await api.ask("POST", "/upload", data=form), 400)
    form = aiohttp.FormData()
    form.add_field("video", clip.read_bytes(), filename="a.mp4")
    refused(await api.ask("POST", "/upload", data=form), 400)
    assert api.left_over() == []


async def test_expect_100_continue_is_refused_before_the_body(
    make_settings: Callable[..., Settings], redis_url: str
) -> None:
    """A file that is too large is never sent."""
    async with running_api(make_settings(redis_url=redis_url, max_upload=1000), projections=False) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(
            (
                "POST /upload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 900000000\r\n\r\n"
            ).encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 413")
        writer.close()
        await writer.wait_closed()


async def test_it_does_not_wait_for_drive(make_settings: Callable[..., Settings], redis_url: str, clip: Path) -> None:
    """Drive may be configured as badly as it likes."""
    async with running_api(make_settings(redis_url=redis_url, drive_folder_id="folder"), projections=False) as api:
        assert (await send(api, clip)).status == 200


# ---------------------------------------------------------------- statuses


async def test_statuses_from_the_upload_to_the_end(every_api: Api, clip: Path) -> None:
    """Queued at once, processing with the reason, completed with where the result is."""
    api, log = every_api, every_api.services.log
    file_id = (await send(api, clip)).body["file_id"]
    told = await status(api, file_id)
    assert list(told)[:7] == ["file_id", "filename", "task", "status", "progress", "message", "error"]
    assert (told["file_id"], told["task"], told["status"], told["progress"]) == (file_id, ENHANCEMENT, "queued", 0)
    await say(log, file_id, started(), probed())
    await api.settled()
    told = await status(api, file_id)
    assert (told["status"], told["error"], told["result"]) == ("processing", None, None)
    assert "does not play in browsers" in str(told["message"])
    told = await status(api, file_id, EXTRACTION)
    assert (told["status"], told["progress"], told["result"]) == ("completed", 100, f"/metadata/{file_id}.json")
    await say(log, file_id, rendition(file_id), completed(rendition(file_id).rendition))
    await api.settled()
    told = await status(api, file_id)
    assert (told["status"], told["progress"]) == ("completed", 100)
    assert told["result"] == f"/processed_videos/{file_id}"
    await say(log, file_id, requested(), failed("no picture decodes"))
    await api.settled()
    told = await status(api, file_id)
    assert (told["status"], told["error"], told["result"]) == ("failed", "no picture decodes", None)


async def test_percent_comes_from_whoever_works(api: Api, clip: Path) -> None:
    """The last that was heard of; what was heard of earlier work is not shown."""
    log = api.services.log
    file_id = (await send(api, clip)).body["file_id"]
    await say(log, file_id, started())
    await api.settled()
    publisher = Publisher(log.redis, log.keys)

    async def moves() -> bool:
        await publisher.tell(Progress(file_id, ENHANCEMENT, 41.66, "125 of 300 frames"))
        told = await status(api, file_id)
        return (told["status"], told["progress"], told["message"]) == ("processing", 41.7, "125 of 300 frames")

    await until(moves)
    await say(log, file_id, requested())
    await api.settled()
    assert (await status(api, file_id))["progress"] == 0


async def test_unknown_files(api: Api, clip: Path) -> None:
    """404 for what never was, for what is no file that came in, and for what is no id at all."""
    made, event = stored(7, door="rendition", rendition_of=UNKNOWN)
    await say(api.services.log, made, event)
    await api.settled()
    for file_id in (UNKNOWN, made, "x", "x" * 500, "registry:videos", "%2e%2e"):
        for task in (ENHANCEMENT, EXTRACTION):
            refused(await api.get(f"/internal/{task}-status/{file_id}"), 404)


async def test_an_id_that_was_just_given_out_is_never_unknown(
    make_settings: Callable[..., Settings], own_redis: RedisServer, clip: Path
) -> None:
    """No worker, so no catalogue; then no log either; another process answers 503 then, and never 404."""
    settings = make_settings(redis_url=own_redis.url)
    async with running_api(settings, projections=False) as api, running_api(settings, projections=False) as other:
        known = (await send(api, clip)).body["file_id"]
        for one in (api, other):
            assert (await status(one, known))["status"] == "queued"
        own_redis.kill()
        unlogged = (await send(api, clip)).body["file_id"]
        for file_id in (known, unlogged):
            assert (await status(api, file_id))["status"] == "queued"
            assert (await status(api, file_id, EXTRACTION))["status"] == "queued"
        assert (await other.get(f"/internal/{ENHANCEMENT}-status/{unlogged}")).status == 503
        own_redis.start()


# ---------------------------------------------------------------- folders


def test_uploads_has_a_second_name(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Relative within `data`, absolute elsewhere; made once."""
    settings = make_settings()
    for _ in range(2):
        make_folders(settings)
    assert os.readlink(settings.data / "uploads") == "uploaded_videos"
    assert settings.metadata_documents.is_dir()
    elsewhere = make_settings(data=tmp_path / "other", upload_dir=tmp_path / "elsewhere")
    link_uploads(elsewhere)
    assert os.readlink(tmp_path / "other" / "uploads") == str(tmp_path / "elsewhere")


def test_what_lies_there_under_that_name_stays(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """A folder of someone's own, a link that leads nowhere, or the folder for uploads itself."""
    settings = make_settings()
    (settings.data / "uploads").mkdir(parents=True)
    link_uploads(settings)
    assert not (settings.data / "uploads").is_symlink()
    other = make_settings(data=tmp_path / "other")
    other.data.mkdir()
    (other.data / "uploads").symlink_to("nowhere")
    link_uploads(other)
    assert os.readlink(other.data / "uploads") == "nowhere"
    own = make_settings(data=tmp_path / "own", upload_dir=tmp_path / "own" / "uploads")
    make_folders(own)
    assert (tmp_path / "own" / "uploads").is_dir()
    assert not (tmp_path / "own" / "uploads").is_symlink()

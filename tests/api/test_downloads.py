"""`/videos` and `/config`, as the contract has them; nothing is fetched here: there is no worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from streams.download_checks import LONGEST_DIRECTORY
from streams.entries import new_event
from streams.events import (
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadPostponed,
    DownloadStarted,
    DownloadStored,
    Event,
)
from streams.identity import download_subject
from streams.paths import OsPath
from streams.settings import Settings
from tests.api.running import Answer, Api, running_api, until
from tests.servers import RedisServer

URL = "https://site.invalid/film"


@pytest.fixture
async def api(api: Api) -> Api:
    """With its tables made."""
    await api.settled()
    return api


async def ask_for(api: Api, url: str = URL, **more: Any) -> dict[str, Any]:
    """Queue a URL; the object."""
    answer = await api.ask("POST", "/videos", json={"url": url, **more})
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.body
    return told


async def happen(api: Api, number: int, *events: Event) -> None:
    """What a dispatcher or a worker would append."""
    for event in events:
        await api.services.log.append(new_event(download_subject(number), event, source="test"))


def started(take: int = 1, attempt: int = 1) -> DownloadStarted:
    """Its turn has come."""
    return DownloadStarted(take=take, attempt=attempt, host="site.invalid", config={})


def stored(take: int = 1, path: str = "/media/A (2024)/A (2024) [1].mp4") -> DownloadStored:
    """It lies there."""
    return DownloadStored(take=take, video="8f0a4c1e-6a53-4f0e-9a2b-3d1f7a5c9e10", path=OsPath(path), size=9, files=())


async def test_the_contract_line_by_line(api: Api) -> None:
    """The curl lines of the contract, letter by letter."""
    body = '{"type":"video", "attributes":{"url":"https://site.invalid/7GFmAdRW_98", "directory":""}}'
    answer = await api.ask("POST", "/videos", data=body, headers={"Content-type": "application/json"})
    assert answer.status == 200
    assert answer.body["id"] == 1
    assert {
        name: answer.body[name] for name in ("vid_url", "title", "status", "status_message", "vid_dir", "file_path")
    } == {
        "vid_url": "https://site.invalid/7GFmAdRW_98",
        "title": "",
        "status": "Pending",
        "status_message": "In-Queue",
        "vid_dir": "/",
        "file_path": None,
    }
    second = await ask_for(api, directory="/work", client_id="me")
    assert (second["id"], second["vid_dir"], second["client_id"]) == (2, "/work", "me")
    listed = await api.get("/videos")
    assert isinstance(listed.body, list)
    assert [one["id"] for one in listed.body] == [1, 2]
    assert (await api.get("/videos/2")).body == second


async def test_every_path_in_other_words(api: Api) -> None:
    """Singular and plural, capitals and small letters."""
    for path in ("/video", "/Videos", "/VIDEO", "/viDeoS"):
        answer = await api.ask("POST", path, json={"url": URL})
        assert answer.status == 200
        number = answer.body["id"]
        assert [one["id"] for one in (await api.get(path)).body] == [number]
        assert (await api.get(f"{path}/{number}")).body["vid_url"] == URL
        assert (await api.ask("PATCH", f"{path}/{number}", json={"status": "Refresh"})).status == 200
        assert (await api.ask("PATCH", f"{path}/{number}", json={"attributes": {"status": "CANCEL"}})).status == 200
        assert (await api.ask("DELETE", f"{path}/{number}")).status == 200
        assert (await api.ask("HEAD", path)).status == 200
        assert (await api.ask("PUT", path)).status == 405
    for path in ("/Config", "/CONFIG"):
        assert (await api.get(path)).body["concurrency"] == 1
    assert (await api.get("/configs")).status == 404


async def test_the_catalogue_of_everything_is_not_shadowed(api: Api) -> None:
    """Nor is anything else taken for a download."""
    await ask_for(api)
    assert (await api.get("/api/videos")).body["videos"] == []
    assert (await api.get("/api/Videos")).status == 404
    assert (await api.get("/videoss")).status == 404
    assert (await api.get("/xvideos")).status == 404
    assert (await api.get("/videos/1/2")).status == 404


BAD: list[tuple[Any, str]] = [
    ({}, "`url` is missing"),
    ({"url": ""}, "`url` is missing"),
    ({"url": 7}, "`url` must be text"),
    ({"url": "file:///etc/passwd"}, "http"),
    ({"url": "data:text/html,x"}, "http"),
    ({"url": "https://"}, "host"),
    ({"url": "http://127.0.0.1:8000/healthz"}, "127.0.0.1"),
    ({"url": "http://169.254.169.254/latest/meta-data"}, "169.254.169.254"),
    ({"url": "http://[::ffff:10.0.0.1]/"}, "private"),
    ({"url": "http://2130706433/"}, "address"),
    ({"url": "http://localhost/"}, "localhost"),
    ({"url": URL, "directory": "../up"}, "directory"),
    ({"url": URL, "directory": "/a/../../b"}, "directory"),
    ({"url": URL, "directory": "x" * (LONGEST_DIRECTORY + 1)}, "directory"),
    ({"url": URL, "nonsense": 1, "odd": 2}, "Unknown nonsense, odd"),
    ({"url": URL, "max_height": -1}, "max_height"),
    ({"url": URL, "limit": 10**9}, "limit"),
    ({"url": URL, "subtitles": ["../x"]}, "subtitles"),
    ({"url": URL, "format": ""}, "format"),
    ({"url": URL, "client_id": "x" * 200}, "client_id"),
    ({"type": "audio", "attributes": {"url": URL}}, "`type`"),
    ({"attributes": [URL]}, "`attributes`"),
    ([URL], "JSON object"),
    ({"url": "https://site.invalid/" + "x" * 5000}, "characters"),
]


async def test_bad_requests_are_refused_with_words(api: Api) -> None:
    """400 that names what is wrong; there is nothing then."""
    for body, words in BAD:
        answer = await api.ask("POST", "/videos", json=body)
        assert (answer.status, words in answer.body["error"]) == (400, True), (body, answer)
    assert (await api.get("/videos")).body == []


async def test_what_calls_itself_something_else(api: Api) -> None:
    """`curl -d` calls everything a form: JSON is taken all the same, but not from pages of elsewhere."""
    body = json.dumps({"url": URL})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await api.ask("POST", "/videos", data=body, headers=form)).status == 200
    assert (await api.ask("POST", "/videos", data="url=https://site.invalid", headers=form)).status == 415
    evil = form | {"Origin": "https://evil.example"}
    assert (await api.ask("POST", "/videos", data=body, headers=evil)).status == 403
    plain = {"Content-Type": "text/plain", "Origin": "null"}
    assert (await api.ask("POST", "/videos", data=body, headers=plain)).status == 403
    ours = form | {"Origin": api.url}
    assert (await api.ask("POST", "/videos", data=body, headers=ours)).status == 200
    as_json = {"Content-Type": "application/vnd.api+json"}
    assert (await api.ask("POST", "/videos", data=body, headers=as_json)).status == 200
    as_json = {"Content-Type": "application/json"}
    assert (await api.ask("POST", "/videos", data="{", headers=as_json)).status == 400
    assert (await api.ask("POST", "/videos", data=b"", headers=as_json)).status == 400
    assert (await api.ask("POST", "/videos", data=b" " * 70_000, headers=as_json)).status == 413
    deep = '{"url":' * 500 + "1" + "}" * 500
    assert (await api.ask("POST", "/videos", data=deep, headers=as_json)).status == 400


async def test_pages_of_elsewhere_change_nothing(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Not by default, though they may read; those that were named may, and all where that was said."""
    evil, friend = {"Origin": "https://evil.example"}, {"Origin": "https://friend.example"}
    for origins, may in ((None, ()), ("https://friend.example", (friend,)), ("*", (evil, friend))):
        named = {} if origins is None else {"cors_origins": origins}
        async with running_api(make_settings(redis_url=redis_url, **named)) as api:
            number = (await ask_for(api))["id"]
            for who in (evil, friend):
                changed = await api.ask("PATCH", "/Config", json={"concurrency": 2}, headers=who)
                assert changed.status == (200 if who in may else 403)
                assert (await api.get(f"/videos/{number}", headers=who)).status == 200
            if not may:
                assert (await api.ask("DELETE", f"/videos/{number}", headers=evil)).status == 403


async def test_a_number_just_given_out_is_never_unknown(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """The tables do not follow at all here: what was asked for, changed and deleted is known all the same."""
    async with running_api(make_settings(redis_url=redis_url), projections=False) as api:
        for number in (1, 2, 3):
            assert (await ask_for(api))["id"] == number
            assert (await api.get(f"/videos/{number}")).status == 200
        assert (await api.ask("PATCH", "/videos/2", json={"status": "cancel"})).body["status"] == "Error"
        assert (await api.get("/videos/2")).body["error"] == "cancelled"
        assert (await api.ask("DELETE", "/videos/1")).status == 200
        assert (await api.get("/videos/1")).status == 404
        assert (await api.ask("DELETE", "/videos/1")).status == 404
        assert (await api.get("/videos")).status == 503  # there are no tables yet
        # What another process took in, the log knows.
        async with running_api(make_settings(redis_url=redis_url), projections=False) as other:
            assert (await other.get("/videos/3")).body["status"] == "Pending"
            assert (await other.get("/videos/1")).status == 404
            assert (await other.get("/videos/4")).status == 404


async def test_lists_know_what_the_table_does_not_have_yet(api: Api) -> None:
    """At once after each request; filtered by how it stands now; page by page."""
    for count in range(1, 13):
        await ask_for(api)
        assert [one["id"] for one in (await api.get("/videos")).body] == list(range(1, count + 1))
    await happen(api, 3, started(), stored())
    await api.settled()
    await api.ask("PATCH", "/videos/5", json={"status": "cancel"})
    await api.ask("DELETE", "/videos/7")

    async def ids(query: str) -> list[int]:
        return [one["id"] for one in (await api.get(f"/videos?{query}")).body]

    assert await ids("status=error") == [5]
    assert await ids("status=DOWNLOADED") == [3]
    assert await ids("status=Pending") == [1, 2, 4, 6, 8, 9, 10, 11, 12]
    assert await ids("limit=4") == [1, 2, 3, 4]
    assert await ids("after=4&limit=3") == [5, 6, 8]
    assert await ids("after=12") == []
    for query in ("status=nonsense", "limit=0", "after=x", "door=upload"):
        assert (await api.get(f"/videos?{query}")).status == 400
    await api.settled()
    assert await ids("status=Error") == [5]
    assert await ids("") == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]


async def test_a_download_from_its_request_to_its_file(api: Api) -> None:
    """What each step shows; the log says it before the table does."""
    number = (await ask_for(api, format="b", max_height=720, subtitles=["en"]))["id"]
    await happen(api, number, started())
    told = (await api.get(f"/videos/{number}")).body
    assert (told["status"], told["attempt"]) == ("Processing", 1)
    assert told["options"] == {"format": "b", "max_height": 720, "subtitles": ["en"]}
    assert (await api.ask("PATCH", f"/videos/{number}", json={"status": "refresh"})).status == 409
    await happen(api, number, stored())
    told = (await api.get(f"/videos/{number}")).body
    assert (told["status"], told["file_path"]) == ("Downloaded", "/media/A (2024)/A (2024) [1].mp4")
    assert told["progress"] == {"percent": 100.0, "bytes": 9, "total": 9, "speed": None, "eta": None}
    assert (await api.ask("PATCH", f"/videos/{number}", json={"status": "cancel"})).status == 409
    # The object as it was read, with another status, is fine.
    again = await api.ask("PATCH", f"/videos/{number}", json=told | {"status": "refresh"})
    assert (again.status, again.body["status"], again.body["status_message"]) == (200, "Pending", "In-Queue")
    await happen(api, number, started(take=2), DownloadFailed(take=2, attempt=1, kind="gone", reason="404", advice="x"))
    told = (await api.get(f"/videos/{number}")).body
    assert (told["status"], told["status_message"], told["error"]) == ("Error", "404 x", "gone")
    for body in ({}, {"status": "Pending"}, {"status": 3}, {"status": "refresh", "nonsense": 1}):
        assert (await api.ask("PATCH", f"/videos/{number}", json=body)).status == 400
    for path in ("/videos/99", "/videos/x", "/videos/1.5", "/videos/-1", "/videos/" + "9" * 30):
        assert (await api.get(path)).status == 404
        assert (await api.ask("PATCH", path, json={"status": "refresh"})).status == 404
        assert (await api.ask("DELETE", path)).status == 404


async def test_deleting_waits_for_the_file_to_be_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the worker's part says so; without a worker the answer is that it follows."""
    path = "/media/A (2024)/A (2024) [1].mp4"
    for number in (1, 2, 3):
        await ask_for(api)
        await happen(api, number, started(), stored())
    waiting = asyncio.create_task(api.ask("DELETE", "/videos/1"))
    assert await api.services.log.wait_for(download_subject(1), ("DownloadDeleted",), timeout=20)
    assert not waiting.done()
    await happen(api, 1, DownloadFilesRemoved(paths=(OsPath(path),)))
    answer = await waiting
    assert (answer.status, answer.body["file_path"]) == (200, None)
    kept = await api.ask("DELETE", "/videos/2?keep_file=1")
    assert (kept.status, kept.body["file_path"]) == (200, path)
    monkeypatch.setattr("api.handlers.downloads.GONE_WITHIN", 0.1)
    late = await api.ask("DELETE", "/videos/3")
    assert (late.status, late.body["file_path"]) == (202, path)
    assert (await api.get("/videos")).body == []
    assert (await api.ask("DELETE", "/videos/3?keep_file=maybe")).status == 400


async def test_nothing_is_half_accepted_with_redis_down(own_api: Api, own_redis: RedisServer) -> None:
    """503 for wishes, and none of them comes to life later; what is known is shown all the same."""
    await own_api.settled()
    await ask_for(own_api)
    await own_api.settled()
    await own_api.get("/config")
    own_redis.stop()
    refused: list[Answer] = [
        await own_api.ask("POST", "/videos", json={"url": URL}),
        await own_api.ask("PATCH", "/videos/1", json={"status": "cancel"}),
        await own_api.ask("DELETE", "/videos/1"),
        await own_api.ask("PATCH", "/config", json={"concurrency": 2}),
    ]
    assert [one.status for one in refused] == [503, 503, 503, 503]
    assert "Retry-After" in refused[0].headers
    assert [one["id"] for one in (await own_api.get("/videos")).body] == [1]
    assert (await own_api.get("/videos/1")).body["status"] == "Pending"
    assert (await own_api.get("/config")).body["concurrency"] == 1
    own_redis.start()

    async def taken() -> bool:
        return (await own_api.ask("POST", "/videos", json={"url": URL})).status == 200

    await until(taken)
    listed = (await own_api.get("/videos")).body
    assert len(listed) == 2
    assert {one["status"] for one in listed} == {"Pending"}


async def test_the_configuration_is_kept(api: Api) -> None:
    """What is set is set, the rest stays; preferences are kept as they were sent."""
    before = (await api.get("/config")).body
    assert before["preferences"] == {}
    assert before["max_height"] is None
    kept = {"columns": ["title", None], "sort": {"by": "id", "größe": 1.5}}
    answer = await api.ask("PATCH", "/config", json={"max_height": 1080, "directory": "work/", "preferences": kept})
    assert answer.status == 200
    assert answer.body == before | {"max_height": 1080, "directory": "/work", "preferences": kept}
    body = {"type": "config", "attributes": {"concurrency": 3}}
    assert (await api.ask("PATCH", "/Config", json=body)).body["concurrency"] == 3
    assert (await api.get("/CONFIG")).body == answer.body | {"concurrency": 3}
    assert (await ask_for(api))["vid_dir"] == "/work"
    replaced = await api.ask("PATCH", "/config", json={"preferences": {"a": 1}})
    assert replaced.body["preferences"] == {"a": 1}
    for bad, words in (
        ({"concurrency": 0}, "concurrency"),
        ({"template": "{nonsense}"}, "template"),
        ({"directory": "../x"}, "directory"),
        ({"cookies": "../../etc/passwd"}, "cookies"),
        ({"cookies": "missing.txt"}, "cookies"),
        ({"max_height": "high", "limit": -1}, "limit"),
        ({"colour": "red"}, "Unknown colour"),
        ({"preferences": [1]}, "preferences"),
        ({"preferences": {"x": "y" * 40_000}}, "preferences"),
        ({}, "Nothing"),
    ):
        refused = await api.ask("PATCH", "/config", json=bad)
        assert (refused.status, words in refused.body["error"]) == (400, True), refused
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"x": deep}
    assert (await api.ask("PATCH", "/config", json={"preferences": deep})).status == 400
    assert (await api.get("/config")).body == replaced.body


async def test_when_it_is_tried_again(api: Api) -> None:
    """What was put off says when, and why."""
    number = (await ask_for(api))["id"]
    at = (await api.services.log.history(download_subject(number)))[0].time
    await happen(
        api, number, started(), DownloadPostponed(take=1, attempt=1, kind="retry", reason="HTTP 503", until=at)
    )
    told = (await api.get(f"/videos/{number}")).body
    assert told["status"] == "Pending"
    assert told["retry_at"] == told["created_at"]
    assert told["status_message"].startswith("HTTP 503")

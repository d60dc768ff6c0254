"""`/subscriptions`: begun, listed, changed and ended over HTTP; who looks at them is a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.settings import Settings
from tests.api.running import Api, running_api
from tests.servers import RedisServer

URL = "https://site.invalid/channel"


@pytest.fixture
async def api(api: Api) -> Api:
    """With its tables made."""
    await api.settled()
    return api


async def test_from_the_first_to_the_last_word(api: Api) -> None:
    """What was just said is so at once, in the list, too."""
    body = {"type": "subscription", "attributes": {"url": URL, "interval": 600, "filter": "news", "backlog": 2,
                                                   "options": {"audio_only": True}, "client_id": "me"}}  # fmt: skip
    answer = await api.ask("POST", "/subscriptions", json=body)
    assert answer.status == 200
    told = answer.body
    assert {name: told[name] for name in ("id", "type", "url", "interval", "filter", "directory", "backlog")} == {
        "id": 1, "type": "subscription", "url": URL, "interval": 600, "filter": "news", "directory": "/", "backlog": 2,
    }  # fmt: skip
    assert (told["options"], told["client_id"], told["paused"]) == ({"audio_only": True}, "me", False)
    assert told["checked_at"] is None
    assert told["next_check_at"] == told["created_at"]
    assert (await api.get("/subscriptions")).body == [told]
    assert (await api.get("/subscriptions/1")).body == told
    patched = await api.ask("PATCH", "/subscriptions/1", json={"paused": True, "directory": "talks"})
    assert (patched.status, patched.body["paused"], patched.body["directory"]) == (200, True, "/talks")
    assert patched.body["next_check_at"] is None
    assert (await api.get("/subscriptions")).body == [patched.body]
    again = await api.ask("PATCH", "/subscriptions/1", json=patched.body | {"paused": False})
    assert again.body["paused"] is False
    assert (await api.ask("POST", "/Subscription", json={"url": URL})).body["id"] == 2
    ended = await api.ask("DELETE", "/SUBSCRIPTION/1")
    assert (ended.status, ended.body["id"]) == (200, 1)
    assert [one["id"] for one in (await api.get("/Subscriptions")).body] == [2]
    assert (await api.get("/subscriptions/1")).status == 404
    await api.settled()
    assert [one["id"] for one in (await api.get("/subscriptions")).body] == [2]
    assert (await api.ask("DELETE", "/subscriptions/1")).status == 404
    assert (await api.ask("PATCH", "/subscriptions/1", json={"paused": True})).status == 404


BAD: list[tuple[Any, str]] = [
    ({}, "url"),
    ({"url": "file:///etc/passwd"}, "http"),
    ({"url": "http://169.254.169.254/latest"}, "url"),
    ({"url": URL, "interval": 1}, "interval"),
    ({"url": URL, "filter": "("}, "filter"),
    ({"url": URL, "directory": "../x"}, "directory"),
    ({"url": URL, "options": {"nonsense": 1}}, "options.nonsense"),
    ({"url": URL, "backlog": -1}, "backlog"),
    ({"url": URL, "every": 3}, "Unknown every"),
    ({"type": "video", "attributes": {"url": URL}}, "`type`"),
]


async def test_bad_requests_are_refused_with_words(api: Api) -> None:
    """400 that names what is wrong; there is nothing then."""
    for body, words in BAD:
        answer = await api.ask("POST", "/subscriptions", json=body)
        assert (answer.status, words in answer.body["error"]) == (400, True), (body, answer)
    assert (await api.get("/subscriptions")).body == []


async def test_with_redis_down(own_api: Api, own_redis: RedisServer) -> None:
    """Nothing is half accepted, and what is known is shown."""
    await own_api.settled()
    assert (await own_api.ask("POST", "/subscriptions", json={"url": URL})).status == 200
    await own_api.settled()
    own_redis.stop()
    assert (await own_api.ask("POST", "/subscriptions", json={"url": URL})).status == 503
    assert (await own_api.ask("PATCH", "/subscriptions/1", json={"paused": True})).status == 503
    assert (await own_api.ask("DELETE", "/subscriptions/1")).status == 503
    assert [one["id"] for one in (await own_api.get("/subscriptions")).body] == [1]
    assert (await own_api.get("/subscriptions/1")).body["paused"] is False
    own_redis.start()


async def test_without_tables_one_is_known_from_the_log(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """A number just given out is never unknown."""
    async with running_api(make_settings(redis_url=redis_url), projections=False) as api:
        number = (await api.ask("POST", "/subscriptions", json={"url": URL})).body["id"]
        assert (await api.get(f"/subscriptions/{number}")).status == 200
        assert (await api.get("/subscriptions/99")).status == 404

"""Subscriptions: lists are looked at on time, by one process, and what is new in them is asked for, once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.download_requests import Requests
from processors.ports import FetchFailure, ListEntry
from processors.storage.subscription_files import SubscriptionFiles
from processors.subscription_restoring import SubscriptionRestorer
from processors.title_filter import FilterError, matching
from streams.entries import new_event
from streams.errors import LogUnavailableError, NotFoundError, RejectedError
from streams.events import (
    DownloadConfigChanged,
    SubscriptionChecked,
    SubscriptionCheckFailed,
    SubscriptionCreated,
    SubscriptionDue,
)
from streams.identity import DOWNLOAD_CONFIG, subscription_subject
from streams.log import Log, open_log
from streams.settings import Settings
from streams.subscriptions import MAX_SEEN, Subscription, folded, known_as
from tests.processors.subscribing import FEED, World, entries, entry, world
from tests.servers import RedisServer
from tests.streams.driving import eventually

OFTEN = 0.3
"""Seconds between two looks."""


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(partitions=4, lease_ttl=1.5, drain=5.0, subscription_min_interval=0.2)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
async def here(settings: Settings, log: Log) -> AsyncIterator[World]:
    async with world(settings, log) as made:
        yield made


# ---------------------------------------------------------------- what is new


async def test_what_is_new_is_asked_for_and_nothing_else(here: World) -> None:
    """Given a list, then its backlog is fetched, and later what comes, the oldest first, with all that was said."""
    here.lists.lists[FEED] = entries("c", "b", "a")
    asked = await here.requests.create(
        {"url": FEED, "interval": OFTEN, "backlog": 1, "directory": "/talks", "options": {"max_height": 720}}
    )
    assert (asked.number, asked.title, asked.checked) == (1, "", None)
    async with here.working():
        first = await here.looked(1, 1)
        assert await here.names() == ["c"]
        assert first.seen == ("Site c", "Site b", "Site a")
        here.lists.lists[FEED] = entries("e", "d", "c", "b", "a")
        await eventually(lambda: here.names_are(["c", "d", "e"]))
        now = await here.looked(1, (await here.now(1)).looked + 2)
    assert await here.names() == ["c", "d", "e"]
    assert (now.title, now.entries, now.found, now.error) == ("A list", 5, 3, None)
    last = (await here.downloads())[-1]
    assert (last.subscription, last.entry, last.title) == (1, "Site e", "Title of e")
    assert (last.directory, last.options) == ("/talks", {"max_height": 720})
    assert {config.max_height for _, config in here.lists.asked} == {720}


async def test_first_look_takes_nothing_unless_told(here: World) -> None:
    here.lists.lists[FEED] = entries("b", "a")
    await here.requests.create({"url": FEED})
    async with here.working():
        now = await here.looked(1, 1)
    assert await here.names() == []
    assert now.seen == ("Site b", "Site a")
    assert now.interval == here.settings.subscription_interval


async def test_looks_are_on_time(here: World) -> None:
    """Given an interval, then no look comes before it is over, and none much later."""
    here.lists.lists[FEED] = entries("a")
    await here.requests.create({"url": FEED, "interval": 1.0})
    async with here.working():
        await here.looked(1, 3)
    due = [one.time for one in await here.history(1) if isinstance(one.event, SubscriptionDue)]
    gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(due)]
    assert all(1.0 <= gap < 3.0 for gap in gaps), gaps


async def test_only_titles_that_match_are_taken(here: World) -> None:
    here.lists.lists[FEED] = [entry("b", "Talk: streams"), entry("a", "Trailer"), entry("z", "talk: nothing")]
    await here.requests.create({"url": FEED, "filter": "^Talk", "backlog": 10})
    async with here.working():
        now = await here.looked(1, 1)
    assert await here.names() == ["b"]
    assert len(now.seen) == 3


async def test_filter_that_would_take_for_ever_is_ended_and_said(here: World) -> None:
    """Given a regular expression that explodes, then the look fails with a reason, and a better one goes on."""
    here.lists.lists[FEED] = [entry("a", "a" * 60 + "!")]
    await here.requests.create({"url": FEED, "filter": "(a+)+$", "backlog": 1, "interval": OFTEN})
    async with here.working():
        now = await here.looked(1, 1)
        assert "takes too long" in (now.error or "")
        await here.requests.change(1, {"filter": "a+!$", "interval": OFTEN})
        await here.requests.look(1)
        await eventually(lambda: here.names_are(["a"]))


async def test_filters_are_looked_at_apart() -> None:
    assert await matching("", ["x"]) == [True]
    assert await matching("ä|[0-9]{2}", ["Bär", "a1", "a12", "\udcff12"]) == [True, False, True, True]
    with pytest.raises(FilterError, match="cannot be used"):
        await matching("(", ["x"])


async def test_what_was_fetched_before_is_not_asked_for(here: World) -> None:
    """Given an entry that another download fetched, its picture or only its sound, then that one is left out."""
    here.lists.lists[FEED] = [*entries("b", "a"), entry("c", key=None)]
    here.archive.there = {"Site a", "Site b (audio)", "https://example.org/c"}
    await here.requests.create({"url": FEED, "backlog": 9})
    await here.requests.create({"url": FEED, "backlog": 9, "options": {"audio_only": True}})
    async with here.working():
        await here.looked(1, 1)
        await here.looked(2, 1)
    asked = [(one.subscription, one.url.rpartition("/")[2]) for one in await here.downloads()]
    assert sorted(asked) == [(1, "b"), (1, "c"), (2, "a"), (2, "c")]


async def test_what_only_moved_up_is_not_new(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Given a list longer than what is read of it, when an entry goes and an old one moves up, then it is not fetched."""
    settings = make_settings(partitions=4, lease_ttl=1.5, subscription_min_interval=0.2, subscription_entries=3)
    async with open_log(settings, redis_url) as log, world(settings, log) as here:
        here.lists.lists[FEED] = entries("e", "d", "c", "b", "a")
        await here.requests.create({"url": FEED, "interval": OFTEN})
        async with here.working():
            assert (await here.looked(1, 1)).seen == ("Site e", "Site d", "Site c")
            here.lists.lists[FEED] = entries("f", "e", "c", "b", "a")
            await eventually(lambda: here.names_are(["f"]))
            here.lists.lists[FEED] = entries("e", "c", "b", "a")
            now = await here.looked(1, (await here.now(1)).looked + 2)
        assert await here.names() == ["f"]
        assert set(now.seen) == {"Site f", "Site e", "Site d", "Site c", "Site b"}


async def test_entries_that_cannot_be_fetched_are_left_out(here: World) -> None:
    here.lists.lists[FEED] = [
        entry("a"),
        ListEntry("javascript:alert(1)", None, "not a URL"),
        ListEntry("https://example.org/" + "x" * 5000, None, "too long"),
    ]
    await here.requests.create({"url": FEED, "backlog": 9})
    async with here.working():
        now = await here.looked(1, 1)
    assert await here.names() == ["a"]
    assert len(now.seen) == 3


# ---------------------------------------------------------------- failures


async def test_list_that_cannot_be_read_is_tried_again_later_each_time(here: World) -> None:
    here.lists.lists[FEED] = FetchFailure("gone", "HTTP Error 404: Not Found", "Is the address right?")
    await here.requests.create({"url": FEED, "interval": OFTEN})
    async with here.working():
        now = await here.looked(1, 3)
        assert now.failures >= 3
        assert now.error == "HTTP Error 404: Not Found Is the address right?"
        assert (now.next_look - now.due).total_seconds() >= 4 * OFTEN if now.due else False
        here.lists.lists[FEED] = entries("a")
        await here.requests.look(1)
        await eventually(lambda: here.checked(1))
        now = await here.now(1)
    assert (now.failures, now.error) == (0, None)


async def test_look_ends_when_the_worker_drains(here: World) -> None:
    """Given a list that takes for ever, when the worker stops, then it stops soon, and the next one looks."""
    here.lists.lists[FEED] = entries("a")
    here.lists.slow.clear()
    await here.requests.create({"url": FEED, "backlog": 1})
    async with here.working():
        await eventually(lambda: here.lists.asked)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    here.lists.slow.set()
    async with here.working("two"):
        await here.looked(1, 1)
    assert await here.names() == ["a"]


async def test_few_lists_are_read_at_a_time(here: World) -> None:
    """Given twenty subscriptions that are due at once, then two lists are read side by side, and all are looked at."""
    for number in range(20):
        here.lists.lists[f"{FEED}/{number}"] = entries("a")
        await here.requests.create({"url": f"{FEED}/{number}"})
    async with here.working():
        for number in range(1, 21):
            await here.looked(number, 1)
    assert here.lists.most_at_once == 2


async def test_two_that_find_the_same_due_do_no_harm(here: World) -> None:
    here.lists.lists[FEED] = entries("a")
    await here.requests.create({"url": FEED})
    await eventually(lambda: here.catalogue.subscription(1))
    await asyncio.gather(here.tick(), here.tick(), here.tick())
    await here.tick()
    assert [one.type for one in await here.history(1)] == ["SubscriptionCreated", "SubscriptionDue"]


# ---------------------------------------------------------------- what people say


async def test_paused_ones_wait_and_are_looked_at_on_request(here: World) -> None:
    here.lists.lists[FEED] = entries("a")
    await here.requests.create({"url": FEED, "interval": OFTEN})
    assert (await here.requests.change(1, {"paused": True})).paused
    async with here.working():
        await asyncio.sleep(3 * OFTEN)
        assert (await here.now(1)).check == 0
        await here.requests.look(1)
        assert (await here.looked(1, 1)).check == 1
        changed = await here.requests.change(1, {"paused": False, "filter": "x", "directory": "/x", "interval": 5})
        assert (changed.filter, changed.directory, changed.interval, changed.changes) == ("x", "/x", 5.0, 2)


async def test_removed_ones_are_looked_at_no_more(here: World) -> None:
    here.lists.lists[FEED] = entries("a")
    await here.requests.create({"url": FEED, "interval": OFTEN})
    async with here.working():
        await here.looked(1, 1)
        await here.requests.remove(1)
        version = await here.log.version(subscription_subject(1))
        await asyncio.sleep(3 * OFTEN)
        assert await here.log.version(subscription_subject(1)) == version
    assert await here.catalogue.subscriptions() == []
    for wish in (here.requests.look(1), here.requests.remove(1), here.requests.change(1, {"paused": True})):
        with pytest.raises(NotFoundError):
            await wish
    with pytest.raises(NotFoundError):
        await here.requests.look(77)


async def test_changes_at_once_are_all_made(here: World) -> None:
    await here.requests.create({"url": FEED})
    await asyncio.gather(
        here.requests.change(1, {"paused": True}),
        here.requests.change(1, {"filter": "x"}),
        here.requests.change(1, {"directory": "/x"}),
    )
    now = await here.now(1)
    assert (now.paused, now.filter, now.directory, now.changes) == (True, "x", "/x", 3)


async def test_directory_is_the_configured_one_unless_named(here: World) -> None:
    changed = DownloadConfigChanged(change=1, config={"directory": "/inbox"}, preferences={})
    await here.log.append(new_event(DOWNLOAD_CONFIG, changed, source="test"))
    assert (await here.requests.create({"url": FEED})).directory == "/inbox"
    assert (await here.requests.create({"url": FEED, "directory": "/"})).directory == "/"


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ({}, "url"),
        ({"url": "file:///etc/passwd"}, "http"),
        ({"url": FEED, "interval": 0.1}, "SPOOLHOUSE_SUBSCRIPTION_MIN_INTERVAL"),
        ({"url": FEED, "interval": float("inf")}, "interval"),
        ({"url": FEED, "filter": "("}, "regular expression"),
        ({"url": FEED, "filter": "x" * 501}, "filter"),
        ({"url": FEED, "directory": "../etc"}, "directory"),
        ({"url": FEED, "backlog": -1}, "backlog"),
        ({"url": FEED, "options": {"format": ""}}, "options.format"),
        ({"url": FEED, "colour": "blue"}, "colour"),
    ],
)
async def test_nonsense_is_refused_with_a_reason(here: World, wish: dict[str, Any], fault: str) -> None:
    with pytest.raises(RejectedError, match=fault) as refused:
        await here.requests.create(wish)
    assert refused.value.status == 400
    assert await here.log.version("registry:subscriptions") == 0


async def test_nothing_to_change_is_refused(here: World) -> None:
    await here.requests.create({"url": FEED})
    with pytest.raises(RejectedError, match="nothing to change"):
        await here.requests.change(1, {})


# ---------------------------------------------------------------- nothing is lost


async def test_key_makes_a_repeat_harmless(here: World) -> None:
    for _ in range(2):
        assert (await here.requests.create({"url": FEED}, key="mine")).number == 1
    assert len(await here.history(1)) == 1


async def test_what_was_asked_for_is_told_later_where_the_log_went_away(here: World) -> None:
    """Given a subscription that was kept just as its process died, then the timer tells the log of it."""
    event = SubscriptionCreated(
        number=1, key="k", url=FEED, interval=60, filter="", directory="/", options={}, backlog=0
    )
    files = SubscriptionFiles(here.settings.subscription_requests)
    assert files.ask(new_event(subscription_subject(1), event, source="subscriptions", expected=0))
    here.lists.lists[FEED] = entries("a")
    async with here.working():
        await here.looked(1, 1)
    assert files.waiting() == []
    assert [new.event for new in files.all()] == [event]


async def test_with_redis_down_nothing_is_accepted(settings: Settings, own_redis: RedisServer) -> None:
    async with open_log(settings, own_redis.url) as log, world(settings, log) as here:
        own_redis.stop()
        with pytest.raises(LogUnavailableError):
            await here.requests.create({"url": FEED, "directory": "/"})
        assert not settings.subscription_requests.exists()


async def test_log_that_lost_everything_has_them_back(settings: Settings, redis_server: RedisServer) -> None:
    """Given a log that lost its tail, then subscriptions have their numbers and changes again, and what came since is
    asked for, also where the first look was lost; nothing is asked for twice.
    """
    async with open_log(settings, redis_server.url) as log, world(settings, log) as here:
        here.lists.lists[FEED] = entries("b", "a")
        for backlog in range(3):
            await here.requests.create({"url": FEED, "backlog": backlog, "interval": 3600})
        await here.requests.change(2, {"filter": "Title"})
        async with here.working():
            for number in (1, 2, 3):
                await here.looked(number, 1)
        await here.requests.remove(1)
        before = await here.downloads()
    redis_server.flush()
    (settings.data / "catalogue.sqlite3").unlink()
    async with open_log(settings, redis_server.url) as log:
        await log.prepare()
        assert await Requests(log, settings).restore() == 2 * len(before)
        restorer = SubscriptionRestorer(log, settings)
        assert await restorer.restore() == 3 + 3 + 2
        assert await restorer.restore() == 0
        async with world(settings, log) as here:
            here.lists.lists[FEED] = entries("c", "b", "a")
            assert (await here.requests.create({"url": "https://example.org/other"})).number == 4
            assert (await here.now(1)).removed
            assert (await here.now(2)).filter == "Title"
            async with here.working():
                await here.looked(2, 1)
                await here.looked(3, 1)
            after = await here.downloads()
            assert after[: len(before)] == before
            assert sorted((one.subscription, one.entry) for one in after[len(before) :]) == [
                (2, "Site c"),
                (3, "Site c"),
            ]


async def test_number_that_was_given_out_before_is_not_given_to_another(
    settings: Settings, redis_server: RedisServer
) -> None:
    """Given a log that lost its tail and was not put right yet, then a new subscription takes no other's place."""
    async with open_log(settings, redis_server.url) as log, world(settings, log) as here:
        for _ in range(2):
            await here.requests.create({"url": FEED})
    redis_server.flush()
    (settings.data / "catalogue.sqlite3").unlink()
    async with open_log(settings, redis_server.url) as log, world(settings, log) as here:
        await log.prepare()
        assert (await here.requests.create({"url": FEED + "/new"})).number == 3
        await SubscriptionRestorer(log, settings).restore()
        assert [(await here.now(number)).url for number in (1, 2, 3)] == [FEED, FEED, FEED + "/new"]


# ---------------------------------------------------------------- the fold


def recorded(event: Any, ver: int, at: float) -> Any:
    from streams.codec import Recorded

    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    return Recorded(0, ver, f"id-{ver}", type(event).__name__, "subscription:1", ver, time, "test", None, "c", event)


def after(*events: Any) -> Subscription:
    first = SubscriptionCreated(
        number=1, key="k", url=FEED, interval=100, filter="", directory="/", options={}, backlog=0
    )
    subscription = None
    for ver, event in enumerate((first, *events), 1):
        subscription = folded(subscription, recorded(event, ver, 10.0 * ver))
    assert subscription is not None
    return subscription


def checked(number: int, *seen: str) -> SubscriptionChecked:
    return SubscriptionChecked(check=number, title="t", entries=1, seen=seen, numbers=())


def test_pause_between_looks_grows_with_failures_and_has_an_end() -> None:
    events: list[Any] = []
    pauses = []
    for check in range(1, 20):
        events += [
            SubscriptionDue(check=check, reason=""),
            SubscriptionCheckFailed(check=check, kind="gone", reason="it is gone"),
        ]
        now = after(*events)
        assert now.due is not None
        pauses.append((now.next_look - now.due).total_seconds())
    assert all(100 <= pause <= 110 for pause in pauses[:1])
    assert 200 <= pauses[1] <= 220
    assert max(pauses) <= 86_400 * 1.1
    events += [SubscriptionDue(check=20, reason=""), checked(20)]
    now = after(*events)
    assert now.due is not None
    assert (now.next_look - now.due).total_seconds() <= 110


def test_looks_are_spread_and_nothing_heard_is_waited_for() -> None:
    spread = {after(*[SubscriptionDue(check=n, reason="") for n in range(1, k + 1)], checked(k)).next_look.microsecond
              for k in range(1, 20)}  # fmt: skip
    assert len(spread) > 15
    waiting = after(SubscriptionDue(check=1, reason=""))
    assert waiting.due is not None
    assert (waiting.next_look - waiting.due).total_seconds() == 86_400


def test_what_was_seen_is_bounded_and_the_newest_first() -> None:
    looks = [checked(n, *(f"Site {n}-{index}" for index in range(500))) for n in range(1, 13)]
    now = after(*looks)
    assert len(now.seen) == MAX_SEEN
    assert now.seen[0] == "Site 12-0"
    assert now.seen[-1] == "Site 3-499"
    assert after(*looks, checked(13, "Site 3-499")).seen[0] == "Site 3-499"


@pytest.mark.parametrize(
    "name", ["Site 1", "x" * 65, "ä" * 33, "bad\udcff", "new\nline", "https://example.org/" + "y" * 500]
)
def test_what_an_entry_is_known_as_is_short_and_printable(name: str) -> None:
    known = known_as(name, "https://example.org/other")
    assert len(known.encode()) <= 64
    assert known.isprintable()
    assert known_as(None, name) == known

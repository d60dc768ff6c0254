"""`WS /ws/{client_id}`: the state first, then every change, each once, to whom it belongs."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from api.listeners import Listener
from api.live import LIVE
from streams.entries import new_event
from streams.errors import LogUnavailableError
from streams.progress import Progress, Publisher
from streams.settings import Settings
from tests.api.running import Api, running_api, until
from tests.api.test_outages import listens, process
from tests.api.watching import Watcher, say, send, watching
from tests.projections.enhancing import attempt_failed, completed, failed, probed, rendition, requested, started
from tests.projections.happenings import stored
from tests.servers import MariaDBServer, RedisServer, free_port

ENHANCEMENT, EXTRACTION = "video-enhancement", "metadata-extraction"


async def came_in(api: Api, n: int, client: str | None = "me", **changes: Any) -> str:
    """An upload as the log has it; its id."""
    video, event = stored(n, client_id=client, enhance=True, **changes)
    await say(api.services.log, video, event)
    return video


async def test_a_client_hears_of_its_files(api: Api, clip: Path) -> None:
    """From the upload to the end, over a socket that was open before."""
    async with watching(api) as me:
        file_id = (await send(api, clip)).body["file_id"]
        first = await me.read()
        assert set(first) >= {"type", "file_id", "task", "status", "progress", "message", "time"}
        assert (first["type"], first["file_id"], first["status"], first["progress"]) == ("status", file_id, "queued", 0)
        assert first["filename"] == "Ferien äöü.mp4"
        await say(api.services.log, file_id, probed(), started())
        told = await me.until_status("processing")
        assert "does not play in browsers" in told["message"]
        await say(api.services.log, file_id, rendition(file_id), completed("x"))
        assert (await me.until_status("completed"))["progress"] == 100
        assert sorted(me.statuses(file_id)) == sorted(
            [(task, "queued") for task in (ENHANCEMENT, EXTRACTION, "previews")]
            + [(EXTRACTION, "completed"), (ENHANCEMENT, "processing"), (ENHANCEMENT, "completed")]
        )


async def test_a_new_connection_gets_the_state_first(api: Api) -> None:
    """What moved last comes last; then changes."""
    log = api.services.log
    one, two = await came_in(api, 1), await came_in(api, 2)
    await say(log, one, started(), failed("no picture decodes"))
    await api.settled()
    async with watching(api) as me:
        for _ in range(6):
            await me.read()
        assert dict(me.statuses(one)) == {ENHANCEMENT: "failed", EXTRACTION: "queued", "previews": "queued"}
        assert dict(me.statuses(two)) == {ENHANCEMENT: "queued", EXTRACTION: "queued", "previews": "queued"}
        assert (me.told[-1]["file_id"], me.told[-1]["error"]) == (one, "no picture decodes")
        await say(log, two, started())
        assert (await me.read())["status"] == "processing"
    # The same again: the state is that of now.
    async with watching(api) as me:
        told = [await me.read() for _ in range(6)]
        assert (told[-1]["file_id"], told[-1]["status"]) == (two, "processing")


async def test_clients_hear_of_their_own_files_only_unless_they_ask(api: Api) -> None:
    """`?all=1`: everyone's, and those that are nobody's."""
    mine, yours, no_ones = await came_in(api, 1, "me"), await came_in(api, 2, "you"), await came_in(api, 3, None)
    async with watching(api) as me, watching(api, path="/ws/page?all=1") as page:
        await page.until(lambda _: len(page.told) == 9)
        for video in (yours, no_ones, mine):
            await say(api.services.log, video, started())
        assert (await me.until_status("processing"))["file_id"] == mine
        assert {one["file_id"] for one in me.told} == {mine}
        await page.until(lambda one: (one["file_id"], one["status"]) == (mine, "processing"))
        assert {one["file_id"] for one in page.told if one["status"] == "processing"} == {mine, yours, no_ones}


async def test_a_rendition_is_nobodys_file(api: Api) -> None:
    """It has a history of its own, of which no one hears."""
    async with watching(api, path="/ws/page?all=1") as page:
        mine = await came_in(api, 1)
        made = await came_in(api, 2, door="rendition", rendition_of=mine)
        await say(api.services.log, made, probed())
        await say(api.services.log, mine, probed())
        await page.until_status("completed", EXTRACTION)
        assert {one["file_id"] for one in page.told} == {mine}


async def test_without_a_worker_the_state_is_known_all_the_same(
    make_settings: Callable[..., Settings], redis_url: str
) -> None:
    """The tables are not even made: the log says how things stand."""
    async with running_api(make_settings(redis_url=redis_url), projections=False) as api:
        video = await came_in(api, 1)
        await say(api.services.log, video, started())
        async with watching(api) as me:
            await me.until_status("processing")
            assert len(me.told) == 3


async def test_nothing_is_lost_or_doubled_around_a_connection(api: Api, rng: random.Random) -> None:
    """Clients come at any moment while things happen: each hears every change from its state on, once."""
    log, videos, count = api.services.log, [await came_in(api, n) for n in range(3)], 150
    heard: list[dict[str, list[int]]] = []

    async def listen() -> None:
        await asyncio.sleep(rng.random() * 2)
        numbers: dict[str, list[int]] = {}
        async with watching(api, path=rng.choice(["/ws/me", "/ws/page?all=1"])) as me:
            while not all(numbers.get(video, [0])[-1] == count for video in videos):
                told = await me.read()
                if told["task"] == ENHANCEMENT:
                    words = told["message"].split()
                    numbers.setdefault(told["file_id"], []).append(int(words[1]) if words[0] == "attempt" else 0)
        heard.append(numbers)

    async def happen(video: str) -> None:
        for attempt in range(1, count + 1):
            await say(log, video, attempt_failed("enhance", attempt))
            await asyncio.sleep(rng.random() * 0.02)

    async with asyncio.timeout(120):
        await asyncio.gather(*(listen() for _ in range(25)), *(happen(video) for video in videos))
    assert len(heard) == 25
    for numbers in heard:
        for told in numbers.values():
            assert all(after == before + 1 for before, after in pairwise(told)), told


async def test_progress_is_told_while_it_moves(api: Api) -> None:
    """To the file's client; of what ended, no more."""
    log = api.services.log
    publisher = Publisher(log.redis, log.keys)
    async with watching(api) as me, watching(api, "you") as you:
        video = await came_in(api, 1)
        await say(log, video, started())
        await me.until_status("processing")

        async def move(percent: float) -> None:
            while True:
                await publisher.tell(Progress(video, ENHANCEMENT, percent, f"{percent} of it"))
                await asyncio.sleep(0.1)

        moving = asyncio.create_task(move(12.34))
        told = await me.until(lambda one: one["type"] == "progress")
        assert (told["file_id"], told["task"], told["status"]) == (video, ENHANCEMENT, "processing")
        assert (told["progress"], told["message"]) == (12.3, "12.34 of it")
        # A status says how far it was, too.
        async with watching(api) as late:
            assert (await late.until_status("processing"))["progress"] == 12.3
        await say(log, video, completed("x"))
        await me.until_status("completed")
        moving.cancel()
        await say(log, video, requested())
        assert (await me.until_status("queued"))["progress"] == 0
        await came_in(api, 2, "you")
        assert (await you.read())["type"] == "status"
        assert all(one["file_id"] != video for one in you.told)


# ---------------------------------------------------------------- who may, and what is overlooked


async def test_origins(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Our own page, those that the settings name, and programs, which send none; 403 before the upgrade else."""
    settings = make_settings(redis_url=redis_url, ws_origins="https://app.example, http://other.example:8080")
    async with running_api(settings) as api:
        own = f"http://127.0.0.1:{api.port}"
        for origin in (None, own, own.replace("http", "https"), "https://APP.example", "http://other.example:8080"):
            async with watching(api, headers={"Origin": origin} if origin else {}) as me:
                await came_in(api, 1)
                await me.read()
        for origin in (
            "https://evil.example",
            "null",
            "http://other.example",
            f"http://127.0.0.1:{api.port}.evil.example",
            "",
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await api.session.ws_connect(f"{api.url}/ws/me", headers={"Origin": origin})
            assert refused.value.status == 403, origin
        answer = await api.get("/ws/me", headers={"Origin": "https://evil.example"})
        assert (answer.status, answer.body["success"]) == (403, False)
        assert "SPOOLHOUSE_WS_ORIGINS" in answer.body["error"]


async def test_any_origin_where_that_is_wanted(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """`*`."""
    async with running_api(make_settings(redis_url=redis_url, ws_origins="*")) as api:
        async with watching(api, headers={"Origin": "https://anyone.example"}) as me:
            await came_in(api, 1)
            await me.read()


@pytest.mark.parametrize("client", ["x" * 129, "x" * 5000, "x" * 10_000, "a%0Ab", "a%00b"])
async def test_client_ids_that_are_none(api: Api, client: str) -> None:
    """400 before the upgrade."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await api.session.ws_connect(f"{api.url}/ws/{client}")
    assert refused.value.status == 400


async def test_client_ids_of_any_characters(api: Api) -> None:
    """128 of them, a slash among them."""
    client = "ä/ " + "日" * 125
    await came_in(api, 1, client)
    async with api.session.ws_connect(URL(f"{api.url}/ws/{quote(client, safe='')}", encoded=True)) as socket:
        assert (await Watcher(socket).read())["status"] == "queued"


async def test_a_request_that_is_no_websocket(api: Api) -> None:
    """426, and words."""
    answer = await api.get("/ws/me")
    assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    assert (await api.get("/ws/me?every=1")).status == 400


async def test_what_a_client_says(api: Api) -> None:
    """Overlooked; `ping` is answered; more than 4 KiB closes with 1009."""
    async with watching(api) as me:
        for text in ("hello", "{", "\0", "x" * 4000, "ping"):
            await me.socket.send_str(text)
        await me.socket.send_bytes(b"\xff\xfe")
        assert await me.read() == {"type": "pong"}
        video = await came_in(api, 1)
        assert (await me.read())["file_id"] == video
        await me.socket.send_str("x" * 5000)
        assert await me.closed() == 1009


async def test_its_answers_carry_what_all_answers_do(api: Api) -> None:
    """The request's id, and CORS."""
    async with api.session.ws_connect(f"{api.url}/ws/me", headers={"X-Request-ID": "abc-1"}) as socket:
        headers = socket._response.headers
        assert headers["X-Request-ID"] == "abc-1"
        assert headers["X-Content-Type-Options"] == "nosniff"


# ---------------------------------------------------------------- slow clients, outages, ends


async def deaf(api: Api | int, path: str = "/ws/deaf?all=1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that shakes hands and never reads another byte."""
    port = api if isinstance(api, int) else api.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
    writer.write(
        (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    return reader, writer


async def test_fifty_that_never_read_slow_no_one(api: Api) -> None:
    """One that reads hears everything, promptly, while they are stuck."""
    log, video, batch = api.services.log, await came_in(api, 1), 100
    stuck = [await deaf(api) for _ in range(50)]
    async with watching(api) as me:
        await me.until_status("queued")
        loop, waits, count = asyncio.get_running_loop(), [], 0
        # What the kernel takes for someone who does not read is full after some megabytes.
        while count < 10 * batch or not all(waits_for(listener) for listener in deaf_ones(api)):
            assert count < 100 * batch
            events = [failed(f"{count + n} {'x' * 3900}", preset=f"p{count + n}") for n in range(batch)]
            began = loop.time()
            await log.append_all([new_event(video, event, source="enhance") for event in events])
            count += batch
            last = f"{count - 1} "
            await me.until(lambda one, last=last: (one["error"] or "").startswith(last))  # type: ignore[misc]
            waits.append(loop.time() - began)
        assert len(me.statuses(video)) == count + 3
        # A hundred to each of 51.
        assert sorted(waits)[len(waits) // 2] < 5
        # One alone, with all of them stuck.
        began = loop.time()
        await say(log, video, completed("x"))
        await me.until_status("completed")
        assert loop.time() - began < 5
    for _, writer in stuck:
        writer.transport.abort()
    await until(lambda: api.app[LIVE].listeners == 0)


def deaf_ones(api: Api) -> list[Listener]:
    """Those who listen to everyone, and do not read."""
    return [one for one in api.app[LIVE]._listeners if one.everyone]


def waits_for(listener: Listener) -> bool:
    """Whether something waits for a client that it has not taken."""
    return len(listener._statuses) > 0


async def test_a_client_too_far_behind_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statuses are never dropped: the connection is; a new one gets the current state."""
    monkeypatch.setattr("api.listeners.MAX_WAITING", 20)
    log, video = api.services.log, await came_in(api, 1)
    await api.settled()
    _, writer = await deaf(api, "/ws/me")
    gone = asyncio.Event()

    async def pile_up() -> None:
        n = 0
        while not gone.is_set():
            n += 50
            events = [failed("x" * 4000, preset=f"p{n + at}") for at in range(50)]
            await log.append_all([new_event(video, event, source="enhance") for event in events])

    piling = asyncio.create_task(pile_up())

    async def cut_off() -> bool:
        # Nobody reads: whether the server gave up is seen by writing to it.
        writer.write(b"\x89\x80\0\0\0\0")
        try:
            await asyncio.wait_for(writer.drain(), 5)
        except ConnectionError:
            return True
        return writer.transport.is_closing()

    await until(cut_off, 100)
    gone.set()
    await piling
    await say(log, video, completed("x"))
    async with watching(api) as me:
        assert (await me.until_status("completed"))["file_id"] == video
        assert len(me.statuses(video)) <= 3 + 2
    writer.close()
    await until(lambda: api.app[LIVE].listeners == 0)


async def test_too_many_waiting_ends_with_1013(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever still reads is told why."""
    log, video = api.services.log, await came_in(api, 1)
    async with watching(api) as me:
        await me.until_status("queued")
        monkeypatch.setattr("api.listeners.MAX_WAITING", 0)
        await say(log, video, started())
        assert await me.closed() == 1013
    monkeypatch.undo()
    async with watching(api) as me:
        await me.until_status("processing")


async def test_redis_restarted_in_between(own_api: Api, own_redis: RedisServer) -> None:
    """The socket stays open, and hears of what is appended afterwards; nothing is lost or doubled."""
    api, log = own_api, own_api.services.log
    video = await came_in(api, 1)
    async with watching(api) as me, watching(api, path="/ws/page?all=1") as page:
        for one in (me, page):
            await one.until(lambda _, one=one: len(one.told) == 3)  # type: ignore[misc]
        for turn in range(3):
            own_redis.restart(kill=turn % 2 == 1)

            async def again(turn: int = turn) -> bool:
                try:
                    await say(log, video, attempt_failed("enhance", turn))
                except LogUnavailableError:
                    return False
                return True

            await until(again)
            for one in (me, page):
                await one.until(lambda told, turn=turn: told["message"].startswith(f"attempt {turn} "))  # type: ignore[misc]
        for one in (me, page):
            assert len(one.statuses(video)) == 3 + 3


async def test_a_socket_that_was_opened_while_redis_was_down(own_api: Api, own_redis: RedisServer) -> None:
    """It is told what the catalogue knows, and goes on once Redis is back."""
    api, log = own_api, own_api.services.log
    video = await came_in(api, 1)
    await api.settled()
    own_redis.kill()
    async with watching(api) as me:
        await me.until(lambda _: len(me.told) == 3)
        own_redis.start()
        await until(log.ping)
        await say(log, video, started())
        await me.until_status("processing")
        assert len(me.statuses(video)) == 4


async def test_a_log_that_lost_its_tail_ends_all_sockets(own_api: Api, own_redis: RedisServer) -> None:
    """1012: what was told may not be so any more. Whoever comes again hears of what is."""
    api = own_api
    await came_in(api, 1)
    async with watching(api) as me:
        await me.until_status("queued")
        own_redis.flush()
        assert await me.closed() == 1012


async def test_a_reconnect_gets_the_state(api: Api) -> None:
    """However often, and after however rude an end; nobody is left behind in the hub."""
    log, video = api.services.log, await came_in(api, 1)
    for turn in range(10):
        await say(log, video, attempt_failed("enhance", turn))
        async with watching(api) as me:
            await me.until(lambda one, turn=turn: one["message"].startswith(f"attempt {turn} "))  # type: ignore[misc]
            if turn % 2:
                assert me.socket._response.connection is not None
                transport = me.socket._response.connection.transport
                assert transport is not None
                transport.abort()
    await until(lambda: api.app[LIVE].listeners == 0)


async def test_a_peer_that_died_is_noticed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no ping: its socket is closed, whatever still waits for it."""
    monkeypatch.setattr("api.handlers.live.HEARTBEAT", 0.3)
    _, writer = await deaf(api)
    await until(lambda: api.app[LIVE].listeners == 1)
    await until(lambda: api.app[LIVE].listeners == 0)
    writer.close()


async def test_a_catalogue_that_is_down(
    make_settings: Callable[..., Settings], redis_url: str, own_mariadb: MariaDBServer
) -> None:
    """Changes are told all the same; what was before follows once it can be known."""
    settings = make_settings(redis_url=redis_url, catalogue_url=own_mariadb.new_database("down"))
    async with running_api(settings) as api:
        before, video = await came_in(api, 1), await came_in(api, 2)
        await api.settled()
        own_mariadb.kill()
        async with watching(api) as me:
            await until(api.app[LIVE]._following.is_set)
            await say(api.services.log, video, started())
            assert (await me.until_status("processing"))["file_id"] == video
            assert me.statuses(before) == []
            own_mariadb.start()
            await me.until(lambda _: len(me.statuses(before)) == 3)
            await me.until(lambda _: len(me.statuses(video)) == 3) if len(me.statuses(video)) < 3 else None
            assert me.statuses(video).count((ENHANCEMENT, "processing")) == 1


async def test_a_stopping_api_closes_sockets_at_once(tmp_path: Path, redis_url: str) -> None:
    """1001 to all, also to those who do not read; the drain time is for uploads."""
    port = free_port()
    with process(tmp_path, redis_url, port, SPOOLHOUSE_DRAIN="60") as running:
        await until(lambda: listens(port))
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws/me") as socket:
            writers = [(await deaf(port))[1] for _ in range(20)]
            running.send_signal(signal.SIGTERM)
            assert await Watcher(socket).closed() == 1001
            assert await asyncio.to_thread(running.wait, 20) == 0
            for writer in writers:
                writer.close()


async def test_what_should_not_happen_ends_sockets_and_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """1011; uploads go on, and so does telling once it is over."""
    monkeypatch.setattr("api.live.PAUSE", 0.1)
    video = await came_in(api, 1)
    async with watching(api) as me:
        await me.until_status("queued")
        with monkeypatch.context() as broken:
            broken.setattr("api.live.changes", lambda *_, **__: 1 / 0)
            await say(api.services.log, video, started())
            assert await me.closed() == 1011
        assert (await api.get("/healthz")).status == 200
    async with watching(api) as me:
        await me.until_status("processing")
        assert "spoolhouse_websockets 1.0" in (await api.get("/metrics")).body


async def test_two_processes_both_tell(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Whichever a client is connected to; progress as well."""
    settings = make_settings(redis_url=redis_url)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_api(settings))
        other = await stack.enter_async_context(running_api(settings, projections=False))
        here = await stack.enter_async_context(watching(one))
        there = await stack.enter_async_context(watching(other))
        video = await came_in(one, 1)
        log = other.services.log
        await say(log, video, started())
        publisher = Publisher(log.redis, log.keys)
        for watcher in (here, there):
            await watcher.until_status("processing")
            heard = asyncio.create_task(watcher.until(lambda told: told["type"] == "progress"))
            while not heard.done():
                await publisher.tell(Progress(video, ENHANCEMENT, 50, "half of it"))
                await asyncio.sleep(0.05)
            assert (await heard)["progress"] == 50

"""Downloads as the contract has them, on the whole system: curl's lines, other spellings, the WebSocket, a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.running import PATIENCE, Running, spoolhouse, until
from tests.sites import Site, open_site


def beside(work: Callable[[asyncio.Event], Any]) -> Callable[[], None]:
    """Run a coroutine in a loop and a thread of its own; what ends it."""
    ready = threading.Event()
    hold: dict[str, Any] = {}

    async def main() -> None:
        hold["loop"], hold["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await work(hold["stop"])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)

    def stop() -> None:
        hold["loop"].call_soon_threadsafe(hold["stop"].set)
        thread.join(PATIENCE)
        assert not thread.is_alive()

    return stop


@pytest.fixture
def site() -> Iterator[Site]:
    """What there is to download."""
    opened: list[Site] = []

    async def serve(stop: asyncio.Event) -> None:
        async with open_site() as one:
            opened.append(one)
            await stop.wait()

    stop = beside(serve)
    until(lambda: opened, why="the site")
    yield opened[0]
    stop()


@contextmanager
def listening(running: Running, path: str) -> Iterator[list[dict[str, Any]]]:
    """What a WebSocket is told of downloads."""
    told: list[dict[str, Any]] = []
    opened = threading.Event()

    async def listen(stop: asyncio.Event) -> None:
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.ws_connect(f"http://127.0.0.1:{running.port}{path}") as socket,
        ):
            opened.set()
            ending = asyncio.create_task(stop.wait())
            while not ending.done():
                reading = asyncio.create_task(socket.receive())
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                elif reading.result().type is aiohttp.WSMsgType.TEXT:
                    told.append(reading.result().json())

    stop = beside(listen)
    assert opened.wait(PATIENCE)
    yield told
    stop()


def ask(running: Running, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON."""
    return running.ask(method, path, None if body is None else json.dumps(body).encode(),
                       {"Content-type": "application/json"})  # fmt: skip


def add(running: Running, url: str, **more: Any) -> int:
    """Queue a URL; its number."""
    status, told = ask(running, "POST", "/videos", {"type": "video", "attributes": {"url": url, **more}})
    assert (status, told["status"]) == (200, "Pending"), told
    number: int = told["id"]
    return number


def comes_to(running: Running, number: int, status: str) -> Any:
    """Wait until a download stands so; the object."""

    def there() -> Any:
        _, told = ask(running, "GET", f"/videos/{number}")
        assert told is None or told.get("status") in {status, "Pending", "Processing", None}, told
        return told if told and told.get("status") == status else None

    return until(there, why=f"download {number} {status}")


def visible(media: Path) -> list[str]:
    """Every file of the media root."""
    return sorted(str(path.relative_to(media)) for path in media.rglob("*") if path.is_file())


def of(site: Site) -> dict[str, str]:
    """The site lies on loopback, which has to be opened by name."""
    return {"SPOOLHOUSE_DOWNLOAD_ALLOW": f"127.0.0.1:{site.port}", "SPOOLHOUSE_DOWNLOAD_RETRY": "0.5"}


def test_the_contract(site: Site, tmp_path: Path) -> None:
    """From the request to the file in Plex's form, live, off the list again, and through a restart."""
    data = tmp_path / "data"
    media = data / "media"
    with spoolhouse(data, **of(site)) as running, listening(running, "/ws/me") as told:
        # The contract's own line.
        body = {"type": "video", "attributes": {"url": site.url("/jsonld"), "directory": "", "client_id": "me"}}
        curl = subprocess.run(
            [*("curl", "-sS", "-X", "POST", f"localhost:{running.port}/videos", "--noproxy", "*"),
             *("-H", "Content-type:application/json", "-d", json.dumps(body))],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        made = json.loads(curl.stdout)
        wanted = {"id": 1, "status": "Pending", "status_message": "In-Queue", "vid_dir": "/", "file_path": None}
        assert {name: made[name] for name in wanted} == wanted
        second = ask(running, "POST", "/VIDEO", {"url": site.url("/films/2.mp4"), "directory": "work"})[1]["id"]

        done = comes_to(running, 1, "Downloaded")
        name = "A train goes by (2021)/A train goes by (2021) "
        assert done["title"] == "A train goes by"
        assert done["file_path"].startswith(str(media / name))
        of_first = [path for path in visible(media) if path.startswith(name)]
        assert [Path(path).suffix for path in of_first] == [".jpg", ".mp4", ".nfo"] or len(of_first) >= 3, of_first
        video = until(lambda: running.get(f"/api/videos/{done['video_id']}"), why="the catalogue")
        assert (video["door"], video["path"]) == ("download", done["file_path"])

        # Live: in this order, and what ended is told by the same object.
        until(lambda: told and told[-1]["status"] == "Downloaded", why="word of the end")
        statuses = [one["status"] for one in told if one["type"] == "download"]
        steps = [one for one, before in zip(statuses, ["", *statuses], strict=False) if one != before]
        assert steps[-2:] == ["Processing", "Downloaded"]
        assert steps[:-2] in ([], ["Pending"]), steps  # the state that it was told first may be a later one
        assert {one["id"] for one in told if one["type"] == "download"} == {1}

        # Other spellings.
        in_work = comes_to(running, second, "Downloaded")
        assert in_work["file_path"].startswith(str(media / "work"))
        for path in ("/video", "/Videos", "/VIDEO"):
            assert [one["id"] for one in ask(running, "GET", path)[1]] == [1, second]
            assert ask(running, "GET", f"{path}/1")[1]["id"] == 1
        assert [one["id"] for one in ask(running, "GET", "/videos?status=downloaded&after=1")[1]] == [second]
        assert ask(running, "GET", "/Config")[1]["concurrency"] == 1

        # What there is already is said, and not fetched again.
        again = comes_to(running, add(running, site.url("/films/2.mp4")), "Downloaded")
        assert again["duplicate_of"] == second

        # Cancelled within two seconds, tried again; what is slow comes in bit by bit.
        slow = add(running, site.url("/films/9.mp4", size=4_000_000, speed=200_000))
        until(lambda: ask(running, "GET", f"/videos/{slow}")[1]["progress"]["percent"] > 0, why="progress")
        assert ask(running, "PATCH", f"/videos/{slow}", {"attributes": {"status": "cancel"}})[0] == 200
        until(lambda: not site.working["/films/9.mp4"], seconds=2.5, why="the end of the transfer")
        assert comes_to(running, slow, "Error")["error"] == "cancelled"
        assert ask(running, "PATCH", f"/video/{slow}", {"status": "Refresh"})[1]["status"] == "Pending"
        until(lambda: ask(running, "GET", f"/videos/{slow}")[1]["status"] == "Processing", why="the next take")
        assert ask(running, "DELETE", f"/videos/{slow}")[0] == 200
        assert ask(running, "GET", f"/videos/{slow}")[0] == 404

        # What is not there, and where nobody may go.
        gone = comes_to(running, add(running, site.url("/status/404")), "Error")
        assert "404" in gone["status_message"]
        inner = comes_to(running, add(running, site.url("/to", url="http://169.254.169.254/latest/")), "Error")
        assert inner["error"] == "refused"
        assert ask(running, "POST", "/videos", {"url": "http://169.254.169.254/"})[0] == 400

        # Off the list, with its file and without.
        assert ask(running, "DELETE", f"/videos/{second}?keep_file=1")[0] == 200
        assert Path(in_work["file_path"]).is_file()
        status, last = ask(running, "DELETE", "/videos/1")
        assert (status, last["file_path"]) == (200, None)
        assert not Path(done["file_path"]).exists()
        for number in (gone["id"], inner["id"], again["id"]):
            assert ask(running, "DELETE", f"/videos/{number}")[0] == 200
        assert ask(running, "GET", "/videos") == (200, [])
        assert [path for path in visible(media) if not path.startswith("work/")] == []

        # The command line does the same, beside it.
        got = running.command("get", site.url("/og"), "--dir", "/talks", "--wait")
        assert got.returncode == 0, got.stderr
        assert str(media / "talks") in got.stdout

        # Killed in mid-download, everything of it: it goes on from where it was, in the order of the requests.
        film = site.url("/films/1.mp4", size=3_000_000, speed=1_000_000)
        numbers = [add(running, film), *(add(running, site.url(f"/films/{n}.mp4")) for n in (2, 3))]
        until(lambda: site.sent["/films/1.mp4"] > 1_000_000, why="a third of it")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(PATIENCE)
        until(lambda: running.get("/healthz") is None, why="the end of its children")
    with spoolhouse(data, **of(site)) as running:
        done = [comes_to(running, number, "Downloaded") for number in numbers]
        stored = [
            next(one["time"] for one in history(running, told["video_id"]) if one["type"] == "VideoStored")
            for told in done
        ]
    assert stored == sorted(stored)
    ranges = [headers.get("Range") for path, headers in site.seen if path == "/films/1.mp4"]
    assert any(one and not one.startswith("bytes=0-") for one in ranges), ranges


def history(running: Running, video: str) -> list[dict[str, Any]]:
    """What happened to a video."""
    found: dict[str, Any] = until(lambda: running.get(f"/api/videos/{video}/events"), why="its history")
    return list(found["events"])

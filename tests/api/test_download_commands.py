"""`spoolhouse get`, `downloads` and `subscriptions`: beside an API, and without one; nothing is fetched here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from streams.events import DownloadExpanded, DownloadFailed
from streams.identity import download_subject
from tests.api.running import Api
from tests.api.test_downloads import URL, ask_for, happen, started, stored
from tests.api.test_live_downloads import extracted

Spoolhouse = Callable[..., Any]


@pytest.fixture
async def spoolhouse(api: Api, monkeypatch: pytest.MonkeyPatch) -> Spoolhouse:
    """Runs a command against the running API's settings, in a thread, as it has a loop of its own."""
    assert api.settings.redis_url is not None
    monkeypatch.setenv("SPOOLHOUSE_DATA", str(api.settings.data))
    monkeypatch.setenv("SPOOLHOUSE_REDIS_URL", api.settings.redis_url.get_secret_value())
    await api.settled()

    async def run(*arguments: str, status: int = 0) -> Result:
        result: Result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


async def test_get_queues(api: Api, spoolhouse: Spoolhouse) -> None:
    """Several at once, with what is wanted of them; what cannot be is said, the rest is queued all the same."""
    told = await spoolhouse(
        "get", URL, URL + "/2", "--dir", "work", "--audio-only", "--limit", "7", "--subtitles", "en,de"
    )
    assert told.stdout.splitlines() == [f"1 is in the queue: {URL}", f"2 is in the queue: {URL}/2"]
    one = (await api.get("/videos/1")).body
    assert (one["vid_dir"], one["options"]) == ("/work", {"audio_only": True, "limit": 7, "subtitles": ["en", "de"]})
    told = await spoolhouse("get", "ftp://site.invalid/x", URL, "--json", status=1)
    assert "only http:// and https://" in told.stderr
    assert [one["id"] for one in orjson.loads(told.stdout)] == [3]
    assert "Missing argument" in (await spoolhouse("get", status=2)).stderr


async def test_get_waits_for_the_end(api: Api, spoolhouse: Spoolhouse) -> None:
    """What happens is said, what became of it told; of a list, its entries are waited for, too."""
    log = api.services.log

    async def work() -> None:
        assert await log.wait_for(download_subject(2), ("DownloadRequested",), timeout=20)
        await happen(api, 1, started(), extracted("A \x1b[31mfilm"), stored())
        await ask_for(api)
        expanded = DownloadExpanded(take=1, title="All", entries=1, more=False, limit=9, numbers=(3,), skipped=())
        await happen(api, 2, started(), expanded)
        await happen(api, 3, started(), DownloadFailed(take=1, attempt=1, kind="gone", reason="It is gone."))

    working = asyncio.create_task(work())
    told = await spoolhouse("get", URL, URL, "--wait", status=1)
    await working
    assert "1 A �[31mfilm: /media/A (2024)/A (2024) [1].mp4 (9 bytes)" in told.stdout
    assert "2 All: 1 of 1 entries are queued" in told.stdout
    assert f"3 {URL}: It is gone." in told.stderr
    assert "Pending: In-Queue" in told.stderr


async def test_the_list_and_what_is_to_become_of_it(api: Api, spoolhouse: Spoolhouse) -> None:
    """Listed, cancelled, refreshed, deleted; what refuses is said by name."""
    assert "No downloads." in (await spoolhouse("downloads")).stdout
    for _ in range(3):
        await ask_for(api)
    await api.settled()
    told = await spoolhouse("downloads", "cancel", "1", "99", status=1)
    assert (told.stdout, told.stderr) == ("1 is cancelled\n", "99: There is no download 99.\n")
    await api.settled()
    listed = await spoolhouse("downloads", "--status", "error", "--json", "list")
    assert [(one["id"], one["status_message"]) for one in orjson.loads(listed.stdout)] == [(1, "cancelled")]
    assert (await spoolhouse("downloads", "refresh", "1")).stdout == "1 is in the queue again\n"
    assert "its file stays" in (await spoolhouse("downloads", "delete", "2", "--keep-file")).stdout
    await api.settled()
    lines = (await spoolhouse("downloads")).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "Pending"], ["3", "Pending"]]
    assert "There are more before these" in (await spoolhouse("downloads", "--limit", "1")).stdout


async def test_how_downloads_are_made(api: Api, spoolhouse: Spoolhouse) -> None:
    """Shown and changed; what is wrong is named."""
    assert "concurrency" in (await spoolhouse("downloads", "config")).stdout
    told = await spoolhouse("downloads", "config", "max_height=1080", "subtitles=en,de", "directory=/talks", "--json")
    config = orjson.loads(told.stdout)
    assert (config["max_height"], config["subtitles"], config["directory"]) == (1080, ["en", "de"], "/talks")
    assert (await api.get("/config")).body == config
    assert "null" not in (await spoolhouse("downloads", "config", "max_height=null")).stdout
    assert "concurrency" in (await spoolhouse("downloads", "config", "concurrency=0", status=1)).stderr
    assert "NAME=VALUE" in (await spoolhouse("downloads", "config", "colour=red", status=2)).stderr


async def test_subscriptions(api: Api, spoolhouse: Spoolhouse) -> None:
    """Begun, listed, paused, resumed, looked at and ended."""
    assert "No subscriptions." in (await spoolhouse("subscriptions")).stdout
    told = await spoolhouse("subscriptions", "add", URL, "--interval", "600", "--filter", "news", "--audio-only")
    assert told.stdout == f"1 is looked at every 600 seconds: {URL}\n"
    assert (await api.get("/subscriptions/1")).body["options"] == {"audio_only": True}
    assert (await spoolhouse("subscriptions", "pause", "1")).stdout == "1 is paused\n"
    await api.settled()
    assert "paused" in (await spoolhouse("subscriptions")).stdout
    await spoolhouse("subscriptions", "resume", "1")
    await spoolhouse("subscriptions", "check", "1")
    assert "interval" in (await spoolhouse("subscriptions", "add", URL, "--interval", "1", status=1)).stderr
    await api.settled()
    await spoolhouse("subscriptions", "end", "1")
    await api.settled()
    assert orjson.loads((await spoolhouse("subscriptions", "--json")).stdout) == []
    assert "no subscription 1" in (await spoolhouse("subscriptions", "end", "1", status=1)).stderr

"""The command line, on real servers."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from streams.events import Event, RootHeld, RootRegistered
from streams.identity import root_subject
from streams.keys import Keys
from streams.log import new_event, open_log
from streams.paths import OsPath
from streams.retries import Retries
from streams.settings import Settings
from tests.api.running import Api, running_api
from tests.projections.copying import Copied, Copying
from tests.servers import RedisServer

Spoolhouse = Callable[..., Any]


@pytest.fixture
def spoolhouse(api: Api, monkeypatch: pytest.MonkeyPatch) -> Spoolhouse:
    """Runs a command against the running API's settings, in a thread, as it has a loop of its own."""
    assert api.settings.redis_url is not None
    monkeypatch.setenv("SPOOLHOUSE_DATA", str(api.settings.data))
    monkeypatch.setenv("SPOOLHOUSE_REDIS_URL", api.settings.redis_url.get_secret_value())
    monkeypatch.setenv("SPOOLHOUSE_PORT", str(api.port))

    async def run(*arguments: str, status: int = 0, **how: Any) -> Result:
        result: Result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), **how)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


async def test_add_list_show(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """Files go in through the API; a few characters of an id are enough to see one's history."""
    added = await spoolhouse("add", str(clip), str(clip), "--label", "Trip")
    ids = [line.split()[0] for line in added.stdout.splitlines()]
    assert len(set(ids)) == 2
    await api.settled()
    listed = orjson.loads((await spoolhouse("list", "--json")).stdout)
    assert {video["id"] for video in listed} == set(ids)
    table = (await spoolhouse("list", "--search", "trip")).stdout
    assert "Trip_clip.mp4" in table
    assert ids[0][:8] in table
    shown = (await spoolhouse("show", ids[0][:8])).stdout
    assert ids[0] in shown
    assert "VideoStored" in shown
    told = orjson.loads((await spoolhouse("show", ids[0], "--json")).stdout)
    assert [event["type"] for event in told["events"]] == ["VideoStored"]


async def test_copies_are_listed_and_shown(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """In a word in the list, with the link and what is wrong for one; what lacks a copy can be asked for."""

    async def say(subject: str, event: Event, source: str) -> None:
        await api.services.log.append(new_event(subject, event, source=source))

    copying = Copying(say, random.Random(1))
    done, under_way, away = [Copied((await api.upload(clip, f"{n}.mp4")).body["id"], name=f"{n}.mp4") for n in range(3)]
    for one in (done, away):
        await copying.replicate(one)
        await copying.verify(one, "s3", deep=True)
    await copying.begin(under_way)
    await copying.chunks(under_way, 0, 1)
    await copying.drive_fail(under_way, "no storage quota")
    await copying.offload(away)
    await api.settled()
    table = (await spoolhouse("list", "--state", "all")).stdout
    assert "s3 verified" in table
    assert "s3 57 %, drive failed" in table
    assert "2.mp4 (offloaded)" in table and "(present)" not in table and "--state" not in table
    assert "--state offloaded" in (await spoolhouse("list")).stdout, "what is left out is said"
    lacking = orjson.loads((await spoolhouse("list", "--replica", "s3", "--not-copied", "--json")).stdout)
    assert [video["id"] for video in lacking] == [under_way.id]
    offloaded = orjson.loads((await spoolhouse("list", "--state", "offloaded", "--json")).stdout)
    assert [video["id"] for video in offloaded] == [away.id]
    shown = (await spoolhouse("show", under_way.id)).stdout
    assert "under way, 57 %" in shown
    assert "failed; no storage quota" in shown
    assert "every byte" in (await spoolhouse("show", done.id)).stdout


async def test_an_id_must_be_clear(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """No match, and more than one: one line each, exit status 1."""
    for _ in range(20):
        await api.upload(clip)
    await api.settled()
    assert "spoolhouse: There is no video" in (await spoolhouse("show", "nothing", status=1)).stderr
    ids = [video["id"] for video in orjson.loads((await spoolhouse("list", "--json")).stdout)]
    first = next(start for start in "0123456789abcdef" if sum(one.startswith(start) for one in ids) > 1)
    assert "More than one" in (await spoolhouse("show", first, status=1)).stderr


async def test_add_says_what_was_refused_and_goes_on(
    api: Api, spoolhouse: Spoolhouse, clip: Path, tmp_path: Path
) -> None:
    """Exit status 1, the others are taken."""
    text = tmp_path / "notes [bold].mp4"
    text.write_text("not a video\n" * 100)
    result = await spoolhouse("add", str(text), str(clip), status=1)
    assert "not a video" in result.stderr
    assert "notes [bold].mp4" in result.stderr
    assert len(result.stdout.splitlines()) == 1
    await api.settled()
    assert (await api.get("/api/videos/list")).body["count"] == 1


async def test_add_without_an_api(spoolhouse: Spoolhouse, clip: Path) -> None:
    """A clear line; nothing is taken in behind the API's back."""
    result = await spoolhouse("add", str(clip), "--url", "http://127.0.0.1:9", status=1)
    assert "Is it running" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


async def test_streams(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """How each group stands; the events themselves."""
    uploaded = (await api.upload(clip)).body["id"]
    await api.services.log.redis.xgroup_create(api.services.log.keys.log(0), "idle", "0", mkstream=True)
    await api.settled()
    totals = {row["group"]: row for row in orjson.loads((await spoolhouse("streams", "--json")).stdout)}
    assert totals["idle"]["pending"] == 0
    rows = orjson.loads((await spoolhouse("streams", "--partitions", "--json")).stdout)
    assert {row["partition"] for row in rows if row["group"] == "idle"} == {0}
    assert "idle" in (await spoolhouse("streams", "--partitions")).stdout
    tail = (await spoolhouse("streams", "tail", "--from-start", "--no-follow", "--json")).stdout
    events = [orjson.loads(line) for line in tail.splitlines()]
    assert [event["subject"] for event in events if event["type"] == "VideoStored"] == [uploaded]
    only = (await spoolhouse("streams", "tail", "--from-start", "--no-follow", "--subject", uploaded)).stdout
    assert len(only.splitlines()) == 1


async def test_pending_entries_are_shown_with_their_age(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """Position, lag, pending, the oldest of those, and who owns the partition."""
    log = api.services.log
    placed = await api.upload(clip)
    history = await log.history(placed.body["id"])
    partition, pos = history[0].partition, history[0].pos
    await log.redis.xgroup_create(log.keys.log(partition), "work", "0", mkstream=True)
    await log.redis.set(log.keys.lease(partition, "work"), "member-1 7")
    await log.redis.xreadgroup("work", "owner", {log.keys.log(partition): ">"}, count=1)
    rows = orjson.loads((await spoolhouse("streams", "--partitions", "--json")).stdout)
    (row,) = [row for row in rows if row["group"] == "work"]
    assert (row["pending"], row["owner"], row["lag"]) == (1, "member-1", row["head"] - row["position"])
    assert row["oldest_pending"] == row["position"]
    assert pos <= row["head"]
    assert row["oldest_pending_at"] is not None


async def test_parked(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """Listed, shown whole, replayed or discarded by place."""
    log = api.services.log
    event = (await log.history((await api.upload(clip)).body["id"]))[0]
    place = f"{event.partition:02d}/{event.pos}"
    (entry,) = await log.read(event.partition, after=event.pos - 1, count=1)
    await log.redis.xgroup_create(log.keys.log(event.partition), "probe", "0", mkstream=True)
    await log.redis.set(log.keys.lease(event.partition, "probe"), "me 1")
    await log.redis.xreadgroup("probe", "owner", {log.keys.log(event.partition): ">"}, count=10)
    fence = _fence(event.partition)
    account = {"subject": event.subject, "type": event.type, "reason": "tried [it] often", "attempts": 5, "since": ""}
    retries = Retries(log.redis, Keys(api.settings.namespace), "probe")

    async def park() -> None:
        await retries.park(fence, event.pos, event.subject, entry.fields, account)

    await park()
    assert "tried [it] often" in (await spoolhouse("parked", "list")).stdout
    (told,) = orjson.loads((await spoolhouse("parked", "list", "--json")).stdout)
    assert (told["subject"], told["pos"]) == (event.subject, event.pos)
    assert event.id in (await spoolhouse("parked", "show", "probe", place)).stdout
    assert "Nothing is parked at" in (await spoolhouse("parked", "replay", "99/99", status=1)).stderr
    await spoolhouse("parked", "discard", place, status=1, input="n\n")
    assert place in (await spoolhouse("parked", "replay", "probe", place)).stdout
    assert "Nothing is parked." in (await spoolhouse("parked", "list")).stdout
    await park()
    assert place in (await spoolhouse("parked", "discard", "--all", "--yes")).stdout
    assert "Nothing is parked." in (await spoolhouse("parked", "list")).stdout
    await spoolhouse("parked", "replay", status=2)


def _fence(partition: int) -> Any:
    from streams.entries import Fence

    return Fence(partition, "probe", "me 1")


async def test_held(api: Api, spoolhouse: Spoolhouse) -> None:
    """A question about a folder, and its answer."""
    root = str(api.settings.watch_roots[0])
    subject, log = root_subject(root), api.services.log

    async def hold(number: int) -> None:
        event = RootHeld(path=OsPath(root), hold=number, reason="all files are gone", missing=60_000)
        await log.append(new_event(subject, event, source="watch"))

    await log.append(new_event(subject, RootRegistered(path=OsPath(root)), source="watch"))
    assert "No folder is held." in (await spoolhouse("held", "list")).stdout
    await hold(1)
    assert "60000" in (await spoolhouse("held", "list")).stdout
    assert orjson.loads((await spoolhouse("held", "list", "--json")).stdout)[0]["missing"] == 60_000
    assert "kept" in (await spoolhouse("held", "reject", root)).stdout
    assert "not held" in (await spoolhouse("held", "confirm", root, status=1)).stderr
    await hold(2)
    assert "removed" in (await spoolhouse("held", "confirm", root)).stdout


async def test_rebuild(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """Beside the live tables, compared, swapped; unknown names are named."""
    await api.upload(clip)
    await api.settled()
    said = (await spoolhouse("rebuild", "catalogue", "timeline")).stdout
    assert "catalogue is rebuilt" in said
    assert "timeline is rebuilt" in said
    assert "There is no projection nothing" in (await spoolhouse("rebuild", "nothing", status=1)).stderr
    assert (await api.get("/api/videos/list")).body["count"] == 1


def test_config_tells_where_each_setting_comes_from(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, environment (under which name) or .env; secrets are hidden."""
    (clean_env / ".env").write_text("SPOOLHOUSE_PORT=8000,5000  # two\nMYSQL_PASS=hunter2\n")
    monkeypatch.setenv("SPOOLHOUSE_REDIS_URL", "redis://:topsecret@127.0.0.1:1/0")
    monkeypatch.setenv("BASE_URL", "not ours")
    result = CliRunner().invoke(main, ["config", "--json"])
    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output
    assert "topsecret" not in result.output
    rows = {row["name"]: row for row in orjson.loads(result.output)}
    assert rows["SPOOLHOUSE_PORT"] == {"name": "SPOOLHOUSE_PORT", "value": "8000, 5000", "from": ".env"}
    assert rows["MYSQL_PASS"]["value"] == "***"
    assert rows["SPOOLHOUSE_REDIS_URL"]["from"] == "environment"
    assert rows["SPOOLHOUSE_HOST"]["from"] == "default"
    assert "SPOOLHOUSE_PORT" in CliRunner().invoke(main, ["config", "--set"]).output


def test_without_a_redis_the_message_says_what_to_do(clean_env: Path) -> None:
    """One line, exit status 1."""
    result = CliRunner().invoke(main, ["streams"])
    assert result.exit_code == 1
    assert "spoolhouse up" in result.stderr
    assert "Traceback" not in result.output


def test_wrong_settings_are_one_message(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All faults at once."""
    monkeypatch.setenv("SPOOLHOUSE_PORT", "99999999")
    monkeypatch.setenv("SPOOLHOUSE_ATTEMPTS", "none")
    result = CliRunner().invoke(main, ["config"])
    assert result.exit_code == 1
    assert "SPOOLHOUSE_PORT" in result.stderr
    assert "SPOOLHOUSE_ATTEMPTS" in result.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["streams", "--help"], ["add", "-h"]])
def test_as_a_process(clean_env: Path, arguments: list[str]) -> None:
    """The console script's module, from anywhere."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "api.cli", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr


async def test_the_log_is_listed_with_the_api_gone(
    make_settings: Callable[..., Settings], own_redis: RedisServer, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`list` and `show` need neither the API nor Redis."""
    settings = make_settings(redis_url=own_redis.url)
    async with running_api(settings) as api:
        video = (await api.upload(clip)).body["id"]
        await api.settled()
    own_redis.stop()
    monkeypatch.setenv("SPOOLHOUSE_DATA", str(settings.data))
    result = await asyncio.to_thread(CliRunner().invoke, main, ["show", video])
    assert result.exit_code == 0, result.output
    assert "VideoStored" in result.stdout


async def test_tail_follows(api: Api, clip: Path) -> None:
    """Events appear as they are appended."""
    assert api.settings.redis_url is not None
    environment = {
        "PATH": "/usr/bin:/bin",
        "SPOOLHOUSE_DATA": str(api.settings.data),
        "SPOOLHOUSE_REDIS_URL": api.settings.redis_url.get_secret_value(),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-P", "-m", "api.cli", "streams", "tail", "--type", "VideoStored", "--from-start"]
    async with open_log(api.settings, environment["SPOOLHOUSE_REDIS_URL"]):
        running = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
        try:
            assert running.stdout is not None
            for name in ("first.mp4", "second.mp4"):
                await api.upload(clip, name)
                assert name in (await asyncio.wait_for(running.stdout.readline(), 20)).decode()
        finally:
            running.terminate()
            await running.wait()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["verify"], "or say --all"),
        (["verify", "2f6a", "--all"], "or say --all"),
        (["restore"], "Name a video by its id, or a bucket"),
        (["restore", "--stream", "9be1"], "or a bucket with --bucket"),
        (["restore", "--bucket", "videos"], "one of --stream ID, --list and --all"),
        (["restore", "--bucket", "videos", "--all"], "--all needs a folder: -o FOLDER"),
        (["restore", "2f6a", "--json"], "--json goes with --bucket NAME --list"),
        (["drive", "retry"], "or say --failed"),
    ],
)
def test_what_is_missing_on_the_command_line_is_said(clean_env: Path, words: list[str], told: str) -> None:
    """In words that name what to type; nothing is asked of any server for it."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())

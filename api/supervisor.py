"""What `spoolhouse up` does: starts everything on this machine, keeps it running, ends it in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp

from api.children import Child, keep_running
from api.embedded_redis import EmbeddedRedis
from api.folders import make_folders
from processors.storage.directory import refuse_no_replica
from streams.connections import shown
from streams.errors import StartError
from streams.settings import Settings

Say = Callable[[str], None]

READY_REMINDER = 20.0
"""Seconds between words about what is still awaited at start."""
DEMO_NAME = "spoolhouse-demo.mp4"


async def supervise(settings: Settings, *, demo: bool = False, say: Say = print) -> None:
    """Run Spoolhouse until SIGINT, SIGTERM or SIGHUP; a second one ends it at once.

    `say` gets each line for the person at the terminal. Raises StartError where something cannot be
    started, and where another Spoolhouse runs on the same data.
    """
    stopping, hurry = asyncio.Event(), asyncio.Event()
    with _heeded(stopping, hurry), _only_one(settings.data):
        make_folders(settings)
        refuse_no_replica(settings)
        ports = tuple(_free_port(settings.host, port) for port in settings.port)
        came_up = asyncio.Event()
        async with _log_for(settings, came_up, say) as (redis_url, tasks):
            _tell_choices(settings, say)
            environment = _environment(settings, ports, redis_url)
            program = [sys.executable, "-P", "-m", "api.cli"]
            # Stopped in this order: no new uploads first, then the work.
            children = [Child(name, [*program, name], environment=environment) for name in ("api", "worker")]
            ours = [asyncio.create_task(keep_running(child, came_up, say)) for child in children]
            ours.append(asyncio.create_task(_welcome(settings, ports, came_up, demo=demo, say=say)))
            try:
                await _until(stopping, [*tasks, *ours])
            finally:
                await _end(ours, children, settings.drain + 5, hurry, say)
    say("stopped")


@contextlib.contextmanager
def _heeded(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """The first signal asks everything to end in order; the second is for a person who will not wait."""

    def on_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in heeded:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Holds `data/.lock`: the kernel lets go of it however we end."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / ".lock").open("a+")
    except OSError as error:
        raise StartError(
            f"The data folder {data} cannot be written: {error.strerror}. Set another with --data."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StartError(
                f"Spoolhouse is running already on {data} (process {holder}). "
                "Stop that one first, or start with other data: --data DIR."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.asynccontextmanager
async def _log_for(
    settings: Settings, came_up: asyncio.Event, say: Say
) -> AsyncIterator[tuple[str, list[asyncio.Task[None]]]]:
    """The URL of the configured Redis, else of a private one that runs within the block.

    With it the tasks (at most one) that keep it running.
    """
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        say(f"log        {shown(url)}")
        yield url, []
        return
    redis = EmbeddedRedis(settings.data / "redis")
    await redis.start()
    say(f"log        embedded {redis.binary}, {settings.data / 'redis'}, every event fsynced")
    keeper = asyncio.create_task(keep_running(redis.child, came_up, say))
    try:
        yield redis.url, [keeper]
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await redis.stop()


def _tell_choices(settings: Settings, say: Say) -> None:
    url = settings.sqlalchemy_url
    if url.startswith("sqlite"):
        say(f"catalogue  SQLite, {url.partition(':///')[2]}")
    else:
        say(f"catalogue  {shown(url.replace('+aiomysql', ''))}")
    say(f"storage    {settings.uploads}")
    say(f"Drive      {_drive_choice(settings)}")
    say(f"S3         {_store_choice(settings)}")
    for root in settings.watch_roots:
        say(f"watched    {root}")


def _drive_choice(settings: Settings) -> str:
    if not settings.drive_configured:
        return "not configured"
    if settings.drive_credentials_file is None:
        return "DRIVE_FOLDER_ID without credentials.json: uploads will say so"
    if settings.drive_folder_id is None:
        return f"{settings.drive_credentials_file} without DRIVE_FOLDER_ID: uploads will say so"
    return f"folder {settings.drive_folder_id}"


def _store_choice(settings: Settings) -> str:
    if not settings.s3_configured:
        return "not configured"
    if (settings.s3_endpoint or "").startswith("file:"):
        return f"{(settings.s3_endpoint or '').rstrip('/')}/{settings.bucket}"
    return f"s3://{settings.bucket}" + (f" at {settings.s3_endpoint}" if settings.s3_endpoint else "")


def _environment(settings: Settings, ports: tuple[int, ...], redis_url: str) -> dict[str, str]:
    """What the children are told: our environment, and whatever was decided here."""
    told = {
        "SPOOLHOUSE_DATA": str(settings.data),
        "SPOOLHOUSE_HOST": settings.host,
        "SPOOLHOUSE_PORT": ",".join(map(str, ports)),
        "SPOOLHOUSE_REDIS_URL": redis_url,
        # The same name after a restart: what a killed worker held is its own again at once.
        "SPOOLHOUSE_WORKER": settings.worker or f"{socket.gethostname()}-{zlib.crc32(os.fsencode(settings.data)):08x}",
    }
    if settings.watch:
        told["SPOOLHOUSE_WATCH"] = ",".join(map(str, settings.watch))
    return {**os.environ, **told}


def _worker_name(data: Path) -> str:
    """One for each machine and data folder: several may share a Redis."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:60]
    return f"up-{host}-{zlib.crc32(os.fsencode(data)):08x}"


def _free_port(host: str, port: int) -> int:
    """The port, or any free one for 0. Said here, lest another program's answer be taken for ours."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            free: int = server.getsockname()[1]
            return free
    except OSError as error:
        reason = (
            "is in use by another program" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        )
        raise StartError(f"Port {port} on {host} {reason}. Choose another: --port N.") from error


def _address(host: str, port: int) -> str:
    """Where a person on this machine finds it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _welcome(settings: Settings, ports: tuple[int, ...], came_up: asyncio.Event, *, demo: bool, say: Say) -> None:
    """Wait for /readyz, say so, take in the demo; then there is nothing more to do."""
    urls = [_address(settings.host, port) for port in ports]
    await _ready(urls[0], say)
    came_up.set()
    say(f"ready at {' and '.join(urls)}")
    if demo:
        await _take_in_demo(settings, urls[0], say)


async def _ready(url: str, say: Say) -> None:
    loop = asyncio.get_running_loop()
    reminder = loop.time() + READY_REMINDER
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), trust_env=False) as session:
        while True:
            answer = "it does not answer yet"
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
                    answer = (await response.text())[:1000]
            if loop.time() > reminder:
                reminder = loop.time() + READY_REMINDER
                say(f"still waiting for {url}/readyz: {answer}")
            await asyncio.sleep(0.1)


async def _take_in_demo(settings: Settings, url: str, say: Say) -> None:
    """A short real video, made beside the watched root and moved in whole."""
    root = settings.watch_roots[0]
    target, making = root / DEMO_NAME, settings.working / f".{DEMO_NAME}.tmp"
    if target.exists():
        say(f"demo       {target} is there already: {url}/api/videos")
        return
    maker = Child("demo", [sys.executable, "-P", "-m", "processors.media.demo", str(making)])
    await maker.start()
    status = await maker.wait()
    if status or not root.is_dir():
        say("demo       " + ("the video could not be made, see above" if status else f"{root} is not there"))
        making.unlink(missing_ok=True)
        return
    try:
        making.rename(target)
    except OSError:
        # Another file system: copied under a name that is not watched, then renamed there.
        near = root / making.name
        await asyncio.to_thread(shutil.copyfile, making, near)
        near.rename(target)
        making.unlink()
    say(f"demo       {target} is made; see {url}/api/videos")


async def _until(stopping: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Until a signal comes, or a task fails: then its error is raised."""
    waiter = asyncio.create_task(stopping.wait())
    running: set[asyncio.Task[object]] = {waiter, *tasks}
    try:
        while not waiter.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        waiter.cancel()


async def _end(
    tasks: list[asyncio.Task[None]], children: list[Child], patience: float, hurry: asyncio.Event, say: Say
) -> None:
    """SIGTERM to all, wait for the drain, SIGKILL to what remains."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    running = [child for child in children if child.pid is not None]
    if running:
        say(f"stopping: running work gets {patience:g} s to finish (again to end it at once)")

    async def end_at_once() -> None:
        await hurry.wait()
        for child in running:
            child.kill()

    hurrying = asyncio.create_task(end_at_once())
    ended = await asyncio.gather(*(child.stop(patience) for child in running))
    hurrying.cancel()
    for child, in_time in zip(running, ended, strict=True):
        if not in_time:
            say(f"{child.name} did not end in {patience:g} s and was killed")

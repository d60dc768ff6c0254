"""The egress proxy, as the worker has it: a process of its own, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import structlog

from processors.fetching.private_folders import private_folder
from streams.errors import StartError
from streams.settings import Settings

PROGRAM = "processors.fetching.egress_child"

START = 30.0
"""Seconds that it gets to start."""

LONGEST_PAUSE = 5.0
"""Seconds between two starts of one that dies again and again, at the most."""

LAST_WORDS = 2048
"""Bytes of what it printed that are kept."""

_log = structlog.get_logger(__name__)


class Egress:
    """The one way out for those who fetch. Made by `open_egress`."""

    def __init__(self, folder: Path, configuration: dict[str, object]) -> None:
        self.socket_path = folder / "egress.sock"
        """What `confinement.confine_network` takes. The same after a restart; nobody listens there meanwhile."""
        self._configuration = orjson.dumps({**configuration, "path": str(self.socket_path)}) + b"\n"
        self._process: asyncio.subprocess.Process | None = None
        self._printed = b""
        self.starts = 0
        """How often it was started."""
        self.walls: tuple[str, ...] = ()
        """What this machine has to confine who fetches: of `confinement.WALLS`."""

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it, and wait until it takes registrations. Raises StartError."""
        packages = str(Path(__file__).resolve().parents[2])
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        self.starts += 1
        self._printed = b""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", PROGRAM, str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"the egress proxy of downloads cannot be started: {error.strerror}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(ConnectionError):
                # By its standard input: everybody on the machine sees a command line, and a proxy may have a password.
                process.stdin.write(self._configuration)
                await process.stdin.drain()
            async with asyncio.timeout(START):
                ready = await process.stdout.readline()
        except TimeoutError:
            ready = b""
        except BaseException:
            await asyncio.shield(self.stop())
            raise
        if not ready:
            await self.stop()
            raise StartError(f"the egress proxy of downloads did not come up: {self._last_line()}")
        self.walls = tuple(orjson.loads(ready)["walls"])

    async def wait(self) -> str:
        """Wait until it dies; its last words."""
        assert self._process is not None
        assert self._process.stderr is not None
        while printed := await self._process.stderr.read(LAST_WORDS):
            self._printed = (self._printed + printed)[-LAST_WORDS:]
        code = await self._process.wait()
        return f"exit status {code}: {self._last_line()}".removesuffix(": ")

    async def stop(self) -> None:
        """Kill it, with every connection that it has, and let go of all that leads to it."""
        if (process := self._process) is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        with suppress(ConnectionError):
            await process.stdin.wait_closed()
        while await process.stdout.read(LAST_WORDS):
            pass  # to its end: the transport then closes by itself
        await self.wait()

    def _last_line(self) -> str:
        lines = [line.strip() for line in self._printed.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else ""


@asynccontextmanager
async def open_egress(settings: Settings) -> AsyncGenerator[Egress]:
    """The proxy, up and kept up. Raises StartError where it cannot be started at first.

    When it dies, whatever goes through it fails like any network that fails; it is started again.
    """
    proxy = settings.download_proxy
    configuration: dict[str, object] = {
        "opened": list(settings.download_allow),
        "upstream": None if proxy is None else proxy.get_secret_value(),
    }
    with private_folder() as folder:  # nobody else may register
        egress = Egress(folder, configuration)
        await egress.start()
        _tell(egress.walls)
        keeping = asyncio.create_task(_kept_up(egress))
        try:
            yield egress
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await asyncio.shield(egress.stop())


def _tell(walls: tuple[str, ...]) -> None:
    if {"namespace", "landlock"} & set(walls):
        _log.info("downloads go out by the egress proxy only", held_by=", ".join(walls))
    else:
        _log.warning(
            "downloads go out by the egress proxy only as far as Python goes: this machine permits neither network "
            "namespaces nor Landlock (Linux 6.7), so nothing holds a program that yt-dlp starts",
            held_by=", ".join((*walls, "audit hook")),
        )


async def _kept_up(egress: Egress) -> None:
    pause = 0.1
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        how = await egress.wait()
        await egress.stop()
        _log.warning("the egress proxy of downloads died and is started again", how=how)
        pause = 0.1 if loop.time() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
        while True:
            await asyncio.sleep(pause)
            try:
                await egress.start()
                break
            except StartError as error:
                _log.error("the egress proxy of downloads cannot be started", why=str(error))
                pause = min(pause * 2, LONGEST_PAUSE)

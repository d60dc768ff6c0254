"""Child processes of `spoolhouse up`: started, restarted when they die, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from streams.errors import StartError

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 60.0
"""Seconds that a child must run before its next death counts as a first one again."""
HOPELESS = 3
"""Deaths before it ever came up after which it is not started again."""

_TETHERED = str(Path(__file__).with_name("tethered.py"))


class Child:
    """One process that is meant to run as long as we do.

    It gets a session of its own, so that Ctrl-C reaches it through us only, and it dies with us
    even where we are killed: `when_orphaned` is the signal that the kernel then sends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
        when_orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._environment = environment
        self._output = output
        self._when_orphaned = when_orphaned
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it. Raises StartError where the program cannot be run."""
        command = [sys.executable, "-I", "-S", _TETHERED, str(int(self._when_orphaned)), str(os.getpid())]
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(self._output.open("ab")) if self._output else None
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{self.name} could not be started: {error}") from error

    async def wait(self) -> int:
        """Until it ends; its exit status, negative for a signal."""
        return await self._process.wait() if self._process is not None else 0

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and whatever it started in its session (SIGKILL)."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    async def stop(self, patience: float) -> bool:
        """SIGTERM, `patience` seconds, SIGKILL. False where it had to be killed."""
        self.terminate()
        try:
            await asyncio.wait_for(self.wait(), patience)
        except TimeoutError:
            log.warning("child did not end in time and is killed", child=self.name, pid=self.pid, seconds=patience)
            self.kill()
            await self.wait()
            return False
        return True


async def keep_running(child: Child, came_up: asyncio.Event, say: Callable[[str], None]) -> None:
    """Start the child again whenever it ends, until cancelled; first at once, then ever more slowly.

    Raises StartError where it dies HOPELESS times before `came_up` is set: then its own last words,
    which stand above, say what is wrong.
    """
    pause, deaths = FIRST_PAUSE, 0
    while True:
        if child.pid is None:
            await child.start()
        began = time.monotonic()
        status = await child.wait()
        deaths += 1
        if not came_up.is_set() and deaths >= HOPELESS:
            raise StartError(f"{child.name} ended {deaths} times before it was ready ({_words(status)}); see above")
        if time.monotonic() - began > STEADY_AFTER:
            pause = FIRST_PAUSE
        say(f"{child.name} ended unexpectedly ({_words(status)}): starting it again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

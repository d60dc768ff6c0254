"""Probes videos in child processes, so that no file can crash, stall or starve the worker.

A few children are started when first needed, reused, replaced after some work, and stopped after a
minute of idleness. One that crashes, hangs or eats its memory costs one answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import structlog

from processors.ports import Probed, ProbeFailure
from streams.paths import OsPath, escape_path

_log = structlog.get_logger(__name__)

CHILDREN = 2
"""Probes that go on at once."""

JOBS = 200
"""Files that one child looks at before another takes its place."""

IDLE = 60.0
"""Seconds without work after which a child is stopped."""

START = 30.0
"""Seconds that a child gets to start, on top of the time for its first file."""

MAX_ANSWER = 64 * 1024


class ChildProber:
    """The Prober that asks PyAV. Open it with `open_prober`."""

    def __init__(self, *, timeout: float, children: int = CHILDREN, idle: float = IDLE, jobs: int = JOBS) -> None:
        self._timeout, self._idle, self._jobs = timeout, idle, jobs
        self._room = asyncio.Semaphore(children)
        self._resting: list[_Child] = []
        self._closed = False
        self._reaper: asyncio.TimerHandle | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """Look at a file; see `ports.Prober`. Takes the timeout at most, once it is its turn."""
        async with self._room:
            while True:
                if self._closed:
                    return ProbeFailure("unavailable", "Spoolhouse is stopping")
                try:
                    child = self._resting.pop() if self._resting else await _Child.start()
                except OSError as error:
                    _log.error("no child process could be started to look at videos", error=str(error))
                    return ProbeFailure("unavailable", f"no process could be started to look at it: {error.strerror}")
                fresh = child.jobs == 0
                answer = await self._ask(child, path)
                # What kills a child that worked before may be a leftover of that work: once more.
                if fresh or not isinstance(answer, ProbeFailure) or answer.kind != "crashed":
                    return answer

    async def close(self) -> None:
        """Stop every child."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        resting, self._resting = self._resting, []
        await asyncio.gather(*(child.stop() for child in resting), *self._endings)

    async def _ask(self, child: _Child, path: OsPath) -> Probed | ProbeFailure:
        whole = False
        try:
            try:
                async with asyncio.timeout(self._timeout + (0 if child.jobs else START)):
                    answer = _understood(await child.ask(path, self._timeout))
                    whole = True
                    return answer
            except TimeoutError:
                return ProbeFailure("timeout", f"looking at it took longer than {self._timeout:g} s")
            except (EOFError, ConnectionError, ValueError):
                how = await child.ended()
                _log.warning("a child process died looking at a video", path=escape_path(path), how=how)
                return ProbeFailure("crashed", f"looking at it ended the process that looked ({how})")
        finally:
            # Cancelled, or out of step: nobody must get this answer for another question.
            if whole and child.jobs < self._jobs and not self._closed:
                self._rest(child)
            else:
                await self._end(child)

    def _rest(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        child.rested_at = loop.time()
        self._resting.append(child)
        if self._reaper is None:
            self._reaper = loop.call_later(self._idle, self._reap)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        self._reaper = None
        tired = [child for child in self._resting if loop.time() - child.rested_at >= self._idle]
        self._resting = [child for child in self._resting if child not in tired]
        for child in tired:
            self._begin_end(child)
        if self._resting:
            oldest = min(child.rested_at for child in self._resting)
            self._reaper = loop.call_later(max(0.01, oldest + self._idle - loop.time()), self._reap)

    async def _end(self, child: _Child) -> None:
        await asyncio.shield(self._begin_end(child))

    def _begin_end(self, child: _Child) -> asyncio.Task[None]:
        ending = asyncio.create_task(child.stop())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending


@asynccontextmanager
async def open_prober(*, timeout: float, children: int = CHILDREN) -> AsyncIterator[ChildProber]:
    """A prober that gives each file `timeout` seconds; its children end with the body."""
    prober = ChildProber(timeout=timeout, children=children)
    try:
        yield prober
    finally:
        await prober.close()


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.jobs = 0
        self.rested_at = 0.0

    @classmethod
    async def start(cls) -> _Child:
        """Raises OSError where no process can be made."""
        packages = str(Path(__file__).resolve().parents[2])
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": packages,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "processors.media.child", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        return cls(process)

    async def ask(self, path: OsPath, seconds: float) -> dict[str, Any]:
        """Raises EOFError or ConnectionError where the child died, ValueError where it talks nonsense."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.jobs += 1
        question = orjson.dumps({"path": escape_path(path), "seconds": seconds})
        self._process.stdin.write(len(question).to_bytes(4, "big") + question)
        await self._process.stdin.drain()
        length = int.from_bytes(await self._process.stdout.readexactly(4), "big")
        if length > MAX_ANSWER:
            raise ValueError(f"an answer of {length} bytes")
        answer: dict[str, Any] = orjson.loads(await self._process.stdout.readexactly(length))
        return answer

    async def ended(self) -> str:
        """How it died, in a word."""
        try:
            async with asyncio.timeout(2):
                code = await self._process.wait()
        except TimeoutError:
            return "it talked nonsense"
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    async def stop(self) -> None:
        """Kill it; it has nothing to lose."""
        with suppress(ProcessLookupError):
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with suppress(ConnectionError):
            await self._process.stdin.wait_closed()
        await self._process.stdout.read()  # to its end: the transport then closes by itself
        await self._process.wait()


def _understood(answer: dict[str, Any]) -> Probed | ProbeFailure:
    return ProbeFailure(**answer) if "kind" in answer else Probed(**answer)

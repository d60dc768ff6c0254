"""One child process: started, spoken to, ended. It may die, hang or talk nonsense at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from processors.children.answering import MAX_MESSAGE
from processors.children.limits import Limits

START = 30.0
"""Seconds that a child gets to start."""

END = 5.0
"""Seconds that it gets to be gone once it was killed. More it takes only where something that it started has escaped."""

LAST_WORDS = 2048
"""Bytes of what it printed that are kept."""


class ChildError(Exception):
    """A child did not answer."""

    def __init__(self, kind: str, how: str) -> None:
        super().__init__(how)
        self.kind = kind
        """`unavailable`: it did not start. `timeout`, `stalled`: it was too slow. `memory`, `crashed`: it died of
        what it did. `killed`: somebody else ended it."""
        self.how = how


class Child:
    """A process that answers; see `answering`. It leads a process group, which ends with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._printed = b""
        self._awaited: int | None = None
        self._listening = asyncio.create_task(self._listen())
        self.jobs = 0
        """Questions that it was asked."""
        self.rested_at = 0.0
        """Time of the loop."""

    @classmethod
    async def start(cls, limits: Limits, program: str, arguments: Sequence[str] = ()) -> Child:
        """A child that is ready. Raises ChildError (`unavailable`) where none comes up."""
        packages = str(Path(__file__).resolve().parents[2])
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": packages,
            "PYTHONDONTWRITEBYTECODE": "1",
            # Each arena takes 64 MiB of address space, and with many threads there are many.
            "MALLOC_ARENA_MAX": "4",
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", program, str(os.getpid()), orjson.dumps(asdict(limits)).decode()),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise ChildError("unavailable", f"no process could be started: {error.strerror}") from error
        child = cls(process)
        try:
            if "ready" not in (await child.receive(START) or ()):
                raise ChildError("crashed", f"it was not ready after {START:g} s")
        except ChildError as error:
            await child.stop()
            raise ChildError("unavailable", f"a process was started and did not come up: {error.how}") from error
        except BaseException:
            await asyncio.shield(child.stop())
            raise
        return child

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ask(self, question: Mapping[str, Any], seconds: float) -> None:
        """Send a question. Raises ChildError, `timeout` where it is not taken within `seconds`."""
        assert self._process.stdin is not None
        self.jobs += 1
        data = orjson.dumps(question)
        if self._process.stdin.is_closing():
            # It died while it rested. uvloop raises a RuntimeError where one writes to it.
            raise await self._death()
        try:
            async with asyncio.timeout(seconds):
                self._process.stdin.write(len(data).to_bytes(4, "big") + data)
                await self._process.stdin.drain()
        except TimeoutError:
            raise ChildError("timeout", "it took no question") from None
        except ConnectionError:
            raise await self._death() from None

    async def receive(self, seconds: float) -> dict[str, Any] | None:
        """Its next message; None where none comes within `seconds`: ask again. Raises ChildError."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                if self._awaited is None:
                    self._awaited = int.from_bytes(await self._process.stdout.readexactly(4), "big")
                if self._awaited > MAX_MESSAGE:
                    raise ValueError(f"a message of {self._awaited} bytes")
                message = orjson.loads(await self._process.stdout.readexactly(self._awaited))
            self._awaited = None
            if not isinstance(message, dict) or not all(isinstance(part, dict) for part in message.values()):
                raise ValueError("a message that is no object of objects")
            return message
        except TimeoutError:
            return None
        except ValueError as error:
            raise ChildError("crashed", f"it talked nonsense: {error}"[:200]) from None
        except (EOFError, ConnectionError):
            raise await self._death() from None

    def moved(self) -> int | None:
        """Bytes that it has read and written so far, from and to wherever; None where that is not known."""
        try:
            lines = Path(f"/proc/{self.pid}/io").read_text(encoding="ascii").splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))
        except (OSError, ValueError):
            return None

    def resident(self) -> int:
        """Bytes of memory that it has in hand; 0 where that is not known."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def waits_for_disk(self) -> bool:
        """Whether any of its threads is in a system call that nothing can interrupt: bringing a long file to the disk."""
        try:
            threads = list(Path(f"/proc/{self.pid}/task").iterdir())
            return any(
                (one / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "D" for one in threads
            )
        except (OSError, ValueError, IndexError):
            return False

    async def end(self) -> None:
        """Kill it, while somebody may still wait for its word; it has nothing to lose."""
        self._kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Kill it and whatever it started, and let go of all that leads to it."""
        self._kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with suppress(ConnectionError):
            await self._process.stdin.wait_closed()
        with suppress(TimeoutError):
            async with asyncio.timeout(END):
                while await self._process.stdout.read(MAX_MESSAGE):
                    pass  # to its end: the transport then closes by itself
                await self._listening
        await self._process.wait()

    def _kill(self) -> None:
        """End its whole group: what it started must not outlive it, however it died itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _listen(self) -> None:
        """Keep the end of what it prints, and never let it wait for us."""
        assert self._process.stderr is not None
        while printed := await self._process.stderr.read(MAX_MESSAGE):
            self._printed = (self._printed + printed)[-LAST_WORDS:]

    async def _death(self) -> ChildError:
        """How it died, once nothing more comes from it."""
        try:
            async with asyncio.timeout(2):
                code = await self._process.wait()
                await asyncio.shield(self._listening)
        except TimeoutError:
            return ChildError("crashed", "it fell silent")
        printed = self._printed.decode("utf-8", "replace")
        last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "")
        if code == -signal.SIGKILL:
            return ChildError("killed", "SIGKILL")
        if code == -signal.SIGXCPU:
            return ChildError("timeout", "SIGXCPU")
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        short = any(word in printed for word in ("MemoryError", "bad_alloc", "Cannot allocate memory"))
        return ChildError("memory" if short else "crashed", f"{how}: {last[:200]}" if last else how)

"""Child processes: kept running, ended in order, gone when we are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.children import Child, keep_running
from streams.errors import StartError

PATIENT = 20.0

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def python(code: str, folder: Path) -> Child:
    """A child that runs a line of Python."""
    return Child("sleeper", [sys.executable, "-I", "-S", "-c", code], output=folder / "output")


async def until_up(folder: Path, times: int = 1) -> None:
    """Wait until it has printed."""
    async with asyncio.timeout(PATIENT):
        while not (folder / "output").exists() or (folder / "output").read_text().count("up") < times:
            await asyncio.sleep(0.01)


async def test_child_ends_on_sigterm(tmp_path: Path) -> None:
    """And has a session of its own, so that Ctrl-C does not reach it twice."""
    child = python(SLEEPER, tmp_path)
    await child.start()
    await until_up(tmp_path)
    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid
    assert await child.stop(PATIENT)
    assert child.pid is None


async def test_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """After its time."""
    child = python(STUBBORN, tmp_path)
    await child.start()
    await until_up(tmp_path)
    assert not await child.stop(0.2)
    assert child.pid is None


async def test_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """And a person is told."""
    child, came_up, said = python(SLEEPER, tmp_path), asyncio.Event(), []
    came_up.set()
    keeper = asyncio.create_task(keep_running(child, came_up, said.append))
    await until_up(tmp_path)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until_up(tmp_path, times=2)
    assert child.pid != first
    assert said == ["sleeper ended unexpectedly (SIGKILL): starting it again in 0.5 s"]
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    await child.stop(PATIENT)


async def test_child_that_never_comes_up_is_given_up(tmp_path: Path) -> None:
    """Three times is enough to know."""
    child = python("raise SystemExit(3)", tmp_path)
    with pytest.raises(StartError, match=r"ended 3 times before it was ready \(exit status 3\)"):
        await keep_running(child, asyncio.Event(), lambda _: None)


async def test_missing_program_is_said(tmp_path: Path) -> None:
    """It ends with a status; nothing hangs."""
    child = Child("ghost", [str(tmp_path / "ghost")], output=tmp_path / "output")
    await child.start()
    assert await child.wait() != 0


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """The kernel sends the signal, since a killed parent cannot."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from api.children import Child\n"
        "async def main():\n"
        f"    child = Child('c', [sys.executable, '-I', '-S', '-c', {SLEEPER!r}], output=Path({str(tmp_path / 'output')!r}))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + PATIENT
        while not (tmp_path / "output").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert alive(pid)
        parent.kill()
        parent.wait()
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(pid)

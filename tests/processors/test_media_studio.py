"""The Studio's child processes: what they do to themselves costs one job, and is said."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from processors.media.probing import open_prober
from processors.media.studio import ChildStudio, open_studio
from processors.ports import Advanced, EnhanceJob, Made, MediaFailure, Planned, PreviewJob, Previews, Probed
from streams.paths import OsPath
from streams.presets import BUILT_IN
from streams.settings import Settings
from tests.processors.test_media_probing import alive, until

PROGRAM = "tests.processors.misbehaving"


@pytest_asyncio.fixture
async def studio(make_settings: Callable[..., Settings]) -> AsyncIterator[ChildStudio]:
    """One child, that misbehaves when told to, and little patience."""
    settings = make_settings(media_stall=30, media_timeout=60, media_nice=0).model_copy(update={"media_memory": 2**29})
    async with open_studio(settings, program=PROGRAM) as studio:
        yield studio


@pytest.fixture
def job(tmp_path: Path) -> EnhanceJob:
    """A rendition that is made at once."""
    return EnhanceJob(
        path=OsPath("well"),
        target=OsPath(str(tmp_path / "made.mp4")),
        kind="progressive",
        mode="auto",
        preset={},
        height=None,
        segment=6.0,
        media_name="made.mp4",
        threads=0,
    )


async def ask(studio: ChildStudio, job: EnhanceJob, trick: str) -> list[Any]:
    """All that is said of a job."""
    return [said async for said in studio.enhance(replace(job, path=OsPath(trick)))]


def pids(studio: ChildStudio) -> list[int]:
    """Children that make renditions, at work or resting."""
    return [child.pid for child in (*studio._renditions._busy, *studio._renditions._resting)]


def patience(studio: ChildStudio, **seconds: float) -> None:
    """Give a job other times."""
    studio._settings = studio._settings.model_copy(update=seconds)


async def test_a_rendition_is_planned_advances_and_is_made(studio: ChildStudio, job: EnhanceJob) -> None:
    """In this order, by one child that is used again."""
    first, second = await ask(studio, job, "well"), await ask(studio, job, "well")
    assert [type(said) for said in first] == [Planned, Advanced, Advanced, Made]
    assert first[1] == Advanced(frames=1, expected=9, percent=100 / 9)
    assert first[-1].warnings == ("one",)
    assert first[-1].peak_memory == second[-1].peak_memory == pids(studio)[0], "the same process made both"


@pytest.mark.parametrize(
    ("trick", "kind", "said"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("abort", "crashed", "SIGABRT"),
        ("leave", "crashed", "exit status 0"),
        ("raise", "crashed", "KeyError"),
        ("kill", "killed", "SIGKILL"),
        ("eat", "memory", "memory"),
        ("garbage", "crashed", "nonsense"),
        ("huge", "crashed", "4294967295 bytes"),
        ("wrong shape", "crashed", "nonsense"),
        ("unknown words", "crashed", "makes no sense"),
        ("too much", "crashed", "cannot be told"),
    ],
)
async def test_what_ends_a_child_fails_that_job_only(
    studio: ChildStudio, job: EnhanceJob, trick: str, kind: str, said: str
) -> None:
    """The reason is told, nothing is left of the child, and the next job is done."""
    *_, failure = await ask(studio, job, trick)
    assert isinstance(failure, MediaFailure)
    assert failure.kind == kind
    assert said in failure.reason
    assert isinstance((await ask(studio, job, "well"))[-1], Made)
    assert len(pids(studio)) == 1


async def test_noise_on_standard_error_is_no_answer_and_blocks_nothing(studio: ChildStudio, job: EnhanceJob) -> None:
    """Libraries print what they like."""
    assert isinstance((await ask(studio, job, "flood"))[-1], Made)


@pytest.mark.parametrize("trick", ["hang", "half"])
async def test_a_child_that_hangs_is_killed_as_stalled(studio: ChildStudio, job: EnhanceJob, trick: str) -> None:
    """Silence, or half a message, for longer than SPOOLHOUSE_MEDIA_STALL."""
    await ask(studio, job, "well")
    (pid,) = pids(studio)
    patience(studio, media_stall=0.5)
    *_, failure = await ask(studio, job, trick)
    assert isinstance(failure, MediaFailure)
    assert (failure.kind, "0.5 s" in failure.reason) == ("stalled", True)
    assert not alive(pid)


async def test_a_child_that_writes_without_a_word_is_not_stalled(studio: ChildStudio, job: EnhanceJob) -> None:
    """It moves the index of a large file to its front, say."""
    await ask(studio, job, "well")
    patience(studio, media_stall=0.3)
    assert isinstance((await ask(studio, job, "write"))[-1], Made)


async def test_a_rendition_that_takes_too_long_is_given_up(studio: ChildStudio, job: EnhanceJob) -> None:
    """However busy it looks."""
    await ask(studio, job, "well")
    (pid,) = pids(studio)
    patience(studio, media_timeout=1.0)
    *_, last, failure = await ask(studio, job, "go on")
    assert isinstance(last, Advanced)
    assert isinstance(failure, MediaFailure)
    assert (failure.kind, "1 s" in failure.reason) == ("timeout", True)
    assert not alive(pid)


async def test_a_child_that_eats_processor_time_is_ended_by_the_kernel(
    studio: ChildStudio, job: EnhanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if nobody watches the clock."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: [])
    *_, failure = await ask(studio, job, "spin")
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "timeout"


async def test_a_kill_from_outside_is_worth_another_try(studio: ChildStudio, job: EnhanceJob) -> None:
    """`killed`: the kernel that needed memory, or an administrator."""
    said = []
    async with aclosing(studio.enhance(replace(job, path=OsPath("go on")))) as running:
        async for one in running:
            said.append(one)
            if len(said) == 3:
                os.kill(pids(studio)[0], signal.SIGKILL)
    assert isinstance(said[-1], MediaFailure)
    assert said[-1].kind == "killed"
    assert isinstance((await ask(studio, job, "well"))[-1], Made)


async def test_a_child_that_was_killed_while_it_rested_costs_nothing(studio: ChildStudio, job: EnhanceJob) -> None:
    """The job is given to a new one."""
    await ask(studio, job, "well")
    (pid,) = pids(studio)
    os.kill(pid, signal.SIGKILL)
    assert isinstance((await ask(studio, job, "well"))[-1], Made)
    assert pids(studio) != [pid]


async def test_closing_early_ends_the_child(studio: ChildStudio, job: EnhanceJob) -> None:
    """Whoever leaves does not leave it behind, nor its place."""
    async with aclosing(studio.enhance(replace(job, path=OsPath("go on")))) as running:
        await anext(running)
        (pid,) = pids(studio)
    assert not alive(pid)
    assert isinstance((await ask(studio, job, "well"))[-1], Made)


async def test_cancelling_ends_the_child(studio: ChildStudio, job: EnhanceJob) -> None:
    """As a worker does that shuts down, while it waits for the next word."""
    task = asyncio.create_task(ask(studio, job, "hang"))
    await until(lambda: bool(pids(studio)))
    (pid,) = pids(studio)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not alive(pid)
    assert isinstance((await ask(studio, job, "well"))[-1], Made)


async def test_stopping_ends_what_runs_and_says_so(make_settings: Callable[..., Settings], job: EnhanceJob) -> None:
    """A job that still goes on when the Studio closes."""
    async with open_studio(make_settings(), program=PROGRAM) as studio:
        task = asyncio.create_task(ask(studio, job, "hang"))
        await until(lambda: bool(pids(studio)))
    *_, failure = await task
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "unavailable"


async def test_a_child_is_replaced_after_its_jobs(studio: ChildStudio, job: EnhanceJob) -> None:
    """What leaks in a library does not add up."""
    studio._renditions._jobs = 2
    made = [(await ask(studio, job, "well"))[-1].peak_memory for _ in range(4)]
    assert made[0] == made[1] != made[2] == made[3]
    assert pids(studio) == []


async def test_memory_that_earlier_work_holds_is_not_this_jobs_fault(studio: ChildStudio, job: EnhanceJob) -> None:
    """A child that was used before and runs out of it is replaced, and the job done by a new one."""
    first, second = (await ask(studio, job, "leak"))[-1], (await ask(studio, job, "leak"))[-1]
    assert isinstance(second, Made)
    assert first.peak_memory != second.peak_memory


async def test_no_process_at_all_is_our_trouble(
    studio: ChildStudio, job: EnhanceJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said, and nothing is blamed on the file."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        (failure,) = await ask(studio, job, "well")
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "unavailable"
    assert isinstance((await ask(studio, job, "well"))[-1], Made)


async def test_too_little_memory_to_start_in_is_our_trouble(
    make_settings: Callable[..., Settings], job: EnhanceJob
) -> None:
    """A child that dies before it is ready takes nothing along."""
    settings = make_settings().model_copy(update={"media_memory": 48 * 2**20})
    async with open_studio(settings) as studio:
        (failure,) = await ask(studio, job, "well")
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "unavailable"
    assert "did not come up" in failure.reason


async def test_eight_jobs_at_once_take_turns(studio: ChildStudio, job: EnhanceJob) -> None:
    """Good and bad; each gets its own answer, and there is never a second child."""
    tricks = ["well", "segfault", "well", "eat", "well", "kill", "raise", "well"]
    most = 0

    async def watched(trick: str) -> str:
        nonlocal most
        async for said in studio.enhance(replace(job, path=OsPath(trick))):
            most = max(most, len(pids(studio)))
            last = said
        return getattr(last, "kind", "made")

    found = await asyncio.gather(*map(watched, tricks))
    assert found == ["made", "crashed", "made", "memory", "made", "killed", "crashed", "made"]
    assert most == 1


async def test_a_poster_need_not_wait_for_a_film_that_is_encoded(
    studio: ChildStudio, job: EnhanceJob, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """Previews have a child of their own."""
    folder = tmp_path / "previews"
    folder.mkdir()
    async with aclosing(studio.enhance(replace(job, path=OsPath("go on")))) as running:
        await anext(running)
        made = await studio.preview(PreviewJob(OsPath(str(make_video(tmp_path / "a.mp4"))), OsPath(str(folder))))
        assert isinstance(made, Previews)
        assert isinstance(await anext(running), Advanced)


async def test_the_child_is_confined(make_settings: Callable[..., Settings], job: EnhanceJob) -> None:
    """Memory, files, what it may write, niceness; none of our secrets, files or standard streams."""
    settings = make_settings(media_nice=13).model_copy(update={"media_memory": 3 * 2**29})
    own = Path("/proc/self/fd/1").readlink()
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)  # noqa: FBT003
    os.environ["SPOOLHOUSE_TEST_SECRET"] = "geheim"
    try:
        async with open_studio(settings, program=PROGRAM) as studio:
            await ask(studio, job, "well")
            (pid,) = pids(studio)
            place = Path(f"/proc/{pid}")
            limits = {line[:26].strip(): line[26:].split()[0] for line in (place / "limits").read_text().splitlines()}
            assert limits["Max address space"] == str(3 * 2**29)
            assert limits["Max open files"] == "64"
            assert limits["Max core file size"] == "0"
            assert limits["Max file size"] != "unlimited", "never into the last of the disk"
            assert place.joinpath("stat").read_text().rpartition(")")[2].split()[16] == "13"
            assert b"geheim" not in place.joinpath("environ").read_bytes()
            links = {fd.name: str(fd.readlink()) for fd in place.joinpath("fd").iterdir()}
            assert "/etc/hostname" not in links.values()
            assert {links["0"].split(":")[0], links["1"].split(":")[0]} <= {"pipe", "socket"}
            assert links["1"] != str(own)
            assert place.joinpath("cwd").readlink() == Path("/")
    finally:
        del os.environ["SPOOLHOUSE_TEST_SECRET"]
        os.close(secret)


async def test_a_real_rendition(
    make_settings: Callable[..., Settings], job: EnhanceJob, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """By the child as it is: it plays, its folder holds nothing else, and a kill in its middle is told."""
    folder = tmp_path / "renditions"
    folder.mkdir()
    target = folder / "made.mp4"
    source = OsPath(str(make_video(tmp_path / "a \udcff.avi", 4.0, width=320, height=180, rate=25, sound=True)))
    job = replace(job, path=source, target=OsPath(str(target)), preset=BUILT_IN["web"].model_dump(), threads=1)
    async with open_studio(make_settings()) as studio:
        said = [one async for one in studio.enhance(job)]
        assert isinstance(said[0], Planned)
        assert isinstance(said[-1], Made), said
        assert (said[-1].video_codec, said[-1].audio_codec, said[-1].frames) == ("h264", "aac", 100)
        async with open_prober(timeout=60) as prober:
            assert isinstance(await prober.probe(job.target), Probed)
        assert os.listdir(folder) == ["made.mp4"]
        async with aclosing(studio.enhance(job)) as running:
            async for one in running:
                if isinstance(one, Planned):
                    os.kill(pids(studio)[0], signal.SIGKILL)
                last = one
        assert isinstance(last, MediaFailure)
        assert last.kind == "killed"


async def test_the_last_of_a_disk_is_left_to_uploads(
    make_settings: Callable[..., Settings], job: EnhanceJob, tmpfs: Path
) -> None:
    """A rendition that would need it fails; below the mark none is begun."""
    settings = make_settings(disk_hard=6 * 2**20, disk_low=7 * 2**20)
    target = tmpfs / "made.mp4"
    async with open_studio(settings, program=PROGRAM) as studio:
        *_, failure = await ask(studio, replace(job, target=OsPath(str(target))), "fill")
        assert isinstance(failure, MediaFailure)
        assert failure.kind == "disk_full"
        assert 2**20 < target.stat().st_size <= 2 * 2**20
        target.write_bytes(bytes(3 * 2**20))
        *_, failure = await ask(studio, replace(job, target=OsPath(str(target))), "well")
        assert isinstance(failure, MediaFailure)
        assert (failure.kind, "SPOOLHOUSE_DISK_HARD" in failure.reason) == ("disk_full", True)


async def test_a_child_never_outlives_the_worker(clean_env: Path) -> None:
    """A kill -9 of the worker ends it, in mid-job."""
    program = f"""
import asyncio
from processors.media.probing import open_prober
from processors.media.studio import open_studio
from processors.ports import EnhanceJob
from streams.settings import load_settings

async def main():
    async with open_studio(load_settings(), program={PROGRAM!r}) as studio:
        job = EnhanceJob("go on", "/tmp/never", "progressive", "auto", {{}}, None, 6.0, "x", 0)
        async for _ in studio.enhance(job):
            print(*(child.pid for child in studio._renditions._busy), flush=True)

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        assert alive(child)
        worker.kill()
    await until(lambda: not alive(child))

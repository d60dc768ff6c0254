"""Probing in child processes: right about good files, unharmed by bad ones."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from processors.media.probing import ChildProber, open_prober
from processors.ports import Probed, ProbeFailure
from streams.paths import OsPath
from tests.processors.test_media_signatures import PICTURE, encode


@pytest_asyncio.fixture
async def prober() -> AsyncIterator[ChildProber]:
    """A prober with one child."""
    async with open_prober(timeout=30, children=1) as prober:
        yield prober


def child_of(prober: ChildProber) -> int:
    """Process id of the child that rests."""
    return prober._pool._resting[0].pid


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_real_films(prober: ChildProber, sample_videos: list[Path]) -> None:
    """Size, duration, codecs as they are."""
    bunny, bikes = [await prober.probe(OsPath(str(path))) for path in sample_videos]
    assert isinstance(bunny, Probed)
    assert (bunny.width, bunny.height, bunny.video_codec, bunny.audio_codec) == (1280, 720, "h264", "aac")
    assert bunny.duration == pytest.approx(5.3, abs=0.1)
    assert isinstance(bikes, Probed)
    assert (bikes.frame_rate, bikes.damaged, bikes.audio_codec) == (25.0, None, None)
    assert bikes.size == sample_videos[1].stat().st_size


@pytest.mark.parametrize(("muxer", "codec"), PICTURE, ids=[muxer for muxer, _ in PICTURE])
async def test_every_format(prober: ChildProber, tmp_path: Path, muxer: str, codec: str) -> None:
    """Found by content: the name says nothing and is not even UTF-8."""
    path = encode(tmp_path / "made", muxer, codec).rename(os.fsdecode(os.fsencode(tmp_path) + b"/v\xff\n \\d"))
    found = await prober.probe(OsPath(str(path)))
    assert isinstance(found, Probed), found
    assert (found.width, found.height, found.damaged) == (176, 144, None)


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".avi", ".webm", ".mov"])
async def test_cut_off_at_any_byte(
    prober: ChildProber, tmp_path: Path, make_video: Callable[..., Path], extension: str
) -> None:
    """Read as far as it goes and marked, or said why not."""
    whole = make_video(tmp_path / f"a{extension}", sound=True).read_bytes()
    cut = tmp_path / "cut"
    for length in [*range(1, 80, 13), *range(80, len(whole), len(whole) // 25), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        found = await prober.probe(OsPath(str(cut)))
        if isinstance(found, Probed):
            assert found.damaged, length
        else:
            assert found.kind in ("unreadable", "no_video")
            assert found.kind == "unreadable" or length < 12


async def test_mutated_files_never_harm_the_worker(
    prober: ChildProber, tmp_path: Path, make_video: Callable[..., Path], rng: random.Random
) -> None:
    """Seeded; longer with SPOOLHOUSE_FUZZ_SECONDS."""
    samples = [make_video(tmp_path / f"a{x}", sound=True).read_bytes() for x in (".mp4", ".mkv", ".avi", ".webm")]
    samples += [encode(tmp_path / "b", *pair).read_bytes() for pair in (("mpegts", "libx264"), ("flv", "flv1"))]
    bad = tmp_path / "bad"
    end = time.monotonic() + float(os.environ.get("SPOOLHOUSE_FUZZ_SECONDS", "3"))
    while time.monotonic() < end:
        data = bytearray(rng.choice(samples))
        for _ in range(rng.choice([1, 5, 50])):
            at = rng.randrange(min(len(data), rng.choice([64, 1024, len(data)])))
            data[at : at + rng.choice([1, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 4]))
        bad.write_bytes(data)
        found = await prober.probe(OsPath(str(bad)))
        assert isinstance(found, (Probed, ProbeFailure))
        assert not isinstance(found, ProbeFailure) or found.kind != "unavailable"


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD><Period><Representation><BaseURL>{target}</BaseURL></Representation></Period></MPD>',
    ],
    ids=["hls", "concat", "sdp", "dash"],
)
@pytest.mark.parametrize("prefix", [b"", b"\0\0\0\x08free"])
async def test_a_playlist_opens_nothing_else(
    prober: ChildProber, tmp_path: Path, make_video: Callable[..., Path], playlist: str, prefix: bytes
) -> None:
    """Neither another file nor a host, whatever it is named."""
    secret = make_video(tmp_path / "secret.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        for target in ("/etc/passwd", str(secret), f"file://{secret}", f"http://127.0.0.1:{port}/a.ts"):
            trap = tmp_path / "trap.mp4"
            trap.write_bytes(prefix + playlist.format(target=target, port=port).encode())
            found = await prober.probe(OsPath(str(trap)))
            assert isinstance(found, ProbeFailure)
            assert "root:" not in found.reason
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("text", [False, True])
async def test_a_picture_larger_than_memory_fails_within_limits(
    prober: ChildProber, tmp_path: Path, sample_videos: list[Path], text: bool
) -> None:
    """Huge dimensions in a header: answered, and the child is bounded."""
    bomb = tmp_path / "bomb"
    if text:
        bomb.write_bytes(b"YUV4MPEG2 W60000 H60000 F25:1 Ip C444\nFRAME\n" + bytes(1000))
    else:
        data = bytearray(sample_videos[1].read_bytes())
        at = data.find(b"avc1", data.find(b"stsd"))
        data[at + 28 : at + 32] = b"\xff\xff\xff\xff"
        bomb.write_bytes(data)
    found = await prober.probe(OsPath(str(bomb)))
    assert isinstance(found, (Probed, ProbeFailure))
    good = await prober.probe(OsPath(str(sample_videos[1])))
    assert isinstance(good, Probed)
    status = Path(f"/proc/{child_of(prober)}/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 1024 * 1024


async def test_the_child_is_confined(prober: ChildProber, sample_videos: list[Path]) -> None:
    """Memory, files, core dumps, and nothing that a program could gain."""
    await prober.probe(OsPath(str(sample_videos[1])))
    pid = child_of(prober)
    limits = {line[:26].strip(): line[26:].split()[0] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max address space"] == str(2 * 2**30)
    assert limits["Max open files"] == "64"
    assert limits["Max core file size"] == "0"
    assert int(limits["Max cpu time"]) < 60
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


async def test_a_child_that_dies_costs_nothing_if_it_had_worked_before(
    prober: ChildProber, sample_videos: list[Path]
) -> None:
    """The file is asked about once more, of a new child."""
    path = OsPath(str(sample_videos[1]))
    await prober.probe(path)
    os.kill(child_of(prober), signal.SIGKILL)
    assert isinstance(await prober.probe(path), Probed)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_child_that_died_long_ago_costs_nothing(sample_videos: list[Path], runner: Callable[..., None]) -> None:
    """Its pipe was seen to be closed before anybody wrote to it, in either kind of loop."""

    async def asking() -> None:
        async with open_prober(timeout=30, children=1) as prober:
            path = OsPath(str(sample_videos[1]))
            await prober.probe(path)
            [child] = prober._pool._resting
            os.kill(child.pid, signal.SIGKILL)
            await until(child._process.stdin.is_closing)
            assert isinstance(await prober.probe(path), Probed)

    runner(asking())


async def test_a_file_that_kills_its_child_is_a_failed_probe(sample_videos: list[Path]) -> None:
    """Said how; the worker lives, and so does the next probe."""
    async with open_prober(timeout=30, children=1, program="tests.processors.misbehaving") as prober:
        found = await prober.probe(OsPath("segfault"))
        assert isinstance(found, ProbeFailure)
        assert found.kind == "crashed"
        assert "SIGSEGV" in found.reason
        assert isinstance(await prober.probe(OsPath(str(sample_videos[1]))), Probed)


async def test_a_child_that_dies_before_it_begins_says_nothing_about_the_file(
    prober: ChildProber, sample_videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is our trouble: memory is short, say. Later it works again."""
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\necho 'MemoryError: no room' >&2\nkill -KILL $$\n")
    killer.chmod(0o755)
    path = OsPath(str(sample_videos[1]))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(killer))
        found = await prober.probe(path)
    assert isinstance(found, ProbeFailure)
    assert (found.kind, "SIGKILL" in found.reason) == ("unavailable", True)
    assert isinstance(await prober.probe(path), Probed)


async def test_no_child_at_all_is_said(
    prober: ChildProber, sample_videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is our trouble, not the file's."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = await prober.probe(OsPath(str(sample_videos[1])))
    assert isinstance(found, ProbeFailure)
    assert found.kind == "unavailable"


async def test_a_child_that_hangs_is_replaced(sample_videos: list[Path]) -> None:
    """After the timeout, and killed even though it is stopped."""
    path = OsPath(str(sample_videos[1]))
    async with open_prober(timeout=1.0, children=1) as prober:
        await prober.probe(path)
        pid = child_of(prober)
        os.kill(pid, signal.SIGSTOP)
        found = await prober.probe(path)
        assert isinstance(found, ProbeFailure)
        assert found.kind == "timeout"
        await until(lambda: not alive(pid))
        assert isinstance(await prober.probe(path), Probed)


async def test_a_caller_who_gives_up_does_not_mix_up_answers(prober: ChildProber, sample_videos: list[Path]) -> None:
    """The next question gets its own answer."""
    bunny, bikes = (OsPath(str(path)) for path in sample_videos)
    await prober.probe(bikes)
    asking = asyncio.create_task(prober.probe(bunny))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    found = await prober.probe(bikes)
    assert isinstance(found, Probed)
    assert found.width == 640


async def test_children_are_replaced_after_their_jobs_and_stopped_when_idle(sample_videos: list[Path]) -> None:
    """Nothing runs while nothing is asked."""
    path = OsPath(str(sample_videos[1]))
    async with open_prober(timeout=30, children=1, idle=0.05, jobs=2) as prober:
        await prober.probe(path)
        first = child_of(prober)
        await until(lambda: not alive(first))
        assert prober._pool._resting == []
        prober._pool._idle = 60
        await prober.probe(path)
        second = child_of(prober)
        await prober.probe(path)
        await until(lambda: not alive(second))
        assert prober._pool._resting == []
    found = await prober.probe(path)
    assert isinstance(found, ProbeFailure)
    assert found.kind == "unavailable"


async def test_no_more_children_than_allowed(sample_videos: list[Path]) -> None:
    """Ten questions at once, two children."""
    async with open_prober(timeout=30, children=2) as prober:
        found = await asyncio.gather(*(prober.probe(OsPath(str(sample_videos[1]))) for _ in range(10)))
        assert all(isinstance(one, Probed) for one in found)
        assert len(prober._pool._resting) <= 2


async def test_a_child_never_outlives_the_worker(sample_videos: list[Path]) -> None:
    """A kill -9 of the worker ends it."""
    program = (
        "import asyncio, sys\n"
        "from processors.media.probing import open_prober\n"
        "async def main():\n"
        "    async with open_prober(timeout=30) as prober:\n"
        f"        await prober.probe({str(sample_videos[1])!r})\n"
        "        print(prober._pool._resting[0].pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        assert alive(child)
        worker.kill()
    await until(lambda: not alive(child))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, "gone"),
        (lambda path: path.mkdir(), "unreadable"),
        (os.mkfifo, "unreadable"),
        (lambda path: path.write_bytes(b""), "unreadable"),
        (lambda path: path.symlink_to("/dev/zero"), "unreadable"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "no_video"),
        (lambda path: path.write_bytes(b"\x93\x01\x02\x80" * 999), "unreadable"),
    ],
    ids=["gone", "folder", "fifo", "empty", "device", "png", "noise"],
)
async def test_what_is_no_video_file(
    prober: ChildProber, tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    """Answered, never waited for."""
    make(tmp_path / "thing")
    found = await prober.probe(OsPath(str(tmp_path / "thing")))
    assert isinstance(found, ProbeFailure)
    assert found.kind == kind
    assert found.reason

"""Mutated, cut and shrinking files: every answer is one, and the children stay within their bounds."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from processors.media.probing import ChildProber, open_prober
from processors.media.studio import ChildStudio, open_studio
from processors.ports import MediaFailure, PreviewJob, Previews, Probed, ProbeFailure
from streams.paths import OsPath
from streams.settings import Settings
from tests.processors.test_media_previews import film, halves
from tests.processors.test_media_probing import alive
from tests.processors.test_media_signatures import encode

SECONDS = float(os.environ.get("SPOOLHOUSE_FUZZ_SECONDS", "3"))
MEMORY = 2**30

PROBED = {"gone", "unreadable", "no_video"}
SEEN = {"gone", "unreadable", "no_video", "memory"}
"""What a bad file may be called. Anything else is a child that it got the better of."""


def mutated(rng: random.Random, sample: bytes) -> bytes:
    """A sample with some bytes changed, left out, doubled or cut off; more often near its start."""
    data = bytearray(sample)
    for _ in range(rng.choice([1, 3, 20, 100])):
        at = rng.randrange(min(len(data), rng.choice([64, 1024, len(data)])))
        length = rng.choice([1, 1, 4, 64])
        match rng.randrange(5):
            case 0:
                data[at : at + length] = rng.randbytes(length)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + length] = rng.choice([b"\x00", b"\xff", b"\x7f"]) * length
            case 3:
                data[at:at] = data[at : at + length]
            case _:
                del data[at : at + min(length, len(data) // 2)]
    return bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.1 else data)


async def test_no_mutation_gets_the_better_of_a_child(
    make_settings: Callable[..., Settings], tmp_path: Path, make_video: Callable[..., Path], rng: random.Random
) -> None:
    """Seeded; longer with SPOOLHOUSE_FUZZ_SECONDS."""
    samples = [make_video(tmp_path / f"a{x}", 2.0, sound=True).read_bytes() for x in (".mp4", ".mkv", ".avi", ".webm")]
    samples += [encode(tmp_path / "b", *pair).read_bytes() for pair in (("mpegts", "libx264"), ("flv", "flv1"))]
    samples.append(film(tmp_path / "c.mp4", [halves(64, 48)] * 9, rotation=90).read_bytes())
    bad, tries, useful = tmp_path / "bad", 0, 0
    settings = make_settings(media_timeout=60).model_copy(update={"media_memory": MEMORY})
    async with open_prober(timeout=60, children=1) as prober, open_studio(settings) as studio:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or tries < 5:
            tries += 1
            bad.write_bytes(mutated(rng, rng.choice(samples)))
            found, made = await _both(prober, studio, bad, tmp_path / "previews")
            useful += isinstance(made, Previews)
            assert isinstance(found, Probed) or found.kind in PROBED, _kept(bad, found)
            assert isinstance(made, Previews) or made.kind in SEEN, _kept(bad, made)
        for pool in (prober._pool, studio._previews):
            for child in pool._resting:
                assert alive(child.pid)
                assert _peak(child.pid) < MEMORY
    print(f"{tries} files, {useful} with previews")


async def test_a_file_that_shrinks_while_it_is_read(
    make_settings: Callable[..., Settings], tmp_path: Path, make_video: Callable[..., Path], rng: random.Random
) -> None:
    """Read as far as it goes."""
    whole = make_video(tmp_path / "whole.mkv", 20.0, width=320, height=180).read_bytes()
    path = tmp_path / "shrinking.mkv"
    async with open_prober(timeout=60, children=1) as prober, open_studio(make_settings()) as studio:
        for _ in range(4):
            path.write_bytes(whole)
            answers = asyncio.create_task(_both(prober, studio, path, tmp_path / "previews"))
            size = len(whole)
            while not answers.done():
                await asyncio.sleep(0.002)
                size = int(size * rng.uniform(0.5, 1)) if rng.random() < 0.3 else size
                os.truncate(path, size)
            found, made = await answers
            assert isinstance(found, Probed) or found.kind in PROBED
            assert isinstance(made, Previews) or made.kind in SEEN


async def _both(
    prober: ChildProber, studio: ChildStudio, path: Path, folder: Path
) -> tuple[Probed | ProbeFailure, Previews | MediaFailure]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    video = OsPath(str(path))
    return await asyncio.gather(prober.probe(video), studio.preview(PreviewJob(video, OsPath(str(folder)))))


def _kept(bad: Path, answer: object) -> str:
    """Keep a file that was too much, to look at it."""
    kept = Path("/tmp") / f"spoolhouse-fuzz-{os.getpid()}-{time.time_ns()}"
    kept.write_bytes(bad.read_bytes())
    return f"{kept}: {answer}"


def _peak(pid: int) -> int:
    """Bytes that were resident at the most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

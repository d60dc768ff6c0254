"""The site that downloads are measured with, as a program: `python -m scripts.bench_parts.site BYTES`.

It prints its address, and ends with its input. Beside what it always has, `/large/<number>.mp4` is a film of so many
bytes, all of them picture: what is fetched has to be put into its container, too.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from tests.sites import open_site

RATE = 25
ROUNDS = 10
"""How many addresses the large film has."""


@contextmanager
def beside(size: int) -> Iterator[str]:
    """The address of a site that runs in a process of its own while the block does."""
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.bench_parts.site", str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def large_film(path: Path, size: int) -> bytes:
    """H.264 in MP4, about 25 Mbit/s: a second of checks, again and again."""
    rng = np.random.default_rng(7)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "qp": "34", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        second = []
        for number in range(RATE):
            picture = rng.integers(16, 236, (68, 80), np.uint8).repeat(16, 0).repeat(16, 1)[:1080]
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            second += stream.encode(frame)
        second += stream.encode(None)
        step = int(1 / (RATE * second[0].time_base))
        number = written = 0
        while written < size:
            for packet in second:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base = stream, packet.time_base
                copy.pts = copy.dts = number * step
                copy.duration, copy.is_keyframe = step, packet.is_keyframe
                written += copy.size
                number += 1
                out.mux(copy)
    return path.read_bytes()


async def _main(size: int) -> None:
    with tempfile.TemporaryDirectory(prefix="spoolhouse-bench-site-") as place:
        content = large_film(Path(place, "large.mp4"), size)
    async with open_site() as site:
        site.files.update({f"/large/{number}.mp4": (content, "video/mp4") for number in range(ROUNDS)})
        print(site.base, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

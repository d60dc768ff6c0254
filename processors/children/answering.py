"""What a child does: answer one question after another.

A child is `python -m <program> <parent's process id> <limits as JSON> <whatever the program wants>…`. It
takes questions on its standard input and answers on its standard output. A message is four bytes of
length (big-endian), then JSON. First it says `{"ready": …}`. A question is
`{"do": name of the job, "cpu": seconds, …}`; while the job goes on there may be any number of
`{"told": …}`; `{"answer": …}` ends it. What a job cannot do is answered by
`{"failure": {"kind": …, "reason": …}}`. The process ends when its input does.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import orjson

from processors.children.limits import Limits, allow_cpu, confine

MAX_MESSAGE = 64 * 1024
"""Bytes of one message."""

Tell = Callable[[dict[str, Any]], None]
Job = Callable[[dict[str, Any], Tell], dict[str, Any]]
"""Takes the question and what tells how far it is (from any thread); returns the answer."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TARGET = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


def answer_all(jobs: Mapping[str, str], *, prepare: Callable[[], None], memory_setting: str) -> None:
    """Answer until there is nothing more to answer.

    `jobs`: where each job is found (`module:function`); it is imported when it is first asked for.
    `prepare` is called in bounds and before the child is ready. `memory_setting`: what people may raise.
    """
    confine(int(sys.argv[1]), Limits(**orjson.loads(sys.argv[2])))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    turn = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        data = orjson.dumps(message)
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes")
        with turn:
            answers.write(len(data).to_bytes(4, "big") + data)
            answers.flush()

    prepare()
    send({"ready": {"pid": os.getpid()}})
    while (question := _receive(questions)) is not None:
        answer = _answer(jobs, orjson.loads(question), lambda told: send({"told": told}), memory_setting)
        try:
            send({"answer": answer})
        except (TypeError, ValueError) as error:
            send({"answer": _failed("crashed", f"what was found cannot be told: {error}")})


def _receive(stream: BinaryIO) -> bytes | None:
    length = stream.read(4)
    if len(length) < 4:
        return None
    return stream.read(int.from_bytes(length, "big"))


def _answer(jobs: Mapping[str, str], asked: dict[str, Any], tell: Tell, memory_setting: str) -> dict[str, Any]:
    try:
        module, _, name = jobs[asked["do"]].partition(":")
        job: Job = getattr(importlib.import_module(module), name)
        allow_cpu(asked["cpu"])
        return job(asked, tell)
    except MemoryError:
        return _failed("memory", f"it asks for more memory than it may have ({memory_setting})")
    except OSError as error:
        told = error.strerror or str(error)
        if error.errno in _DISK:
            return _failed("disk_full", f"there is no room for what is made of it: {told}")
        if error.errno in _TARGET:
            return _failed("unwritable", f"what is made of it cannot be written: {told}")
        return _failed("unreadable", f"it cannot be read: {told}")
    except Exception as error:  # noqa: BLE001 - a library's surprise is one answer, not our end
        return _failed("crashed", f"working on it failed: {type(error).__name__}: {error}")


def _failed(kind: str, reason: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "reason": reason.encode("utf-8", "replace").decode()[:1000]}}

"""A few child processes that take turns: started when first needed, reused, replaced, stopped when idle.

One that crashes, hangs or eats its memory costs one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from processors.children.child import Child, ChildError
from processors.children.limits import Limits

_log = structlog.get_logger(__name__)

IDLE = 60.0
"""Seconds without work after which a child is stopped."""


class Pool:
    """Children that are all alike."""

    def __init__(
        self,
        limits: Limits,
        *,
        program: str,
        children: int,
        jobs: int,
        grown: int | None = None,
        idle: float = IDLE,
        arguments: Sequence[str] = (),
        starts_over: bool = True,
    ) -> None:
        """`children`: how many work at once. `jobs`, `grown`: after how many, and from how many bytes of memory on,
        another takes a child's place. `program` is what they run, with `arguments`. `starts_over`: a question
        that a child died of is asked once more of a new one, even where it had told something.
        """
        self._starts_over = starts_over
        self._limits, self._jobs, self._grown, self._idle = limits, jobs, grown, idle
        self._program, self._arguments = program, arguments
        self._room = asyncio.Semaphore(children)
        self._resting: list[Child] = []
        self._busy: set[Child] = set()
        self._closed = False
        self._reaper: asyncio.TimerHandle | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def ask(
        self, question: Mapping[str, Any], *, seconds: float, stall: float | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What a child says to a question: any number of `{"told": …}`, then one `{"answer": …}`.

        It takes `seconds` at most, once it is its turn, and `stall` between two messages, unless the
        child reads, writes or waits for a disk meanwhile. A child that does not answer is ended, and its answer is
        `{"failure": {"kind": …, "reason": …}}`, with the kinds of ChildError; raises nothing. Leave it
        early by closing it: the child is ended.
        """
        async with self._room:
            answer: dict[str, Any] | None = None
            while answer is None:
                fresh, told = True, False
                try:
                    child = await self._take()
                    fresh = child.jobs == 0
                    try:
                        deadline = asyncio.get_running_loop().time() + seconds
                        await child.ask(question, seconds)
                        while "answer" not in (message := await self._next(child, deadline, stall)):
                            told = True
                            yield message
                        answer = message
                    finally:
                        # Cancelled, or out of step: nobody must get this answer for another question.
                        await self._give_back(child, usable=answer is not None and not _spent(answer))
                    if _spent(answer) and not fresh and (self._starts_over or not told):
                        answer = None  # it may be earlier work that holds the memory
                except ChildError as error:
                    # What kills a child that worked before may be a leftover of that work: once more, of a new one.
                    leftover = error.kind in {"crashed", "memory"} or (error.kind == "killed" and not told)
                    leftover = leftover and (self._starts_over or not told)
                    if fresh or self._closed or not leftover:
                        answer = self._failure(error, seconds, stall)
        yield answer

    async def answer(self, question: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """What a child answers in the end, like `ask`."""
        async with aclosing(self.ask(question, seconds=seconds)) as messages:
            async for message in messages:
                if "answer" in message:
                    answer: dict[str, Any] = message["answer"]
                    return answer
        raise AssertionError("`ask` ends with an answer")

    async def close(self) -> None:
        """Stop every child; what they work on is answered with `unavailable`."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        resting, self._resting = self._resting, []
        await asyncio.gather(
            *(child.end() for child in self._busy), *(child.stop() for child in resting), *self._endings
        )

    async def _take(self) -> Child:
        self._check_open()
        child = self._resting.pop() if self._resting else await self._start()
        try:
            self._check_open()
        except ChildError:
            await child.stop()
            raise
        self._busy.add(child)
        return child

    async def _start(self) -> Child:
        return await Child.start(self._limits, self._program, self._arguments)

    def _check_open(self) -> None:
        if self._closed:
            raise ChildError("unavailable", "Spoolhouse is stopping")

    async def _next(self, child: Child, deadline: float, stall: float | None) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        moved = child.moved() if stall is not None else None
        while True:
            left = max(0.0, deadline - loop.time())
            message = await child.receive(left if stall is None else min(left, stall))
            if message is not None:
                if not message.keys() & {"told", "answer"}:
                    raise ChildError("crashed", "it talked nonsense")
                return message
            if loop.time() >= deadline:
                raise ChildError("timeout", "it took too long")
            # A long copy, or looking at what came of it, says nothing; but it reads, writes, or waits for the disk.
            before, moved = moved, child.moved()
            if (moved is None or moved == before) and not child.waits_for_disk():
                raise ChildError("stalled", "it said nothing for too long")

    async def _give_back(self, child: Child, *, usable: bool) -> None:
        self._busy.discard(child)
        grown = self._grown is not None and usable and child.resident() > self._grown
        if not usable or grown or child.jobs >= self._jobs or self._closed:
            await asyncio.shield(self._begin_end(child))
            return
        loop = asyncio.get_running_loop()
        child.rested_at = loop.time()
        self._resting.append(child)
        if self._reaper is None:
            self._reaper = loop.call_later(self._idle, self._reap)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        self._reaper = None
        tired = [child for child in self._resting if loop.time() - child.rested_at >= self._idle]
        self._resting = [child for child in self._resting if child not in tired]
        for child in tired:
            self._begin_end(child)
        if self._resting:
            oldest = min(child.rested_at for child in self._resting)
            self._reaper = loop.call_later(max(0.01, oldest + self._idle - loop.time()), self._reap)

    def _begin_end(self, child: Child) -> asyncio.Task[None]:
        ending = asyncio.create_task(child.stop())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    def _failure(self, error: ChildError, seconds: float, stall: float | None) -> dict[str, Any]:
        kind = "unavailable" if self._closed else error.kind
        reason = {
            "unavailable": "Spoolhouse is stopping" if self._closed else error.how,
            "timeout": f"working on it took longer than {seconds:g} s",
            "stalled": f"nothing was heard of the work on it for {stall or 0:g} s",
            "memory": f"working on it took more memory than it may have ({error.how})",
            "crashed": f"working on it ended the process that worked ({error.how})",
            "killed": f"the process that worked on it was killed ({error.how})",
        }[kind]
        _log.warning("a child process gave no answer", kind=kind, reason=reason)
        return {"answer": {"failure": {"kind": kind, "reason": reason}}}


def _spent(message: dict[str, Any]) -> bool:
    """Whether the child that answered so is not to be asked again: its memory is used up."""
    return bool(message["answer"].get("failure", {}).get("kind") == "memory")

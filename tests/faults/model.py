"""The log and a consumer group beside a plain Python model of what they promise.

Hypothesis chooses what happens: events come (some twice, some under an expected version), a worker
handles them, fails, parks, is stopped, crashes, loses its lease; people repair, replay, discard. The
model knows what must be handled, in which order, and what must be parked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from streams.background import running
from streams.codec import Recorded
from streams.errors import ConflictError, PoisonError, TransientError
from streams.events import Event
from streams.hosting import Host
from streams.keys import partition_of
from streams.log import Log, open_log
from streams.processing import Context
from streams.retries import Parked, Retries
from streams.settings import Settings
from tests.servers import RedisServer
from tests.streams.driving import answer, check_log, eventually, numbered, of_type, pending, processor

SUBJECTS = [f"video-{n}" for n in range(5)]
"""Few, so that they get in each other's way; several share a partition."""


class Work:
    """What the model knows of one event that came in."""

    def __init__(
        self, subject: str, number: int, failures: int = 0, poisonous: bool = False, pause: float = 0.0
    ) -> None:
        self.subject, self.number = subject, number
        self.failures, self.poisonous, self.pause = failures, poisonous, pause
        self.discarded = False
        self.done = False
        """Its effect is there."""

    def __repr__(self) -> str:
        return f"{self.subject}/{self.number}"


class Worker:
    """A host that can crash: its tasks end where they stand, nothing is given back."""

    def __init__(self, settings: Settings, url: str, handler: Callable[..., Any], member: str) -> None:
        self._settings, self._url, self._handler, self._member = settings, url, handler, member
        self.host: Host | None = None
        self._orderly = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with open_log(self._settings, self._url) as log:
            self.host = Host(processor(self._handler, attempts=5), log, {}, self._settings, self._member)
            async with running(self.host.run()):
                await self._orderly.wait()
                await self.host.drain()

    async def stop(self) -> None:
        """A clean end."""
        self._orderly.set()
        await self._task

    async def crash(self) -> None:
        """As SIGKILL would, as far as that can be had within one process."""
        handlers: list[asyncio.Task[None]] = []
        if self.host is not None:
            self.host.lanes.discard(lambda _: True)
            handlers += self.host.lanes._runners
        for task in (*handlers, self._task):
            task.cancel()
        await asyncio.gather(*handlers, self._task, return_exceptions=True)


class LogMachine(RuleBasedStateMachine):
    """Made by `machine` for one Redis."""

    server: RedisServer
    make_settings: Callable[..., Settings]

    appended = Bundle("appended")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.settings = self.make_settings(partitions=2, lease_ttl=0.5, drain=0.2, concurrency=3)
        self.server.flush()
        self.inputs: dict[str, list[Work]] = defaultdict(list)
        self.worker: Worker | None = None
        self.members = itertools.count(1)
        self.wrong: list[str] = []
        self.story: list[str] = []
        self.began = time.monotonic()
        self._log_context = open_log(self.settings, self.server.url)
        self.log: Log = self.do(self._log_context.__aenter__())
        self.retries = Retries(self.log.redis, self.log.keys, "test")

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine; the worker goes on meanwhile."""
        try:
            return self.loop.run(work)
        except BaseException as error:  # timing is real: what happened may not happen again
            error.add_note("what happened:\n  " + "\n  ".join(self.story))
            raise

    def tell(self, what: str, *details: object) -> None:
        """Remember what was done, for whoever reads of a failure."""
        self.story.append(f"{time.monotonic() - self.began:7.3f} {what} {' '.join(map(str, details))}")

    # ------------------------------------------------------------ the processor

    async def handle(self, event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        """Do what the model's `Work` says, and check that its turn has come."""
        number = int(event.event.video)
        self.tell("  handle", event.subject, number, context.attempt)
        works = self.inputs[event.subject]
        work = next(one for one in works if one.number == number)
        earlier = works[: works.index(work)]
        if waiting := [one for one in earlier if not (one.done or one.discarded)]:
            self.wrong.append(f"{work} was handled before {waiting}")
        await asyncio.sleep(work.pause)
        if work.poisonous:
            raise PoisonError("broken")
        if context.attempt <= work.failures:
            raise TransientError("not yet", retry_after=0.0)
        work.done = True
        yield answer(event)

    # ------------------------------------------------------------ what happens

    @initialize(member=st.booleans())
    def begin(self, member: bool) -> None:
        """Mostly there is a worker from the start."""
        if member:
            self.start_worker(same=True)

    @rule(
        target=appended,
        subject=st.sampled_from(SUBJECTS),
        failures=st.sampled_from([0, 0, 0, 1, 3]),
        poisonous=st.sampled_from([False, False, False, True]),
        pause=st.sampled_from([0.0, 0.0, 0.01, 0.1]),
    )
    def append(self, subject: str, failures: int, poisonous: bool, pause: float) -> tuple[str, int]:
        """Something happens to a subject."""
        number = len(self.inputs[subject]) + 1
        self.tell("append", subject, number, failures, poisonous, pause)
        self.inputs[subject].append(Work(subject, number, failures, poisonous, pause))
        placed = self.do(self.log.append(numbered(subject, number)))
        assert not placed.duplicate
        return subject, number

    @rule(subject=st.sampled_from(SUBJECTS), count=st.integers(2, 12))
    def append_many(self, subject: str, count: int) -> None:
        """In one call."""
        first = len(self.inputs[subject]) + 1
        numbers = range(first, first + count)
        self.tell("append many", subject, count)
        self.inputs[subject] += [Work(subject, number) for number in numbers]
        placed = self.do(self.log.append_all([numbered(subject, number) for number in numbers]))
        assert [one.duplicate for one in placed] == [False] * count

    @rule(what=appended)
    def append_again(self, what: tuple[str, int]) -> None:
        """A writer did not hear the answer."""
        self.tell("append again", *what)
        placed = self.do(self.log.append(numbered(*what)))
        assert placed.duplicate

    @rule(subject=st.sampled_from(SUBJECTS))
    def append_too_late(self, subject: str) -> None:
        """A writer who saw an older version."""
        with contextlib.suppress(ConflictError):
            self.do(self.log.append(numbered(subject, 1_000_000, expected=10_000)))
            raise AssertionError("it must be refused")

    @precondition(lambda self: self.worker is None)
    @rule(same=st.booleans())
    def start_worker(self, same: bool) -> None:
        """Under its old name, or as another."""
        self.tell("start", same)
        name = "worker" if same else f"worker-{next(self.members)}"

        async def start() -> Worker:
            return Worker(self.settings, self.server.url, self.handle, name)

        self.worker = self.do(start())

    @precondition(lambda self: self.worker is not None)
    @rule()
    def stop_worker(self) -> None:
        """Cleanly."""
        assert self.worker is not None
        self.tell("stop")
        self.do(self.worker.stop())
        self.worker = None

    @precondition(lambda self: self.worker is not None)
    @rule()
    def crash_worker(self) -> None:
        """In the middle of whatever it does."""
        assert self.worker is not None
        self.tell("crash")
        self.do(self.worker.crash())
        self.worker = None

    @rule(partition=st.integers(0, 1))
    def steal_lease(self, partition: int) -> None:
        """Another worker takes a partition and dies."""
        self.tell("steal", partition)
        self.do(self._steal(partition))

    async def _steal(self, partition: int) -> None:
        key, meta = self.log.keys.lease(partition, "test"), self.log.keys.meta(partition)
        token = await self.log.redis.hincrby(meta, "token:test", 1)
        await self.log.redis.set(key, f"thief {token}", px=60)

    @rule()
    def forget_scripts(self) -> None:
        """SCRIPT FLUSH."""
        self.tell("forget scripts")
        self.do(self.log.redis.script_flush())

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1]))
    def let_time_pass(self, seconds: float) -> None:
        """The worker works."""
        self.tell("wait", seconds)
        self.do(asyncio.sleep(seconds))

    @rule(what=consumes(appended), how=st.sampled_from(["replay", "discard", "replay in vain"]))
    def help_out(self, what: tuple[str, int], how: str) -> None:
        """A person looks after a parked event."""
        work = next(one for one in self.inputs[what[0]] if one.number == what[1])
        for parked in self.do(self._parked()):
            if self.do(self._number(parked)) == what:
                self.tell(how, *what)
                self.do(self._help(parked, work, how))

    async def _help(self, parked: Parked, work: Work, how: str) -> None:
        if how == "discard":
            work.discarded = True
            await self.retries.discard(parked)
        else:
            work.poisonous = work.poisonous and how != "replay"
            await self.retries.replay(parked)

    # ------------------------------------------------------------ what must hold

    @precondition(lambda self: self.worker is not None)
    @rule()
    def settle(self) -> None:
        """Given time, all is handled that can be, and exactly what is broken is parked."""
        self.tell("settle")
        self.do(self._settle())

    async def _settle(self) -> None:
        await eventually(self._quiet, timeout=40)
        for subject, works in self.inputs.items():
            broken = next((one for one in works if one.poisonous and not one.discarded), None)
            expected = works[: works.index(broken)] if broken else works
            assert [one for one in expected if not (one.done or one.discarded)] == [], "not handled"
            if broken:
                assert not any(one.done for one in works[works.index(broken) :])
                assert await self.log.redis.exists(self.log.keys.behind(partition_of(subject, 2), "test", subject)), (
                    "what waits is kept"
                )

    async def _quiet(self) -> bool:
        """Whether nothing is left to do but for people."""
        parked = {await self._number(one) for one in await self._parked(replay_deaths=True)}
        for subject, works in self.inputs.items():
            for work in works:
                if work.discarded or work.done:
                    continue
                if work.poisonous and (subject, work.number) in parked:
                    break
                return False
        return await pending(self.log) == 0 and not await self._delayed()

    async def _delayed(self) -> int:
        return sum([await self.log.redis.zcard(self.log.keys.delayed(p, "test")) for p in range(2)])

    async def _parked(self, *, replay_deaths: bool = False) -> list[Parked]:
        found = [one for partition in range(2) for one in await self.retries.parked(partition)]
        for one in list(found):
            if replay_deaths and "died" in one.reason:  # we did crash that often
                await self.retries.replay(one)
                found.remove(one)
        return found

    async def _number(self, parked: Parked) -> tuple[str, int]:
        [entry] = await self.log.read(parked.partition, after=parked.pos - 1, count=1)
        event = await self.log.history(parked.subject)
        return parked.subject, next(int(one.event.video) for one in event if one.pos == entry.pos)

    @invariant()
    def nothing_overtakes(self) -> None:
        """No event of a subject is handled before an earlier one."""
        assert self.wrong == [], "\n".join(self.story)

    @invariant()
    def log_is_dense(self) -> None:
        """Whatever happened: positions and versions without gaps, every event once, in the order of arrival."""
        histories = self.do(check_log(self.log, quiet=False))
        for subject, works in self.inputs.items():
            came = [int(event.event.video) for event in of_type(histories.get(subject, []), "VideoNumbered")]
            assert came == [one.number for one in works]

    def teardown(self) -> None:
        """In the end everything is repaired, and everything is there, once."""
        try:
            self.do(self._end())
        finally:
            self.do(self._close())
            self.loop.close()

    async def _end(self) -> None:
        if self.wrong:
            return
        for works in self.inputs.values():
            for work in works:
                work.poisonous = False
        if self.worker is None:
            self.worker = Worker(self.settings, self.server.url, self.handle, "the last one")
        await eventually(self._repaired, timeout=40)
        histories = await check_log(self.log)
        for subject, works in self.inputs.items():
            answers = [event.event.epoch for event in of_type(histories[subject], "EpochRaised")]
            assert answers == [one.number for one in works if one.done]
            assert all(one.done or one.discarded for one in works)
        assert self.wrong == []

    async def _repaired(self) -> bool:
        for one in await self._parked():
            await self.retries.replay(one)
        return await self._quiet()

    async def _close(self) -> None:
        if self.worker is not None:
            await self.worker.stop()
        await self._log_context.__aexit__(None, None, None)


def machine(server: RedisServer, make_settings: Callable[..., Settings]) -> type[LogMachine]:
    """The machine for one Redis."""
    return type("LogMachine", (LogMachine,), {"server": server, "make_settings": staticmethod(make_settings)})

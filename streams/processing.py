"""How a processor is written: one file in `processors/` with one decorated async generator.

    @processor("probe", on=(VideoStored, FileSettled))
    async def probe(recorded, context):
        facts = await context.service(Prober).probe(recorded.event.path)
        yield VideoProbed(...)

It gets an event, does its work, and yields what happened: events of the same subject, or `First`
events of others. What it yields is appended at once, under the partition's fencing token; when it
ends, its entry is acknowledged. It will see the same event twice and must do no harm then: what it
yields again gets the same id.

It says what kind of failure it met by what it raises: TransientError, PoisonError,
DependencyDownError (see `streams.errors`). Anything else counts as transient. Long work that sees
`context.draining` set may end itself with DrainingError: its entry is handled again elsewhere.

What is to be done again and again, without an event to say so, is a timer of a processor:

    @processor("subscriptions", on=SubscriptionDue, timers=(Timer("look", look, every=lambda settings: 5.0),))

Of all the processes that host the processor, one runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from streams.codec import Recorded
from streams.events import Event
from streams.settings import Settings

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class First:
    """The first event of another subject; where that subject exists already, nothing happens."""

    subject: str
    event: Event


Services = dict[type[Any], Any]
"""What bootstrap hands to processors, by Protocol."""


async def _untold() -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Context:
    """What a processor may use while it works on one event."""

    settings: Settings
    attempt: int
    """1 for the first try."""
    draining: asyncio.Event
    """Set when the process wants to stop: finish or give up soon, the rest resumes elsewhere."""
    log: Any
    """A structlog logger that names the group and the subject."""
    services: Services
    beats: Callable[[], None]
    answers: Callable[[], Awaitable[None]] = _untold

    def service(self, kind: type[S]) -> S:
        """What bootstrap injected for a Protocol. Raises KeyError naming it where there is none."""
        found: S = self.services[kind]
        return found

    def beat(self) -> None:
        """Say that long work is going on: the stall watchdog counts it as progress."""
        self.beats()

    async def answered(self) -> None:
        """Say that the dependency answers: whoever waited for it goes on now, not when this work has ended."""
        await self.answers()


def _nothing(_: Settings) -> bool:
    return True


Handler = Callable[[Recorded[Any], Context], AsyncIterator[Event | First]]


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that is done again and again, in one process at a time: whichever leads the consumer group.

    It is ended in the middle where another process takes over, and may then be done twice: what it does must do no
    harm twice. One that raises is logged, and run again in its time.
    """

    name: str
    run: Callable[[Context], Awaitable[None]]
    """Gets a Context with `attempt` 1."""
    every: Callable[[Settings], float]
    """Seconds from one run to the next."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A consumer group and what it does with each event. Calling it calls the generator."""

    group: str
    on: frozenset[str]
    handler: Handler
    concurrency: Callable[[Settings], int] | int | None = None
    """Subjects it works on side by side; None: `settings.concurrency`."""
    attempts: int | None = None
    alias: tuple[str, ...] = field(default=())
    """Other names that `--only` understands."""
    needs: Callable[[Settings], bool] = _nothing
    """Whether what it works with is configured. Its group begins once it is, with the whole past before it."""
    timers: tuple[Timer, ...] = ()
    """What its leader does again and again."""

    def side_by_side(self, settings: Settings) -> int:
        """Subjects it works on side by side."""
        wanted = self.concurrency(settings) if callable(self.concurrency) else self.concurrency
        return wanted or settings.concurrency

    def __call__(self, recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
        """Run the generator; for tests."""
        return self.handler(recorded, context)


PROCESSORS: dict[str, Processor] = {}
"""Every processor by its group's name."""


def processor(
    group: str,
    *,
    on: type[Event] | tuple[type[Event], ...],
    concurrency: Callable[[Settings], int] | int | None = None,
    attempts: int | None = None,
    alias: tuple[str, ...] = (),
    needs: Callable[[Settings], bool] = _nothing,
    timers: tuple[Timer, ...] = (),
) -> Callable[[Handler], Processor]:
    """Make an async generator the processor of a consumer group."""
    types = on if isinstance(on, tuple) else (on,)

    def define(handler: Handler) -> Processor:
        if group in PROCESSORS:
            raise TypeError(f"there is a processor {group!r} already")
        names = frozenset(t.__name__ for t in types)
        made = Processor(group, names, handler, concurrency, attempts, alias, needs, timers)
        PROCESSORS[group] = made
        return made

    return define


def bound_logger(group: str, subject: str) -> Any:
    """The logger that a Context carries."""
    return structlog.get_logger("processors", group=group, subject=subject)  # bound when it is first used

"""Gives the log its subscriptions back where it lost its tail: numbers, what was asked for, what was changed since."""

from __future__ import annotations

import structlog

from processors.storage.subscription_files import SubscriptionFiles
from processors.storage.threads import in_thread
from streams.entries import NewEvent, new_event
from streams.errors import ConflictError, SpoolhouseError
from streams.events import SubscriptionCreated, SubscriptionNumbered
from streams.identity import SUBSCRIPTIONS_REGISTRY
from streams.log import Log
from streams.settings import Settings

BATCH = 500
ROUNDS = 1000
"""How often numbers are handed out again because somebody else does so, too."""

SOURCE = "subscriptions"

_log = structlog.get_logger(__name__)


class SubscriptionRestorer:
    """What lies on the disk of subscriptions, as the gate's restorer."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._files = log, SubscriptionFiles(settings.subscription_requests)

    async def restore(self) -> int:
        """Append what the log lacks; how much that was. Raises LogUnavailableError: call it again then."""
        said = await in_thread(lambda: list(self._files.all()))
        added = await restore_numbers(self._log, said)
        for start in range(0, len(said), BATCH):
            for new, answer in zip(
                said[start : start + BATCH],
                await self._log.try_append_all(said[start : start + BATCH], timeout=30),
                strict=True,
            ):
                if isinstance(answer, ConflictError):
                    _log.error("a subscription was not restored: its number is another's", subject=new.subject)
                elif isinstance(answer, SpoolhouseError):
                    raise answer
                else:
                    added += not answer.duplicate
        if added:
            _log.info("appended again what the log had lost of subscriptions", count=added)
        return added


async def restore_numbers(log: Log, said: list[NewEvent]) -> int:
    """See to it that the next number is beyond all that were said to be given out; how many are given out again.

    Each goes to its key again. Raises LogUnavailableError.
    """
    keys = {one.event.number: one.event.key for one in said if isinstance(one.event, SubscriptionCreated)}
    highest, added = max(keys, default=0), 0
    for _ in range(ROUNDS):
        before = await log.version(SUBSCRIPTIONS_REGISTRY)
        if before >= highest:
            break
        news = []
        for number in range(before + 1, min(before + BATCH, highest) + 1):
            event = SubscriptionNumbered(key=keys.get(number, f"lost:{number}"))
            news.append(new_event(SUBSCRIPTIONS_REGISTRY, event, source=SOURCE, expected=number - 1))
        for answer in await log.try_append_all(news, timeout=30):
            if isinstance(answer, SpoolhouseError):
                if not isinstance(answer, ConflictError):  # somebody is given a number meanwhile: it stands
                    raise answer
            else:
                added += not answer.duplicate
        if await log.version(SUBSCRIPTIONS_REGISTRY) == before:  # that key has another number by now
            event = SubscriptionNumbered(key=f"lost:{before + 1}")
            await log.append(new_event(SUBSCRIPTIONS_REGISTRY, event, source=SOURCE), timeout=30)
    return added

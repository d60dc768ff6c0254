"""What people ask of subscriptions: to begin one, change it, look at once, end it.

    subscriptions = SubscriptionRequests(log, settings, catalogue)
    subscription = await subscriptions.create({"url": "https://example.org/feed", "interval": 3600})

One that was asked for is on disk before the log has it, so it is accepted whole or not at all: where the log
goes away in between, the timer of `processors.subscriptions` tells it later.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator

from processors.download_door import Refusal, refusals
from processors.storage.disk import refusal
from processors.storage.subscription_files import SubscriptionFiles
from processors.storage.threads import in_thread
from processors.subscription_restoring import SOURCE, restore_numbers
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.download_config import DownloadOptions, checked, checked_directory, configured, saved_config
from streams.entries import Appended, NewEvent, new_event
from streams.errors import ConflictError, DependencyDownError, LogUnavailableError, NotFoundError, RejectedError
from streams.events import (
    Event,
    SubscriptionChanged,
    SubscriptionCreated,
    SubscriptionDue,
    SubscriptionNumbered,
    SubscriptionRemoved,
)
from streams.identity import DOWNLOAD_CONFIG, SUBSCRIPTIONS_REGISTRY, entry_key, event_id, subscription_subject
from streams.log import Log
from streams.queries import Subscriptions
from streams.settings import Settings
from streams.subscriptions import Subscription, created, folded

LONGEST_FILTER = 500
"""Characters."""

LONGEST_INTERVAL = 366 * 86_400.0

CATCH_UP = 5.0
"""Seconds that the table gets to follow the log."""

TRIES = 5
"""How often something is said anew because somebody else said something meanwhile."""

APPEND_WITHIN = 2.0
"""Seconds that whoever asks waits for the log."""

_log = structlog.get_logger(__name__)

M = TypeVar("M", bound=BaseModel)


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    interval: float | None = Field(None, gt=0, le=LONGEST_INTERVAL)
    """Seconds between two looks."""
    filter: str | None = Field(None, max_length=LONGEST_FILTER)
    """Entries whose titles contain a match of this regular expression are taken; empty: all."""
    directory: str | None = None
    """Below the media root; None: as the configuration of downloads says."""

    @field_validator("filter")
    @classmethod
    def _real_filter(cls, value: str | None) -> str | None:
        if value:
            try:
                re.compile(value)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"it is no regular expression: {error}") from None
        return value

    @field_validator("directory")
    @classmethod
    def _real_directory(cls, value: str | None) -> str | None:
        return None if value is None else checked_directory(value)


class SubscriptionWish(_Wish):
    """What a new subscription may say. None: as the settings say."""

    url: str
    """Of a channel, a playlist, a feed."""
    options: DownloadOptions = DownloadOptions()
    """What is fetched in another way than the configuration says."""
    backlog: int = Field(0, ge=0, le=500)
    """How many of the entries that are there already are fetched, too: the newest."""
    client_id: str | None = Field(None, min_length=1, max_length=128)


class SubscriptionChange(_Wish):
    """What may be changed. None: as it was."""

    paused: bool | None = None


class SubscriptionRequests:
    """The door for subscriptions: validates, numbers, appends."""

    def __init__(
        self, log: Log, settings: Settings, subscriptions: Subscriptions, *, refused: Refusal | None = None
    ) -> None:
        self._log, self._settings, self._subscriptions = log, settings, subscriptions
        self._refused = refused or refusals(settings)
        self._files = SubscriptionFiles(settings.subscription_requests)

    async def create(self, wish: Mapping[str, Any], *, key: str | None = None) -> Subscription:
        """Begin a subscription; `wish` has the fields of SubscriptionWish. A repeat with the same key changes nothing.

        Raises RejectedError (400 naming every fault; 507 and 500 where it cannot be kept), LogUnavailableError: then
        there is none.
        """
        asked = _checked(SubscriptionWish, wish)
        url = asked.url.strip()
        if fault := self._refused(url):
            raise RejectedError(400, f"url: {fault}")
        interval = self._interval(asked.interval) or self._settings.subscription_interval
        key = key or str(uuid.uuid4())
        directory = await self._default_directory() if asked.directory is None else asked.directory

        def begun(number: int) -> SubscriptionCreated:
            return SubscriptionCreated(
                number=number,
                key=key,
                url=url,
                interval=interval,
                filter=asked.filter or "",
                directory=directory,
                options=asked.options.model_dump(mode="json", exclude_none=True),
                backlog=asked.backlog,
                client_id=asked.client_id,
            )

        try:
            new = await self._kept(key, begun)
        except OSError as error:
            raise refusal(error, self._files.folder) from error
        except ValueError as error:
            raise RejectedError(400, f"It cannot be kept: {error}") from error
        reach("subscription.kept")
        try:
            await tell(self._log, self._files, new)
        except LogUnavailableError as error:
            _log.warning("a subscription waits for the log", subject=new.subject, error=str(error))
        _log.info("subscription begun", subject=new.subject, key=key)
        assert isinstance(new.event, SubscriptionCreated)
        return created(new.event, new.time)

    async def _kept(self, key: str, begun: Callable[[int], SubscriptionCreated]) -> NewEvent:
        """The subscription with its number, on disk. Raises LogUnavailableError, OSError, ValueError."""
        entry = new_event(SUBSCRIPTIONS_REGISTRY, SubscriptionNumbered(key=key), source=SOURCE)
        for _ in range(TRIES):
            number = (await self._log.append(entry, timeout=APPEND_WITHIN)).ver
            reach("subscription.numbered")
            new = new_event(subscription_subject(number), begun(number), source=SOURCE, expected=0)
            if await asyncio.shield(in_thread(self._files.ask, new)):
                return new
            _log.error("the log hands out numbers that were handed out before: it lost its tail", number=number)
            await restore_numbers(self._log, await in_thread(lambda: list(self._files.all())))
            again = SubscriptionNumbered(key=entry_key(key, "numbered anew"))
            entry = new_event(SUBSCRIPTIONS_REGISTRY, again, source=SOURCE)
        raise LogUnavailableError("The log lost its tail and is being put right: try again in a moment.")

    async def change(self, number: int, change: Mapping[str, Any]) -> Subscription:
        """Change a subscription; `change` has the fields of SubscriptionChange. How it stands then.

        Raises RejectedError (400), NotFoundError, LogUnavailableError, DependencyDownError (the catalogue).
        """
        asked = _checked(SubscriptionChange, change)
        given = asked.model_dump(exclude_none=True)
        if not given:
            raise RejectedError(400, "nothing to change: name interval, filter, directory or paused")
        self._interval(asked.interval)

        def said(subscription: Subscription) -> Event:
            return SubscriptionChanged(change=subscription.changes + 1, **given)

        return await self._say(number, said)

    async def look(self, number: int, reason: str = "asked for") -> Subscription:
        """Have its list looked at now, also while it is paused. Raises as `change` does."""
        return await self._say(number, lambda one: SubscriptionDue(check=one.check + 1, reason=reason))

    async def remove(self, number: int) -> None:
        """End a subscription; what it fetched stays. Raises as `change` does."""
        await self._say(number, lambda _: SubscriptionRemoved())

    async def _say(self, number: int, said: Callable[[Subscription], Event]) -> Subscription:
        for _ in range(TRIES):
            subscription = await current(self._log, self._subscriptions, number)
            if subscription is None or subscription.removed:
                raise NotFoundError(f"there is no subscription {number}")
            event = said(subscription)
            new = _said(number, event, subscription.ver)
            try:
                placed = await self._log.append(new, timeout=APPEND_WITHIN)
            except ConflictError:
                continue  # decided anew, by what the other one said
            if not isinstance(event, SubscriptionDue):
                await self._keep(new)
            after = folded(subscription, _recorded(new, placed))
            assert after is not None  # it was there before
            return after
        raise DependencyDownError(
            "the subscription", "others keep changing it: try again", retry_after=1.0, unreachable=False
        )

    async def _keep(self, new: NewEvent) -> None:
        try:
            await in_thread(self._files.told, new)
        except OSError as error:
            _log.warning("what was said of a subscription is in the log only", subject=new.subject, error=str(error))

    async def _default_directory(self) -> str:
        saved = saved_config(await self._log.history(DOWNLOAD_CONFIG))
        return configured(self._settings, saved.config).directory

    def _interval(self, interval: float | None) -> float | None:
        shortest = self._settings.subscription_min_interval
        if interval is not None and interval < shortest:
            raise RejectedError(
                400, f"interval: {shortest:g} seconds at the least (SPOOLHOUSE_SUBSCRIPTION_MIN_INTERVAL)"
            )
        return interval


async def tell(log: Log, files: SubscriptionFiles, new: NewEvent) -> bool:
    """Append what was asked for and kept; False where the log has it already. Raises LogUnavailableError."""
    try:
        placed = await log.append(new)
    except ConflictError:  # its number is another's: the log lost its tail after it was given out
        _log.error("a subscription's number is another's by now: it is dropped", subject=new.subject)
        await in_thread(files.forget, new)
        return False
    reach("subscription.told")
    await in_thread(files.told, new)
    return not placed.duplicate


async def current(log: Log, subscriptions: Subscriptions, number: int) -> Subscription | None:
    """A subscription as the log has it, from the table; None: there is none.

    Its history would tell the same, but grows with every look. Raises LogUnavailableError, and DependencyDownError
    where the table does not catch up in time.
    """
    wanted = await log.version(subscription_subject(number))
    if wanted == 0:
        return None
    until = time.monotonic() + CATCH_UP
    while True:
        found = await subscriptions.subscription(number)
        if found is not None and found.ver >= wanted:
            return found
        if time.monotonic() > until:
            raise DependencyDownError(
                "the catalogue", "it has not followed the log yet", retry_after=1.0, unreachable=False
            )
        await asyncio.sleep(0.05)


def _said(number: int, event: Event, expected: int) -> NewEvent:
    """With an id of its own: two people may say two things at once, under one number."""
    subject = subscription_subject(number)
    return NewEvent(subject, event, event_id(subject, f"{SOURCE}/{uuid.uuid4()}"), SOURCE, expected=expected)


def _recorded(new: NewEvent, placed: Appended) -> Recorded[Any]:
    """An event as the log has it."""
    kind, corr = type(new.event).__name__, new.corr or new.id
    where = (placed.partition, placed.pos, new.id, kind, new.subject, placed.ver)
    return Recorded(*where, new.time, new.source, new.cause, corr, new.event)


def _checked(model: type[M], given: Mapping[str, Any]) -> M:
    found = checked(model, given)
    assert isinstance(found, model)
    return found

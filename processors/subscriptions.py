"""Looks at the lists that are subscribed to, and asks for what is new in them.

A timer, in one process at a time, says whose turn it is; the look itself is an event's work like any other. Whoever
dies in between leaves nothing behind: a look that is done again asks for the same downloads under the same keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from processors.download_requests import Requests, Wanted
from processors.fetching.destinations import refusal_of
from processors.ports import Fetcher, FetchFailure, Listed, ListEntry
from processors.storage.subscription_files import SubscriptionFiles
from processors.storage.threads import in_thread
from processors.subscription_requests import current, tell
from processors.subscription_restoring import SOURCE
from processors.title_filter import FilterError, matching
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.download_config import DownloadConfig, configured, saved_config
from streams.entries import new_event
from streams.errors import ConflictError, DependencyDownError, DrainingError
from streams.events import Event, SubscriptionChecked, SubscriptionCheckFailed, SubscriptionDue
from streams.identity import DOWNLOAD_CONFIG, entry_key, subscription_subject
from streams.log import Log
from streams.processing import Context, Timer, processor
from streams.queries import Downloads, Subscriptions
from streams.settings import Settings
from streams.subscriptions import Subscription, known_as

SIDE_BY_SIDE = 2
"""Lists that are looked at at a time."""

AT_ONCE = 100
"""Subscriptions that one run of the timer finds due at the most."""

MAX_ENTRIES = 500
"""Entries of a list that are looked at at the most: what is new of them must fit into one event."""

LONGEST = 500
"""Characters of a title, and of a reason."""


def _every(settings: Settings) -> float:
    return min(5.0, settings.subscription_min_interval / 4)


async def find_due(context: Context) -> None:
    """Say whose turn it is; and tell the log of those that it was not told of when they were asked for."""
    log = context.service(Log)
    table = context.service(Subscriptions)  # type: ignore[type-abstract]
    files = SubscriptionFiles(context.settings.subscription_requests)
    for waiting in await in_thread(files.waiting):
        await tell(log, files, waiting)
    for one in await table.due_subscriptions(datetime.now(UTC), AT_ONCE):
        event = SubscriptionDue(check=one.check + 1, reason="on time" if one.check else "new")
        try:
            await log.append(new_event(subscription_subject(one.number), event, source=SOURCE, expected=one.ver))
        except ConflictError:
            continue  # the table is behind, or another process led a moment ago


@processor(
    "subscriptions",
    on=SubscriptionDue,
    concurrency=SIDE_BY_SIDE,
    timers=(Timer("look", find_due, every=_every),),
)
async def subscriptions(recorded: Recorded[SubscriptionDue], context: Context) -> AsyncIterator[Event]:
    """Look at a list: what is new in it becomes downloads, the oldest first."""
    log, check = context.service(Log), recorded.event.check
    number = int(recorded.subject.partition(":")[2])
    table = context.service(Subscriptions)  # type: ignore[type-abstract]
    subscription = await current(log, table, number)
    if subscription is None or subscription.removed or check <= subscription.looked or check < subscription.check:
        return
    config = await _config(log, context.settings, subscription)
    found = await _listed(context, subscription.url, config)
    if isinstance(found, FetchFailure):
        reason = f"{found.reason} {found.advice}".strip()
        yield SubscriptionCheckFailed(check=check, kind=found.kind, reason=_printable(reason))
        return
    try:
        choice = await _choose(subscription, found, context)
    except FilterError as error:
        yield SubscriptionCheckFailed(check=check, kind="filter", reason=_printable(str(error)))
        return
    context.beat()
    wanted = await _not_fetched(choice.wanted, config, context)
    now = await current(log, table, number)
    if now is None or now.removed:  # while it was read
        return
    numbers = await _ask(subscription, wanted, context)
    reach("subscription.asked")
    say = context.log.info if numbers else context.log.debug
    say("a list was looked at", title=found.title[:LONGEST], new=len(choice.new), downloads=len(numbers))
    yield SubscriptionChecked(
        check=check, title=_printable(found.title), entries=found.total, seen=tuple(choice.new), numbers=numbers
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    new: list[str]
    """What was not known of the list's entries, the newest first."""
    wanted: list[tuple[str, ListEntry]]
    """What is to be fetched, the newest first, each with what it is known as."""


async def _choose(subscription: Subscription, found: Listed, context: Context) -> _Choice:
    """What is new in a list. Raises FilterError."""
    files, known = SubscriptionFiles(context.settings.subscription_requests), set(subscription.seen)
    first = subscription.checked is None
    passed = await in_thread(files.passed_over, subscription.number) if first else None
    if passed is not None:  # the log lost what the first look had found
        known |= set(passed)
    named = {known_as(one.key, one.url): one for one in found.entries[:MAX_ENTRIES]}
    new = [name for name in named if name not in known]
    at_hand = set(new)
    if known and (found.more or found.total > len(found.entries)):
        # What stands behind all that is known was there before; it moved up as something before it went.
        last = max((index for index, name in enumerate(named) if name in known), default=len(named))
        at_hand = {name for index, name in enumerate(named) if index < last} & at_hand
    opened = context.settings.inner_hosts
    possible = [name for name in new if name in at_hand and refusal_of(named[name].url, opened) is None]
    matches = await matching(subscription.filter, [named[name].title for name in possible])
    wanted = [name for name, matched in zip(possible, matches, strict=True) if matched]
    if first and passed is None:
        wanted = wanted[: subscription.backlog]
        await in_thread(files.pass_over, subscription.number, [name for name in new if name not in set(wanted)])
    return _Choice(new, [(name, named[name]) for name in wanted])


async def _not_fetched(
    wanted: Sequence[tuple[str, ListEntry]], config: DownloadConfig, context: Context
) -> list[tuple[str, ListEntry]]:
    """What no download has fetched yet."""
    audio = " (audio)" if config.audio_only else ""
    keys = {name: f"{one.key}{audio}" for name, one in wanted if one.key is not None}
    downloads = context.service(Downloads)  # type: ignore[type-abstract]
    there = await downloads.fetched(list(keys.values())) if keys else {}
    return [(name, one) for name, one in wanted if keys.get(name) not in there]


async def _ask(
    subscription: Subscription, wanted: Sequence[tuple[str, ListEntry]], context: Context
) -> tuple[int, ...]:
    """Ask for downloads, the oldest first; their numbers."""
    options = {name: value for name, value in subscription.options.items() if name != "limit"}
    requests = [
        Wanted(
            key=entry_key(subscription.key, name),
            url=one.url,
            directory=subscription.directory,
            options=options,
            client_id=subscription.client_id,
            subscription=subscription.number,
            entry=one.key,
            title=one.title,
        )
        for name, one in reversed(wanted)
    ]
    try:
        taken = await Requests(context.service(Log), context.settings).take(requests)
    except OSError as error:
        place = context.settings.download_requests
        raise DependencyDownError(
            "the disk", f"requests for downloads cannot be kept in {place}: {error.strerror}", unreachable=False
        ) from error
    return tuple(one.number for one in taken)


async def _config(log: Log, settings: Settings, subscription: Subscription) -> DownloadConfig:
    """What the list is read with."""
    limit = subscription.options.get("limit") or settings.subscription_entries
    if subscription.checked is None:
        limit = max(limit, subscription.backlog)
    base = configured(settings, saved_config(await log.history(DOWNLOAD_CONFIG)).config)
    return base.with_options({**subscription.options, "limit": min(limit, MAX_ENTRIES)})


async def _listed(context: Context, url: str, config: DownloadConfig) -> Listed | FetchFailure:
    """The list, read. Raises DrainingError where the worker is about to stop."""
    fetcher = context.service(Fetcher)  # type: ignore[type-abstract]
    reading = asyncio.ensure_future(fetcher.listed(url, config))
    draining = asyncio.ensure_future(context.draining.wait())
    try:
        await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise DrainingError("the worker is about to stop: another one looks at the list")
        return reading.result()
    finally:
        for task in (reading, draining):
            task.cancel()
        await asyncio.gather(reading, draining, return_exceptions=True)


def _printable(text: str) -> str:
    """Text that the log can hold."""
    return text.encode("utf-8", "replace").decode()[:LONGEST]

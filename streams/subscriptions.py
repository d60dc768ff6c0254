"""How a subscription stands, folded from its own events: by the table, whoever looks at the list, and the API.

`folded` looks at one event of one `subscription:<number>` at a time and is pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from streams.codec import Recorded
from streams.events import (
    SubscriptionChanged,
    SubscriptionChecked,
    SubscriptionCheckFailed,
    SubscriptionCreated,
    SubscriptionDue,
    SubscriptionRemoved,
)

MAX_SEEN = 5_000
"""Entries that are remembered, the newest."""

SPREAD = 0.1
"""Share of the interval by which a look may come later, so that a hundred lists are not looked at all at once."""

UNANSWERED = 86_400.0
"""Seconds after which a look of which nothing was heard is taken for lost."""

LONGEST_PAUSE = 86_400.0
"""Seconds between two looks at a list that cannot be read, where its interval is not longer anyway."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription, as far as its events tell."""

    number: int
    key: str
    url: str
    interval: float
    """Seconds between two looks."""
    filter: str
    """Regular expression for titles; empty: all."""
    directory: str
    options: Mapping[str, Any]
    backlog: int
    client_id: str | None
    title: str
    """Of the list, as it was read last; empty before."""
    paused: bool
    removed: bool
    changes: int
    check: int
    """The last look that was due; 0: none was."""
    looked: int
    """The last look that ended, well or not."""
    due: datetime | None
    """When the last look became due."""
    checked: datetime | None
    """When the list was last read; None: never yet."""
    failures: int
    """Looks that failed since then."""
    error: str | None
    """Why the last one failed; None where it did not."""
    entries: int
    """Of the list, when it was read last."""
    found: int
    """Downloads that were asked for, all in all."""
    seen: tuple[str, ...]
    """What is known already (see `known_as`), the newest first."""
    next_look: datetime
    """While it is paused it waits all the same."""
    created: datetime
    changed: datetime
    ver: int
    """Of its subject."""

    @property
    def is_active(self) -> bool:
        """Whether its list is looked at."""
        return not (self.paused or self.removed)


def known_as(key: str | None, url: str) -> str:
    """What an entry of a list is remembered by: `<extractor> <id>`, or its URL where the list does not tell.

    At most 64 bytes: what is longer is remembered by its hash.
    """
    name = key or url
    if len(name.encode("utf-8", "surrogatepass")) <= 64 and name.isprintable():
        return name
    return f"sha256 {hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def fold(history: Iterable[Recorded[Any]]) -> Subscription | None:
    """A subscription after all of these events; None where there never was one."""
    subscription = None
    for recorded in history:
        subscription = folded(subscription, recorded)
    return subscription


def folded(subscription: Subscription | None, recorded: Recorded[Any]) -> Subscription | None:
    """A subscription after one more event; the same object where it changes nothing."""
    event = recorded.event
    if isinstance(event, SubscriptionCreated):
        return created(event, recorded.time, recorded.ver) if subscription is None else subscription
    if subscription is None:
        return None
    changed = None if subscription.removed else _changes(subscription, event, recorded.time)
    if changed is None:
        return replace(subscription, ver=recorded.ver)
    after = replace(subscription, **changed, ver=recorded.ver, changed=recorded.time)
    return replace(after, next_look=_next_look(after))


def created(event: SubscriptionCreated, at: datetime, ver: int = 1) -> Subscription:
    """A subscription that was just asked for. It is looked at as soon as may be."""
    return Subscription(
        number=event.number,
        key=event.key,
        url=event.url,
        interval=event.interval,
        filter=event.filter,
        directory=event.directory,
        options=event.options,
        backlog=event.backlog,
        client_id=event.client_id,
        title="",
        paused=False,
        removed=False,
        changes=0,
        check=0,
        looked=0,
        due=None,
        checked=None,
        failures=0,
        error=None,
        entries=0,
        found=0,
        seen=(),
        next_look=at,
        created=at,
        changed=at,
        ver=ver,
    )


def _changes(subscription: Subscription, event: Any, at: datetime) -> dict[str, Any] | None:
    match event:
        case SubscriptionChanged():
            given = {
                name: value
                for name in ("interval", "filter", "directory", "paused")
                if (value := getattr(event, name)) is not None
            }
            return {**given, "changes": max(subscription.changes, event.change)}
        case SubscriptionDue() if event.check > subscription.check:
            return {"check": event.check, "due": at}
        case SubscriptionChecked():
            return {
                "looked": max(subscription.looked, event.check),
                "checked": at,
                "title": event.title,
                "entries": event.entries,
                "found": subscription.found + len(event.numbers),
                "seen": _remembered(event.seen, subscription.seen),
                "failures": 0,
                "error": None,
            }
        case SubscriptionCheckFailed() if event.check > subscription.looked:
            return {"looked": event.check, "failures": subscription.failures + 1, "error": event.reason}
        case SubscriptionRemoved():
            return {"removed": True, "seen": ()}
    return None


def _remembered(new: tuple[str, ...], old: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*new, *old)))[:MAX_SEEN]


def _next_look(subscription: Subscription) -> datetime:
    """On time, a little spread; later each time where the list cannot be read."""
    if subscription.due is None:
        return subscription.created
    if subscription.looked < subscription.check:
        return subscription.due + timedelta(seconds=max(subscription.interval, UNANSWERED))
    pause = subscription.interval
    if subscription.failures > 1:
        longest = max(pause, LONGEST_PAUSE)
        pause = min(longest, pause * 2.0 ** min(subscription.failures - 1, 32))
    digest = hashlib.sha256(f"{subscription.key}/{subscription.check}".encode()).digest()
    spread = SPREAD * int.from_bytes(digest[:4], "big") / 2**32
    return subscription.due + timedelta(seconds=pause * (1 + spread))

"""The table of subscriptions: what it holds is what their histories say, on SQLite and MariaDB."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from projections.queries import Catalogue
from streams.entries import new_event
from streams.events import (
    AttemptFailed,
    SubscriptionChanged,
    SubscriptionChecked,
    SubscriptionCheckFailed,
    SubscriptionCreated,
    SubscriptionDue,
    SubscriptionRemoved,
)
from streams.identity import subscription_subject
from streams.log import Log
from streams.subscriptions import Subscription, fold
from tests.projections.conftest import World, applied

SINCE = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


async def happen(log: Log, number: int, rng: random.Random) -> None:
    """A plausible life of one subscription."""
    events: list[Any] = [
        SubscriptionCreated(
            number=number,
            key=f"key-{number}",
            url=f"https://example.org/Ferien äöü/{number}",
            interval=60.0 + number / 3,
            filter="^Talk: (日本|x)",
            directory="/talks",
            options={"max_height": 720, "subtitles": ["de"]},
            backlog=3,
            client_id=rng.choice([None, "me"]),
        )
    ]
    changes = 0
    for check in range(1, rng.randrange(1, 6)):
        events.append(SubscriptionDue(check=check, reason="on time"))
        if rng.random() < 0.3:
            events.append(SubscriptionCheckFailed(check=check, kind="gone", reason="HTTP Error 404: Not Found 🎬"))
        elif rng.random() < 0.8:
            seen = tuple(f"Site {number}-{check}-{index}" for index in range(rng.randrange(4)))
            events.append(
                SubscriptionChecked(
                    check=check, title="日本 🎬", entries=len(seen), seen=seen, numbers=(check, check + 1)
                )
            )
        if rng.random() < 0.3:
            changes += 1
            events.append(SubscriptionChanged(change=changes, paused=rng.choice([None, True, False]), interval=90.5))
        if rng.random() < 0.2:
            events.append(AttemptFailed(group="subscriptions", position=check, attempt=1, reason="no", retry_at=SINCE))
    if rng.random() < 0.3:
        events.append(SubscriptionRemoved())
    subject = subscription_subject(number)
    times = [SINCE + timedelta(seconds=number * 100 + index * 1.5) for index in range(len(events))]
    news = [new_event(subject, event, source="test", ordinal=index) for index, event in enumerate(events)]
    await log.append_all([replace(new, time=time) for new, time in zip(news, times, strict=True)])


async def test_table_holds_what_histories_say(world: World, rng: random.Random) -> None:
    """Given lives of subscriptions, then table and histories agree, and a rebuild makes the same rows."""
    for number in range(1, 21):
        await happen(world.log, number, rng)
    catalogue = Catalogue(world.database, world.log)
    async with world.running("subscriptions") as runner:
        await applied(runner)
        folded: list[Subscription] = []
        for number in range(1, 21):
            found = fold(await world.log.history(subscription_subject(number)))
            assert found is not None
            folded.append(found)
            assert await catalogue.subscription(number) == found
        assert await catalogue.subscription(99) is None
        light = [replace(one, seen=()) for one in folded if not one.removed]
        assert await catalogue.subscriptions() == light
        at = sorted(one.next_look for one in light)[len(light) // 2]
        due = sorted((one for one in light if one.next_look <= at and not one.paused), key=lambda one: one.next_look)
        assert await catalogue.due_subscriptions(at, 100) == due
        assert await catalogue.due_subscriptions(at, 2) == due[:2]
        assert await runner.rebuild(["subscriptions"], compare=True) == {"subscriptions": []}

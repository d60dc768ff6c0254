"""`/subscriptions`: channels, playlists and feeds that are looked at again and again."""

from __future__ import annotations

from aiohttp import web

from api.bodies import fields_of
from api.download_objects import moment
from api.download_shapes import (
    AttributedSubscriptionPatch,
    AttributedSubscriptionWish,
    ShownSubscription,
    SubscriptionPatch,
    SubscriptionWish,
)
from api.formats import json_answer
from api.handlers.downloads import TAG, number_in
from api.openapi.describing import Answer, Body, documented
from api.services import SERVICES
from api.subscription_standings import SUBSCRIPTION_STANDINGS
from processors.subscription_requests import SubscriptionChange
from processors.subscription_requests import SubscriptionWish as Wish
from streams.subscriptions import Subscription

ID = {"id": "The subscription's id: a whole number."}

NEW = frozenset(Wish.model_fields)
CHANGES = frozenset(SubscriptionChange.model_fields)
OBJECT = frozenset(ShownSubscription.__annotations__)

EXAMPLE: ShownSubscription = {
    "id": 1,
    "type": "subscription",
    "url": "https://example.org/channel",
    "title": "A channel",
    "interval": 3600.0,
    "filter": "",
    "directory": "/",
    "options": {},
    "backlog": 0,
    "paused": False,
    "client_id": None,
    "entries": 42,
    "downloads": 3,
    "checked_at": "2024-11-12T14:30:52+01:00",
    "next_check_at": "2024-11-12T15:31:40+01:00",
    "failures": 0,
    "error": None,
    "created_at": "2024-11-01T09:00:00+01:00",
    "updated_at": "2024-11-12T14:30:52+01:00",
}


@documented(
    TAG,
    {200: Answer("It is kept, and looked at as soon as may be.", ShownSubscription, example=EXAMPLE)},
    refuses=(400, 413, 415, 503, 507),
    body=Body(
        "What is to be looked at: flat, or under `attributes`.",
        SubscriptionWish | AttributedSubscriptionWish,
        example={"url": "https://example.org/channel", "interval": 3600},
    ),
)
async def subscribe(request: web.Request) -> web.Response:
    """Subscribe to a channel, playlist or feed.

    It is looked at every `interval` seconds, and what is new in it is fetched. Of what is there already only the
    newest `backlog` entries are.
    """
    fields = await fields_of(request, NEW, kind="subscription")
    given = {name: value for name, value in fields.items() if value is not None}
    return _told(request, await request.app[SERVICES].subscriptions.create(given))


@documented(TAG, {200: Answer("The list.", list[ShownSubscription], example=[EXAMPLE])}, refuses=(503,))
async def list_subscriptions(request: web.Request) -> web.Response:
    """List subscriptions, oldest first.

    A bare array.
    """
    found = await request.app[SUBSCRIPTION_STANDINGS].every()
    return json_answer([as_subscription(subscription) for subscription in found])


@documented(TAG, {200: Answer("The subscription.", ShownSubscription, example=EXAMPLE)}, refuses=(404, 503), path=ID)
async def show_subscription(request: web.Request) -> web.Response:
    """Show one subscription."""
    return _answer(await request.app[SUBSCRIPTION_STANDINGS].of(number_in(request, "subscription")))


@documented(
    TAG,
    {200: Answer("It as it is now.", ShownSubscription, example=EXAMPLE)},
    refuses=(400, 404, 413, 415, 503),
    path=ID,
    body=Body(
        "What is to be changed: flat, or under `attributes`.",
        SubscriptionPatch | AttributedSubscriptionPatch,
        example={"paused": True},
    ),
)
async def change_subscription(request: web.Request) -> web.Response:
    """Change a subscription: its interval, filter or directory, or whether it is paused.

    The other fields of the object may be sent along; they are overlooked.
    """
    number = number_in(request, "subscription")
    fields = await fields_of(request, CHANGES, kind="subscription", overlooked=OBJECT)
    return _told(request, await request.app[SERVICES].subscriptions.change(number, fields))


@documented(TAG, {200: Answer("It has ended.", ShownSubscription)}, refuses=(404, 503), path=ID)
async def end_subscription(request: web.Request) -> web.Response:
    """End a subscription.

    What it fetched stays. Answers with the subscription as it was.
    """
    number, standings = number_in(request, "subscription"), request.app[SUBSCRIPTION_STANDINGS]
    before = await standings.of(number)
    await request.app[SERVICES].subscriptions.remove(number)
    standings.ended(before)
    return _answer(before)


def as_subscription(subscription: Subscription) -> ShownSubscription:
    """A subscription as the API shows it."""
    return {
        "id": subscription.number,
        "type": "subscription",
        "url": subscription.url,
        "title": subscription.title,
        "interval": subscription.interval,
        "filter": subscription.filter,
        "directory": subscription.directory,
        "options": dict(subscription.options),
        "backlog": subscription.backlog,
        "paused": subscription.paused,
        "client_id": subscription.client_id,
        "entries": subscription.entries,
        "downloads": subscription.found,
        "checked_at": None if subscription.checked is None else moment(subscription.checked),
        "next_check_at": moment(subscription.next_look) if subscription.is_active else None,
        "failures": subscription.failures,
        "error": subscription.error,
        "created_at": moment(subscription.created),
        "updated_at": moment(subscription.changed),
    }


def _told(request: web.Request, subscription: Subscription) -> web.Response:
    request.app[SUBSCRIPTION_STANDINGS].told(subscription)
    return _answer(subscription)


def _answer(subscription: Subscription) -> web.Response:
    return json_answer(as_subscription(subscription))

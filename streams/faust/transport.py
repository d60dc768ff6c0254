"""The entry point: what Faust makes of `broker="redis://…"`."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from faust.assignor.leader_assignor import LeaderAssignor
from faust.sensors import Monitor
from faust.tables import TableManager
from faust.transport import base
from faust.transport.conductor import Conductor as BaseConductor
from faust.types import TP
from redis.asyncio import Redis
from yarl import URL

from streams.codec import Fields
from streams.connections import connect
from streams.deliveries import Delivery
from streams.faust.consumer import Consumer
from streams.faust.messages import StreamMessage, to_message
from streams.faust.producer import Producer
from streams.faust.refusals import check_settings
from streams.faust.topics import Topic, Topics
from streams.groups import GroupConsumer


class Conductor(BaseConductor):
    """Faust's, except that new topics are subscribed to soon (nothing stops for it here), and that a
    message waits until somebody reads its topic: Faust gives it to a channel that nobody iterates over.
    """

    app: Any
    _resubscribe_sleep_lock_seconds = 0.5

    def add(self, topic: Any) -> None:
        """Take a channel up; what is ours of its topics already flows to it at once."""
        if topic in self:
            return
        super().add(topic)
        consumer = self.app._consumer  # noqa: SLF001 - `app.consumer` would make one
        if consumer is not None and (assigned := consumer.assignment()):
            self._update_tp_index(assigned)
            self._update_callback_map()
            consumer.resume_partitions({tp for tp in assigned if tp.topic in topic.topics})

    def is_read(self, tp: TP) -> bool:
        """Whether anybody iterates over a channel of this partition."""
        return bool(self._tp_index.get(tp))

    def _update_tp_index(self, assigned: set[TP]) -> None:
        super()._update_tp_index(assigned)
        index: dict[TP, set[Any]] = self._tp_index  # type: ignore[assignment]
        for channels in index.values():
            channels -= {channel for channel in channels if not channel.is_iterator}


class LeaseLeader(LeaderAssignor):
    """Faust's, but for a host that knows itself who leads: no topic of the leader's own is made.

    So `app.is_leader()`, and with it timers, tasks and crontabs with `on_leader=True`, go by the host's leases.
    """

    app: Any

    async def on_start(self) -> None:
        """Nothing to join."""

    def is_leader(self) -> bool:
        """Whether the host leads."""
        leads: bool = self.app.transport.leads()
        return leads


class NoTables(TableManager):
    """Faust's, without the second that it waits for tables to be declared: for apps that have none."""

    async def on_start(self) -> None:
        """Go on at once."""
        await self._update_channels()
        await self.recovery.start()


class NoMonitor(Monitor):
    """Faust's, without its account of each event: for apps whose events are counted elsewhere."""

    def on_message_in(self, *args: Any) -> None:
        """Not counted."""

    def on_stream_event_in(self, *args: Any) -> None:
        """Not counted."""


class Transport(base.Transport):
    """Redis Streams. One connection pool, and the topics that the app uses."""

    Consumer = Consumer
    Producer = Producer
    Conductor = Conductor
    driver_version = f"redis={version('redis')}"

    def __init__(self, url: list[URL], app: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Raises ImproperlyConfigured for settings that cannot be honoured."""
        super().__init__(url, app, loop)
        check_settings(app, url)
        self._use(connect(redis_url(url[0])), owned=True)
        self.groups: dict[str, GroupConsumer] = {}
        """Group members by topic; a host may put its own here first."""
        self.concerns: Callable[[Fields], bool] | None = None
        """Entries that it answers with False are acknowledged unseen; None: all concern the app."""
        self.leads: Callable[[], bool] = _nobody
        """Whether the host of this app is the leader (see LeaseLeader)."""
        self.to_message: Callable[[TP, Delivery, int], StreamMessage] = to_message
        """What becomes of an entry; a host that reads the delivery itself needs no more than that."""
        self.member = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"

    @classmethod
    def over(cls, app: Any, redis: Redis) -> Transport:
        """A transport over connections that somebody else opened and will close."""
        transport = cls([URL("redis://")], app)
        transport._use(redis, owned=False)
        return transport

    def _use(self, redis: Redis, *, owned: bool) -> None:
        self.redis, self._owned = redis, owned
        self.topics = Topics(redis)

    async def declare(self, name: str, partitions: int | None = None) -> Topic:
        """The topic, made where it does not exist. Waits for Redis, as long as producer_request_timeout says."""
        conf = self.app.conf
        wanted = (partitions or conf.topic_partitions) if conf.topic_allow_declare else None
        return await self.topics.declare(name, wanted, conf.producer_request_timeout)

    async def close(self) -> None:
        """Close the connections that were opened here."""
        if self._owned:
            await self.redis.aclose()


def _nobody() -> bool:
    return False


def redis_url(url: URL) -> str:
    """The URL as redis-py takes it: yarl writes `redis+unix:///run/redis.sock` without its slashes."""
    if url.scheme != "redis+unix":
        return str(url)
    login = f"{url.raw_user or ''}:{url.raw_password}@" if url.raw_password else ""
    return f"unix://{login}{url.raw_path}" + (f"?{url.raw_query_string}" if url.raw_query_string else "")

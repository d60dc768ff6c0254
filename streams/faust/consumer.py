"""Brings entries to Faust's streams, and their acknowledgements back to the group.

One GroupConsumer for each topic does the work; this class speaks Faust's side of it. Faust is told
of an empty assignment once, through its own rebalance, so that it starts at once; every partition
that comes or goes afterwards is told cooperatively, without stopping the others. What is marked
(*) is private API of Faust.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from faust.exceptions import DecodeError
from faust.streams import current_event
from faust.transport.consumer import Consumer as BaseConsumer
from faust.types import TP

from streams.background import running
from streams.deliveries import Delivery, Owned
from streams.errors import LogUnavailableError
from streams.faust.messages import StreamMessage, to_message
from streams.faust.offsets import Acknowledging, Nothing
from streams.faust.refusals import check_tables, check_topic
from streams.faust.topics import Topic
from streams.groups import GroupConsumer
from streams.retries import backoff

FETCH = 200
"""Entries of one partition that one read asks for."""

YIELD_EVERY = 100
"""Messages after which others get a turn."""

LEASES_A_SESSION = 3
"""A member counts as gone after three leases' time to live: then `broker_session_timeout` is over."""

_log = structlog.get_logger(__name__)


class Consumer(BaseConsumer):
    """A member of the group that is named like the app."""

    app: Any
    transport: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # (*) Offsets decide nothing here: Redis knows each entry that is not acknowledged.
        nothing: Any = Nothing()
        self._read_offset = self._committed_offset = nothing
        # (*) Faust acknowledges by appending to `_acked[tp]`; the Cython stream does so without calling `ack`.
        acknowledging: Any = Acknowledging(self.acknowledged)
        self._acked = self._acked_index = acknowledging
        self.held: dict[TP, Owned] = {}
        self._following: dict[str, asyncio.Future[None]] = {}
        self._telling = asyncio.Lock()
        self._begun = asyncio.Event()
        self._fetching = asyncio.Event()
        self._progress = asyncio.Event()
        self._failures: dict[tuple[Owned, int], int] = {}
        """How often agents raised over a message that is not acknowledged."""

    async def on_start(self) -> None:
        """Refuse what cannot work before anything begins."""
        check_tables(self.app)
        await super().on_start()

    async def on_stop(self) -> None:
        """Wait for agents as far as stream_wait_empty asks for it, then give everything back."""
        if self.app.conf.stream_wait_empty:
            await self.wait_empty()
        for group in self.groups.values():
            await group.stop()

    @property
    def groups(self) -> dict[str, GroupConsumer]:
        """Our membership, by topic."""
        groups: dict[str, GroupConsumer] = self.transport.groups
        return groups

    # ------------------------------------------------------------ topics

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Follow these topics from now on, and no others."""
        check_tables(self.app)
        wanted = set(topics)
        for name in set(self._following) - wanted:
            self._following.pop(name).cancel()
            await self.groups.pop(name).stop()
        for name in sorted(wanted - set(self._following)):
            topic = await self.transport.declare(name)
            self._following[name] = self.add_future(self._follow(topic))
        if not self._begun.is_set():
            self.add_future(self._begin())

    async def _begin(self) -> None:
        """Let Faust start with nothing assigned; partitions come as they are leased."""
        if not self.app.client_only:
            self.app.on_rebalance_start()
            self.app.consumer_generation_id += 1
            await self.on_partitions_assigned(set(), self.app.consumer_generation_id)
            await self.app.tables.recovery.completed.wait()
        else:
            self.resume_flow()
        self._begun.set()

    async def _follow(self, topic: Topic) -> None:
        """Be a member of the topic's group, for ever."""
        await self._begun.wait()
        group = self.groups.get(topic.name) or self._join(topic)
        loops = [group.run(), *([topic.reader.run()] if topic.runs_reader else [])]
        if topic.name not in self.randomly_assigned_topics:  # the leader's: holding it is all there is to it
            loops.append(self._drain(topic.name, group))
        async with running(*loops):
            await asyncio.Event().wait()

    def _join(self, topic: Topic) -> GroupConsumer:
        conf, transport = self.app.conf, self.transport

        async def assigned(owned: Owned) -> None:
            await self.take(topic.name, owned)

        async def revoked(owned: Owned) -> None:
            await self.let_go(topic.name, owned)

        group = self.groups[topic.name] = GroupConsumer(
            transport.redis,
            topic.keys,
            topic.reader,
            topic.partitions,
            conf.id,
            transport.member,
            ttl=conf.broker_session_timeout / LEASES_A_SESSION,
            beat_every=conf.broker_heartbeat_interval,
            assigned=assigned,
            revoked=revoked,
        )
        return group

    # ------------------------------------------------------------ partitions come and go

    async def take(self, topic: str, owned: Owned) -> None:
        """A partition is ours: tell Faust before its first message comes."""
        tp = TP(topic, owned.partition)
        async with self._telling:
            self.held[tp] = owned
            await self._tell()
            self._active_partitions.add(tp)
            owned.paused = not (self.app.client_only or self.app.topics.is_read(tp))

    async def let_go(self, topic: str, owned: Owned, *, wait: bool = True) -> None:
        """A partition is leaving or lost: wait for agents that are at work on it, then tell Faust."""
        tp = TP(topic, owned.partition)
        if wait and not owned.lost:
            await self._finished(owned)
        async with self._telling:
            if self.held.get(tp) is owned:
                del self.held[tp]
                self._active_partitions.discard(tp)
                self._buffered_partitions.discard(tp)
                self._failures = {at: times for at, times in self._failures.items() if at[0] is not owned}
                await self._tell()

    async def _tell(self) -> None:
        """(*) The cooperative part of Faust's `App._on_partitions_assigned`."""
        if self.should_stop or self.app.should_stop or self.app.client_only:
            return
        app, assigned = self.app, set(self.held)
        app.unassigned = not assigned
        revoked, added = app._update_assignment(assigned)  # noqa: SLF001
        await app.agents.on_rebalance(revoked, added)
        await app.topics.on_partitions_assigned(assigned)
        if revoked:
            await app.on_partitions_revoked.send(revoked)
        await app.on_partitions_assigned.send(assigned)

    async def _finished(self, owned: Owned) -> None:
        """Wait until no agent works on a message of this partition, for the session timeout at the most."""
        until = time.monotonic() + self.app.conf.broker_session_timeout
        while not (owned.lost or self.app.should_stop) and time.monotonic() < until:
            self._progress.clear()
            if not any(isinstance(m, StreamMessage) and m.delivery.owned is owned for m in self._unacked_messages):
                return
            try:
                async with asyncio.timeout(1.0):
                    await self._progress.wait()
            except TimeoutError:
                continue

    async def wait_empty(self) -> None:
        """Wait until agents have acknowledged what they began, for the session timeout at the most."""
        until = time.monotonic() + self.app.conf.broker_session_timeout
        while self._unacked_messages and time.monotonic() < until:
            await self._wait_for_ack(timeout=1)
            self._clean_unacked_messages()
        if self._unacked_messages:
            _log.warning("stopped with messages that no agent acknowledged", messages=len(self._unacked_messages))
        await self.commit()

    def assignment(self) -> set[TP]:
        """The partitions that are ours."""
        return set(self.held)

    # ------------------------------------------------------------ messages

    async def _drain_messages(self, fetcher: Any) -> None:
        """(*) Faust's fetcher: while it runs, every topic's `_drain` does."""
        self._fetching.set()
        try:
            await fetcher.wait_until_stopped()
        finally:
            self._fetching.clear()

    async def _drain(self, topic: str, group: GroupConsumer) -> None:
        while True:
            await self._fetching.wait()
            deliveries = await group.fetch(FETCH, timeout=60.0)
            if deliveries:
                await self._pass_on(topic, group, deliveries)

    async def _pass_on(self, topic: str, group: GroupConsumer, deliveries: list[Delivery]) -> None:
        concerns, to_message = self.transport.concerns, self.transport.to_message
        generation = self.app.consumer_generation_id
        acknowledged_late = self.app.topics.acks_enabled_for(topic)
        by_partition: dict[TP, list[Delivery]] = {}
        tps = {number: TP(topic, number) for number in {delivery.partition for delivery in deliveries}}
        for delivery in deliveries:
            if concerns is None or concerns(delivery.fields):
                by_partition.setdefault(tps[delivery.partition], []).append(delivery)
            else:
                group.ack(delivery)
        passed = 0
        order = self.scheduler.iterate(by_partition)
        try:
            for tp, delivery in order:
                message = to_message(tp, delivery, generation)
                if not acknowledged_late:
                    group.ack(delivery)  # a topic with acks=False is read once, whatever becomes of it
                await self.callback(message)
                passed += 1
                if passed % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            for _, delivery in order:
                group.drop(delivery, reread=True)
            raise

    def on_buffer_full(self, tp: TP) -> None:
        """The agents' queue is full: fetch nothing more for it."""
        if tp in self.held:
            self.held[tp].paused = True
            self._buffered_partitions.add(tp)
            self._active_partitions.discard(tp)

    def on_buffer_drop(self, tp: TP) -> None:
        """There is room again."""
        self._buffered_partitions.discard(tp)
        self.resume_partitions([tp])

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch nothing from these until `resume_partitions`."""
        super().pause_partitions(tps)
        for tp in tps:
            if tp in self.held:
                self.held[tp].paused = True

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch from these again, as far as they are ours."""
        ours = [tp for tp in tps if tp in self.held]
        super().resume_partitions(ours)
        for tp in ours:
            self.groups[tp.topic].resume(self.held[tp])

    # ------------------------------------------------------------ acknowledgements

    def acknowledged(self, tp: TP, offset: int) -> None:
        """Faust is done with a message: Redis is told soon."""
        self._progress.set()
        owned = self.held.get(tp)
        if owned is not None:
            self.groups[tp.topic].ack_position(owned, offset)
            if self._failures:
                self._failures.pop((owned, offset), None)

    async def on_task_error(self, exc: BaseException) -> None:
        """An agent raised: have its message delivered again, later each time, instead of losing it."""
        event = None if isinstance(exc, DecodeError) else current_event()  # Faust is done with what it cannot decode
        message = event.message if event else None
        if not isinstance(message, StreamMessage) or message.acked or message.tp not in self.held:
            return
        message.acked = True  # (*) else the stream acknowledges what its agent raised over
        self._unacked_messages.discard(message)
        self._progress.set()
        delivery = message.delivery
        attempt = self._failures[delivery.owned, delivery.pos] = (
            self._failures.get((delivery.owned, delivery.pos), 0) + 1
        )
        pause = backoff(attempt)
        _log.warning(
            "agent raised, its message comes again",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            attempt=attempt,
            retry_in=round(pause, 1),
            error=repr(exc),
        )
        group = self.groups[message.topic]
        asyncio.get_running_loop().call_later(pause, lambda: group.drop(delivery, reread=True))

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        """Tell Redis now what is done. False where it cannot be reached: it is told later."""
        try:
            for group in self.groups.values():
                await group.flush()
        except LogUnavailableError:
            return False
        return True

    async def perform_seek(self) -> None:
        """Nothing to seek: Redis knows what was delivered."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """(*) Gaps mean nothing: acknowledgements come one by one."""

    def _new_offset(self, tp: TP) -> int | None:  # noqa: ARG002
        """(*) Nothing is committed by offset."""
        return None

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:  # noqa: ARG002
        return await self.force_commit()

    # ------------------------------------------------------------ what Faust may ask

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> StreamMessage:
        return to_message(tp, record, self.app.consumer_generation_id)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:
        raise NotImplementedError("messages come through agents and streams; getmany() is Kafka's")

    async def _seek(self, partition: TP, offset: int) -> None:
        raise NotImplementedError(
            f"the group's position is Redis's: stop the app and XGROUP SETID {partition.topic}:"
            f"{{{partition.partition:02d}}}:log {self.app.conf.id} {offset}-0"
        )

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Refused, like `seek`."""
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Nothing moves; where the group stands."""
        return {tp: owned.position for tp, owned in self.held.items()}

    async def position(self, tp: TP) -> int | None:
        """The last position that was delivered to the group."""
        owned = self.held.get(tp)
        return owned.position if owned else None

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Topics begin at 1."""
        return dict.fromkeys(partitions, 1)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The last position of each partition."""
        heads = {name: await (await self.transport.declare(name)).reader.heads() for name in {t for t, _ in partitions}}
        return {tp: heads[tp.topic][tp.partition] for tp in partitions}

    def highwater(self, tp: TP) -> int:
        """The last position that was delivered: what is beyond is not known without asking."""
        owned = self.held.get(tp)
        return owned.position if owned else 0

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions a topic has, where it is in use."""
        known = self.transport.topics.known(topic)
        return known.partitions if known else None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Where messages with this key go."""
        known = self.transport.topics.known(topic)
        if partition is not None or key is None or known is None:
            return partition
        index: int = known.partition_of(key)
        return index

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:  # noqa: ARG002
        """Make a topic; one that exists keeps its partitions."""
        check_topic(topic, compacting=options.get("compacting"))
        await self.transport.declare(topic, partitions)

"""A member of a consumer group: which partitions it owns, what it reads, what it acknowledges.

Entries are read under the partition's lease and under one constant consumer name, so
`XREADGROUP … 0` gives the next owner everything that was pending: there are no dead consumers and
nothing to claim. Pending entries come first after every change of owner and every broken
connection. Nothing here knows what an event is; `hosting` and the Faust transport stand on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.acknowledging import Acknowledgements
from streams.background import running, stop_if_cancelled
from streams.connections import UNREACHABLE, told_plainly
from streams.crashpoints import reach
from streams.deliveries import ASKED, Delivery, Owned
from streams.entries import Fence, entry_fields, position
from streams.errors import LogFullError, LogUnavailableError
from streams.keys import Keys
from streams.leases import Lease, Leases, share
from streams.reading import Reader
from streams.scripts import Script

CONSUMER = "owner"
"""The one consumer name of every group: the lease says who it is just now."""

AUDIT_EVERY = 10
"""Beats between two comparisons of what Redis calls pending with what is in flight here."""

DROPPED_KNOWN = 10_000
"""Entries let go on purpose that are remembered at the most."""

FAR = 2**63

_FETCH = Script("fetch")
_log = structlog.get_logger(__name__)


Changed = Callable[[Owned], Awaitable[None]]


class GroupConsumer:
    """One member of one group over a set of partitions. `run` must be running."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        reader: Reader,
        partitions: int,
        group: str,
        member: str,
        *,
        ttl: float,
        beat_every: float | None = None,
        assigned: Changed | None = None,
        revoked: Changed | None = None,
    ) -> None:
        """`assigned` is awaited before a partition's first entries come, `revoked` before its lease is
        given back (it should wait, boundedly, for what is running) or after it was lost (`owned.lost`).
        `ttl` and `beat_every` are seconds.
        """
        self._redis, self._keys, self._reader, self._partitions = redis, keys, reader, partitions
        self._leases = Leases(redis, keys, group, member, ttl)
        self.group, self.member, self._beat_every = group, member, min(ttl / 3, beat_every or ttl)
        self._assigned, self._revoked = assigned, revoked
        self.owned: dict[int, Owned] = {}
        self.members: list[str] = []
        self._changed = asyncio.Event()
        self.acknowledgements = Acknowledgements(redis, keys, group)
        self._dropped: set[tuple[int, int]] = set()
        """What we let go ourselves: it does not count as a death of its worker when it comes again."""
        self._stopping = False
        self._besides: set[asyncio.Task[None]] = set()
        self._beating = asyncio.Lock()
        self._letting_go: set[int] = set()
        """Partitions that were lost, and whose work has not ended yet."""
        self._doubtful = False
        """A connection broke: Redis may not be where we left it."""
        self._breaks_known = reader.breaks

    # ------------------------------------------------------------ ownership

    async def run(self) -> None:
        """Keep the membership and the leases, and send acknowledgements, for ever."""
        async with running(self.acknowledgements.run()):
            await self._keep_leases()

    async def _keep_leases(self) -> None:
        connected, beats = True, 0
        while True:
            stop_if_cancelled()
            try:
                async with asyncio.timeout(max(5.0, 2 * self._beat_every)), self._beating:
                    await self._beat()
                    beats += 1
                    if self._doubtful or self._breaks_known != self._reader.breaks or beats % AUDIT_EVERY == 0:
                        self._doubtful, self._breaks_known = False, self._reader.breaks
                        await self._audit()
                if not connected:
                    _log.info("Redis connection successful", group=self.group)
                connected = True
            except (LogUnavailableError, TimeoutError, ResponseError) as error:
                if connected:
                    _log.warning(
                        "Redis connection lost. Attempting to reconnect...", group=self.group, error=str(error)
                    )
                connected = False
                self._rescan_all()
            await asyncio.sleep(self._beat_every if connected else min(1.0, self._beat_every))

    async def _beat(self) -> None:
        if self._stopping and not self.owned:
            return
        try:
            self.members = await self._leases.beat()
        except LogFullError as error:
            # What we own can still be renewed, read and acknowledged, which is how memory gets free.
            _log.warning("Redis is full: no partitions change hands", group=self.group, error=str(error))
        for owned in [one for one in self.owned.values() if one.void]:
            self._lose(owned.partition)
        in_doubt = [owned for owned in self.owned.values() if not owned.lease.valid()]
        lost = await self._leases.renew([owned.lease for owned in self.owned.values()]) if self.owned else []
        for lease in lost:
            self._lose(lease.partition)
        if any(owned.lease.valid() for owned in in_doubt):
            self._changed.set()  # whoever waits for entries waits for theirs, too
        wanted = set() if self._stopping else share(self.group_member, self.members, self._partitions)
        for partition, owned in list(self.owned.items()):
            if partition not in wanted and not owned.leaving:
                self._hand_over(owned)
        for partition in sorted(wanted - set(self.owned) - self._letting_go):
            acquired = await self._leases.acquire(partition)
            reach("lease.acquired")
            if acquired is not None:
                await self._take(Owned(acquired))

    @property
    def group_member(self) -> str:
        """Our name among the members."""
        return self._leases.member

    async def _take(self, owned: Owned) -> None:
        partition = owned.lease.partition
        owned.position = await self._group_position(partition)
        if self._assigned:
            await self._assigned(owned)
        self.owned[partition] = owned
        if self._stopping:  # `stop` did not see it yet
            self._hand_over(owned)
        self._changed.set()
        _log.debug("partition assigned", group=self.group, partition=partition, lease=owned.lease.value)

    def _lose(self, partition: int) -> None:
        owned = self.owned.pop(partition, None)
        if owned is None:
            return
        owned.lost = True
        _log.warning("partition lost: its lease is not ours any more", group=self.group, partition=partition)
        self._letting_go.add(partition)
        self._beside(self._let_go(owned))

    async def _let_go(self, owned: Owned) -> None:
        """End what runs; only then may we own the partition again."""
        try:
            if self._revoked:
                await self._revoked(owned)
        finally:
            self._letting_go.discard(owned.partition)

    def _hand_over(self, owned: Owned) -> None:
        owned.leaving = True
        self._beside(self._give_back(owned))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._besides.add(task)
        task.add_done_callback(self._beside_ended)

    def _beside_ended(self, task: asyncio.Task[None]) -> None:
        self._besides.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("letting go of a partition failed", group=self.group, exc_info=error)

    async def _give_back(self, owned: Owned) -> None:
        """Let what runs finish (the lease is renewed meanwhile), acknowledge it, release."""
        try:
            if self._revoked:
                await self._revoked(owned)
        finally:
            with contextlib.suppress(LogUnavailableError):
                await self.flush()
                await self._leases.release(owned.lease)
            owned.lost = True
            if self.owned.get(owned.partition) is owned:
                del self.owned[owned.partition]
        _log.debug("partition released", group=self.group, partition=owned.partition)

    async def _group_position(self, partition: int) -> int:
        """The group's last delivered position; the group is made at 0 where there is none."""
        with told_plainly():
            key = self._keys.log(partition)
            try:
                await self._redis.xgroup_create(key, self.group, "0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            for group in await self._redis.xinfo_groups(key):
                if group["name"] in (self.group, self.group.encode()):
                    return position(group["last-delivered-id"])
        return 0

    async def _audit(self) -> None:
        """Compare what Redis says of our partitions with what we believe.

        Pending entries that are not in flight here are read again. None should be: every known way to
        strand one is closed, and this finds the unknown ones. A group that stands before what was
        delivered to us belongs to a log that lost its tail: its positions mean other entries now.
        """
        audited = [(owned, owned.position) for owned in self.owned.values() if not owned.leaving]
        if not audited:
            return
        with told_plainly():
            pipeline = self._redis.pipeline(transaction=False)
            for owned, _ in audited:
                pipeline.execute_command("XINFO GROUPS", self._keys.log(owned.partition))
            answers = await pipeline.execute(raise_on_error=False)
        for (owned, believed), answer in zip(audited, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise LogUnavailableError(f"Redis cannot be reached ({answer}).") from answer
            groups = answer if isinstance(answer, list) else []  # an error: the log itself is gone
            ours = next((one for one in groups if one["name"] in (self.group, self.group.encode())), None)
            if ours is None or position(ours["last-delivered-id"]) < believed:
                self._begin_anew(
                    owned,
                    "the log lost its tail, or someone set the group back"
                    if ours
                    else "the group is gone from the log",
                )
            elif owned.rescan is None and ours["pending"] > len(owned.in_flight):
                _log.warning(
                    "pending entries were not in flight",
                    group=self.group,
                    partition=owned.partition,
                    pending=ours["pending"],
                    in_flight=len(owned.in_flight),
                )
                owned.rescan = 0
                self._changed.set()

    def _begin_anew(self, owned: Owned, why: str) -> None:
        """Let go of a partition whose positions are no longer what they were; the next beat takes it again."""
        if owned.void:
            return
        _log.error("a partition is taken anew", group=self.group, partition=owned.partition, reason=why)
        self._reader.forget()
        owned.void = True
        owned.lease.until = 0.0
        self.acknowledgements.forget(owned)
        self._beside(self._release(owned.lease))

    async def _release(self, lease: Lease) -> None:
        with contextlib.suppress(LogUnavailableError):
            await self._leases.release(lease)

    async def stop(self) -> None:
        """Give back every partition (see `revoked`) and leave the group."""
        self._stopping = True
        for owned in list(self.owned.values()):
            if not owned.leaving:
                self._hand_over(owned)
        while self._besides:
            await asyncio.gather(*self._besides, return_exceptions=True)
        async with self._beating:  # a beat that is under way would make us a member again
            with contextlib.suppress(LogUnavailableError):
                await self._leases.leave()

    def fence(self, owned: Owned) -> Fence:
        """What an append must carry to be refused once this partition is someone else's."""
        return self._leases.fence(owned.lease)

    def _rescan_all(self) -> None:
        self._doubtful = True
        for owned in self.owned.values():
            owned.rescan = 0

    # ------------------------------------------------------------ reading

    async def fetch(self, count: int, timeout: float) -> list[Delivery]:
        """Up to `count` entries of each owned partition; empty after `timeout` seconds without any.

        Pending entries come first. Never raises for a connection that broke: pending entries are
        read again then, and what is in flight is left out.
        """
        readable = [
            owned for owned in self.owned.values() if not (owned.leaving or owned.paused) and owned.lease.valid()
        ]
        rescans = [owned for owned in readable if owned.rescan is not None]
        if not rescans:
            news = [owned for owned in readable if self._reader.beyond(owned.partition, owned.asked_until)]
            if not news:
                beyond = [FAR] * self._partitions
                for owned in readable:
                    beyond[owned.partition] = owned.asked_until
                await self._wait(beyond, timeout)
                news = [owned for owned in readable if self._reader.beyond(owned.partition, owned.asked_until)]
            readable = news
        if not readable:
            return []
        try:
            return await self._read(rescans or readable, count)
        except (*UNREACHABLE, ResponseError) as error:
            await self._recover(error)
            return []
        except asyncio.CancelledError:
            self._rescan_all()  # what the lost reply held is pending now
            raise

    async def _wait(self, beyond: list[int], timeout: float) -> None:
        """Wait for news in the log or for a partition to be assigned."""
        self._changed.clear()
        follow = asyncio.create_task(self._reader.wait_beyond(beyond, timeout))
        change = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({follow, change}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (follow, change):
                task.cancel()
            await asyncio.gather(follow, change, return_exceptions=True)

    async def _read(self, partitions: list[Owned], count: int) -> list[Delivery]:
        pipeline = self._redis.pipeline(transaction=False)
        asked: list[int | None] = []
        heads = [self._reader.head(owned.partition) for owned in partitions]
        for owned in partitions:
            partition = owned.lease.partition
            after = ">" if owned.rescan is None else f"{owned.rescan}-0"
            pipeline.eval(
                _FETCH.source,
                2,
                self._keys.log(partition),
                self._keys.lease(partition, self.group),
                owned.lease.value,
                self.group,
                CONSUMER,
                count,
                after,
            )
            asked.append(owned.rescan)
            if owned.rescan is not None:
                owned.rescan = ASKED  # whoever wants another rescan meanwhile sets it to 0
        with contextlib.ExitStack() as stack:
            landed = [stack.enter_context(owned.rescanning()) for owned in partitions]
            reach("fetch.before")
            answers = await pipeline.execute(raise_on_error=False)
            reach("fetch.after")
            await self._note_what_is_empty(partitions, asked, heads, answers)
        for answer in answers:
            if isinstance(answer, Exception) and not _no_group(answer):
                raise answer
        deliveries: list[Delivery] = []
        for owned, again, answer, done in zip(partitions, asked, answers, landed, strict=True):
            if isinstance(answer, Exception):
                self._begin_anew(owned, f"the group is gone from the log ({answer})")
            elif not answer[0]:
                owned.lease.until = 0.0  # the next beat tells whether it is lost
                if owned.rescan == ASKED:
                    owned.rescan = again
            elif again is None and answer[1] and position(answer[1][0][0]) <= owned.position:
                # Pending now, and so left to whoever takes it: that it was delivered before cannot be.
                self._begin_anew(owned, "the log lost its tail, or someone set the group back")
            elif not (owned.leaving or owned.lost or owned.void):
                odd = self._deliver(owned, answer[1], again is not None, done, deliveries)
                if odd:
                    self._beside(self._leave_out(owned, odd))
        return deliveries

    async def _note_what_is_empty(
        self, partitions: list[Owned], asked: list[int | None], heads: list[int], answers: list[Any]
    ) -> None:
        """Where the log was thought to go on and nothing came (deleted by hand, or lost): do not ask on and on."""
        empty = [
            (owned, head)
            for owned, again, head, answer in zip(partitions, asked, heads, answers, strict=True)
            if again is None and isinstance(answer, list) and answer[0] and not answer[1]
        ]
        if not empty:
            return
        with contextlib.suppress(LogUnavailableError):
            now = await self._reader.heads()
            for owned, head in empty:
                owned.nothing_until = max(owned.nothing_until, min(head, now[owned.partition]))
            if any(now[owned.partition] < head for owned, head in empty):
                self._reader.forget()  # the log is shorter than it was
                self._doubtful = True

    def _deliver(
        self, owned: Owned, entries: list[Any], again: bool, done: set[int], deliveries: list[Delivery]
    ) -> list[bytes]:
        """Add deliveries; answers with the ids that are no positions."""
        odd: list[bytes] = []
        if again and owned.rescan == ASKED:
            owned.rescan = position(entries[-1][0]) if entries else None
        in_flight, dropped = owned.in_flight, self._dropped
        pos = owned.position
        for entry_id, flat in entries:
            number, _, beside = entry_id.partition(b"-")
            pos = int(number)
            if beside != b"0":
                odd.append(entry_id)
                continue
            if pos in in_flight or pos in done:
                continue
            if flat is None:  # deleted from the stream by hand: nothing is left to handle
                self.ack_position(owned, pos)
                continue
            in_flight.add(pos)
            known = again and (owned.partition, pos) in dropped
            if known:
                dropped.discard((owned.partition, pos))
            deliveries.append(Delivery(owned, pos, entry_fields(flat), again and not known))
        owned.position = max(owned.position, pos)
        return odd

    async def _leave_out(self, owned: Owned, odd: list[bytes]) -> None:
        """An entry that a person put between two positions has none of its own: let it go, loudly."""
        for entry_id in odd:
            _log.error(
                "an entry whose id is not `<position>-0` was left out: put it in again at the next position",
                group=self.group,
                partition=owned.partition,
                entry=entry_id.decode(),
            )
        with contextlib.suppress(*UNREACHABLE, ResponseError):
            await self._redis.xack(self._keys.log(owned.partition), self.group, *odd)

    async def _recover(self, error: Exception) -> None:
        """After an error nobody knows what was delivered: read pending entries again."""
        self._rescan_all()
        if isinstance(error, ResponseError):
            _log.error("reading for a group failed", group=self.group, error=str(error))
        await asyncio.sleep(0.2)

    # ------------------------------------------------------------ acknowledging

    def ack(self, delivery: Delivery) -> None:
        """Note that an entry is done; Redis is told soon."""
        self.ack_position(delivery.owned, delivery.pos)

    def ack_position(self, owned: Owned, pos: int) -> None:
        """The same by position."""
        if not owned.void:
            self.acknowledgements.add(owned, pos)

    def settled(self, delivery: Delivery) -> None:
        """The entry was acknowledged together with something else."""
        delivery.owned.landed((delivery.pos,))

    def drop(self, delivery: Delivery, *, reread: bool) -> None:
        """Forget an entry without acknowledging it; `reread`: have it delivered again soon."""
        delivery.owned.in_flight.discard(delivery.pos)
        if len(self._dropped) < DROPPED_KNOWN:
            self._dropped.add((delivery.partition, delivery.pos))
        if reread:
            delivery.owned.rescan = 0
            self._changed.set()

    async def flush(self) -> None:
        """Acknowledge all that is done now. Raises LogUnavailableError: it is tried again."""
        await self.acknowledgements.flush()

    def resume(self, owned: Owned) -> None:
        """Fetch a paused partition's entries again."""
        if owned.paused:
            owned.paused = False
            self._changed.set()

    def lag(self) -> int:
        """Entries that lie before us in the partitions that are ours, as far as is known here."""
        return sum(max(0, self._reader.head(p) - owned.asked_until) for p, owned in self.owned.items())

    def pending(self) -> Iterable[tuple[Owned, int]]:
        """What is in flight, for those who watch."""
        for owned in self.owned.values():
            for pos in owned.in_flight:
                yield owned, pos


def _no_group(answer: Exception) -> bool:
    return isinstance(answer, ResponseError) and "NOGROUP" in str(answer)

"""Who works on which partition: members of a group, and one lease with a fencing token for each partition.

A lease is a key `<member> <token>` with a time to live. Its token grows with every owner, and both
reading for the group and appending results name the lease's value, so whoever lost it can do
nothing any more, however long it slept.

A lease that ran out (Redis was away, or we slept) is not lost yet: where nobody had it since, its
owner takes it anew under the next token, and what it has in hand goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.connections import UNREACHABLE, told_plainly
from streams.entries import Fence
from streams.keys import Keys
from streams.scripts import Script

TRUSTED = 0.7
"""Share of a lease's time to live for which its owner relies on it without a renewal."""

_BEAT, _ACQUIRE, _KEEP, _RELEASE = Script("beat"), Script("acquire"), Script("keep"), Script("release")


@dataclass(slots=True)
class Lease:
    """A partition that is ours, until `until` (monotonic seconds) at the least."""

    partition: int
    value: str
    until: float

    @property
    def token(self) -> int:
        """The fencing token."""
        return int(self.value.rpartition(" ")[2])

    def valid(self) -> bool:
        """Whether we may rely on it just now. Where it ran out, the next renewal tells whether it is lost."""
        return time.monotonic() < self.until


class Leases:
    """The lease commands of one member of one group."""

    def __init__(self, redis: Redis, keys: Keys, group: str, member: str, ttl: float) -> None:
        self._redis, self._keys = redis, keys
        self.group, self.member, self.ttl = group, member, ttl
        self._tokens: dict[int, int] = {}

    def fence(self, lease: Lease) -> Fence:
        """What an append under this lease carries."""
        return Fence(lease.partition, self.group, lease.value)

    async def beat(self) -> list[str]:
        """Say that we are alive; the group's living members, sorted."""
        with told_plainly():
            members = await _BEAT(self._redis, [self._keys.members(self.group)], [self.member, self._ms(3)])
        return [member.decode() for member in members]

    async def acquire(self, partition: int) -> Lease | None:
        """The lease of a partition, where it is free."""
        started = time.monotonic()
        with told_plainly():
            value = await _ACQUIRE(
                self._redis,
                [self._keys.lease(partition, self.group), self._keys.meta(partition)],
                [self.member, self.group, self._tokens.get(partition, 0), self._ms()],
            )
        if value is None:
            return None
        lease = Lease(partition, value.decode(), started + TRUSTED * self.ttl)
        self._tokens[partition] = lease.token
        return lease

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew leases in place; answers with those that are someone else's by now, or that Redis forgot.

        One that ran out and that nobody had since gets the next token: whoever appends under it must
        name its value anew.
        """
        started = time.monotonic()
        with told_plainly():
            pipeline = self._redis.pipeline(transaction=False)
            for lease in leases:
                keys = (self._keys.lease(lease.partition, self.group), self._keys.meta(lease.partition))
                pipeline.eval(_KEEP.source, 2, *keys, lease.value, self._ms(), self.group)
            answers = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, UNREACHABLE):
                    raise answer
        lost = []
        for lease, answer in zip(leases, answers, strict=True):
            if isinstance(answer, ResponseError):
                continue  # full: what ran out cannot be taken anew until there is room
            if answer is None:
                lease.until = 0.0
                lost.append(lease)
                continue
            lease.value, lease.until = answer.decode(), started + TRUSTED * self.ttl
            self._tokens[lease.partition] = max(self._tokens.get(lease.partition, 0), lease.token)
        return lost

    async def release(self, lease: Lease) -> None:
        """Give a lease back at once."""
        lease.until = 0.0
        with told_plainly():
            await _RELEASE(self._redis, [self._keys.lease(lease.partition, self.group)], [lease.value])

    async def leave(self) -> None:
        """Stop being a member."""
        with told_plainly():
            await self._redis.zrem(self._keys.members(self.group), self.member)

    def _ms(self, times: float = 1) -> int:
        return max(1, int(self.ttl * 1000 * times))


def share(member: str, members: Sequence[str], partitions: int) -> set[int]:
    """The partitions that this member should own, when all members agree on who is there."""
    if member not in members:
        return set()
    index = sorted(members).index(member)
    return {partition for partition in range(partitions) if partition % len(members) == index}

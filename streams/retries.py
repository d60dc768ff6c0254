"""What a group could not handle yet: delayed entries, parked entries, and what waits behind them.

A delayed or parked entry blocks its subject in its group: later entries queue up behind it, so the
order within a subject holds. All of them keep their full bodies here and are acknowledged in the
same step, so the log may be trimmed and the rest of the partition goes on. An entry that cannot be
decoded has no subject to block; it stands alone under `!<pos>`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from streams.codec import Fields
from streams.connections import told_plainly
from streams.entries import Entry, Fence, entry_fields, position
from streams.errors import NotFoundError
from streams.keys import Keys
from streams.scripts import Script

FIRST_DELAY = 1.0
LONGEST_DELAY = 300.0

_SET_ASIDE, _ADVANCE, _REPLAY = Script("set_aside"), Script("advance"), Script("replay")

LOST = -1
"""What scripts answer when the lease is no longer ours."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked entry, as a person sees it."""

    group: str
    partition: int
    pos: int
    subject: str
    type: str
    reason: str
    attempts: int
    since: str
    """ISO 8601, UTC."""


def backoff(attempt: int, *, first: float = FIRST_DELAY, longest: float = LONGEST_DELAY) -> float:
    """Seconds until the next try after the `attempt`-th failed: full jitter, so that a crowd spreads."""
    return random.uniform(0, min(longest, first * 2.0 ** min(attempt - 1, 30)))


def alone(pos: int) -> str:
    """The stand-in subject of an entry that has none."""
    return f"!{pos}"


class Retries:
    """Delayed and parked entries of one group."""

    def __init__(self, redis: Redis, keys: Keys, group: str) -> None:
        self._redis, self._keys, self.group = redis, keys, group

    async def delay(self, fence: Fence, pos: int, subject: str, fields: Fields, attempts: int, due: float) -> int:
        """Set an entry aside until `due` (epoch seconds) and block its subject. LOST where fenced."""
        return await self._aside(fence, pos, subject, fields, "delay", int(due * 1000), b"", attempts)

    async def park(self, fence: Fence, pos: int, subject: str, fields: Fields, account: Mapping[str, Any]) -> int:
        """Set an entry aside until a person says what to do. LOST where fenced."""
        return await self._aside(fence, pos, subject, fields, "park", 0, orjson.dumps(dict(account)), 0)

    async def queue(self, fence: Fence, pos: int, subject: str, fields: Fields) -> int:
        """Put an entry behind its blocked subject; 0 where nothing blocks it any more. LOST where fenced."""
        return await self._aside(fence, pos, subject, fields, "behind", 0, b"", 0)

    async def _aside(
        self, fence: Fence, pos: int, subject: str, fields: Fields, how: str, due: int, account: bytes, attempts: int
    ) -> int:
        partition, group = fence.partition, self.group
        flat = [part for pair in fields.items() for part in pair]
        with told_plainly():
            answer = await _SET_ASIDE(
                self._redis,
                [
                    self._keys.log(partition),
                    self._keys.lease(partition, group),
                    self._keys.behind(partition, group, subject),
                    self._keys.delayed(partition, group),
                    self._keys.parked(partition, group),
                    self._keys.attempts(partition, group),
                ],
                [fence.value, group, pos, subject, how, due, account, attempts, *flat],
            )
        return int(answer)

    async def advance(self, fence: Fence, pos: int, subject: str, *, keep_parked: bool = False) -> int:
        """The first entry of a blocked subject is done; how many still wait. LOST where fenced.

        `keep_parked`: it is parked on its own by now and stays so.
        """
        return await self._advance(fence.partition, fence.value, pos, subject, "keep" if keep_parked else "")

    async def _advance(self, partition: int, value: str, pos: int, subject: str, how: str = "") -> int:
        with told_plainly():
            return int(
                await _ADVANCE(
                    self._redis,
                    [
                        self._keys.lease(partition, self.group),
                        self._keys.behind(partition, self.group, subject),
                        self._keys.delayed(partition, self.group),
                        self._keys.parked(partition, self.group),
                        self._keys.attempts(partition, self.group),
                    ],
                    [value, subject, pos, int(time.time() * 1000), how],
                )
            )

    async def head(self, partition: int, subject: str) -> tuple[Entry, int, int] | None:
        """The blocking entry of a subject, how often it failed, and how often it was parked before.

        None where nothing blocks it, or where it is parked.
        """
        with told_plainly():
            found: Any = await self._redis.execute_command(
                "XRANGE", self._keys.behind(partition, self.group, subject), "-", "+", "COUNT", 1
            )
            if not found:
                return None
            pos = position(found[0][0])
            if await self._redis.hexists(self._keys.parked(partition, self.group), str(pos)):
                return None
            failed, parkings = await self._redis.hmget(
                self._keys.attempts(partition, self.group), str(pos), f"{pos}:parkings"
            )
        fields = found[0][1]
        entry = Entry(partition, pos, fields if isinstance(fields, dict) else entry_fields(fields))
        return entry, int(failed or 0), int(parkings or 0)

    async def starts(self, partition: int, pos: int) -> int:
        """How often an entry was begun without an end."""
        with told_plainly():
            return int(await self._redis.hget(self._keys.attempts(partition, self.group), f"{pos}:starts") or 0)

    async def started_again(self, partition: int, pos: int, by: int = 1) -> int:
        """Count one more start of an entry that was delivered before; how many there were."""
        with told_plainly():
            return int(await self._redis.hincrby(self._keys.attempts(partition, self.group), f"{pos}:starts", by))

    async def ended(self, partition: int, pos: int) -> None:
        """Forget the starts of an entry that was handled."""
        with told_plainly():
            await self._redis.hdel(self._keys.attempts(partition, self.group), f"{pos}:starts")

    async def blocked(self, partition: int) -> set[bytes]:
        """The subjects that are blocked in a partition."""
        with told_plainly():
            delayed: Any = await self._redis.zrange(self._keys.delayed(partition, self.group), 0, -1)
            parked = await self._redis.hvals(self._keys.parked(partition, self.group))
        return set(delayed) | {orjson.loads(account)["subject"].encode() for account in parked}

    async def due(self, partitions: list[int], limit: int = 100) -> dict[int, list[bytes]]:
        """The subjects of each partition whose time has come."""
        now = int(time.time() * 1000)
        with told_plainly():
            pipeline = self._redis.pipeline(transaction=False)
            for partition in partitions:
                pipeline.zrangebyscore(self._keys.delayed(partition, self.group), "-inf", now, start=0, num=limit)
            answers = await pipeline.execute()
        return dict(zip(partitions, answers, strict=True))

    # ------------------------------------------------------------ for a person

    async def counts(self, partition: int) -> tuple[int, int]:
        """How many subjects are delayed and how many entries are parked in a partition."""
        with told_plainly():
            return (
                int(await self._redis.zcard(self._keys.delayed(partition, self.group))),
                int(await self._redis.hlen(self._keys.parked(partition, self.group))),
            )

    async def parked(self, partition: int) -> list[Parked]:
        """The parked entries of a partition, by position."""
        with told_plainly():
            accounts = await self._redis.hgetall(self._keys.parked(partition, self.group))
        found = []
        for pos, account in accounts.items():
            told = orjson.loads(account)
            found.append(
                Parked(
                    self.group,
                    partition,
                    int(pos),
                    told["subject"],
                    told.get("type", "?"),
                    told.get("reason", "?"),
                    told.get("attempts", 0),
                    told.get("since", ""),
                )
            )
        return sorted(found, key=lambda parked: parked.pos)

    async def body(self, parked: Parked) -> dict[str, str]:
        """The fields of a parked entry. Raises NotFoundError."""
        with told_plainly():
            found: Any = await self._redis.execute_command(
                "XRANGE",
                self._keys.behind(parked.partition, self.group, parked.subject),
                f"{parked.pos}-0",
                f"{parked.pos}-0",
            )
        if not found:
            raise NotFoundError(f"{self.group} has nothing parked at {parked.partition:02d}/{parked.pos}")
        fields = found[0][1]
        fields = fields if isinstance(fields, dict) else entry_fields(fields)
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}

    async def replay(self, parked: Parked) -> None:
        """Have a parked entry tried again, and then what waits behind it. Raises NotFoundError."""
        with told_plainly():
            done = await _REPLAY(
                self._redis,
                [
                    self._keys.delayed(parked.partition, self.group),
                    self._keys.parked(parked.partition, self.group),
                    self._keys.attempts(parked.partition, self.group),
                ],
                [parked.subject, parked.pos, int(time.time() * 1000)],
            )
        if not done:
            raise NotFoundError(f"{self.group} has nothing parked at {parked.partition:02d}/{parked.pos}")

    async def hasten(self, partition: int, subject: str) -> bool:
        """Have a delayed subject tried again now; False where nothing of it is delayed."""
        key = self._keys.delayed(partition, self.group)
        with told_plainly():
            if await self._redis.zscore(key, subject) is None:
                return False
            await self._redis.zadd(key, {subject: int(time.time() * 1000)}, xx=True, lt=True)
        return True

    async def delayed(self, partition: int) -> list[str]:
        """The subjects of a partition that wait for their next try."""
        with told_plainly():
            found: Any = await self._redis.zrange(self._keys.delayed(partition, self.group), 0, -1)
        return [subject.decode("utf-8", "replace") for subject in found]

    async def discard(self, parked: Parked) -> int:
        """Give a parked entry up for this group; what waits behind it goes on. Raises NotFoundError."""
        left = await self._advance(parked.partition, "", parked.pos, parked.subject)
        if left == -2:
            raise NotFoundError(f"{self.group} has nothing parked at {parked.partition:02d}/{parked.pos}")
        return left

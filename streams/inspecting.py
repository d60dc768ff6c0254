"""Looks at the log from outside, for people: who has read how far, what waits, what is parked.

Reads only what stands in Redis, so it tells the truth about every process that works on this log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import ResponseError

from streams.connections import told_plainly
from streams.entries import position
from streams.errors import LogUnavailableError
from streams.log import Log

TIMEOUT = 10.0
"""Seconds that one look may take."""

PIPELINED = 1000


@dataclass(frozen=True, slots=True)
class GroupPartition:
    """How one group stands in one partition."""

    group: str
    partition: int
    position: int
    """The last entry that was delivered to it (a projection: that it has applied)."""
    head: int
    """The partition's last entry."""
    pending: int
    """Delivered and not yet acknowledged."""
    oldest_pending: int | None
    """Position of the first of those."""
    oldest_pending_at: datetime | None
    """When that entry was appended (UTC)."""
    delayed: int
    """Subjects that wait for a retry."""
    parked: int
    """Entries that wait for a person."""
    owner: str | None
    """The worker that holds the lease; None: nobody, or a projection."""

    @property
    def lag(self) -> int:
        """Entries that it has not been given yet."""
        return max(0, self.head - self.position)


@dataclass(frozen=True, slots=True)
class GroupTotal:
    """How one group stands in all partitions together."""

    group: str
    partitions: int
    position: int
    """Entries delivered to it, over all partitions."""
    lag: int
    pending: int
    oldest_pending_at: datetime | None
    delayed: int
    parked: int
    owners: tuple[str, ...]


async def group_partitions(log: Log, *, timeout: float = TIMEOUT) -> list[GroupPartition]:
    """Every group in every partition, by group and partition. Raises LogUnavailableError."""
    try:
        async with asyncio.timeout(timeout):
            heads = await log.heads()
            groups = await _groups(log)
            return await _details(log, heads, groups)
    except TimeoutError:
        raise LogUnavailableError(f"Redis did not answer within {timeout:g} s.") from None


def totals(rows: Iterable[GroupPartition]) -> list[GroupTotal]:
    """The same by group alone, sorted by name."""
    by_group: dict[str, list[GroupPartition]] = {}
    for row in rows:
        by_group.setdefault(row.group, []).append(row)
    return [
        GroupTotal(
            group=group,
            partitions=len(all_),
            position=sum(row.position for row in all_),
            lag=sum(row.lag for row in all_),
            pending=sum(row.pending for row in all_),
            oldest_pending_at=min((row.oldest_pending_at for row in all_ if row.oldest_pending_at), default=None),
            delayed=sum(row.delayed for row in all_),
            parked=sum(row.parked for row in all_),
            owners=tuple(sorted({row.owner for row in all_ if row.owner})),
        )
        for group, all_ in sorted(by_group.items())
    ]


async def _groups(log: Log) -> list[tuple[int, dict[str, Any]]]:
    """(partition, what XINFO GROUPS says) of every group."""
    answers = await _pipelined(log, [("XINFO GROUPS", log.keys.log(p)) for p in range(log.partitions)])
    found = []
    for partition, answer in enumerate(answers):
        if isinstance(answer, ResponseError):
            if "no such key" not in str(answer):
                raise answer
            continue
        found += [(partition, group) for group in answer]
    return found


async def _details(
    log: Log, heads: Sequence[int], groups: Sequence[tuple[int, dict[str, Any]]]
) -> list[GroupPartition]:
    keys, commands = log.keys, []
    for partition, info in groups:
        name = _text(info["name"])
        commands += [
            ("XPENDING", keys.log(partition), name),
            ("ZCARD", keys.delayed(partition, name)),
            ("HLEN", keys.parked(partition, name)),
            ("GET", keys.lease(partition, name)),
        ]
    answers = await _pipelined(log, commands)
    rows, oldest = [], []
    for index, (partition, info) in enumerate(groups):
        pending, delayed, parked, lease = answers[index * 4 : index * 4 + 4]
        count, first = _pending(pending)
        oldest.append((partition, first))
        rows.append((partition, info, count, first, delayed, parked, lease))
    since = await _times(log, oldest)
    made = [
        GroupPartition(
            group=_text(info["name"]),
            partition=partition,
            position=position(info["last-delivered-id"]),
            head=heads[partition],
            pending=count,
            oldest_pending=first,
            oldest_pending_at=at,
            delayed=_number(delayed),
            parked=_number(parked),
            owner=_text(lease).rpartition(" ")[0] if isinstance(lease, (bytes, str)) else None,
        )
        for (partition, info, count, first, delayed, parked, lease), at in zip(rows, since, strict=True)
    ]
    return sorted(made, key=lambda row: (row.group, row.partition))


async def _times(log: Log, places: Sequence[tuple[int, int | None]]) -> list[datetime | None]:
    """When the entries at these places were appended; None where there is no such entry."""
    wanted = [(partition, pos) for partition, pos in places if pos is not None]
    answers = await _pipelined(
        log, [("XRANGE", log.keys.log(partition), f"{pos}-0", f"{pos}-0") for partition, pos in wanted]
    )
    found = dict(zip(wanted, answers, strict=True))
    times: list[datetime | None] = []
    for partition, pos in places:
        entries = found.get((partition, pos)) if pos is not None else None
        fields = entries[0][1] if isinstance(entries, list) and entries else {}
        times.append(_time(fields.get(b"time") if isinstance(fields, dict) else None))
    return times


async def _pipelined(log: Log, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    answers: list[Any] = []
    with told_plainly():
        for start in range(0, len(commands), PIPELINED):
            pipeline = log.redis.pipeline(transaction=False)
            for command in commands[start : start + PIPELINED]:
                pipeline.execute_command(*command)
            answers += await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise answer
    return answers


def _pending(answer: Any) -> tuple[int, int | None]:
    """XPENDING's summary: how many, and the first one's position."""
    if not isinstance(answer, dict) or not answer["pending"]:
        return 0, None
    return int(answer["pending"]), position(answer["min"])


def _time(value: bytes | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value.decode()).astimezone(UTC) if value else None
    except ValueError:
        return None


def _number(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")

"""Who owns which partition: shares, leases, tokens that only grow."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import LogUnavailableError
from streams.leases import Lease, Leases, share
from streams.log import Log, open_log
from streams.settings import Settings
from tests.servers import RedisServer
from tests.streams.driving import eventually

MEMBERS = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=12)


@given(MEMBERS, st.integers(1, 64))
def test_shares_cover_every_partition_once(members: list[str], partitions: int) -> None:
    """Whatever the members are called; nobody gets more than one partition above another."""
    shares = [share(member, members, partitions) for member in members]
    if members:
        assert sorted(partition for some in shares for partition in some) == list(range(partitions))
        sizes = [len(some) for some in shares]
        assert max(sizes) - min(sizes) <= 1
    assert share("a stranger among them", members, partitions) == set()


@given(MEMBERS, st.integers(1, 64), st.randoms())
def test_shares_do_not_depend_on_who_is_asked(members: list[str], partitions: int, rng: object) -> None:
    """All members see the same list, in whatever order."""
    shuffled = list(members)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    for member in members:
        assert share(member, members, partitions) == share(member, shuffled, partitions)


def leases(log: Log, member: str, ttl: float = 30.0) -> Leases:
    return Leases(log.redis, log.keys, "test", member, ttl)


async def test_one_owner_at_a_time(any_log: Log) -> None:
    """A held lease is nobody else's until it is given back; its own member may take it again."""
    a, b = leases(any_log, "a"), leases(any_log, "b")
    first = await a.acquire(0)
    assert first is not None
    assert first.valid()
    assert await b.acquire(0) is None
    again = await a.acquire(0)
    assert again is not None
    assert again.token == first.token + 1
    await a.release(again)
    assert not again.valid()
    second = await b.acquire(0)
    assert second is not None
    assert second.token == again.token + 1


async def test_tokens_grow_over_every_owner(any_log: Log) -> None:
    """And each group has its own."""
    tokens = []
    for round_ in range(6):
        one = leases(any_log, f"member {round_ % 2}")
        lease = await one.acquire(2)
        assert lease is not None
        tokens.append(lease.token)
        await one.release(lease)
    assert tokens == [1, 2, 3, 4, 5, 6]
    other = await Leases(any_log.redis, any_log.keys, "another", "a", 30).acquire(2)
    assert other is not None
    assert other.token == 1


async def test_token_grows_even_when_redis_forgot_it(any_log: Log, every_redis: RedisServer) -> None:
    """Redis lost its data; whoever remembers a token goes on above it."""
    a = leases(any_log, "a")
    for _ in range(5):
        lease = await a.acquire(0)
    assert lease is not None
    every_redis.flush()
    assert await a.renew([lease]) == [lease]
    again = await a.acquire(0)
    assert again is not None
    assert again.token == lease.token + 1


async def test_renewal_keeps_and_loss_is_noticed(any_log: Log) -> None:
    """A renewed lease lives on; one that was taken away is lost."""
    a = leases(any_log, "a", ttl=1.0)
    kept, taken = await a.acquire(0), await a.acquire(1)
    assert kept is not None
    assert taken is not None
    await any_log.redis.delete(any_log.keys.lease(1, "test"))
    assert await leases(any_log, "b").acquire(1) is not None
    before = kept.until
    assert await a.renew([kept, taken]) == [taken]
    assert kept.until > before
    assert kept.valid()
    assert not taken.valid()


async def test_silent_owner_loses_its_lease(any_log: Log) -> None:
    """Its lease runs out for itself before it does in Redis; then another takes over."""
    a, b = leases(any_log, "a", ttl=0.4), leases(any_log, "b", ttl=0.4)
    lease = await a.acquire(0)
    assert lease is not None
    assert await b.acquire(0) is None
    await eventually(lambda: not lease.valid())
    taken = await eventually(lambda: b.acquire(0))
    assert taken.token > lease.token


async def test_lease_that_ran_out_comes_back_where_nobody_had_it(any_log: Log) -> None:
    """Where Redis still holds it, as it is; where it ran out there too, under the next token."""
    a = leases(any_log, "a", ttl=30)
    lease = await a.acquire(0)
    assert lease is not None
    before = lease.value
    lease.until = time.monotonic() - 1
    assert await a.renew([lease]) == []
    assert lease.valid()
    assert lease.value == before
    await any_log.redis.delete(any_log.keys.lease(0, "test"))
    assert await a.renew([lease]) == []
    assert lease.valid()
    assert lease.token == 2
    assert await leases(any_log, "b").acquire(0) is None


async def test_lease_that_someone_else_had_meanwhile_is_lost(any_log: Log) -> None:
    """Also where they gave it back: what they did is not known here."""
    a, b = leases(any_log, "a", ttl=30), leases(any_log, "b", ttl=30)
    lease = await a.acquire(0)
    assert lease is not None
    await any_log.redis.delete(any_log.keys.lease(0, "test"))
    theirs = await b.acquire(0)
    assert theirs is not None
    await b.release(theirs)
    assert await a.renew([lease]) == [lease]
    assert not lease.valid()


async def test_renewing_or_releasing_what_is_anothers_does_nothing(any_log: Log) -> None:
    a, b = leases(any_log, "a"), leases(any_log, "b")
    old = await a.acquire(0)
    assert old is not None
    await any_log.redis.delete(any_log.keys.lease(0, "test"))
    held = await b.acquire(0)
    assert held is not None
    await a.release(Lease(0, old.value, time.monotonic() + 10))
    assert await a.renew([old]) == [old]
    assert await b.renew([held]) == []


async def test_members_come_and_go(any_log: Log) -> None:
    """Alive are those that beat within three times the lease's time; whoever leaves is gone at once."""
    a, b = leases(any_log, "a", ttl=30), leases(any_log, "b", ttl=30)
    assert await a.beat() == ["a"]
    assert await b.beat() == ["a", "b"]
    await a.leave()
    assert await b.beat() == ["b"]
    short = leases(any_log, "c", ttl=0.1)
    assert "c" in await short.beat()
    quick = leases(any_log, "d", ttl=0.1)
    await asyncio.sleep(0)
    assert await eventually(lambda: _without(quick, "c"))


async def _without(some: Leases, member: str) -> bool:
    return member not in await some.beat()


async def test_unreachable_redis_is_said(settings: Settings, own_redis: RedisServer) -> None:
    async with open_log(settings, own_redis.url) as log:
        a = leases(log, "a")
        lease = await a.acquire(0)
        assert lease is not None
        own_redis.stop()
        for work in (a.beat(), a.acquire(1), a.renew([lease]), a.leave()):
            with pytest.raises(LogUnavailableError):
                await work

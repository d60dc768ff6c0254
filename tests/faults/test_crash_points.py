"""kill -9 at every step of append, fetch, handle, retry, acknowledge: the next worker makes good.

The steps are found in the source (`reach("…")`), so a new one is driven without being named here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.log import Log, open_log
from streams.retries import Parked, Retries
from streams.settings import Settings
from tests.servers import RedisServer
from tests.streams.driving import ROOT, Effects, WorkerProcess, check_log, eventually, of_type, pending

SUBJECTS, EACH = 4, 6
FAILS, POISONS = 2, 4
"""The numbers that fail once and that are parked (until someone repaired what was wrong)."""

ELSEWHERE = ("gate.",)
"""Steps that no worker of the bare core takes; tests/e2e/test_crash_points.py kills at each of them."""


def crash_points() -> list[str]:
    """Every crash point of streams/."""
    found = set()
    for file in (ROOT / "streams").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                [argument] = node.args
                assert isinstance(argument, ast.Constant), f"{file}:{node.lineno}: a crash point has a fixed name"
                found.add(argument.value)
    return sorted(name for name in found if not name.startswith(ELSEWHERE))


def test_the_steps_are_found() -> None:
    """Should they move, this test does not run empty."""
    assert {"append.before", "append.after", "fetch.after", "handle.before_ack", "ack.after"} <= set(crash_points())


@pytest.mark.parametrize(("host", "times"), [("core", 1), ("faust", 2)])
@pytest.mark.parametrize("name", crash_points())
async def test_killed_there_nothing_is_lost_or_doubled(
    make_settings: Callable[..., Settings], redis_server: RedisServer, tmp_path: Path, name: str, host: str, times: int
) -> None:
    """The first time a worker gets there, or the second: then the next handles everything, once, in order."""
    effects = Effects(tmp_path)
    options: dict[str, object] = {
        "produce": EACH,
        "subjects": SUBJECTS,
        "ttl": 0.5,
        "fail_on": FAILS,
        "poison_on": POISONS,
    }
    options["host"] = host
    async with open_log(make_settings(partitions=4), redis_server.url) as log:
        with WorkerProcess(redis_server.url, tmp_path, member="first", crash_at=f"{name}:{times}", **options) as first:
            assert await first.died() == -9, f"{name} was not reached: {first.told()}"
        with WorkerProcess(redis_server.url, tmp_path, member="second", **options) as second:
            await eventually(lambda: _settled(log, effects))
            (tmp_path / "repaired").touch()
            retries = Retries(log.redis, log.keys, "test")
            for one in await _parked(log):
                assert one.reason == "it will never work"
                await retries.replay(one)
            await eventually(lambda: _complete(log, effects), timeout=90)
            second.stop()
        await check_outcome(log, effects)


async def _parked(log: Log) -> list[Parked]:
    retries = Retries(log.redis, log.keys, "test")
    return [one for partition in range(log.partitions) for one in await retries.parked(partition)]


async def _settled(log: Log, effects: Effects) -> bool:
    """Whether each subject is where the parked event stops it."""
    done = sum(len(vers) for vers in effects.done().values())
    return done == SUBJECTS * (POISONS - 1) and len(await _parked(log)) == SUBJECTS and not await pending(log)


async def _complete(log: Log, effects: Effects) -> bool:
    return sum(len(vers) for vers in effects.done().values()) == SUBJECTS * EACH and not await pending(log)


async def check_outcome(log: Log, effects: Effects) -> None:
    """The log dense, every event in it once, its effect once and in order, its answer once."""
    histories = await check_log(log)
    assert len(histories) == SUBJECTS
    for subject, events in histories.items():
        inputs = of_type(events, "VideoNumbered")
        assert [int(event.event.video) for event in inputs] == list(range(1, EACH + 1))
        assert effects.done()[subject] == [event.ver for event in inputs]
        assert [event.event.epoch for event in of_type(events, "EpochRaised")] == list(range(1, EACH + 1))
        assert [event.event.attempt for event in of_type(events, "AttemptFailed")] == [1]
        [parked] = of_type(events, "EntryParked")
        assert parked.event.parking == 1
        assert not await log.redis.exists(log.keys.behind(parked.partition, "test", subject))
    for partition in range(log.partitions):
        assert await log.redis.zcard(log.keys.delayed(partition, "test")) == 0
        assert await log.redis.hlen(log.keys.parked(partition, "test")) == 0
        left = await log.redis.hgetall(log.keys.attempts(partition, "test"))
        assert left == {}, "the count of something that is over"

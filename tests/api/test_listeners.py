"""One client's queue: the state first, each change once, progress only the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import WSCloseCode

from api.listeners import PONG, Listener, Told

ENHANCEMENT = "video-enhancement"


def told(ver: int, video: str = "a", task: str = ENHANCEMENT) -> Told:
    """A status that says its place."""
    return Told((video, task), ver, f"{video} {ver}".encode())


async def said(listener: Listener) -> list[str]:
    """All that waits."""
    found: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                found.append((await listener.next()).decode())
        except TimeoutError:
            return found


@pytest.fixture
def listener() -> Callable[[], Listener]:
    """A new one; needs a running loop."""
    return lambda: Listener("me", everyone=False)


async def test_changes_wait_for_the_state(listener: Callable[[], Listener]) -> None:
    """What the state tells already is not told again; progress before it means nothing."""
    one = listener()
    one.progress(("a", ENHANCEMENT), b"1 %")
    for ver in (3, 4, 5):
        one.status(told(ver))
    one.status(told(1, "b"))
    assert await said(one) == []
    one.state([told(4)], settled=True)
    assert await said(one) == ["a 4", "a 5", "b 1"]


async def test_a_state_that_is_ahead_of_the_changes(listener: Callable[[], Listener]) -> None:
    """The catalogue was faster than the hub: what comes behind it is passed over, what is newer is not."""
    one = listener()
    one.state([told(5)], settled=True)
    for ver in (4, 5, 6, 7):
        one.status(told(ver))
    assert await said(one) == ["a 5", "a 6", "a 7"]
    assert one._known == {}


async def test_the_state_may_be_told_in_pieces(listener: Callable[[], Listener]) -> None:
    """At first what is known, then the rest: each once."""
    one = listener()
    one.state([told(2)], settled=False)
    one.status(told(3))
    one.status(told(1, "b"))
    one.state([told(3), told(2, "b"), told(1, "c")], settled=True)
    one.status(told(2, "b"))
    one.status(told(3, "b"))
    assert await said(one) == ["a 2", "a 3", "b 1", "b 2", "c 1", "b 3"]


async def test_progress_makes_way(listener: Callable[[], Listener]) -> None:
    """Only the newest of each piece of work waits, behind all statuses, and none that a status outran."""
    one = listener()
    one.state([], settled=True)
    for percent in (1, 2, 3):
        one.progress(("a", ENHANCEMENT), f"{percent} %".encode())
        one.progress(("b", ENHANCEMENT), f"b {percent} %".encode())
    one.status(told(1))
    one.pong()
    assert await said(one) == ["a 1", PONG.decode(), "b 3 %"]
    for n in range(1500):
        one.progress((str(n), ENHANCEMENT), str(n).encode())
    assert len(await said(one)) == 1000


@pytest.mark.parametrize("settled", [True, False, None])
async def test_too_much_waits(
    listener: Callable[[], Listener], settled: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the state, after the first of it, and after all of it: the connection ends, nothing is dropped."""
    monkeypatch.setattr("api.listeners.MAX_WAITING", 100)
    one = listener()
    if settled is not None:
        one.state([], settled=settled)
    for n in range(100):
        one.status(told(n + 1))
    assert not one.over.done()
    one.status(told(101))
    assert one.over.result() is WSCloseCode.TRY_AGAIN_LATER
    for n in range(1000):
        one.status(told(n + 102))
    assert await said(one) == []

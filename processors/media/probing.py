"""Probes videos in child processes, so that no file can crash, stall or starve the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from processors.children.answers import understood
from processors.children.limits import Limits
from processors.children.pool import IDLE, Pool
from processors.media.child import PROGRAM
from processors.ports import MediaFailure, Probed, ProbeFailure
from streams.paths import OsPath, escape_path

CHILDREN = 2
"""Probes that go on at once."""

JOBS = 200
"""Files that one child looks at before another takes its place."""

LIMITS = Limits(memory=2 * 2**30, nice=5)


class ChildProber:
    """The Prober that asks PyAV. Open it with `open_prober`."""

    def __init__(self, pool: Pool, *, timeout: float, gps: bool) -> None:
        self._pool, self._timeout, self._gps = pool, timeout, gps

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """Look at a file; see `ports.Prober`. Takes the timeout at most, once it is its turn."""
        question = {"do": "probe", "path": escape_path(path), "gps": self._gps, "cpu": self._timeout}
        answer = await self._pool.answer(question, seconds=self._timeout)
        found = understood(answer, _WORDS)
        if isinstance(found, Probed):
            return found
        if found is None:
            return ProbeFailure("crashed", "looking at it gave an answer that makes no sense")
        match found.kind:
            case "gone" | "unreadable" | "no_video" | "timeout" | "unavailable":
                return ProbeFailure(found.kind, found.reason)
            case "memory":
                return ProbeFailure("unreadable", found.reason)
            case _:
                return ProbeFailure("crashed", found.reason)


_WORDS: Mapping[str, type[Probed | MediaFailure]] = {"probed": Probed, "failure": MediaFailure}


@asynccontextmanager
async def open_prober(
    *,
    timeout: float,
    gps: bool = False,
    children: int = CHILDREN,
    jobs: int = JOBS,
    idle: float = IDLE,
    program: str = PROGRAM,
) -> AsyncIterator[ChildProber]:
    """A prober that gives each file `timeout` seconds; its children end with the body.

    `gps`: tell where a video was recorded, where it says so. `program`: what the children run.
    """
    pool = Pool(LIMITS, children=children, jobs=jobs, idle=idle, program=program)
    try:
        yield ChildProber(pool, timeout=timeout, gps=gps)
    finally:
        await pool.close()

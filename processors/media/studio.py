"""The Studio in child processes: some that make renditions, one that makes posters, and two that finish downloads."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from processors.children.answers import understood
from processors.children.limits import Limits
from processors.children.pool import Pool
from processors.media.child import PROGRAM
from processors.ports import (
    Advanced,
    EnhanceJob,
    FinishedFile,
    FinishJob,
    Made,
    MediaFailure,
    Planned,
    PreviewJob,
    Previews,
)
from processors.storage.disk import Marks, space
from streams.paths import OsPath, escape_path
from streams.settings import Settings

RENDITIONS = 20
"""Renditions that one child makes before another takes its place."""

PREVIEWS = 100
"""Videos that one child makes previews of, likewise."""

PREVIEW_TIMEOUT = 300.0
"""Seconds that the poster and the sheet of one video may take. After half of them it makes do with what it has."""

PREVIEW_SIZE = 32 * 2**20
"""Bytes of the largest file among them: it is mostly a hundredth of that."""

FINISHING = 2
"""Downloads that are finished side by side: it is the disk's work."""

FINISHED = 200
"""Downloads that one child finishes, likewise."""

STILL_TIMEOUT = 60.0
"""Seconds that one picture may take."""

NONSENSE = MediaFailure("crashed", "working on it gave an answer that makes no sense")


class ChildStudio:
    """The Studio that asks PyAV. Open it with `open_studio`."""

    def __init__(self, settings: Settings, renditions: Pool, previews: Pool, finishing: Pool) -> None:
        self._settings, self._renditions, self._previews = settings, renditions, previews
        self._finishing = finishing

    async def enhance(self, job: EnhanceJob) -> AsyncGenerator[Planned | Advanced | Made | MediaFailure, None]:
        """Make a rendition; see `ports.Studio`."""
        seconds = self._settings.media_timeout
        fields = {**asdict(job), "path": escape_path(job.path), "target": escape_path(job.target)}
        question = {
            "do": "enhance",
            "job": fields,
            "reserve": self._reserve(job.target),
            "cpu": seconds * len(os.sched_getaffinity(0)),
        }
        said: Planned | Advanced | Made | MediaFailure | None
        async with aclosing(
            self._renditions.ask(question, seconds=seconds, stall=self._settings.media_stall)
        ) as messages:
            async for message in messages:
                if "told" in message:
                    said = understood(message["told"], _TOLD)
                    if said is None:
                        break
                    yield said
                else:
                    said = understood(message["answer"], _MADE)
        yield said if isinstance(said, (Made, MediaFailure)) else NONSENSE

    def _reserve(self, target: str) -> int:
        """Bytes that stay free on the target's disk, as for everything that is taken in."""
        return Marks.of(self._settings).on(space(Path(target).parent).total)[1]

    async def finish(self, job: FinishJob) -> AsyncGenerator[Advanced | FinishedFile | MediaFailure, None]:
        """Make one file of what came down; see `ports.Studio`."""
        seconds = self._settings.media_timeout
        fields = {
            **asdict(job),
            "media": [escape_path(path) for path in job.media],
            "target": escape_path(job.target),
            "tags": dict(job.tags),
        }
        question = {"do": "finish", "job": fields, "reserve": self._reserve(job.target), "cpu": seconds}
        said: Advanced | FinishedFile | MediaFailure | None
        async with aclosing(
            self._finishing.ask(question, seconds=seconds, stall=self._settings.media_stall)
        ) as messages:
            async for message in messages:
                if "told" in message:
                    said = understood(message["told"], {"advanced": Advanced})
                    if said is None:
                        break
                    yield said
                else:
                    said = understood(message["answer"], _FINISHED)
        yield said if isinstance(said, (FinishedFile, MediaFailure)) else NONSENSE

    async def still(self, path: OsPath, target: OsPath) -> MediaFailure | None:
        """Make a JPEG; see `ports.Studio`."""
        seconds = min(STILL_TIMEOUT, self._settings.media_timeout)
        question = {
            "do": "still",
            "path": escape_path(path),
            "target": escape_path(target),
            "threads": self._settings.media_threads,
            "seconds": seconds / 2,
            "reserve": self._reserve(target),
            "cpu": seconds * len(os.sched_getaffinity(0)),
        }
        answer = await self._finishing.answer(question, seconds=seconds)
        if "still" in answer:
            return None
        return understood(answer, {"failure": MediaFailure}) or NONSENSE

    async def preview(self, job: PreviewJob) -> Previews | MediaFailure:
        """Make the poster and the sheet; see `ports.Studio`."""
        seconds = min(PREVIEW_TIMEOUT, self._settings.media_timeout)
        question = {
            "do": "preview",
            "path": escape_path(job.path),
            "folder": escape_path(job.folder),
            "sprite_name": job.sprite_name,
            "threads": self._settings.media_threads,
            "seconds": seconds / 2,
            "cpu": seconds * len(os.sched_getaffinity(0)),
        }
        answer = await self._previews.answer(question, seconds=seconds)
        return understood(answer, _PREVIEWS) or NONSENSE


_TOLD: Mapping[str, type[Planned | Advanced]] = {"planned": Planned, "advanced": Advanced}
_MADE: Mapping[str, type[Made | MediaFailure]] = {"made": Made, "failure": MediaFailure}
_FINISHED: Mapping[str, type[FinishedFile | MediaFailure]] = {"finished": FinishedFile, "failure": MediaFailure}
_PREVIEWS: Mapping[str, type[Previews | MediaFailure]] = {"previews": Previews, "failure": MediaFailure}


@asynccontextmanager
async def open_studio(settings: Settings, *, program: str = PROGRAM) -> AsyncIterator[ChildStudio]:
    """The Studio that the settings ask for; its children end with the body. `program`: what they run."""
    memory, nice = settings.media_memory, settings.media_nice
    # What a rendition may take of the disk is told with each job.
    renditions = Pool(
        Limits(memory, nice, file_size=None),
        children=settings.enhance_concurrency,
        jobs=RENDITIONS,
        program=program,
    )
    previews = Pool(Limits(memory, nice, file_size=PREVIEW_SIZE), children=1, jobs=PREVIEWS, program=program)
    finishing = Pool(Limits(memory, nice, file_size=None), children=FINISHING, jobs=FINISHED, program=program)
    try:
        yield ChildStudio(settings, renditions, previews, finishing)
    finally:
        await renditions.close()
        await previews.close()
        await finishing.close()

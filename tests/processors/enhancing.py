"""What the tests of renditions share: a studio that does as it is told, a worker at work, and what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.enhance import enhance
from processors.media.probing import open_prober
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
    Prober,
    Studio,
)
from processors.previews import previews
from streams.events import EnhancementRequested
from streams.hosting import Host, hosted
from streams.log import Log
from streams.paths import OsPath
from streams.processing import Processor
from streams.progress import Publisher
from streams.queries import Histories
from streams.settings import Settings
from tests.processors.replicating import tell
from tests.streams.driving import eventually

PLANNED = Planned("encode", "mpeg4 in avi does not play in browsers", "libx264", 160, 120, 10, 1.0)


def made(**changes: Any) -> Made:
    """What a studio says of a rendition that is there."""
    facts: dict[str, Any] = {
        "action": "encode",
        "reason": PLANNED.reason,
        "encoder": "libx264",
        "container": "mp4",
        "mime": "video/mp4",
        "duration": 1.0,
        "width": 160,
        "height": 120,
        "video_codec": "h264",
        "audio_codec": None,
        "codecs": "avc1.42c00a",
        "bit_rate": 1000,
        "frames": 10,
        "damage": None,
        "warnings": (),
        "parameters": {"crf": 21},
        "tools": {"av": "18"},
        "seconds": 0.1,
        "cpu_seconds": 0.1,
        "peak_memory": 1,
    }
    return Made(**{**facts, **changes})


@dataclass(slots=True)
class StudioDouble:
    """Keeps the protocol of a Studio; each job ends as the next of `ends` says, the last one for ever."""

    ends: Sequence[Made | MediaFailure] = field(default_factory=lambda: [made()])
    content: bytes = b"a rendition"
    hold: asyncio.Event | None = None
    """Where it is set, a job waits for it in the middle."""
    jobs: list[EnhanceJob] = field(default_factory=list)
    closed: int = 0
    previews: Previews | MediaFailure = field(default_factory=lambda: Previews(0.5, 160, 90, 4))
    preview_jobs: list[PreviewJob] = field(default_factory=list)
    finishes: FinishedFile | MediaFailure = field(default_factory=lambda: FinishedFile("mp4", "video/mp4", 1.0, ()))
    finish_jobs: list[FinishJob] = field(default_factory=list)
    stills: MediaFailure | None = None

    async def enhance(self, job: EnhanceJob) -> AsyncGenerator[Planned | Advanced | Made | MediaFailure]:
        """Write `content` into the job's target."""
        end = self.ends[min(len(self.jobs), len(self.ends) - 1)]
        self.jobs.append(job)
        try:
            yield PLANNED
            yield Advanced(5, 10, 50.0)
            if self.hold is not None:
                await self.hold.wait()
            if isinstance(end, Made):
                Path(job.target).write_bytes(self.content + job.media_name.encode())
                if job.kind == "hls":
                    Path(f"{job.target}.m3u8").write_text(f"#EXTM3U\n{job.media_name}\n")
            yield end
        finally:
            self.closed += 1

    async def preview(self, job: PreviewJob) -> Previews | MediaFailure:
        """Write four files that are no pictures."""
        self.preview_jobs.append(job)
        if isinstance(self.previews, Previews):
            for name in ("poster.jpg", "poster.webp", "sprite.jpg", "thumbnails.vtt"):
                Path(job.folder, name).write_bytes(name.encode())
        return self.previews

    async def finish(self, job: FinishJob) -> AsyncGenerator[Advanced | FinishedFile | MediaFailure]:
        """Write everything one after the other."""
        self.finish_jobs.append(job)
        yield Advanced(1, None, 50.0)
        if isinstance(self.finishes, FinishedFile):
            Path(job.target).write_bytes(b"".join(Path(path).read_bytes() for path in job.media))
        yield self.finishes

    async def still(self, path: OsPath, target: OsPath) -> MediaFailure | None:
        """Write what is no picture."""
        if self.stills is None:
            Path(target).write_bytes(b"a picture of " + Path(path).name.encode())
        return self.stills


@asynccontextmanager
async def at_work(
    log: Log, settings: Settings, studio: Studio, processor: Processor = enhance, member: str = "worker-1"
) -> AsyncIterator[Host]:
    """A worker with this processor, in this process."""
    async with open_prober(timeout=30, children=1) as prober:
        services: dict[type[Any], Any] = {
            Histories: log,
            Studio: studio,
            Prober: prober,
            Publisher: Publisher(log.redis, log.keys),
        }
        async with hosted(processor, log, services, settings, member) as host:
            yield host


def taking_pictures(log: Log, settings: Settings, studio: Studio) -> Any:
    """A worker that makes previews."""
    return at_work(log, settings, studio, previews)


async def ask_for(log: Log, video: str, preset: str = "web", *, hls: bool = False, revision: int = 1) -> None:
    """Someone asks for a rendition."""
    before = [one for one in await log.history(video) if one.type == "EnhancementRequested"]
    await tell(
        log, video, EnhancementRequested(revision=revision, request=len(before) + 1, preset=preset, hls=hls, reason="")
    )


async def ended(log: Log, video: str, times: int = 1) -> Any:
    """Wait until so many requests came to an end; the last event of it."""

    async def look() -> Any:
        ends = [one for one in await log.history(video) if one.type in {"EnhancementCompleted", "EnhancementFailed"}]
        return ends[times - 1].event if len(ends) >= times else None

    return await eventually(look)


async def of_type(log: Log, video: str, name: str) -> list[Any]:
    """A video's events of one type, in order."""
    return [one.event for one in await log.history(video) if one.type == name]

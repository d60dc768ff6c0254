"""What is written down of a file that grows: the subject `growth:<video>`.

The subject's version is the fence. A worker that lost the watched root and does not know it yet
finds another version than it expects, and sends nothing more. And since each request is written
down before it is made, the next owner knows what may still arrive of the former one's.
"""

from __future__ import annotations

from datetime import UTC, datetime

from processors.copies import Growth, apply_growth, fold_growth, next_take
from processors.watching.comparing import Found
from processors.watching.patience import patiently
from streams.errors import ConflictError
from streams.events import ChunkDispatched, ChunkUploaded, Event, GrowthAbandoned, GrowthEnded, GrowthStarted
from streams.identity import growth_subject, stream_id
from streams.log import Log, new_event
from streams.paths import OsPath

SOURCE = "growing"


class Journal:
    """What was sent of one video's file before it settled. Open it with `open_journal`.

    Waits for the log as long as it takes. Everything that appends raises ConflictError where
    someone else wrote first: whoever gets it has to begin anew, with what stands there then.
    """

    def __init__(self, log: Log, video: str, growths: list[Growth], ver: int) -> None:
        self._log, self.video, self.growths, self._ver = log, video, growths, ver
        self._subject = growth_subject(video)

    def current(self, revision: int) -> Growth | None:
        """The stream that is being sent of a revision, where there is one."""
        return next((one for one in self.of(revision) if not one.abandoned), None)

    def of(self, revision: int) -> list[Growth]:
        """The streams of a revision, newest first."""
        return [one for one in reversed(self.growths) if one.started.revision == revision]

    async def start(
        self, root: OsPath, relative: str, revision: int, found: Found, *, store: str, chunk_size: int
    ) -> Growth:
        """Begin a stream."""
        take = next_take(self.growths, revision)
        await self._append(
            GrowthStarted(
                video=self.video,
                root=root,
                relative=OsPath(relative),
                revision=revision,
                take=take,
                stream_id=stream_id(self.video, revision, take),
                store=store,
                chunk_size=chunk_size,
                device=found.device,
                inode=found.inode,
            )
        )
        return self.growths[-1]

    async def dispatch(self, growth: Growth, index: int, sha256: str) -> None:
        """A chunk is about to be sent."""
        id = growth.started.stream_id
        again = any((one.index, one.sha256) == (index, sha256) for one in growth.requests)
        await self._append(ChunkDispatched(stream_id=id, index=index, sha256=sha256, again=again))

    async def uploaded(self, growth: Growth, index: int, size: int, sha256: str, etag: str) -> None:
        """The store has a chunk, and said so."""
        started = growth.started
        await self._append(
            ChunkUploaded(
                revision=started.revision,
                stream_id=started.stream_id,
                index=index,
                offset=index * started.chunk_size,
                size=size,
                sha256=sha256,
                etag=etag,
            )
        )

    async def end(self, growth: Growth, size: int) -> None:
        """The file is complete: whoever completes its copy may go on from what is there."""
        await self._append(GrowthEnded(stream_id=growth.started.stream_id, size=size, ending=self._ver))

    async def abandon(self, growth: Growth, reason: str) -> None:
        """Nothing will come of a stream."""
        await self._append(GrowthAbandoned(stream_id=growth.started.stream_id, reason=reason))

    async def _append(self, event: Event) -> None:
        new = new_event(
            self._subject,
            event,
            source=SOURCE,
            expected=self._ver,
            checkpoint=event.checkpoint(datetime.now(UTC)),
        )
        placed = await patiently(lambda: self._log.append(new))
        if placed.ver <= self._ver:
            # It stood there long ago, so that its version was not looked at: this one is the fence all the same.
            actual = await patiently(lambda: self._log.version(self._subject))
            if actual != self._ver:
                raise ConflictError(self._subject, self._ver, actual)
            return
        self._ver = placed.ver
        apply_growth(self.growths, event)


async def open_journal(log: Log, video: str) -> Journal:
    """What the log says, as soon as it says something."""
    history = await patiently(lambda: log.history(growth_subject(video)))
    return Journal(log, video, fold_growth(history), history[-1].ver if history else 0)

"""Tells WebSockets how work on videos goes: one hub for each process, however many listen.

It begins with the first client: where the catalogue's table `media` has got to, the hub reads on, and
remembers how whatever it comes by stands. A new client gets that on top of what the table says: together
it is all that the hub has gone by, and what the hub comes by later is a change. Nothing is followed while
no one listens. What it tells of downloads is `api.live_downloads`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog
from aiohttp import WSCloseCode, web

from api.listeners import Listener, Told
from api.live_downloads import PREFIX, LiveDownloads, News, is_of_download
from api.percentages import Percentages, Shown
from api.services import Catalogue
from projections.media_queries import media_in
from streams.background import running, stop_if_cancelled
from streams.codec import Recorded, recorded
from streams.entries import Entry
from streams.errors import DependencyDownError, LogUnavailableError, RejectedError, UndecodableError
from streams.log import Log
from streams.media import MediaOf, Task, TaskState
from streams.media_changes import RELEVANT, begins, changes, name_in, revision_of
from streams.progress import Progress, follow

_log = structlog.get_logger(__name__)

MAX_LISTENERS = 5000
"""WebSockets of one process."""

MAX_FILES = 200
"""Videos whose state a new client is told."""

MAX_KNOWN = 20_000
"""Videos that moved since the hub began to follow and are remembered."""

MAX_GAP = 20_000
"""Entries that the catalogue may be behind for them to be read again; else the hub waits until it has caught up."""

COUNT = 1000
"""Entries of a partition that are read at a time."""

RETRY = 0.5
"""Seconds until the next try where the log cannot be asked."""

PAUSE = 5.0
"""Seconds until the next try after something that should not have happened."""

LOOK = (0.25, 5.0)
"""Seconds between two looks at a catalogue that is behind or down: at first, and at the most."""

_NAMES = frozenset(kind.__name__.encode() for kind in RELEVANT)


@dataclass(slots=True)
class _Known:
    """How the work on a video stands, as far as the hub has followed."""

    video: str
    client_id: str | None
    revision: int
    filename: str
    tasks: dict[Task, TaskState] = field(default_factory=dict)

    @classmethod
    def of(cls, media: MediaOf) -> _Known:
        tasks = {state.task: state for state in media.tasks.values()}
        return cls(media.video, media.client_id, media.revision, media.filename, tasks)

    def with_newer(self, other: _Known) -> _Known:
        """What is newest of both."""
        if other.revision != self.revision:
            return max(self, other, key=lambda one: one.revision)
        tasks = dict(self.tasks)
        for task, state in other.tasks.items():
            if task not in tasks or tasks[task].ver < state.ver:
                tasks[task] = state
        return _Known(self.video, self.client_id, self.revision, other.filename, tasks)

    def moved(self) -> float:
        """When it last changed."""
        return max((state.at.timestamp() for state in self.tasks.values()), default=0.0)


class Live:
    """The hub. Made once for an application; `running` around its life."""

    def __init__(self, log: Log, catalogue: Catalogue, percentages: Percentages, *, previews: bool) -> None:
        self._log, self._catalogue, self._percentages, self._previews = log, catalogue, percentages, previews
        self._downloads = LiveDownloads(log, catalogue, percentages)
        self._listeners: set[Listener] = set()
        self._of: dict[str, set[Listener]] = {}
        self._everyone: set[Listener] = set()
        self._wanted, self._following = asyncio.Event(), asyncio.Event()
        self._positions: list[int] | None = None
        # What the catalogue must have caught up with before it and what is known are the whole truth.
        self._floor: list[int] | None = None
        self._breaks = 0
        # None: it is known to be no video that people follow.
        self._known: OrderedDict[str, _Known | None] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow beside the body: progress always, the log while anyone listens."""
        async with running(self._hear(), self._watch()):
            yield

    @contextmanager
    def listening(self, client_id: str, *, everyone: bool) -> Iterator[Listener]:
        """A client's queue while the body runs. Raises RejectedError (503) where there are too many."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise RejectedError(503, f"{MAX_LISTENERS} WebSockets are open here already. Try again later.")
        listener = Listener(client_id, everyone=everyone)
        group = self._everyone if everyone else self._of.setdefault(client_id, set())
        self._listeners.add(listener)
        group.add(listener)
        self._wanted.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            group.discard(listener)
            if not everyone and not group and self._of.get(client_id) is group:
                del self._of[client_id]

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def tell_state(self, listener: Listener) -> None:
        """Tell a new client how its videos stand: at once what is known, and the rest once it can be known."""
        pause, most = LOOK
        # What the hub goes by before it follows is told by no message of its own: the state has to have it.
        await self._followed(pause)
        while True:
            followed = self._following.is_set()
            states, whole = await self._state(listener)
            listener.state(states, settled=whole and followed)
            if whole and followed:
                return
            await asyncio.sleep(pause) if followed else await self._followed(pause)
            pause = min(most, 2 * pause)

    async def _followed(self, timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._following.wait()

    # ---------------------------------------------------------------- how things stand

    async def _state(self, listener: Listener) -> tuple[list[Told], bool]:
        """The state of a client's downloads and videos, what moved last at the end; and whether nothing can be missing."""
        files: dict[str, _Known] = {}
        downloads, whole = self._downloads.known(listener), True
        try:
            whole = await self._caught_up()
            downloads = await self._downloads.states(listener)
            of_client = await self._catalogue.media_of_client(listener.client_id, MAX_FILES, everyone=listener.everyone)
            files = {media.video: _Known.of(media) for media in of_client}
        except DependencyDownError:
            whole = False
        for known in self._known.values():
            if known is not None and (listener.everyone or known.client_id == listener.client_id):
                former = files.get(known.video)
                files[known.video] = known if former is None else former.with_newer(known)
        newest = sorted(files.values(), key=_Known.moved)[-MAX_FILES:]
        states = [self._told(one, state) for one in newest for state in _in_order(one.tasks.values())]
        return [*(one.told for one in downloads), *states], whole

    async def _caught_up(self) -> bool:
        if (floor := self._floor) is None:
            return True
        places = await self._places()
        if places is None or any(place < pos for place, pos in zip(places, floor, strict=True)):
            return False
        if self._floor is floor:
            self._floor = None
        return True

    async def _places(self) -> list[int] | None:
        """Up to where both tables follow the log; None: one of them was not made yet. Raises DependencyDownError."""
        media, downloads = await self._catalogue.media_positions(), await self._catalogue.download_positions()
        return (
            None if media is None or downloads is None else [min(both) for both in zip(media, downloads, strict=True)]
        )

    # ---------------------------------------------------------------- the log

    async def _watch(self) -> None:
        """Follow the log while anyone listens, for ever."""
        while True:
            stop_if_cancelled()
            if not self._listeners:
                self._forget()
                self._wanted.clear()
                await self._wanted.wait()
            try:
                if self._positions is None:
                    self._positions = await self._begin()
                    self._following.set()
                await self._follow(self._positions)
            except LogUnavailableError:
                await asyncio.sleep(RETRY)
            except Exception:  # noqa: BLE001 - uploads must not suffer from what only tells of them
                _log.exception("WebSockets cannot be told: they are closed")
                self._begin_anew(WSCloseCode.INTERNAL_ERROR)
                await asyncio.sleep(PAUSE)

    def _forget(self) -> None:
        self._positions = self._floor = None
        self._following.clear()
        self._known.clear()
        self._downloads.forget()

    async def _begin(self) -> list[int]:
        """Where to follow from: the log's end, and what the catalogue does not have yet is read silently.

        Where that is too much, or is not to be known, the catalogue has to catch up before a state is whole.
        """
        self._breaks = self._log.reader.breaks
        heads = await self._log.heads()
        try:
            places = await self._places() or [0] * len(heads)
        except DependencyDownError:
            places = []
        if len(places) != len(heads) or sum(heads) - sum(places) > MAX_GAP:
            self._floor = heads
            return list(heads)
        positions = [min(place, head) for place, head in zip(places, heads, strict=True)]
        for _ in range(MAX_GAP // COUNT + 1):
            if all(pos >= head for pos, head in zip(positions, heads, strict=True)):
                return positions
            await self._take(positions, heads)
        raise LogUnavailableError("the log changed while it was read")  # then all is looked at anew

    async def _follow(self, positions: list[int]) -> None:
        """Wait for entries, take them, and move on."""
        await self._log.wait_beyond(positions, timeout=1.0)
        if self._log.reader.breaks != self._breaks:
            breaks, heads = self._log.reader.breaks, await self._log.heads()
            if any(head < pos for head, pos in zip(heads, positions, strict=True)):
                _log.warning("log lost its tail: WebSockets are closed", listeners=len(self._listeners))
                self._begin_anew(WSCloseCode.SERVICE_RESTART)
                return
            self._breaks = breaks
        await self._take(positions, [self._log.reader.head(partition) for partition in range(len(positions))])

    async def _take(self, positions: list[int], heads: Sequence[int]) -> None:
        """Take what stands beyond these positions, at most so much of each partition, and move them."""
        for partition, (pos, head) in enumerate(zip(positions, heads, strict=True)):
            if head <= pos:
                continue
            entries = await self._log.read(partition, after=pos, count=COUNT)
            events = [event for entry in entries if (event := _event_in(entry)) is not None]
            await self._learn({event.subject for event in events if event.ver > 1 and ":" not in event.subject})
            await self._downloads.learn(event for event in events if event.subject.startswith(PREFIX))
            # Nothing is awaited from here on: what was told is behind us.
            for event in events:
                if event.subject.startswith(PREFIX):
                    self._tell(self._downloads.apply(event))
                else:
                    self._apply(event)
            if entries:
                positions[partition] = entries[-1].pos
            self._trim()

    def _begin_anew(self, code: WSCloseCode) -> None:
        """What was told may not be so any more. Clients come again, and get the state as it is then."""
        self._forget()
        for listener in list(self._listeners):
            listener.end(code)

    async def _learn(self, videos: Collection[str]) -> None:
        """Ask how those that are not known yet stand: whose they are, and which content they have."""
        missing = [video for video in videos if video not in self._known]
        if not missing:
            return
        found: dict[str, MediaOf] = {}
        if self._floor is None:  # else the catalogue may be behind where we began
            try:
                found = await self._catalogue.media_of(missing)
            except DependencyDownError:
                found = {}
        for video in missing:
            media = found.get(video)
            if media is None:
                try:
                    media = media_in(await self._log.history(video), previews=self._previews)
                except UndecodableError:
                    media = None
            self._known.setdefault(video, None if media is None else _Known.of(media))

    def _apply(self, recorded: Recorded[Any]) -> None:
        """Tell of what an event changes.

        What is known may be ahead of the event, where the catalogue was: it is told all the same, for
        those who were told of nothing newer.
        """
        event, video = recorded.event, recorded.subject
        known = self._known.get(video)
        if begins(event):
            if known is None or event.revision > known.revision:
                client = getattr(event, "client_id", None) or (known.client_id if known else None)
                known = self._known[video] = _Known(video, client, event.revision, "")
            elif event.revision < known.revision:
                return
        elif known is None or revision_of(event) not in {None, known.revision}:
            return
        self._known.move_to_end(video)
        known.filename = name_in(event) or known.filename
        for change in changes(event, previews=self._previews):
            state = TaskState(change.task, change.status, change.message, change.error, recorded.time, recorded.ver)
            former = known.tasks.get(change.task)
            if former is None or former.ver < state.ver:
                known.tasks[change.task] = state
            if self._following.is_set():
                told = self._told(known, state)
                for listener in self._who(known):
                    listener.status(told)

    def _tell(self, news: News | None) -> None:
        """Tell of a download that changed."""
        if news is not None and self._following.is_set():
            for listener in self._who(news):
                listener.status(news.told)

    def _trim(self) -> None:
        self._downloads.trim()
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    # ---------------------------------------------------------------- progress

    async def _hear(self) -> None:
        """Listen to how far work is, for ever."""
        while True:
            stop_if_cancelled()
            try:
                async for progress in follow(self._log.redis, self._log.keys):
                    await self._heard(progress)
            except Exception:  # noqa: BLE001 - uploads must not suffer from what only tells of them
                _log.exception("progress cannot be listened to")
                await asyncio.sleep(PAUSE)

    async def _heard(self, progress: Progress) -> None:
        self._percentages.note(progress)
        if self._positions is not None:
            with suppress(LogUnavailableError):
                if progress.video.startswith(PREFIX):
                    await self._move_download(progress)
                else:
                    await self._learn([progress.video])
                    self._move(progress)

    async def _move_download(self, progress: Progress) -> None:
        if (news := await self._downloads.moved(progress.video)) is not None:
            for listener in list(self._who(news)):
                listener.progress(news.key, news.message)

    def _move(self, progress: Progress) -> None:
        known = self._known.get(progress.video)
        if known is None or not (listeners := list(self._who(known))):
            return
        state = next((state for task, state in known.tasks.items() if task == progress.task), None)
        if state is None:
            return
        shown = self._percentages.shown(progress.video, state)
        if shown.status != "processing":
            return  # word of how far it was, behind word of its end
        message = _message("progress", known, state, shown, datetime.now(UTC))
        for listener in listeners:
            listener.progress((progress.video, progress.task), message)

    # ---------------------------------------------------------------- whom, and what

    def _who(self, known: _Known | News) -> Iterable[Listener]:
        yield from self._everyone
        if known.client_id is not None:
            yield from self._of.get(known.client_id, ())

    def _told(self, known: _Known, state: TaskState) -> Told:
        shown = self._percentages.shown(known.video, state)
        return Told((known.video, state.task), state.ver, _message("status", known, state, shown, state.at))


LIVE = web.AppKey("live", Live)


def _message(kind: Literal["status", "progress"], known: _Known, state: TaskState, shown: Shown, at: datetime) -> bytes:
    return orjson.dumps(
        {
            "type": kind,
            "file_id": known.video,
            "filename": known.filename,
            "task": state.task,
            "status": shown.status,
            "progress": shown.percent,
            "message": shown.message,
            "error": None if shown.status == "processing" else state.error,
            "time": at.astimezone().isoformat(timespec="milliseconds"),
        }
    )


def _in_order(states: Iterable[TaskState]) -> Sequence[TaskState]:
    return sorted(states, key=lambda state: state.ver)


def _event_in(entry: Entry) -> Recorded[Any] | None:
    """What an entry says of work on a video, or of a download; None for all else, which costs nothing."""
    subject = entry.fields.get(b"subject", b":")
    if not is_of_download(subject) and (entry.fields.get(b"type") not in _NAMES or b":" in subject):
        return None
    try:
        return recorded(entry.partition, entry.pos, entry.fields)
    except UndecodableError:
        return None  # put in by hand, or for a newer Spoolhouse to read

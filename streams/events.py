"""Everything that can happen, as small frozen dataclasses. This is the one place to add an event.

Events are permanent: a field is never renamed or removed and never changes its meaning. To change
one, raise the version in its decorator and add a pure upcaster (`@upcaster`) that turns the stored
data of the older version into the newer. `tests/streams/golden/` keeps one stored form of every
version for ever.

Sizes are bytes, times are aware datetimes in UTC unless a field says otherwise, durations are
seconds. Paths are `OsPath`: the codec escapes what is not UTF-8.

`step()` is the part of an event's id that tells it from its sisters: two events of one type that
one cause may write about one subject must differ in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, dataclass_transform

from streams.paths import OsPath

Door = Literal["upload", "watch", "download"]
"""How a video came in."""


class Event:
    """What all events share."""

    __slots__ = ()
    sv: ClassVar[int] = 1

    def step(self) -> str:
        """Tells this event's id from others of its type with the same subject and cause."""
        return type(self).__name__


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

EVENTS: dict[str, type[Event]] = {}
"""Every event type by its name in the log."""

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, version) → the function that turns its stored data into that of version + 1."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(*, sv: int = 1) -> Callable[[type[Event]], Any]:
    """Make a class an event: a frozen dataclass, registered under its own name."""

    def define(cls: type[Event]) -> type[Event]:
        made: type[Event] = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        if made.__name__ in EVENTS:
            raise TypeError(f"there is an event {made.__name__} already")
        made.sv = sv
        EVENTS[made.__name__] = made
        return made

    return define


def upcaster(name: str, sv: int) -> Callable[[Upcaster], Upcaster]:
    """Register a pure function from the stored data of version `sv` to that of `sv + 1`."""

    def register(function: Upcaster) -> Upcaster:
        UPCASTERS[name, sv] = function
        return function

    return register


# ---------------------------------------------------------------- a video's subject: <uuid>


@event()
class VideoStored(Event):
    """The bytes of an upload or a download lie whole and fsynced in a folder of ours."""

    door: Door
    path: OsPath
    """Absolute path of the stored file."""
    stored_name: str
    """Its file name: `20241112_143052_Tutorial_video.mp4`."""
    filename: str
    """The stored name without its timestamp: `Tutorial_video.mp4`."""
    original_name: str
    """What the sender called it, made printable."""
    label: str
    """The sender's `contentType` text, or empty."""
    mime: str
    """The media type that the sender or the bytes claimed, e.g. `video/mp4`."""
    size: int
    sha256: str
    """Hex digest of the whole content, read back from disk."""
    received_at: datetime
    modified_at: datetime
    duration_receiving: float = 0.0
    """From the first byte to the durable file."""
    damaged: str | None = None
    """Why the video looks damaged, where it does; it is kept all the same."""
    adopted: bool = False
    """It lay in the folder before Spoolhouse did."""
    client_id: str | None = None
    """Who wants to hear of it (`POST /upload`)."""
    revision: int = 1


@event()
class FileSettled(Event):
    """A watched file is complete: no one writes to it. Nothing was copied; no byte was read."""

    root: OsPath
    """The watched root, absolute."""
    relative: OsPath
    """Path below the root."""
    number: int
    """Its row in the legacy `videos` table, handed out by the registry for ever."""
    revision: int
    """1 for the first content at this path, one more each time the content is replaced."""
    size: int
    modified_ns: int
    """mtime, nanoseconds since the epoch."""
    device: int
    inode: int
    generation: int = 0
    """How often a file at this path was removed before this one came."""
    settled_by: Literal["lease", "stillness", "scan"] = "lease"
    """How it was known to be complete."""

    def step(self) -> str:
        """A revision settles once."""
        return f"FileSettled/{self.revision}"


@event()
class FileMoved(Event):
    """A watched file was moved or renamed inside its root; its content is what it was."""

    root: OsPath
    relative: OsPath
    """Its new path below the root."""
    former: OsPath
    """Its path before."""
    move: int
    """The how-manieth move of this video it is, from 1."""
    size: int
    modified_ns: int
    device: int
    inode: int

    def step(self) -> str:
        """Each move has a number."""
        return f"FileMoved/{self.move}"


@event()
class FileRemoved(Event):
    """A watched file is gone from its root (and the root itself is there)."""

    root: OsPath
    relative: OsPath
    removal: int = 1
    """The how-manieth removal of this video it is, from 1 (a file may come back)."""

    def step(self) -> str:
        """Each removal has a number."""
        return f"FileRemoved/{self.removal}"


@event()
class FileReturned(Event):
    """The very file that was removed is back (same inode, size and mtime)."""

    root: OsPath
    relative: OsPath
    removal: int
    """The removal that this undoes."""
    size: int
    modified_ns: int
    device: int
    inode: int

    def step(self) -> str:
        """It undoes one removal."""
        return f"FileReturned/{self.removal}"


@event()
class RowAdopted(Event):
    """A row of the legacy `videos` table was there before Spoolhouse; it keeps its number."""

    number: int
    main_dir: str | None
    path: str
    """`des_video_path` as it stands in the row."""
    url: str | None
    status: int | None
    created: str | None
    """`created_date` as it stands in the row (local time, `YYYY-MM-DD HH:MM:SS`)."""


@event()
class VideoProbed(Event):
    """The container and its streams were read."""

    revision: int
    container: str
    """FFmpeg's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration: float | None
    """Seconds; None where the container does not say."""
    width: int
    """Pixels."""
    height: int
    video_codec: str
    audio_codec: str | None
    frame_rate: float | None
    """Frames a second, average."""
    bit_rate: int | None
    """Bits a second, over all streams."""
    size: int

    def step(self) -> str:
        """A revision is probed once."""
        return f"VideoProbed/{self.revision}"


@event()
class VideoProbeFailed(Event):
    """The file could not be read as a video; it is kept all the same."""

    revision: int
    reason: str

    def step(self) -> str:
        """Once for each revision."""
        return f"VideoProbeFailed/{self.revision}"


@event()
class AttemptFailed(Event):
    """A processor failed at an event and will try again."""

    group: str
    position: int
    """Of the entry that failed, in this subject's partition."""
    attempt: int
    """1 for the first."""
    reason: str
    retry_at: datetime

    def step(self) -> str:
        """One for each attempt."""
        return f"AttemptFailed/{self.group}/{self.position}/{self.attempt}"


@event()
class EntryParked(Event):
    """A processor gave up on an event until a person says `replay` or `discard`."""

    group: str
    position: int
    attempts: int
    reason: str
    parking: int = 1
    """1 for the first time this entry is parked, one more after each replay."""

    def step(self) -> str:
        """One for each time it is parked."""
        return f"EntryParked/{self.group}/{self.position}/{self.parking}"


# ---------------------------------------------------------------- the registry: registry:videos


@event()
class NumbersReserved(Event):
    """Numbers up to `through` belong to rows that were there before; new ones start above.

    Always the registry's first event: a later event at version v hands out number
    `through + v - 1`.
    """

    through: int


@event()
class VideoNumbered(Event):
    """The number that goes with this event's version is this video's, for ever."""

    video: str

    def step(self) -> str:
        """A video is numbered once."""
        return f"VideoNumbered/{self.video}"


# ---------------------------------------------------------------- a watched root: root:<uuid>


@event()
class RootRegistered(Event):
    """A folder is watched for the first time."""

    path: OsPath


@event()
class RootHeld(Event):
    """Files vanished in a way that looks like a lost mount; nothing is removed until someone says so."""

    path: OsPath
    hold: int
    """The how-manieth hold of this root it is, from 1."""
    reason: str
    missing: int
    """How many known files are not there."""
    digest: str = ""
    """sha256 over the missing videos' ids, so that an answer given while no one watched is applied
    to exactly these."""

    def step(self) -> str:
        """Each hold has a number."""
        return f"RootHeld/{self.hold}"


@event()
class RootReleased(Event):
    """A hold ended: the files came back, or a person answered."""

    path: OsPath
    hold: int
    answer: Literal["returned", "confirmed", "rejected"]
    """`confirmed`: the removals are real. `rejected`: keep the rows, ask no more until it changes."""

    def step(self) -> str:
        """A hold ends once."""
        return f"RootReleased/{self.hold}"


# ---------------------------------------------------------------- the system: sys:log


@event()
class EpochRaised(Event):
    """The log had lost its tail; what could be re-appended was, and projections were rebuilt."""

    epoch: int
    reason: str
    reappended: int
    """How many events came back from sidecars."""

    def step(self) -> str:
        """Each epoch once."""
        return f"EpochRaised/{self.epoch}"


StoredData = Mapping[str, Any]

"""Which uploads are taken: everything that may be a video, however damaged.

415 is for bytes that are positively something else (an image, an archive, a text, sound without
pictures) or carry no video container's signature and cannot be read as one either. A damaged or
truncated video, or one that the prober crashed on or ran out of time with, is taken and marked.
"""

from __future__ import annotations

from processors.media.signatures import UNKNOWN, Kind
from processors.ports import Probed, ProbeFailure
from streams.errors import RejectedError


def admit_kind(kind: Kind) -> None:
    """Refuse by the first bytes what is positively something else. Raises RejectedError (415)."""
    if kind.verdict == "other":
        raise RejectedError(415, f"This is not a video: it is {kind.name}. Send a video file.")


def admit(kind: Kind, found: Probed | ProbeFailure) -> str | None:
    """Decide on a complete file: what is damaged about it, None for nothing. Raises RejectedError (415)."""
    admit_kind(kind)
    if isinstance(found, Probed):
        return found.damaged
    if found.kind == "no_video":
        raise RejectedError(415, f"This is not a video: {found.reason}. Send a video file.")
    if kind.verdict == "unknown":
        raise RejectedError(415, f"This is not a video: it holds {UNKNOWN.name}. Send a video file.")
    return found.reason


def media_type(claimed: str, kind: Kind) -> str:
    """The sender's media type where it names one of video, else that of the bytes."""
    plain = claimed.partition(";")[0].strip().lower()
    if plain.startswith("video/") and plain.isascii() and plain.isprintable() and len(plain) <= 100:
        return plain
    return kind.mime or "application/octet-stream"

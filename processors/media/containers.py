"""Which container takes which codecs, as far as media servers and browsers play it then. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Container:
    """A container that files are finished in."""

    extension: str
    """Without its dot."""
    format: str
    """FFmpeg's muxer."""
    mime: str
    tags: Mapping[str, str] = field(default_factory=dict)
    """Codec → the name under which players look for it."""


MP4 = Container("mp4", "mp4", "video/mp4", {"hevc": "hvc1"})
MATROSKA = Container("mkv", "matroska", "video/x-matroska")

_M4A = Container("m4a", "ipod", "audio/mp4")
_SOUND: Mapping[str, Container] = {
    "aac": _M4A,
    "alac": _M4A,
    "mp3": Container("mp3", "mp3", "audio/mpeg"),
    "opus": Container("opus", "opus", "audio/ogg"),
    "vorbis": Container("ogg", "ogg", "audio/ogg"),
}
_MATROSKA_SOUND = Container("mka", "matroska", "audio/x-matroska")

# VP9 and Opus in MP4 play in every browser of today, Plex and Jellyfin; in Matroska no browser plays them.
_MP4_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "alac"})


def container_for(codecs: Sequence[str], *, only_sound: bool) -> Container:
    """The container for streams in these codecs (FFmpeg's names)."""
    if only_sound:
        return _SOUND.get(codecs[0], _MATROSKA_SOUND) if len(set(codecs)) == len(codecs) == 1 else _MATROSKA_SOUND
    return MP4 if _MP4_CODECS.issuperset(codecs) else MATROSKA

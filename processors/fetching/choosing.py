"""Which formats of a video are fetched, and how yt-dlp is told so. In the child."""

from __future__ import annotations

from typing import Any

from yt_dlp.utils import determine_protocol

from processors.fetching.failures import FORMAT, FailedError
from processors.fetching.printable import line, web_url, whole
from streams.download_config import DownloadConfig

PROTOCOLS = frozenset(
    ["http", "https", "m3u8", "m3u8_native", "http_dash_segments", "ism", "bunnycdn", "soopvod"]
)  # fmt: skip
"""What comes by HTTP alone and is put together by yt-dlp itself."""


def selector(config: DownloadConfig) -> str:
    """yt-dlp's format selector."""
    return "ba/b" if config.audio_only else config.format


def order(config: DownloadConfig) -> list[str]:
    """yt-dlp's `format_sort`: the best picture up to the ceiling; of the like, what browsers and Plex play as it is.

    Where nothing keeps below the ceiling, the smallest comes.
    """
    if config.audio_only:
        return ["lang", "quality", "acodec:aac"]
    height = "res" if config.max_height is None else f"res:{config.max_height}"
    return ["lang", "quality", height, "fps", "hdr:sdr", "vcodec:h264", "acodec:aac"]


def keep_fetchable(info: dict[str, Any]) -> None:
    """Drop the formats that do not come by HTTP. Raises FailedError where there are no others."""
    formats = info.get("formats")
    if formats is None:
        formats = [info] if info.get("url") else []
    kept = [one for one in formats if isinstance(one, dict) and _is_fetchable(one)]
    if formats and not kept:
        protocols = sorted({line(_protocol(one), 20) for one in formats if isinstance(one, dict)})
        raise FailedError("unsupported", f"it comes by {', '.join(protocols)[:100]} only, and only HTTP is fetched")
    if info.get("formats") is not None:
        info["formats"] = kept
    for one in kept:
        if _protocol(one) == "m3u8":
            one["protocol"] = "m3u8_native"


def _is_fetchable(one: dict[str, Any]) -> bool:
    if _protocol(one) not in PROTOCOLS:
        return False
    return web_url(one.get("url"), 100_000) is not None or bool(one.get("fragments"))


def _protocol(one: dict[str, Any]) -> str:
    try:
        return str(determine_protocol(one))
    except (KeyError, TypeError, ValueError):
        return "nothing known"


def chosen(info: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The formats to fetch with what each holds: one, or the picture and then the sound. Raises FailedError."""
    wanted = [one for one in info.get("requested_formats") or [info] if isinstance(one, dict)]
    kinds = [(kind_of(one), one) for one in wanted]
    if len(kinds) == 1:
        return kinds
    by_kind = dict(reversed(kinds))
    if len(kinds) != 2 or by_kind.keys() != {"video", "audio"}:
        reason = f"the format asks for {len(kinds)} files ({', '.join(kind for kind, _ in kinds)}); one of the picture and one of the sound can be put together"
        raise FailedError("format", reason, FORMAT)
    return [("video", by_kind["video"]), ("audio", by_kind["audio"])]


def kind_of(one: dict[str, Any]) -> str:
    """`video`, `audio`, `both`."""
    if one.get("vcodec") == "none":
        return "audio"
    return "video" if one.get("acodec") == "none" else "both"


def identity(one: dict[str, Any]) -> str:
    """What tells a format from the others of its video."""
    fields = ("format_id", "ext", "vcodec", "acodec", "width", "height")
    return "|".join(line(one.get(name), 100) for name in fields)


def size_of(one: dict[str, Any]) -> int | None:
    """Bytes, as the site says or as it can be guessed."""
    return whole(one.get("filesize")) or whole(one.get("filesize_approx"))


def told(kind: str, one: dict[str, Any]) -> dict[str, Any]:
    """A format in the words of `streams.events.DownloadExtracted.formats`."""
    codecs = [line(one.get(name), 60) for name in ("vcodec", "acodec")]
    return {
        "id": line(one.get("format_id"), 100),
        "ext": line(one.get("ext"), 20),
        "kind": kind,
        "width": whole(one.get("width")),
        "height": whole(one.get("height")),
        "codecs": ", ".join(codec for codec in codecs if codec and codec != "none"),
        "size": size_of(one),
        "note": line(one.get("format_note"), 100),
    }

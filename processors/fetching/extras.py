"""Subtitles and the picture of a video: nice to have, so what fails of them is a warning. In the child."""

from __future__ import annotations

import os
from typing import Any

from yt_dlp.networking import Request

from processors.fetching import describing
from processors.fetching.engine import Engine
from processors.fetching.failures import FailedError, failure_of
from processors.fetching.fragments import careful
from processors.fetching.printable import line

MAX_SUBTITLES = 20
MAX_SUBTITLE = 16 * 2**20
"""Bytes."""

MAX_PICTURE = 20 * 2**20
"""Bytes."""

PICTURES = 3
"""That are tried, the best first."""

_KINDS = frozenset(["srt", "vtt", "ass", "ssa", "ttml", "srv1", "srv2", "srv3", "json3", "lrc", "sbv", "dfxp"])


def subtitles_of(info: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Language and what yt-dlp knows of it, of each that is to come."""
    asked = info.get("requested_subtitles") or {}
    return [(line(language, 35), one) for language, one in asked.items() if isinstance(one, dict)][:MAX_SUBTITLES]


def bring_subtitles(
    engine: Engine, folder: str, number: int, language: str, one: dict[str, Any]
) -> dict[str, Any] | None:
    """Fields of ports.FetchedFile; None, and a warning, where they do not come."""
    kind = str(one.get("ext") or "")
    path = os.path.join(folder, f"subtitles.{number}.{kind if kind in _KINDS else 'txt'}")
    try:
        data = one.get("data")
        if isinstance(data, str):
            with open(path, "w", encoding="utf-8", errors="replace") as file:
                file.write(data[:MAX_SUBTITLE])
        elif str(one.get("protocol") or "").startswith("m3u8"):
            _in_fragments(engine, path, one)
        else:
            _save(engine, path, str(one.get("url") or ""), one.get("http_headers"), MAX_SUBTITLE)
        return _file(f"subtitles:{language}", path, kind, language)
    except Exception as error:  # noqa: BLE001 - whatever it was, the film is there
        engine.notes.warning(f"subtitles ({language}) did not come: {failure_of(error).reason}")
        return None


def bring_picture(engine: Engine, folder: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """Likewise of the picture."""
    path, reason = os.path.join(folder, "thumbnail"), ""
    for url in describing.thumbnails(info)[:PICTURES]:
        try:
            _save(engine, path, url, info.get("http_headers"), MAX_PICTURE)
            return _file("thumbnail", path, "", None)
        except Exception as error:  # noqa: BLE001
            reason = failure_of(error).reason
    if reason:
        engine.notes.warning(f"the picture did not come: {reason}")
    return None


def _file(part: str, path: str, form: str, language: str | None) -> dict[str, Any]:
    return {"part": part, "path": path, "format": line(form, 20), "size": os.path.getsize(path), "language": language}


def _save(engine: Engine, path: str, url: str, headers: Any, most: int) -> None:
    response = engine.urlopen(Request(url, headers=dict(headers or {})))
    size = 0
    try:
        with open(path, "wb") as file:
            while block := response.read(2**18):
                size += len(block)
                if size > most:
                    raise FailedError("too_large", f"it has more than {most >> 20} MiB")
                file.write(block)
    finally:
        response.close()
    length = response.headers.get("Content-Length") or ""
    if length.isdigit() and int(length) != size and not response.headers.get("Content-Encoding"):
        raise FailedError("network", f"{size} of {length} bytes came")
    if not size:
        raise FailedError("network", "it is empty")


def _in_fragments(engine: Engine, path: str, one: dict[str, Any]) -> None:
    from yt_dlp.downloader.hls import HlsFD

    brought, _ = careful(HlsFD)(engine, engine.params).download(path, {**one, "id": "subtitles"}, subtitle=True)
    if not brought:
        raise FailedError("network", "they did not come in whole")

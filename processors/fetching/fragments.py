"""Files that come in fragments (HLS, DASH): gone on from after the last whole one, and never with a hole. In the child.

yt-dlp appends a fragment and then notes which it was. Killed in between, or while it writes, it would
append it again, so the length goes into the note, and what lies behind it is cut off.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

from processors.fetching.resuming import replace_file


class CarefulFragments:
    """Stands before a downloader of yt-dlp's that puts fragments together."""

    def _prepare_frag_download(self, ctx: dict[str, Any]) -> None:
        trim(ctx["filename"])
        super()._prepare_frag_download(ctx)  # type: ignore[misc]

    def _write_ytdl_file(self, ctx: dict[str, Any]) -> None:
        told: dict[str, Any] = {"current_fragment": {"index": ctx["fragment_index"]}}
        told |= {name: ctx[name] for name in ("extra_state", "fragment_count") if ctx.get(name) is not None}
        stream = ctx.get("dest_stream")
        size = os.fstat(stream.fileno()).st_size if stream is not None else 0
        replace_file(f"{ctx['filename']}.ytdl", orjson.dumps({"downloader": told, "size": size}))


def careful(downloader: type) -> type:
    """The downloader, careful."""
    return type(f"Careful{downloader.__name__}", (CarefulFragments, downloader), {})


def trim(path: str) -> None:
    """Cut what lies half-fetched to the fragments that are noted; without a note, remove it."""
    part, note = f"{path}.part", f"{path}.ytdl"
    folder, name = os.path.split(part)
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(f"{name}-Frag"):
            os.unlink(entry.path)
    try:
        with open(note, "rb") as file:
            size = orjson.loads(file.read())["size"]
        if not 0 < size <= os.path.getsize(part):
            raise ValueError(f"{size} bytes are noted")
        os.truncate(part, size)
    except (OSError, ValueError, KeyError, TypeError):
        for leftover in (part, note):
            with suppress(FileNotFoundError):
                os.unlink(leftover)


def mark(manifest: str | None, fragments: Iterable[Any] | None) -> str:
    """What tells a list of fragments from another, whatever keys its addresses carry today."""
    hashed = hashlib.sha256()
    if manifest is not None:
        for line in manifest.splitlines():
            if line.startswith(("#EXTINF:", "#EXT-X-BYTERANGE:", "#EXT-X-MAP:")):
                hashed.update(re.sub(r"[?#][^\"]*", "", line.rpartition("/")[2]).encode())
            elif line.strip() and not line.startswith("#"):
                hashed.update(_name(line.strip()))
    elif isinstance(fragments, (list, tuple)):
        for one in fragments:
            hashed.update(_name(str(one.get("url") or one.get("path") or "")) + str(one.get("duration")).encode())
    return hashed.hexdigest()[:16]


def _name(url: str) -> bytes:
    return b"\n" + urlsplit(url).path.rpartition("/")[2].encode("utf-8", "replace") + b"\n"

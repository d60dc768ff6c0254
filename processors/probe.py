"""Reads what each new video is: how long, how large, in which codecs, and all else that it says of itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import orjson

from processors.ports import Probed, Prober
from processors.storage.files import write_durably
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import DependencyDownError
from streams.events import Event, FileSettled, VideoProbed, VideoProbeFailed, VideoStored
from streams.media import metadata_document
from streams.media_changes import is_sound, name_in
from streams.paths import OsPath
from streams.processing import Context, First, processor


@processor("probe", on=(VideoStored, FileSettled), alias=("metadata-extraction",))
async def probe(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Probe the file once for each revision. A bad one is a fact about it, not a failure of ours."""
    stored: VideoStored | FileSettled = recorded.event
    if is_sound(stored):
        return
    path = stored.path if isinstance(stored, VideoStored) else OsPath(os.path.join(stored.root, stored.relative))
    found = await context.service(Prober).probe(path)  # type: ignore[type-abstract]
    if isinstance(found, Probed):
        if not (isinstance(stored, VideoStored) and stored.door == "rendition"):
            await _write_document(recorded.subject, stored, found, context)
            reach("probe.written")
        yield VideoProbed(
            revision=stored.revision,
            container=found.container,
            duration=found.duration,
            width=found.width,
            height=found.height,
            video_codec=found.video_codec,
            audio_codec=found.audio_codec,
            frame_rate=found.frame_rate,
            bit_rate=found.bit_rate,
            size=found.size,
            damaged=found.damaged,
            metadata=found.metadata,
        )
    elif found.kind == "unavailable":
        raise DependencyDownError("the prober", found.reason)
    else:
        context.log.info("video cannot be probed", kind=found.kind, reason=found.reason)
        yield VideoProbeFailed(revision=stored.revision, reason=found.reason)


async def _write_document(video: str, stored: VideoStored | FileSettled, found: Probed, context: Context) -> None:
    """Put the metadata into its folder, for those who read it there; what the API shows comes from the log."""
    document = metadata_document(video, name_in(stored) or "", stored.revision, found.metadata or {})
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        await in_thread(write_durably, context.settings.metadata_documents / f"{video}.json", data)
    except OSError as error:
        raise DependencyDownError(
            "the folder of metadata documents",
            f"{context.settings.metadata_documents} cannot be written: {error.strerror}. Free some space there, "
            "or let it be written.",
            unreachable=False,
        ) from error

"""Reads what each new video is: how long, how large, in which codecs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from processors.ports import Probed, Prober
from streams.codec import Recorded
from streams.errors import DependencyDownError
from streams.events import Event, FileSettled, VideoProbed, VideoProbeFailed, VideoStored
from streams.paths import OsPath
from streams.processing import Context, First, processor


@processor("probe", on=(VideoStored, FileSettled), alias=("metadata-extraction",))
async def probe(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Probe the file once for each revision. A bad one is a fact about it, not a failure of ours."""
    stored: VideoStored | FileSettled = recorded.event
    path = stored.path if isinstance(stored, VideoStored) else OsPath(os.path.join(stored.root, stored.relative))
    found = await context.service(Prober).probe(path)  # type: ignore[type-abstract]
    if isinstance(found, Probed):
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
        )
    elif found.kind == "unavailable":
        raise DependencyDownError("the prober", found.reason)
    else:
        context.log.info("video cannot be probed", kind=found.kind, reason=found.reason)
        yield VideoProbeFailed(revision=stored.revision, reason=found.reason)

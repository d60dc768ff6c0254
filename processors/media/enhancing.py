"""Makes a rendition of a video: plans it, makes it one way or another, and looks at what came out.

Only child processes import this: see `child`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import av

from processors.media.checking import Checked, NotAsMeantError, check
from processors.media.copying import MuxError
from processors.media.cost import Cost
from processors.media.damage import Damage
from processors.media.encoders import ENCODERS, Recipe, available, recipe
from processors.media.inspecting import TooLargeError, inspect
from processors.media.making import Making
from processors.media.opening import RefusedError, Source, opened
from processors.media.pictures import EncoderError, PictureError, Written
from processors.media.planning import Plan, plan
from processors.media.progress import Progress
from processors.media.segments import SegmentsError, peak_bit_rate, playlist, segments_of
from processors.media.sounds import SoundError
from processors.media.writing import TargetError, TargetFile, write_whole
from streams.paths import unescape_path

Tell = Callable[[dict[str, Any]], None]

_FAULTS = (EncoderError, MuxError, NotAsMeantError, SegmentsError)
"""After these another way may do."""


def enhance(job: Mapping[str, Any], tell: Tell, *, encoders: tuple[str, ...] = ENCODERS) -> dict[str, Any]:
    """Make what `job` (the fields of `ports.EnhanceJob`, paths escaped) asks for.

    Tells `{"planned": fields of ports.Planned}` for each way that is tried and `{"advanced": fields of
    ports.Advanced}` in between; returns `{"made": fields of ports.Made}` or `{"failure": fields of
    ports.MediaFailure}`. Where it failed the target is empty: it is the very file that its owner holds. `encoders` are
    tried in turn.
    """
    cost = Cost()
    target = os.fsencode(unescape_path(job["target"]))
    try:
        with opened(os.fsencode(unescape_path(job["path"]))) as source:
            return {"made": {**_Work(source, job, target, tell, encoders).made(), **cost.fields()}}
    except (RefusedError, TargetError) as error:
        failure = {"kind": error.kind, "reason": error.reason}
    except TooLargeError as error:
        failure = {"kind": "too_large", "reason": str(error)}
    except MemoryError:
        failure = {"kind": "memory", "reason": "it takes more memory than it may: SPOOLHOUSE_MEDIA_MEMORY is the limit"}
    except (PictureError, *_FAULTS) as error:
        failure = {"kind": "unencodable", "reason": str(error)}
    with suppress(OSError):
        os.truncate(target, 0)
    with suppress(OSError):
        os.unlink(target + b".m3u8")
    return {"failure": failure}


class _Work:
    def __init__(
        self, source: Source, job: Mapping[str, Any], target: bytes, tell: Tell, encoders: tuple[str, ...]
    ) -> None:
        self._source, self._job, self._target, self._tell = source, job, target, tell
        self._encoders = available(encoders)
        self._found = inspect(source)
        self._warnings: list[str] = []
        self._why = ""

    def made(self) -> dict[str, Any]:
        """One way after the other, until one of them does. Raises what the last one did."""
        last: Exception = EncoderError(f"this FFmpeg has none of the encoders {', '.join(ENCODERS)}")
        for way, how in self._ways():
            try:
                return self._once(way, how)
            except _FAULTS as error:
                # Its traceback would keep all that was open for this way.
                last, last.__cause__, last.__context__ = error.with_traceback(None), None, None
                name = "taking the picture as it is" if how is None else how.encoder
                self._why = str(error)
                self._warnings.append(f"{name} failed: {error}")
        raise last

    def _ways(self) -> Iterator[tuple[Plan, Recipe | None]]:
        way = plan(self._found, self._job)
        if way.copies_picture:
            reserving = way.reserving(self._source.size)
            yield reserving, None
            if reserving.reserved:
                yield way, None  # the header lied about its length, and the room did not do
            way = plan(self._found, self._job, encode=f"it cannot be taken as it is: {self._why}")
        for encoder in self._encoders:
            how = recipe(encoder, way)
            yield (way.in_opus() if how.sound == "libopus" else way), how

    def _once(self, way: Plan, how: Recipe | None) -> dict[str, Any]:
        """One way; a stream of sound that cannot be converted is left out, and the rest made again."""
        for _ in range(len(way.sounds) + 1):
            self._tell({"planned": _planned(way, how)})
            try:
                return self._made_so(way, how)
            except SoundError as error:
                way = way.without(error.index, error.reason)
        raise EncoderError("its sound cannot be converted")

    def _made_so(self, way: Plan, how: Recipe | None) -> dict[str, Any]:
        damage = Damage([*([self._source.missing] if self._source.missing else []), *way.damage])
        progress = Progress(self._tell, way.frames, way.duration)
        container = "mp4" if how is None else how.container
        with _target_file(self._target, progress) as file:
            making = Making(self._source, self._found, way, how, int(self._job["threads"]), damage)
            written = making.run(file, progress)
            if not written.frames:
                raise RefusedError("unreadable", damage.in_words() or "nothing of its picture decodes")
            checked = check(file.fd, way, written, container)
            bit_rate = self._bit_rate(way, file, checked, written)
            file.settle()
        return {
            "action": way.action,
            "reason": way.reason,
            "encoder": "copy" if how is None else how.encoder,
            "container": container,
            "mime": f"video/{container}",
            "duration": checked.duration,
            "width": checked.width,
            "height": checked.height,
            "video_codec": checked.video_codec,
            "audio_codec": checked.audio_codec,
            "codecs": checked.codecs,
            "bit_rate": bit_rate,
            "frames": checked.frames,
            "damage": damage.in_words(),
            "warnings": [*way.warnings, *self._warnings],
            "parameters": self._parameters(way, how, written),
            "tools": tools(way, checked),
        }

    def _bit_rate(self, way: Plan, file: TargetFile, checked: Checked, written: Written) -> int:
        """The average; of a ladder's rung, for which the playlist is written as well, the highest."""
        if way.segment is None:
            return round(8 * os.fstat(file.fd).st_size / max(checked.duration or 0.0, 0.04))
        header, segments = segments_of(checked.boxes, [float(key) for key in written.keys], written.end)
        text = playlist(header, segments, self._job["media_name"])
        write_whole(self._target + b".m3u8", text.encode())
        return peak_bit_rate(segments)

    def _parameters(self, way: Plan, how: Recipe | None, written: Written) -> dict[str, Any]:
        return {
            "kind": self._job["kind"],
            "mode": self._job["mode"],
            "preset": way.preset.model_dump(),
            "height": self._job["height"],
            "segment": way.segment,
            "threads": self._job["threads"],
            "encoder": None if how is None else {"name": how.encoder, **how.options},
            "filters": dict(written.filters),
            "sound": [
                {"stream": one.source.index, "copied": True}
                if one.copied
                else {
                    "stream": one.source.index,
                    "encoder": "aac" if how is None else how.sound,
                    "rate": one.rate,
                    "layout": one.layout,
                    "bit_rate": one.bit_rate,
                }
                for one in way.sounds
            ],
        }


def tools(way: Plan, checked: Checked) -> dict[str, str]:
    """Name → version of what a rendition was made by."""
    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    x264 = {"x264": checked.x264} if checked.x264 and not way.copies_picture else {}
    return {"av": av.__version__, "ffmpeg": av.ffmpeg_version_info, **versions, **x264}


@contextmanager
def _target_file(path: bytes, progress: Progress) -> Iterator[TargetFile]:
    file = TargetFile(path, progress.moved)
    try:
        yield file
    finally:
        file.end()


def _planned(way: Plan, how: Recipe | None) -> dict[str, Any]:
    return {
        "action": way.action,
        "reason": way.reason,
        "encoder": "copy" if how is None else how.encoder,
        "width": way.width,
        "height": way.height,
        "frames": way.frames,
        "duration": way.duration,
    }

"""Makes one file of what came down: packets are taken as they are, nothing is encoded. Only child processes import this.

Picture and sound may lie in two files, or in one that was recorded from a broadcast: they begin at 0 together, go on
in time, and stand in a container that players know. The result is looked at before anyone is told that it is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from fractions import Fraction
from typing import Any

import av
from av.stream import Disposition

from processors.media.boxes import boxes_of
from processors.media.checking import NotAsMeantError, check_boxes, end_is_there
from processors.media.containers import MATROSKA, MP4, Container, container_for
from processors.media.copying import MuxError
from processors.media.damage import Damage
from processors.media.decoding import prepare
from processors.media.merging import Input, Taken, codec_of, in_time, raise_memory
from processors.media.opening import RefusedError, Source, opened, words_of
from processors.media.progress import Progress
from processors.media.writing import TargetError, TargetFile
from streams.paths import unescape_path

Tell = Callable[[dict[str, Any]], None]

MAX_SOUNDS = 8
"""Streams of sound that are taken."""

APART = 5
"""Seconds by which picture and sound from two files may begin apart; more are two clocks."""

TOLERANCE = 1.0
"""Seconds, and a fiftieth: by so much a finished file may be longer or shorter than what was put into it."""

FIRST_PACKETS = 300
"""Packets among which there must be a picture, or a sound, that decodes."""

_INDEX = 65536
"""Bytes in front of an MP4 file that its header takes beside the index of its packets."""


def finish(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Do what `job` (the fields of `ports.FinishJob`, paths escaped) asks for.

    Tells `{"advanced": fields of ports.Advanced}`; returns `{"finished": fields of ports.FinishedFile}` or `{"failure":
    fields of ports.MediaFailure}`, and then there is no target.
    """
    target = os.fsencode(unescape_path(job["target"]))
    try:
        with ExitStack() as stack:
            sources = [
                stack.enter_context(opened(os.fsencode(unescape_path(path)), sounds=True)) for path in job["media"]
            ]
            for source in sources:
                if source.missing:
                    raise RefusedError("unreadable", source.missing)
            return {"finished": _Work(sources, job, target, tell).finished()}
    except (RefusedError, TargetError) as error:
        failure = {"kind": error.kind, "reason": error.reason}
    except MemoryError:
        failure = {"kind": "memory", "reason": "it takes more memory than it may: SPOOLHOUSE_MEDIA_MEMORY is the limit"}
    except (MuxError, NotAsMeantError) as error:
        failure = {"kind": "unencodable", "reason": str(error)}
    with suppress(OSError):
        os.unlink(target)
    return {"failure": failure}


class _Work:
    def __init__(self, sources: list[Source], job: Mapping[str, Any], target: bytes, tell: Tell) -> None:
        self._sources, self._job, self._target, self._tell = sources, job, target, tell
        self._warnings: list[str] = []

    def finished(self) -> dict[str, Any]:
        """In the container that is meant for it, or else in Matroska, which takes nearly everything."""
        try:
            return self._once(None)
        except (MuxError, NotAsMeantError) as error:
            why = str(error)
            if self._job["audio_only"]:
                raise
        self._warnings = [f"it could not be put into MP4 ({why})"]
        return self._once(MATROSKA)

    def _once(self, container: Container | None) -> dict[str, Any]:
        with ExitStack() as stack:
            inputs = [Input(stack.enter_context(source.demuxed()), source) for source in self._sources]
            streams = self._chosen(inputs)
            only_sound = not any(one.stream.type == "video" for one in streams)
            wanted = container or container_for([codec_of(one.stream) for one in streams], only_sound=only_sound)
            target = TargetFile(self._target, lambda: None)
            try:
                duration = self._written(inputs, streams, wanted, target)
                checked = _checked(target, wanted, len(streams), duration, picture=not only_sound)
                target.settle()
            finally:
                target.end()
        return {
            "container": wanted.extension,
            "mime": wanted.mime,
            "duration": round(checked, 3),
            "warnings": self._warnings[:20],
        }

    # ------------------------------------------------------------ what is taken

    def _chosen(self, inputs: list[Input]) -> list[Taken]:
        """The streams to take: a picture, and the sound. Raises RefusedError."""
        pictures = [] if self._job["audio_only"] else [(one, s) for one in inputs for s in _pictures(one.container)]
        # A second file is there for its sound.
        heard = inputs[1:] if len(inputs) > 1 else inputs
        sounds = [(one, s) for one in heard for s in _sounds(one.container)]
        if len(inputs) > 1 and not sounds:
            sounds = [(inputs[0], s) for s in _sounds(inputs[0].container)]
        if not pictures and not sounds:
            what = "it holds no sound" if self._job["audio_only"] else "it holds neither picture nor sound"
            raise RefusedError("no_video", what)
        if not pictures and not self._job["audio_only"]:
            self._warnings.append("it holds sound but no picture")
        if len(pictures) > 1:
            self._warnings.append(f"of its {len(pictures)} pictures the first was taken")
        if len(sounds) > MAX_SOUNDS:
            self._warnings.append(f"of its {len(sounds)} streams of sound the first {MAX_SOUNDS} were taken")
        chosen = [Taken(one, stream) for one, stream in pictures[:1] + sounds[:MAX_SOUNDS]]
        unknown = [one for one in chosen if one.stream.codec_context is None]
        if unknown:
            raise RefusedError("unreadable", "it is in a codec that FFmpeg does not know")
        return chosen

    # ------------------------------------------------------------ writing

    def _written(self, inputs: list[Input], streams: list[Taken], wanted: Container, target: TargetFile) -> float:
        """Write all of it; the seconds at which it is over. Raises MuxError, RefusedError, TargetError."""
        self._set_clocks(inputs)
        expected = max((one.duration for one in inputs if one.duration), default=None)
        damage, progress = Damage(), Progress(self._tell, None, expected)
        options = self._options(wanted, streams, expected)
        try:
            output = av.open(target.link, "w", format=wanted.format, container_options=options)
        except (OSError, ValueError, av.FFmpegError) as error:
            target.checked(error)
            raise MuxError(words_of(error)) from error
        try:
            for one in streams:
                one.begin(output, wanted, damage)
            output.metadata.update(_tags(self._job["tags"]))
            if chapters := _chapters(self._job["chapters"]):
                with suppress(ValueError, NotImplementedError, av.FFmpegError):
                    output.set_chapters(chapters)
            self._move(inputs, streams, output, target, progress)
            output.close()
        except (OSError, ValueError, av.FFmpegError) as error:
            target.checked(error)
            raise_memory(error)
            raise MuxError(words_of(error)) from error
        finally:
            with suppress(OSError, ValueError, av.FFmpegError):
                output.close()
            target.checked()
        self._note(streams, damage)
        return max(one.end for one in streams)

    def _move(
        self, inputs: list[Input], streams: list[Taken], output: Any, target: TargetFile, progress: Progress
    ) -> None:
        by_input = {id(one): {s.stream.index: s for s in streams if s.input is one} for one in inputs}
        for one, packet in in_time([one for one in inputs if by_input[id(one)]], by_input):
            taken = by_input[id(one)][packet.stream.index]
            at = taken.move(packet)
            try:
                output.mux_one(packet)
            except (OSError, ValueError, av.FFmpegError) as error:
                target.checked(error)
                raise_memory(error)
                raise MuxError(words_of(error)) from error
            if taken is streams[0]:
                progress.picture(at)
        silent = [one for one in streams if not one.packets]
        if silent:
            what = "picture" if silent[0].stream.type == "video" else "sound"
            raise RefusedError("unreadable", f"there is nothing in its {what}")

    def _set_clocks(self, inputs: list[Input]) -> None:
        """Everything begins at 0 together, unless two files go by two clocks."""
        starts = [one.start for one in inputs]
        if max(starts) - min(starts) > APART:
            return
        for one in inputs:
            one.start = min(starts)

    def _options(self, wanted: Container, streams: list[Taken], expected: float | None) -> dict[str, str]:
        if wanted.format not in {"mp4", "ipod"}:
            return {"flush_packets": "0"}
        room = _room(streams, expected)
        if room and 50 * room < sum(source.size for source in self._sources):
            return {"moov_size": str(room)}
        return {"movflags": "+faststart", "flush_packets": "0"}

    def _note(self, streams: list[Taken], damage: Damage) -> None:
        if told := damage.in_words():
            self._warnings.append(told)
        jumps = sum(one.jumps for one in {id(s.input): s.input for s in streams}.values())
        if jumps:
            self._warnings.append(f"its clock jumped {jumps} times; it was set right")


def _pictures(container: Any) -> list[Any]:
    return [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]


def _sounds(container: Any) -> list[Any]:
    return list(container.streams.audio)


def _room(streams: list[Taken], expected: float | None) -> int:
    """Bytes that the index of an MP4 file may take; 0 where that cannot be told."""
    if not expected:
        return 0
    packets = 0.0
    for one in streams:
        if one.stream.type == "video":
            packets += 40 * expected * float(one.stream.average_rate or 60)
        else:
            # The shortest frames that there are: 2.5 ms would be Opus', but 20 ms is what is made.
            packets += 24 * expected * max(50.0, (one.stream.codec_context.sample_rate or 48_000) / 960)
    return int(_INDEX * 4 + 1.2 * packets)


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(text).replace("\0", "")[:20_000] for name, text in tags.items() if text}


def _chapters(found: list[Mapping[str, Any]]) -> list[Any]:
    """As PyAV takes them: in order, none longer than nothing."""
    chapters: list[Any] = []
    for one in found:
        start, end = round(1000 * float(one["start"])), round(1000 * float(one["end"]))
        if 0 <= start < end < 1 << 40:
            title = str(one.get("title") or f"Chapter {len(chapters) + 1}").replace("\0", "")[:500]
            chapters.append(
                {
                    "id": len(chapters),
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
            )
    return chapters


# ---------------------------------------------------------------- looking at it again


def _checked(target: TargetFile, wanted: Container, streams: int, duration: float, *, picture: bool) -> float:
    """Read the finished file; its duration. Raises NotAsMeantError."""
    size = os.fstat(target.fd).st_size
    if wanted.format in {"mp4", "ipod"}:
        check_boxes(target.fd, tuple(boxes_of(target.fd)))
    os.lseek(target.fd, 0, os.SEEK_SET)
    try:
        with av.open(
            "fd:", options={"protocol_whitelist": "fd", "fd": str(target.fd)}, metadata_errors="replace"
        ) as made:
            if len(made.streams.video) + len(made.streams.audio) < streams:
                raise NotAsMeantError(f"it has {len(made.streams)} streams, {streams} were meant")
            length = made.duration / av.time_base if made.duration and made.duration > 0 else duration
            if abs(length - duration) > TOLERANCE + duration / 50:
                raise NotAsMeantError(f"it is {length:.1f} s long, and {duration:.1f} s were put into it")
            stream = made.streams.video[0] if picture else made.streams.audio[0]
            if not _decodes(made, stream):
                raise NotAsMeantError("nothing of its beginning decodes")
            if picture and wanted is MP4 and not end_is_there(made, stream, size):
                raise NotAsMeantError("its last pictures are not there, or do not decode")
            return length
    except (av.FFmpegError, ValueError) as error:
        raise_memory(error)
        raise NotAsMeantError(f"it cannot be read again: {words_of(error)}") from error


def _decodes(container: Any, stream: Any) -> bool:
    """Whether there is a picture, or a sound, among the first packets."""
    if stream.type == "video":
        prepare(stream)
    with closing(container.demux(stream)) as packets:
        for _, packet in zip(range(FIRST_PACKETS), packets, strict=False):
            with suppress(av.FFmpegError, ValueError):
                if packet.decode():
                    return True
    return False

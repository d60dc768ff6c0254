"""Makes one rendition in one way: threads that read, decode, filter and encode, and the one that writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av

from processors.media import feeding, pictures, sounds
from processors.media.crew import Channel, Crew
from processors.media.damage import Damage
from processors.media.encoders import MAX_THREADS, Recipe
from processors.media.filtering import Look, PictureFilter, colours_of
from processors.media.inspecting import Inspected
from processors.media.opening import Source, words_of
from processors.media.pictures import FRAME_BYTES, EncoderError, PictureEncoder, Written
from processors.media.planning import Plan, SoundPlan
from processors.media.progress import Progress
from processors.media.sounds import SoundLane
from processors.media.writing import BUFFER, TargetFile

PACKET_BYTES = 8 * 2**20
"""Bytes of packets between two threads."""

_DECODER_THREADS = 8

MAX_OVERLAP = 1
"""Seconds by which packets that are taken as they are may go back in time."""

_TAGS = frozenset(
    [
        "title",
        "artist",
        "author",
        "album",
        "album_artist",
        "composer",
        "genre",
        "date",
        "year",
        "comment",
        "description",
        "synopsis",
        "show",
        "season_number",
        "episode_id",
        "episode_sort",
        "network",
        "copyright",
        "creation_time",
        "track",
        "disc",
        "grouping",
        "language",
    ]
)
"""Tags that are carried over. Where it was recorded is not among them."""


class MuxError(Exception):
    """What was encoded, or taken as it is, does not fit into the container."""


class Making:
    """One rendition, being made."""

    def __init__(
        self,
        source: Source,
        found: Inspected,
        plan: Plan,
        recipe: Recipe | None,
        threads: int,
        damage: Damage,
    ) -> None:
        self._source, self._found, self._plan, self._recipe = source, found, plan, recipe
        self._threads = min(threads or len(os.sched_getaffinity(0)), MAX_THREADS)
        self._damage = damage
        self._crew = Crew()
        self._moved: dict[int, int] = {}
        self._reordered = self._undated = 0
        self._first_pts: int | None = None

    def run(self, target: TargetFile, progress: Progress) -> Written:
        """Make it. Raises EncoderError, PictureError, SoundError, MuxError, TargetError, MemoryError."""
        name = "webm" if self._recipe is not None and self._recipe.container == "webm" else "mp4"
        output = av.open(
            target,
            "w",
            format=name,
            container_options=self._container_options(name),
            buffer_size=BUFFER,
            io_open=target.reopen,
        )
        try:
            with self._source.demuxed() as container:
                try:
                    written = self._through(container, output, progress)
                finally:
                    # Nobody may still be at work in what is closed now.
                    self._crew.stop()
            try:
                output.close()
            except (OSError, ValueError, av.FFmpegError) as error:
                target.checked()
                raise MuxError(words_of(error)) from error
            target.checked()
            return written
        finally:
            target.checked()

    def _container_options(self, name: str) -> dict[str, str]:
        if name == "webm":
            return {}
        if self._plan.segment is not None:
            return {"movflags": "+frag_keyframe+empty_moov+default_base_moof+skip_trailer+negative_cts_offsets"}
        return {"movflags": "+faststart"}

    def _through(self, container: Any, output: Any, progress: Progress) -> Written:
        plan, crew = self._plan, self._crew
        streams = {stream.index: stream for stream in container.streams}
        picture = streams[plan.picture.index]
        output.metadata.update(_tags(self._found.tags))
        if plan.segment is None and self._found.chapters:
            output.set_chapters(_chapters(self._found, plan.start))
        writer: _CopiedPicture | PictureEncoder
        made = sum(not sound.copied for sound in plan.sounds)
        done = crew.channel(PACKET_BYTES, producers=1 + (not plan.copies_picture) + (made > 0))
        routes: dict[int, Channel[Any]] = {}
        outlets = []
        filters = PictureFilter(plan, self._threads)
        if plan.copies_picture:
            self._reordered = picture.codec_context.reorder_depth
            out = _copied_stream(output, picture)
            writer = _CopiedPicture(plan, out)
            routes[picture.index] = done
        else:
            out = self._picture_stream(output)
            writer = PictureEncoder(out, plan)
            routes[picture.index] = packets = crew.channel(PACKET_BYTES)
            outlets.append(packets)
            pictures.prepare(picture.codec_context, min(self._threads, _DECODER_THREADS))
            self._start_pictures(packets, picture, filters, writer, done)
        copied = {picture.index: out} if plan.copies_picture else {}
        lanes = {}
        for sound in plan.sounds:
            stream = streams[sound.source.index]
            if sound.copied:
                copied[stream.index] = _copied_stream(output, stream)
                routes[stream.index] = done
            else:
                target = self._sound_stream(output, sound)
                lanes[stream.index] = SoundLane(sound, stream, target, plan.start, self._damage)
        if lanes:
            heard = crew.channel(PACKET_BYTES)
            outlets.append(heard)
            routes |= dict.fromkeys(lanes, heard)
            crew.start(lambda: sounds.run(heard, done, lanes), done)
        wanted = [streams[index] for index in routes]
        crew.start(
            lambda: feeding.feed(container, wanted, routes, self._source, self._damage),
            *outlets,
            done,
        )
        with crew:
            self._write(output, done, copied, out, writer, progress)
        if crew.failure is not None:
            raise crew.failure
        if isinstance(writer, PictureEncoder):
            used = {"picture": filters.used, "sound": [text for lane in lanes.values() for text in lane.used]}
        else:
            used = {"picture": [], "sound": [text for lane in lanes.values() for text in lane.used]}
        return writer.written(used)

    def _start_pictures(
        self, packets: Channel[Any], stream: Any, filters: PictureFilter, writer: PictureEncoder, done: Channel[Any]
    ) -> None:
        frames, filtered = self._crew.channel(FRAME_BYTES), self._crew.channel(FRAME_BYTES)
        self._crew.start(lambda: pictures.decode(packets, frames, stream, self._damage), frames)
        self._crew.start(lambda: pictures.filter_all(frames, filtered, filters), filtered)
        self._crew.start(lambda: writer.run(filtered, done), done)

    def _write(
        self,
        output: Any,
        done: Channel[Any],
        copied: Mapping[int, Any],
        picture: Any,
        writer: PictureEncoder | _CopiedPicture,
        progress: Progress,
    ) -> None:
        """Everything that is done, until all is."""
        for packet in done:
            is_picture = packet.stream is picture
            if not is_picture and packet.stream.container is not output:
                target = copied[packet.stream.index]
                is_picture = target is picture
                self._move(packet, target, is_picture)
                if is_picture:
                    assert isinstance(writer, _CopiedPicture)
                    writer.saw(packet)
            try:
                output.mux_one(packet)
            except (OSError, ValueError, av.FFmpegError) as error:
                raise MuxError(words_of(error)) from error
            if is_picture:
                progress.picture(float(packet.pts * packet.time_base) if packet.pts is not None else 0.0)

    def _move(self, packet: Any, target: Any, is_picture: bool) -> None:
        """A packet of the source becomes one of the target's, beginning at 0."""
        if packet.pts is None:
            raise MuxError("it does not say when each packet is shown")
        if packet.is_corrupt:
            self._damage.marred(float(packet.pts * packet.time_base))
        if packet.dts is None and not is_picture:
            packet.dts = packet.pts
        elif packet.dts is None:
            # Matroska has no such times. The first ones are not worked out by FFmpeg: they lie before the first picture.
            self._undated += 1
            step = packet.duration or round(1 / (self._plan.picture.frame_rate or 25) / packet.time_base)
            first = self._first_pts = packet.pts if self._first_pts is None else self._first_pts
            packet.dts = first - (self._reordered - self._undated + 1) * step
        base = packet.time_base
        shift = round(self._plan.start / base)
        pts, dts = packet.pts - shift, packet.dts - shift
        before = self._moved.get(target.index)
        if before is not None and dts <= before:
            # Recordings that were joined overlap a little where they meet.
            if (before - dts) * base > MAX_OVERLAP:
                raise MuxError("its time stamps go back")
            dts = before + 1
        self._moved[target.index] = dts
        packet.pts, packet.dts = max(pts, dts), dts
        packet.stream = target

    def _picture_stream(self, output: Any) -> Any:
        plan, recipe = self._plan, self._recipe
        assert recipe is not None
        rate = plan.picture.frame_rate or Fraction(25)
        try:
            stream = output.add_stream(recipe.encoder, rate=rate.limit_denominator(1_000_000), time_base=plan.time_base)
            context = stream.codec_context
            context.width, context.height, context.pix_fmt = plan.width, plan.height, "yuv420p"
            context.time_base = plan.time_base
            context.sample_aspect_ratio = Fraction(1)
            context.thread_count = self._threads
            look = look_of(plan)
            context.color_primaries, context.color_trc, context.colorspace = colours_of(look)
            context.color_range = 1
            context.options = dict(recipe.options)
            context.open()
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError, NotImplementedError) as error:
            raise EncoderError(words_of(error)) from error
        return stream

    def _sound_stream(self, output: Any, sound: SoundPlan) -> Any:
        encoder = "aac" if self._recipe is None else self._recipe.sound
        rate = sound.rate if encoder == "aac" else 48_000
        try:
            stream = output.add_stream(encoder, rate=rate, layout=sound.layout, bit_rate=sound.bit_rate)
            stream.codec_context.time_base = Fraction(1, rate)
            stream.metadata.update(_tags(sound.source.tags))
            stream.codec_context.open()
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            reason = f"the sound ({sound.source.codec}) was left out: {words_of(error)}"
            raise sounds.SoundError(sound.source.index, reason) from error
        return stream


class _CopiedPicture:
    """Counts pictures that are taken as they are."""

    def __init__(self, plan: Plan, stream: Any) -> None:
        self._stream = stream
        self._step = Fraction(1) / (plan.picture.frame_rate or 25)
        self._frames = 0
        self._first: Fraction | None = None
        self._end = Fraction(0)

    def saw(self, packet: Any) -> None:
        """One more."""
        at = packet.pts * packet.time_base
        if packet.duration:
            self._step = packet.duration * packet.time_base
        self._first = at if self._first is None else min(self._first, at)
        self._end = max(self._end, at + self._step)
        self._frames += 1

    def written(self, used: Mapping[str, list[str]]) -> Written:
        """What was sent."""
        length = self._end - (self._first or 0)
        return Written(self._frames, float(length), float(self._step), float(self._end), (), used)


def look_of(plan: Plan) -> Look:
    """What the source's pictures look like, as far as the plan knows."""
    one = plan.picture
    return Look(
        one.width,
        one.height,
        one.pix_fmt,
        one.aspect,
        one.turn,
        one.interlaced,
        one.transfer,
        one.primaries,
        one.matrix,
        one.full_range,
    )


def _copied_stream(output: Any, stream: Any) -> Any:
    try:
        copied = output.add_stream_from_template(stream, opaque=True)
    except (av.FFmpegError, ValueError) as error:
        raise MuxError(words_of(error)) from error
    copied.metadata.update(_tags(stream.metadata))
    return copied


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): text[:1000] for name, text in tags.items() if name.lower() in _TAGS and text}


def _chapters(found: Inspected, start: Fraction) -> list[Any]:
    chapters = []
    for chapter in found.chapters:
        base = chapter["time_base"]
        if not base:
            continue
        shift = round(start / base)
        title = {name: text for name, text in chapter["metadata"].items() if name == "title"}
        moved = {"start": max(0, chapter["start"] - shift), "end": max(0, chapter["end"] - shift)}
        chapters.append({**chapter, **moved, "metadata": title})
    return chapters

"""Makes one rendition in one way: threads that read, decode, filter and encode, and the one that writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import av

from processors.media import feeding, pictures, sounds
from processors.media.copying import CopiedStream, MuxError
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

_GATHER = {"flush_packets": "0"}
"""Written when there is enough to write, not packet by packet."""

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

    def run(self, target: TargetFile, progress: Progress) -> Written:
        """Make it. Raises EncoderError, PictureError, SoundError, MuxError, TargetError, MemoryError."""
        name = "webm" if self._recipe is not None and self._recipe.container == "webm" else "mp4"
        options = self._container_options(name)
        if self._plan.copies_everything:
            # By FFmpeg itself: through us it would take as long again.
            output = av.open(target.link, "w", format=name, container_options=options)
        else:
            output = av.open(
                target, "w", format=name, container_options=options, buffer_size=BUFFER, io_open=target.reopen
            )
        try:
            with self._source.demuxed() as container:
                try:
                    written = self._through(container, target, output, progress)
                finally:
                    # Nobody may still be at work in what is closed now.
                    self._crew.stop()
            try:
                output.close()
            except (OSError, ValueError, av.FFmpegError) as error:
                target.checked(error)
                raise MuxError(words_of(error)) from error
            target.checked()
            return written
        finally:
            target.checked()

    def _container_options(self, name: str) -> dict[str, str]:
        if name == "webm":
            return _GATHER
        if self._plan.segment is not None:
            return _GATHER | {
                "movflags": "+frag_keyframe+empty_moov+default_base_moof+skip_trailer+negative_cts_offsets"
            }
        if self._plan.reserved:
            return {"moov_size": str(self._plan.reserved)}
        return _GATHER | {"movflags": "+faststart"}

    def _through(self, container: Any, target: TargetFile, output: Any, progress: Progress) -> Written:
        plan, crew = self._plan, self._crew
        streams = {stream.index: stream for stream in container.streams}
        picture = streams[plan.picture.index]
        output.metadata.update(_tags(self._found.tags))
        if plan.segment is None and self._found.chapters:
            output.set_chapters(_chapters(self._found, plan.start))
        writer: CopiedStream | PictureEncoder
        copied: dict[int, CopiedStream] = {}

        def copy(stream: Any) -> tuple[Any, CopiedStream]:
            taken = _copied_stream(output, stream)
            copied[stream.index] = CopiedStream(stream, taken, plan.start, plan.picture.frame_rate, self._damage)
            routes[stream.index] = done
            return taken, copied[stream.index]

        made = sum(not sound.copied for sound in plan.sounds)
        done = crew.channel(PACKET_BYTES, producers=1 + (not plan.copies_picture) + (made > 0))
        routes: dict[int, Channel[Any]] = {}
        outlets = []
        filters = PictureFilter(plan, self._threads)
        if plan.copies_picture:
            out, writer = copy(picture)
        else:
            out = self._picture_stream(output)
            writer = PictureEncoder(out, plan)
            routes[picture.index] = packets = crew.channel(PACKET_BYTES)
            outlets.append(packets)
            pictures.prepare(picture.codec_context, min(self._threads, _DECODER_THREADS))
            self._start_pictures(packets, picture, filters, writer, done)
        lanes = {}
        for sound in plan.sounds:
            stream = streams[sound.source.index]
            if sound.copied:
                copy(stream)
            else:
                heard_as = self._sound_stream(output, sound)
                lanes[stream.index] = SoundLane(sound, stream, heard_as, plan.start, self._damage)
        if lanes:
            heard = crew.channel(PACKET_BYTES)
            outlets.append(heard)
            routes |= dict.fromkeys(lanes, heard)
            crew.start(lambda: sounds.run(heard, done, lanes), done)
        wanted = [streams[index] for index in routes]
        read = feeding.packets_of(container, wanted, self._source, self._damage)
        if outlets:
            crew.start(lambda: feeding.hand_on(read, routes), *outlets, done)
        # Where all is taken as it is there is nothing to overlap, and threads would only be in each other's way.
        with crew:
            self._write(target, output, done if outlets else read, copied, out, progress)
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
        target: TargetFile,
        output: Any,
        done: Iterable[Any],
        copied: Mapping[int, CopiedStream],
        picture: Any,
        progress: Progress,
    ) -> None:
        """Everything that is done, until all is."""
        for packet in done:
            if packet.stream.container is output:
                at = float(packet.pts * packet.time_base) if packet.stream is picture else 0.0
            else:
                at = copied[packet.stream.index].move(packet)
            try:
                output.mux_one(packet)
            except (OSError, ValueError, av.FFmpegError) as error:
                target.checked(error)
                raise MuxError(words_of(error)) from error
            if packet.stream is picture:
                progress.picture(at)

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

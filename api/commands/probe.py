"""`spoolhouse probe`: what video files are, as Spoolhouse sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from api.bootstrap import open_probing
from api.showing import AS_JSON, console, length, plain, print_json, run, size, table
from processors.ports import Probed, ProbeFailure
from streams.paths import OsPath, escape_path
from streams.settings import load_settings


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@AS_JSON
def probe(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Say what video files are: container, streams, length, codecs, colours, chapters and tags.

    Any file will do, whether Spoolhouse keeps it or not; it is only read, in a process of its own that has little
    memory and SPOOLHOUSE_PROBE_TIMEOUT seconds (60). Where it was recorded is shown only with
    SPOOLHOUSE_METADATA_GPS=true.

    With --json: an object for one file, a list for several. Numbers carry their units in their names
    (duration_seconds, bit_rate_bps). A file that is no video has `kind` and `reason` in place of the rest.

    Exit status 1 where a file is no video, or cannot be read.
    """
    found = run(_probe(files))
    if as_json:
        documents = [_document(file, answer) for file, answer in found]
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for number, (file, answer) in enumerate(found):
            if number:
                console().print()
            _show(file, answer)
    if any(isinstance(answer, ProbeFailure) for _, answer in found):
        raise click.exceptions.Exit(1)


async def _probe(files: tuple[Path, ...]) -> list[tuple[Path, Probed | ProbeFailure]]:
    async with open_probing(load_settings()) as prober:
        return [(file, await prober.probe(OsPath(os.path.abspath(file)))) for file in files]


def _document(file: Path, answer: Probed | ProbeFailure) -> dict[str, Any]:
    path = escape_path(str(file))
    if isinstance(answer, ProbeFailure):
        return {"path": path, "kind": answer.kind, "reason": answer.reason}
    return {"path": path, "damaged": answer.damaged, **(answer.metadata or {})}


def _show(file: Path, answer: Probed | ProbeFailure) -> None:
    out = console()
    out.print(plain(escape_path(str(file)), "bold"))
    if isinstance(answer, ProbeFailure):
        out.print(plain(f"  no video: {answer.reason}" if answer.kind == "no_video" else f"  {answer.reason}", "red"))
        return
    document = answer.metadata or {}
    facts = table("", "")
    facts.show_header = False
    for name, value in _facts(answer, document):
        if value:
            facts.add_row(plain(f"  {name}", "bold"), plain(value, "red" if name == "damaged" else ""))
    out.print(facts)


def _facts(found: Probed, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    about: Mapping[str, Any] = document.get("format", {})
    rate = _rate(found.bit_rate)
    return [
        ("damaged", found.damaged or ""),
        ("container", f"{about.get('long_name') or found.container} ({found.container})"),
        ("length", length(found.duration) or "not known"),
        ("size", f"{size(found.size)} ({found.size} bytes)" + (f", {rate}" if rate else "")),
        ("recorded", about.get("created", "")),
        *((f"stream {stream['index']}", _stream(stream)) for stream in document.get("streams", [])),
        *((f"chapter {n}", _chapter(one)) for n, one in enumerate(document.get("chapters", []), 1)),
        *((name, value.replace("\n", " ")) for name, value in about.get("tags", {}).items()),
        *(("left out", sentence) for sentence in document.get("left_out", [])),
    ]


def _stream(stream: Mapping[str, Any]) -> str:
    """`video: h264 High 4.0, 1920×1080, yuv420p, 25 fps, 4.20 Mbit/s, und`."""

    def of(name: str, after: str = "") -> str:
        return f"{stream[name]:g}{after}" if isinstance(stream.get(name), float) else f"{stream.get(name, '')}{after}"

    words = [" ".join(of(name) for name in ("codec", "profile", "level") if name in stream)]
    if "width_px" in stream:
        words.append(f"{stream['width_px']}×{stream['height_px']}")
        words += [f"shown as {stream['display_aspect']}"] if stream.get("sample_aspect") not in {None, "1:1"} else []
        words += [f"turned by {stream['rotation_degrees']}°"] if stream.get("rotation_degrees") else []
    words += [of(name) for name in ("pixel_format", "colour_primaries", "channel_layout") if name in stream]
    words += [f"HDR ({stream['hdr_format']})"] if stream.get("hdr") else []
    words += [of("frame_rate_fps", " fps")] if "frame_rate_fps" in stream else []
    words += [of("sample_rate_hz", " Hz")] if "sample_rate_hz" in stream else []
    words += [rate] if (rate := _rate(stream.get("bit_rate_bps"))) else []
    words += [of("language")] if "language" in stream else []
    return f"{stream['type']}: {', '.join(word for word in words if word)}"


def _chapter(chapter: Mapping[str, Any]) -> str:
    return f"{length(chapter.get('start_seconds')):>8}  {chapter.get('title', '')}"


def _rate(bits: int | None) -> str:
    if not bits:
        return ""
    return f"{bits / 1e6:.2f} Mbit/s" if bits >= 1_000_000 else f"{bits / 1e3:.0f} kbit/s"

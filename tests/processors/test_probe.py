"""The probe processor: a fact for each revision, and no failure of ours for bad media."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from processors.media.probing import open_prober
from processors.ports import Probed, ProbeFailure, Prober
from processors.probe import probe
from streams.codec import Recorded
from streams.errors import DependencyDownError
from streams.events import FileSettled, VideoProbed, VideoProbeFailed, VideoStored
from streams.paths import OsPath
from streams.processing import Context, bound_logger
from streams.settings import Settings

NOW = datetime(2024, 11, 12, tzinfo=UTC)


async def results(event: Any, prober: Prober, settings: Settings) -> list[Any]:
    """What the processor yields for an event."""
    entry = Recorded(0, 1, "id", type(event).__name__, "video", 1, NOW, "test", None, "id", event)
    context = Context(settings, 1, asyncio.Event(), bound_logger("probe", "video"), {Prober: prober}, lambda: None)
    return [one async for one in probe(entry, context)]


def stored(path: Path, revision: int = 1) -> VideoStored:
    """An upload that lies at `path`."""
    return VideoStored(
        door="upload",
        path=OsPath(str(path)),
        stored_name=path.name,
        filename=path.name,
        original_name=path.name,
        label="",
        mime="video/mp4",
        size=1,
        sha256="",
        received_at=NOW,
        modified_at=NOW,
        revision=revision,
    )


async def test_uploads_and_watched_files_are_probed(settings: Settings, sample_videos: list[Path]) -> None:
    """By their paths, for their revisions."""
    film = sample_videos[1]
    settled = FileSettled(
        root=OsPath(str(film.parent)),
        relative=OsPath(film.name),
        number=1,
        revision=3,
        size=film.stat().st_size,
        modified_ns=0,
        device=0,
        inode=0,
    )
    async with open_prober(timeout=30, children=1) as prober:
        [of_upload] = await results(stored(film), prober, settings)
        [of_watched] = await results(settled, prober, settings)
    assert isinstance(of_upload, VideoProbed)
    assert (of_upload.width, of_upload.height, of_upload.video_codec) == (640, 272, "h264")
    assert (of_upload.revision, of_watched.revision) == (1, 3)
    assert of_upload.step() != of_watched.step()


async def test_bad_and_missing_files_are_facts_too(settings: Settings, tmp_path: Path) -> None:
    """Each with its reason."""
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x08free" + bytes(100))
    async with open_prober(timeout=30, children=1) as prober:
        [bad] = await results(stored(tmp_path / "bad.mp4"), prober, settings)
        [gone] = await results(stored(tmp_path / "gone.mp4"), prober, settings)
    assert isinstance(bad, VideoProbeFailed)
    assert bad.reason
    assert gone == VideoProbeFailed(revision=1, reason="the file is no longer there")


class Unavailable:
    """A prober that cannot start a process."""

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """Says so."""
        return ProbeFailure("unavailable", "no process could be started")


async def test_no_prober_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    """It is no fact about the video."""
    with pytest.raises(DependencyDownError):
        await results(stored(tmp_path / "a.mp4"), Unavailable(), settings)

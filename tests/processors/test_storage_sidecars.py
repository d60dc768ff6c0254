"""Sidecar manifests: there before anyone is told, and never a reason to crash."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processors.storage.offloads import FileIdentity, Offload
from processors.storage.sidecars import Sidecar, Sidecars
from streams.codec import Recorded
from streams.entries import new_event
from streams.events import ChunkUploaded, ReplicaVerified, VideoOffloaded, VideoStored
from streams.paths import OsPath


def a_sidecar(minute: int = 0, path: str = "/data/a.mp4") -> Sidecar:
    """The manifest of some video."""
    at = datetime(2024, 11, 12, 14, 30, tzinfo=UTC) + timedelta(minutes=minute)
    event = VideoStored(
        door="upload",
        path=OsPath(path),
        stored_name="a.mp4",
        filename="a.mp4",
        original_name="a.mp4",
        label="",
        mime="video/mp4",
        size=3,
        sha256="00",
        received_at=at,
        modified_at=at,
    )
    return Sidecar.of(str(uuid.uuid4()), event, source="upload", inode=7)


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    """With the id that the event has for ever, and paths that are not UTF-8."""
    sidecars, sidecar = Sidecars(tmp_path / "sidecars"), a_sidecar(path="/data/\udcff\\.mp4")
    sidecars.write(sidecar)
    assert sidecars.any_pending()
    assert sidecars.pending() == [sidecar]
    assert list(sidecars.all()) == [sidecar]
    assert sidecar.new_event().id == new_event(sidecar.video, sidecar.event, source="upload").id


def test_pending_are_oldest_first_until_they_are_logged(tmp_path: Path) -> None:
    """Marking twice does no harm."""
    sidecars = Sidecars(tmp_path)
    late, early = a_sidecar(5), a_sidecar(1)
    sidecars.write(late)
    sidecars.write(early)
    assert sidecars.pending() == [early, late]
    sidecars.mark_logged(early.video)
    sidecars.mark_logged(early.video)
    assert sidecars.pending() == [late]
    assert (tmp_path / early.video[:2] / f"{early.video}.json").exists()
    assert {one.video for one in sidecars.all()} == {early.video, late.video}
    assert [one.video for one in sidecars.beyond({early.video})] == [late.video]


def test_a_lost_one_can_come_back(tmp_path: Path) -> None:
    """Set aside, then restored."""
    sidecars, sidecar = Sidecars(tmp_path), a_sidecar()
    sidecars.write(sidecar)
    sidecars.mark_lost(sidecar.video)
    assert not sidecars.any_pending()
    assert list(sidecars.all()) == []
    assert list(sidecars.lost()) == [sidecar]
    sidecars.restore(sidecar.video)
    assert sidecars.pending() == [sidecar]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 2}', b"\xff\xfe", b'{"format": 1, "video": "x"}', b'{"format": 1}'],
)
def test_a_torn_manifest_is_set_aside_and_the_rest_goes_on(tmp_path: Path, content: bytes) -> None:
    """Empty, cut, of another kind: quarantined, never a crash."""
    sidecars, sidecar = Sidecars(tmp_path), a_sidecar()
    sidecars.write(sidecar)
    (tmp_path / "new" / "x.json").write_bytes(content)
    assert sidecars.pending() == [sidecar]
    assert (tmp_path / "broken" / "x.json").read_bytes() == content
    assert not (tmp_path / "new" / "x.json").exists()


def test_a_manifest_cut_at_any_byte_is_never_half_believed(tmp_path: Path) -> None:
    """Whole or broken, nothing between."""
    sidecars, sidecar = Sidecars(tmp_path), a_sidecar()
    sidecars.write(sidecar)
    path = tmp_path / "new" / f"{sidecar.video}.json"
    data = path.read_bytes().rstrip()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert sidecars.pending() == []


def a_note(video: str, path: Path) -> Offload:
    """The note of a video that lay at `path`."""
    stored = replace(a_sidecar().event, path=OsPath(str(path)))
    at = datetime(2024, 11, 12, 14, 30, tzinfo=UTC)
    history = [
        Recorded(0, number, f"id-{number}", type(event).__name__, video, number, at, "test", None, "id-1", event)
        for number, event in enumerate((stored, _verified(1), _verified(2), _verified(3), _chunk()), start=1)
    ]
    event = VideoOffloaded(revision=1, path=OsPath(str(path)), size=3, replicas=("s3",), offload=1)
    offloaded = new_event(video, event, source="retention", expected=5)
    return Offload.of(OsPath(str(path)), FileIdentity(3, 1, 2, 3, 4), history, offloaded)


def _verified(number: int) -> ReplicaVerified:
    return ReplicaVerified(replica="s3", revision=1, target="ab", verification=number, deep=False, objects=1, size=3)


def _chunk() -> ChunkUploaded:
    return ChunkUploaded(revision=1, stream_id="ab", index=0, offset=0, size=3, sha256="00", etag="x")


def test_the_note_of_an_offloaded_video_tells_all_but_what_there_is_much_of(tmp_path: Path) -> None:
    """With ids, times and sources; without chunks and older verifications."""
    offloads, video = Sidecars(tmp_path).offloads, str(uuid.uuid4())
    note = a_note(video, tmp_path / "a\udcff.mp4")
    offloads.write(note)
    read = offloads.read(video)
    assert read is not None
    assert (read.path, read.file) == (note.path, note.file)
    assert [type(one.event).__name__ for one in read.events] == [
        "VideoStored", "ReplicaVerified", "ReplicaVerified", "VideoOffloaded",
    ]  # fmt: skip
    assert [(one.id, one.time, one.corr) for one in read.events[:-1]] == [
        (one.id, one.time, one.corr) for one in note.events[:-1]
    ]
    assert (read.events[-1].id, read.events[-1].expected) == (note.events[-1].id, None)
    assert offloads.videos() == [video]
    offloads.forget(video)
    offloads.forget(video)
    assert (offloads.has(video), offloads.read(video), list(offloads.all())) == (False, None, [])


def test_a_torn_note_is_said_and_overlooked(tmp_path: Path) -> None:
    """Whole or nothing."""
    offloads, video = Sidecars(tmp_path).offloads, str(uuid.uuid4())
    offloads.write(a_note(video, tmp_path / "a.mp4"))
    path = offloads.folder / f"{video}.json"
    data = path.read_bytes().rstrip()
    for length in range(0, len(data), 29):
        path.write_bytes(data[:length])
        assert offloads.read(video) is None
    assert list(offloads.all()) == []


def test_nothing_there_is_nothing_wrong(tmp_path: Path) -> None:
    """Before the first upload."""
    sidecars = Sidecars(tmp_path / "none")
    assert (sidecars.any_pending(), sidecars.pending(), list(sidecars.all())) == (False, [], [])
    sidecars.mark_logged("unknown")
    sidecars.drop("unknown")
    sidecars.sweep(0)


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    """Only its temporary files, and only old ones."""
    sidecars, sidecar = Sidecars(tmp_path), a_sidecar()
    sidecars.write(sidecar)
    (tmp_path / "new" / ".x.tmp").write_bytes(b"half")
    sidecars.sweep(time.time())
    assert (tmp_path / "new" / ".x.tmp").exists()
    sidecars.sweep(time.time() + 7200)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{sidecar.video}.json"]

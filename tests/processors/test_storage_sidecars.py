"""Sidecar manifests: there before anyone is told, and never a reason to crash."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processors.storage.sidecars import Sidecar, Sidecars
from streams.entries import new_event
from streams.events import VideoStored
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

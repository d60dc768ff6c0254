"""Files come back whole or not at all, go on where they stopped, and land nowhere else than they should."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.bootstrap import Recovery
from api.bucket_restoring import planned
from api.commands import restore as commands
from processors.copies import chunk_key, manifest_key
from processors.manifests import BadManifestError, Manifest, Part, read_manifest, safe_file_name
from processors.origins import from_bucket, from_drive, from_stream, listed, streams_beginning
from processors.ports import StoredObject
from processors.restoring import DamagedCopyError, Telling, Wanted, rebuild
from processors.returning import home_of, put_back
from processors.storage.originals import Original
from processors.storage.partfile import SUFFIX, part_path
from processors.storage.sidecars import Sidecars
from streams.errors import NotFoundError, RejectedError, SpoolhouseError, TransientError
from streams.events import VideoOffloaded
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.drive_server import DriveServer
from tests.processors.retaining import World, world
from tests.servers import RedisServer
from tests.swift import SwiftServer

MakeSettings = Callable[..., Settings]

CHUNK = 4096
CONTENT = bytes(range(256)) * 100 + b"the end"
STREAM = "ab" * 32


# ---------------------------------------------------------------- a file from pieces


class Pieces:
    """Pieces of a content, and how often each was fetched; some may fail."""

    def __init__(self, content: bytes = CONTENT, size: int = CHUNK, *, hashed: bool = True) -> None:
        self.content = content
        self.parts = [
            Part(
                index,
                start,
                len(content[start : start + size]),
                _sha(content[start : start + size]) if hashed else None,
            )
            for index, start in enumerate(range(0, len(content), size))
        ]
        self.hashed = hashed
        self.fetched: list[int] = []
        self.failing: dict[int, list[BaseException | bytes]] = {}
        self.before: Callable[[int], None] = lambda _: None

    async def fetch(self, part: Part) -> bytes:
        self.before(part.index)
        self.fetched.append(part.index)
        await asyncio.sleep(0)
        if self.failing.get(part.index):
            outcome = self.failing[part.index].pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        return self.content[part.offset : part.offset + part.size]

    @property
    def wanted(self) -> Wanted:
        sha256 = _sha(self.content) if self.hashed else None
        md5 = hashlib.md5(self.content).hexdigest()
        return Wanted("the test", len(self.content), sha256, md5, self.parts, self.fetch)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(CONTENT)])
async def test_a_file_is_rebuilt_and_durable_under_its_name_only(tmp_path: Path, size: int) -> None:
    """Nothing else is left beside it."""
    pieces, seen = Pieces(CONTENT[:size]), []
    restored = await rebuild(
        pieces.wanted, tmp_path / "film.mp4", telling=Telling(advance=seen.append), appearing=lambda *_: None
    )
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT[:size]
    assert (restored.size, restored.fetched, restored.sha256) == (size, size, _sha(CONTENT[:size]))
    assert sum(seen) == size
    assert os.listdir(tmp_path) == ["film.mp4"]


async def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What the part file holds is compared, and only the rest is fetched."""
    first, target = Pieces(), tmp_path / "film.mp4"
    first.failing[5] = [DamagedCopyError("gone")]
    with pytest.raises(DamagedCopyError, match="gone"):
        await rebuild(first.wanted, target)
    assert os.listdir(tmp_path) == [f".film.mp4{SUFFIX}"]
    part = part_path(target)
    assert part.stat().st_size == 5 * CHUNK
    damaged = bytearray(part.read_bytes())
    damaged[2 * CHUNK] ^= 1
    part.write_bytes(bytes(damaged) + b"torn")
    second = Pieces()
    restored = await rebuild(second.wanted, target)
    assert sorted(second.fetched) == [2, 5, 6]
    assert restored.fetched == CHUNK + len(CONTENT) - 5 * CHUNK
    assert target.read_bytes() == CONTENT


async def test_a_part_file_of_something_else_does_no_harm(tmp_path: Path) -> None:
    """With hashes it is overwritten piece by piece; without, the whole tells, and it begins anew."""
    for hashed in (True, False):
        target = tmp_path / f"{hashed}.mp4"
        part_path(target).write_bytes(os.urandom(len(CONTENT) + 100))
        pieces = Pieces(hashed=hashed)
        await rebuild(pieces.wanted, target)
        assert target.read_bytes() == CONTENT
        assert sorted(pieces.fetched) == list(range(7))


async def test_pieces_without_hashes_go_on_too(tmp_path: Path) -> None:
    """Drive knows the MD5 of the whole alone."""
    first, target = Pieces(hashed=False), tmp_path / "film.mp4"
    first.failing[3] = [DamagedCopyError("gone")]
    with pytest.raises(DamagedCopyError):
        await rebuild(first.wanted, target)
    second = Pieces(hashed=False)
    await rebuild(second.wanted, target)
    assert sorted(second.fetched) == [3, 4, 5, 6]
    assert target.read_bytes() == CONTENT


async def test_a_byte_that_turns_on_its_way_is_fetched_again_and_a_damaged_piece_is_named(tmp_path: Path) -> None:
    """Once for chance; what is wrong twice is wrong."""
    pieces = Pieces()
    pieces.failing[1] = [b"x" * CHUNK]
    await rebuild(pieces.wanted, tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    pieces.failing[1] = [b"x" * CHUNK] * 2
    with pytest.raises(DamagedCopyError, match=r"Piece 1 from the test is damaged: its sha256 is .* and should be"):
        await rebuild(pieces.wanted, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


async def test_a_store_that_hiccups_is_waited_for(tmp_path: Path) -> None:
    """And that it is, is said."""
    pieces, said = Pieces(), []
    pieces.failing[2] = [TransientError("S3 answers 503")]
    await rebuild(pieces.wanted, tmp_path / "film.mp4", telling=Telling(say=said.append))
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    assert said == ["S3 answers 503; trying again in 1 s"]


async def test_pieces_that_do_not_make_the_file_are_thrown_away(tmp_path: Path) -> None:
    """The copy contradicts itself: running it again would not help."""
    pieces = Pieces()
    wanted = Wanted("the test", len(CONTENT), "00" * 32, None, pieces.parts, pieces.fetch)
    with pytest.raises(DamagedCopyError, match="do not make the file"):
        await rebuild(wanted, tmp_path / "film.mp4")
    assert os.listdir(tmp_path) == []


async def test_another_file_is_never_overwritten_unasked(tmp_path: Path) -> None:
    """The very same one is left as it is; a folder, a link, a file that appears meanwhile are no place."""
    target, pieces = tmp_path / "film.mp4", Pieces()
    target.write_bytes(b"mine")
    with pytest.raises(RejectedError, match="another file"):
        await rebuild(pieces.wanted, target)
    assert target.read_bytes() == b"mine"
    restored = await rebuild(pieces.wanted, target, force=True)
    assert target.read_bytes() == CONTENT
    assert (restored.fetched, os.listdir(tmp_path)) == (len(CONTENT), ["film.mp4"])
    pieces.fetched.clear()
    assert (await rebuild(pieces.wanted, target)).there_before
    assert pieces.fetched == []

    (tmp_path / "folder").mkdir()
    with pytest.raises(RejectedError, match="is a folder"):
        await rebuild(pieces.wanted, tmp_path / "folder", force=True)
    with pytest.raises(RejectedError, match="There is no folder"):
        await rebuild(pieces.wanted, tmp_path / "nowhere" / "film.mp4")
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "link.mp4").symlink_to(outside)
    with pytest.raises(RejectedError, match="another file"):
        await rebuild(pieces.wanted, tmp_path / "link.mp4")
    part_path(tmp_path / "trap.mp4").symlink_to(outside)
    with pytest.raises(RejectedError):
        await rebuild(pieces.wanted, tmp_path / "trap.mp4")
    late = tmp_path / "late.mp4"
    pieces.before = lambda index: late.write_bytes(b"mine") if index == 6 else None
    with pytest.raises(RejectedError, match="has appeared meanwhile"):
        await rebuild(pieces.wanted, late)
    assert outside.read_bytes() == late.read_bytes() == b"mine"


async def test_two_restores_of_one_file(tmp_path: Path) -> None:
    """The second is told, and does no harm."""
    pieces = Pieces()
    gate = asyncio.Event()

    async def slow(part: Part) -> bytes:
        await gate.wait()
        return await pieces.fetch(part)

    wanted = Wanted("the test", len(CONTENT), _sha(CONTENT), None, pieces.parts, slow)
    first = asyncio.create_task(rebuild(wanted, tmp_path / "film.mp4"))
    while not part_path(tmp_path / "film.mp4").exists():
        await asyncio.sleep(0.01)
    with pytest.raises(RejectedError, match="Another restore"):
        await rebuild(pieces.wanted, tmp_path / "film.mp4")
    gate.set()
    await first
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT


async def test_who_was_killed_between_two_names_is_cleared_up_after(tmp_path: Path) -> None:
    """The file has its name, and the part file is another name of it."""
    target = tmp_path / "film.mp4"
    target.write_bytes(CONTENT)
    os.link(target, part_path(target))
    assert (await rebuild(Pieces().wanted, target)).there_before
    assert os.listdir(tmp_path) == ["film.mp4"]


async def test_a_very_long_name(tmp_path: Path) -> None:
    """The part file's would be too long: it gets a short one that is always the same."""
    target = tmp_path / ("é" * 125 + ".mp4")
    await rebuild(Pieces().wanted, target)
    assert os.listdir(tmp_path) == [target.name]


async def test_a_full_disk_leaves_what_is_there_for_the_next_run(tmpfs: Path) -> None:
    """At once where it is seen to be too small; else a clear error, and the part stays."""
    content = os.urandom(5 * 2**20)
    pieces, target, filler = Pieces(content, 2**19), tmpfs / "film.mp4", tmpfs / "filler"
    with pytest.raises(RejectedError, match=r"The disk is full: .* are needed"):
        await rebuild(Pieces(os.urandom(9 * 2**20), 2**20).wanted, target)

    def fill(index: int) -> None:
        if index == 6:
            filler.write_bytes(bytes(5 * 2**20 - 2**18))

    pieces.before = fill
    with pytest.raises(RejectedError, match="run the same command again: it goes on") as raised:
        await rebuild(pieces.wanted, target)
    assert raised.value.status == 507
    assert part_path(target).stat().st_size > 2**20
    filler.unlink()
    pieces.before, pieces.fetched = lambda _: None, []
    await rebuild(pieces.wanted, target)
    assert target.read_bytes() == content
    assert len(pieces.fetched) < 9


async def test_a_cancelled_restore_can_go_on(tmp_path: Path) -> None:
    """Ctrl-C at any moment."""
    target, reached = tmp_path / "film.mp4", asyncio.Event()
    pieces = Pieces()

    async def stuck(part: Part) -> bytes:
        if part.index == 4:
            reached.set()
            await asyncio.Event().wait()
        return await pieces.fetch(part)

    wanted = Wanted("the test", len(CONTENT), _sha(CONTENT), None, pieces.parts, stuck)
    running = asyncio.create_task(rebuild(wanted, target))
    await reached.wait()
    while not part_path(target).exists() or part_path(target).stat().st_size < 4 * CHUNK:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pieces.fetched.clear()
    await rebuild(pieces.wanted, target)
    assert sorted(pieces.fetched) == [4, 5, 6]
    assert target.read_bytes() == CONTENT


# ---------------------------------------------------------------- manifests come from outside


def manifest(**changes: Any) -> dict[str, Any]:
    """A good manifest of CONTENT, but for what is changed."""
    chunks = [
        {
            "index": index,
            "key": chunk_key(STREAM, index),
            "offset": start,
            "size": len(CONTENT[start : start + CHUNK]),
            "sha256": _sha(CONTENT[start : start + CHUNK]),
            "etag": "e",
        }
        for index, start in enumerate(range(0, len(CONTENT), CHUNK))
    ]
    return {
        "stream_id": STREAM,
        "file_name": "film.mp4",
        "file_size": len(CONTENT),
        "chunk_size": CHUNK,
        "chunks": chunks,
        "sha256": _sha(CONTENT),
        "created_at": "2024-11-12T14:30:52.000+00:00",
        "completed_at": "2024-11-12T14:31:52.000+00:00",
        **changes,
    }


def chunk(number: int, **changes: Any) -> dict[str, Any]:
    """A manifest with one chunk changed."""
    made = manifest()
    made["chunks"][number] |= changes
    return made


HOSTILE: dict[str, Any] = {
    "another stream's": manifest(stream_id="cd" * 32),
    "no size": {name: value for name, value in manifest().items() if name != "file_size"},
    "a negative size": manifest(file_size=-1),
    "an absurd size": manifest(file_size=2**63),
    "a size that is no number": manifest(file_size="1"),
    "a size that is a truth": manifest(file_size=True, chunk_size=1),
    "chunks of no size": manifest(chunk_size=0),
    "absurd chunks": manifest(chunk_size=2**40),
    "fewer chunks than bytes": manifest(chunks=manifest()["chunks"][:-1]),
    "more chunks than bytes": manifest(chunks=manifest()["chunks"] * 2),
    "chunks that are no list": manifest(chunks={"0": {}}),
    "a chunk that is no object": manifest(chunks=[1] * 7),
    "a key elsewhere": chunk(1, key="../../etc/passwd"),
    "a key of another stream": chunk(1, key=chunk_key("cd" * 32, 1)),
    "the old uploader's key": chunk(1, key=f"{STREAM}/chunk_4096.bin"),
    "an offset twice": chunk(1, offset=0),
    "a wrong index": chunk(1, index=2),
    "a wrong size": chunk(1, size=CHUNK - 1),
    "a longer end": chunk(6, size=CHUNK),
    "no hash": chunk(1, sha256="no"),
    "a hash in capitals": chunk(1, sha256="AB" * 32),
    "no hash of the whole": manifest(sha256=None),
    "a name that is none": manifest(file_name=["a"]),
    "a name without end": manifest(file_name="a" * 5000),
    "a revision that is none": manifest(revision=-3),
    "a list": [manifest()],
    "nothing": None,
}


@pytest.mark.parametrize("told", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_manifests_are_refused(told: Any) -> None:
    """With a reason, and before anything is fetched or written."""
    with pytest.raises(BadManifestError, match=f"The manifest of stream {STREAM} cannot be used: .+"):
        read_manifest(orjson.dumps(told), STREAM)


def test_good_manifests_are_read() -> None:
    """Of empty files, too, and of writers who know nothing of videos and revisions."""
    read = read_manifest(orjson.dumps(manifest()), STREAM)
    assert (read.file_size, len(read.parts), read.parts[6].size) == (len(CONTENT), 7, len(CONTENT) - 6 * CHUNK)
    empty = read_manifest(orjson.dumps(manifest(chunks=[], file_size=0, sha256=_sha(b""))), STREAM)
    assert empty.parts == ()
    for broken in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(BadManifestError):
            read_manifest(broken, STREAM)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("film.mp4", "film.mp4"),
        ("Möwe, 3. Teil.mp4", "Möwe, 3. Teil.mp4"),
        ("../../etc/cron.d/job", "job"),
        ("/etc/passwd", "passwd"),
        ("..", "video"),
        ("", "video"),
        (".bashrc", "video.bashrc"),
        ("-rf", "rf"),
        ("a\nb.mp4", "ab.mp4"),
        ("evil\u202e4pm.exe", "evil4pm.exe"),
        ("nul\0.mp4", "nul.mp4"),
        ("x" * 300 + ".mp4", "x" * 251 + ".mp4"),
        ("not utf-8 \\xff.mp4", "not utf-8 \udcff.mp4"),
    ],
)
def test_names_from_outside_stay_in_their_folder(told: str, name: str) -> None:
    """One plain component, never hidden, never an option, never misleading."""
    assert safe_file_name(told) == name


def test_every_stream_of_a_bucket_gets_a_name_of_its_own_and_always_the_same() -> None:
    """The newest content of a video has the plain name; what else would share it says what it is."""

    def told(stream: str, name: str, video: str, revision: int, at: str) -> Manifest:
        return Manifest(stream * 64, name, 1, 1, (), "0" * 64, at, video, revision, "")

    found = [
        told("a", "film.mp4", "v1", 2, "2024-02"),
        told("b", "film.mp4", "v1", 1, "2024-01"),
        told("c", "FILM.mp4", "v2", 1, "2024-03"),
        told("d", "../film.mp4", "", 1, "2024-04"),
    ]
    names = {one.stream_id[0]: one.name for one in planned(found)}
    assert names == {
        "a": "film.mp4",
        "b": "film.revision-1.mp4",
        "c": f"FILM.{'c' * 16}.mp4",
        "d": f"film.{'d' * 16}.mp4",
    }
    assert planned(found[::-1]) == planned(found)


class Bucket:
    """An object store in memory, as hostile as one likes: only reading is asked of it."""

    label = "s3://hostile"

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(sorted(objects.items()))
        self.read: list[str] = []

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        for key, data in self.objects.items():
            if key.startswith(prefix):
                yield StoredObject(key, len(data), None)

    async def head(self, key: str) -> StoredObject | None:
        return StoredObject(key, len(self.objects[key]), None) if key in self.objects else None

    async def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return self.objects.get(key)


def bucket_of(told: Any = None, **changes: bytes | None) -> Bucket:
    """A bucket with the stream of CONTENT, but for what is changed (`chunk_000001.bin`: None for missing)."""
    objects = {chunk_key(STREAM, index): CONTENT[start : start + CHUNK] for index, start in
               enumerate(range(0, len(CONTENT), CHUNK))}  # fmt: skip
    objects[manifest_key(STREAM)] = orjson.dumps(manifest() if told is None else told)
    for name, data in changes.items():
        key = f"{STREAM}/{name.replace('_bin', '.bin').replace('_json', '.json')}"
        objects.pop(key)
        if data is not None:
            objects[key] = data
    return Bucket(objects)


async def test_nothing_but_the_bucket_is_needed(tmp_path: Path) -> None:
    """By the manifest, or the first characters of the stream's id."""
    bucket: Any = bucket_of()
    assert await streams_beginning(bucket, "abab") == STREAM
    told, wanted = await from_bucket(bucket, STREAM)
    await rebuild(wanted, tmp_path / told.file_name)
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    with pytest.raises(NotFoundError, match="--list"):
        await streams_beginning(bucket, "cd")
    with pytest.raises(RejectedError, match="no stream id"):
        await streams_beginning(bucket, "../")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chunk_000001_bin": None}, f"{STREAM}/chunk_000001.bin is missing"),
        ({"chunk_000001_bin": b"short"}, f"{STREAM}/chunk_000001.bin has 5 bytes and should have 4096"),
        ({"metadata_json": None}, f"is incomplete: 7 objects are there, and {STREAM}/metadata.json is not"),
    ],
    ids=["a missing chunk", "a short chunk", "no manifest"],
)
async def test_what_is_missing_is_named_before_anything_is_fetched(
    tmp_path: Path, changes: dict[str, bytes | None], words: str
) -> None:
    """So a person knows at once."""
    bucket: Any = bucket_of(**changes)
    with pytest.raises(DamagedCopyError) as raised:
        await from_bucket(bucket, STREAM)
    assert words in str(raised.value)
    assert not [key for key in bucket.read if "chunk" in key]
    with pytest.raises(DamagedCopyError, match="there is no stream"):
        await from_bucket(bucket, "cd" * 32)


async def test_a_chunk_that_lies_about_its_size_takes_no_place(tmp_path: Path) -> None:
    """The list says one thing, the bytes are another: it is told, and the file does not appear."""
    bucket: Any = bucket_of()
    _, wanted = await from_bucket(bucket, STREAM)
    bucket.objects[chunk_key(STREAM, 3)] = b"?" * 100_000
    with pytest.raises(DamagedCopyError, match="it has 100000 bytes and should have 4096"):
        await rebuild(wanted, tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


async def test_a_bucket_is_listed_with_what_is_wrong_in_it() -> None:
    """Complete streams, incomplete ones, manifests that cannot be used, and things that are none of ours."""
    whole = bucket_of().objects
    bad = {key.replace(STREAM, "cd" * 32): data for key, data in whole.items()}
    half = {key.replace(STREAM, "ef" * 32): data for key, data in bucket_of(metadata_json=None).objects.items()}
    bucket: Any = Bucket({**whole, **bad, **half, "readme.txt": b"", "AB" * 32 + "/metadata.json": b"{}"})
    found = {one.stream_id[:2]: one async for one in listed(bucket)}
    assert set(found) == {"ab", "cd", "ef"}
    good = found["ab"].manifest
    assert good is not None
    assert (good.file_name, found["ab"].fault, found["ab"].objects) == ("film.mp4", "", 7)
    assert "another stream" in found["cd"].fault
    assert "no manifest" in found["ef"].fault


# ---------------------------------------------------------------- back to its place, with the log


@pytest.fixture
def settings(s3_env: dict[str, str], make_settings: MakeSettings) -> Settings:
    """Small chunks, and the S3 server."""
    return make_settings(partitions=2, chunk_size=CHUNK)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
async def here(log: Log, settings: Settings) -> AsyncIterator[World]:
    """Videos and the S3 server."""
    async with world(log, settings) as made:
        yield made


async def back(here: World, video: str, **how: Any) -> Any:
    """Put a video back from the object store."""
    assert here.store is not None
    wanted = await from_stream(await here.facts(video), here.store)
    return await put_back(here.log, here.settings, video, wanted, "s3", **how)


async def adopted(here: World) -> int:
    """How many files the reconciler takes for videos that no one knows."""
    return await here.reconciler.survey()


async def test_an_offloaded_video_comes_back_to_its_place(here: World) -> None:
    """The file, its time, the log, the sidecar: as if it had never gone; and it may go once more."""
    video = await here.upload(content=CONTENT)
    path = here.settings.uploads / "lesson.mp4"
    modified = path.stat().st_mtime
    await here.look()
    assert not path.exists()
    returned = await back(here, video)
    assert (returned.restored.path, returned.unlogged) == (path, None)
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mtime == pytest.approx(modified, abs=2e-6)
    facts = await here.facts(video)
    assert facts.state == "present"
    told = (await here.log.history(video))[-1].event
    assert (told.offload, told.replica, told.sha256) == (1, "s3", _sha(CONTENT))
    sidecar = Sidecars(here.settings.sidecars).get(video)
    assert sidecar is not None
    assert sidecar.inode == path.stat().st_ino
    assert here.sidecars.offloads.videos() == []
    assert await adopted(here) == 0

    assert (await back(here, video)).restored.there_before
    assert (await here.types(video)).count("VideoRestored") == 1
    await here.look(days=0)
    assert (await here.facts(video)).offloads == 2
    await back(here, video)
    assert (await here.types(video)).count("VideoRestored") == 2


async def test_a_file_that_retention_is_about_to_remove_is_there_in_the_end(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has it offloaded already, and it lies there yet: that is not being there."""
    video = await here.upload(content=CONTENT)
    decided, go_on = threading.Event(), threading.Event()
    remove = Original.remove

    def slowly(original: Original) -> None:
        decided.set()
        assert go_on.wait(30)
        remove(original)

    monkeypatch.setattr(Original, "remove", slowly)
    looking = asyncio.create_task(here.look())
    assert await asyncio.to_thread(decided.wait, 30)
    assert (await here.facts(video)).state == "offloaded"
    restoring = asyncio.create_task(back(here, video))
    await asyncio.wait([restoring], timeout=0.5)
    go_on.set()
    await asyncio.gather(looking, restoring)
    assert (here.settings.uploads / "lesson.mp4").read_bytes() == CONTENT
    assert (await here.facts(video)).state == "present"
    assert here.sidecars.offloads.videos() == []


async def test_a_lost_upload_comes_back_though_its_sidecar_is_lost_too(here: World) -> None:
    """The data disk died: nothing is taken for a video that no one knows."""
    video = await here.upload(content=CONTENT)
    for path in (here.settings.uploads / "lesson.mp4", *here.settings.sidecars.rglob("*.json")):
        path.unlink()
    await back(here, video)
    assert await adopted(here) == 0
    assert "VideoRestored" not in await here.types(video)  # it was never given up
    assert (here.settings.uploads / "lesson.mp4").read_bytes() == CONTENT


async def test_the_log_goes_down_meanwhile(here: World, own_redis: RedisServer) -> None:
    """The file is there and stays; the same command tells the log later."""
    async with open_log(here.settings, own_redis.url) as log, world(log, here.settings) as there:
        video = await there.upload(content=CONTENT)
        await there.look()
        assert there.store is not None
        wanted = await from_stream(await there.facts(video), there.store)

        async def fetch(part: Part) -> bytes:
            own_redis.kill()
            return await wanted.fetch(part)

        dying = Wanted(wanted.origin, wanted.size, wanted.sha256, None, wanted.parts, fetch)
        returned = await put_back(log, there.settings, video, dying, "s3")
        assert isinstance(returned.unlogged, SpoolhouseError)
        assert (there.settings.uploads / "lesson.mp4").read_bytes() == CONTENT
        own_redis.start()
        while not await log.ping():
            await asyncio.sleep(0.05)
        again = await put_back(log, there.settings, video, wanted, "s3")
        assert (again.restored.there_before, again.unlogged) == (True, None)
        assert (await there.facts(video)).state == "present"
        assert there.sidecars.offloads.videos() == []


async def test_watched_folders_are_never_written_to(here: World, make_settings: MakeSettings, tmp_path: Path) -> None:
    """Nor what these settings do not call theirs."""
    video = await here.watch(tmp_path / "inbox" / "film.mp4", CONTENT)
    (tmp_path / "inbox" / "film.mp4").unlink()
    with pytest.raises(RejectedError, match=r"watched original.* -o FILE"):
        await back(here, video)
    assert os.listdir(tmp_path / "inbox") == []
    assert here.store is not None
    await rebuild(await from_stream(await here.facts(video), here.store), tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    film = tmp_path / "inbox" / "film.mp4"
    gone = VideoOffloaded(revision=1, path=OsPath(str(film)), size=len(CONTENT), replicas=("s3",), offload=1)
    await here.tell(video, gone)
    modified = (await here.facts(video)).modified_ns
    assert (await back(here, video, asked_for=film)).unlogged is None  # a person may say so
    assert (film.read_bytes(), film.stat().st_mtime_ns) == (CONTENT, modified)
    assert (await here.facts(video)).state == "present"
    uploaded = await here.facts(await here.upload(content=CONTENT))
    elsewhere = make_settings(upload_dir=tmp_path / "other")
    with pytest.raises(RejectedError, match="-o FILE"):
        home_of(uploaded, elsewhere)


async def test_the_log_restores_without_a_manifest(
    here: World, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """It knows every chunk; an altered manifest cannot mislead it either."""
    video = await here.upload(content=CONTENT)
    stream = (await here.facts(video)).stream()
    assert stream is not None
    assert here.store is not None
    s3_server.overwrite(bucket, manifest_key(stream.id), b"{}")
    await rebuild(await from_stream(await here.facts(video), here.store), tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    s3_server.delete(bucket, chunk_key(stream.id, 4))
    with pytest.raises(DamagedCopyError, match=r"chunk_000004\.bin is missing"):
        await from_stream(await here.facts(video), here.store)


async def test_where_one_copy_does_not_do_the_other_is_taken(
    s3_env: dict[str, str],
    s3_server: SwiftServer,
    bucket: str,
    drive_server: DriveServer,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And that is said; where none does, why not."""
    for name, value in drive_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = make_settings(partitions=2, chunk_size=CHUNK)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        video = await here.upload(content=CONTENT)

        @asynccontextmanager
        async def opened(_: Settings) -> AsyncIterator[Recovery]:
            yield Recovery(log, None, here.store, here.drive)  # type: ignore[arg-type]

        monkeypatch.setattr(commands, "open_recovery", opened)
        await commands._restore(settings, video, tmp_path / "a.mp4", "drive", force=False)
        assert "restored from Google Drive" in capfd.readouterr().out
        stream = (await here.facts(video)).stream()
        assert stream is not None
        s3_server.delete(bucket, chunk_key(stream.id, 2))
        await commands._restore(settings, video, tmp_path, None, force=False)
        told = capfd.readouterr()
        assert f"{chunk_key(stream.id, 2)} is missing. Trying Google Drive." in told.err
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "lesson.mp4").read_bytes() == CONTENT
        copy = (await here.facts(video)).drive_copy()
        assert copy is not None
        assert here.drive is not None
        await here.drive.delete(copy.file_id)
        with pytest.raises(SpoolhouseError, match=r"the object store: .* is missing. Google Drive: .* any more"):
            await commands._restore(settings, video, tmp_path / "b.mp4", None, force=False)
        with pytest.raises(NotFoundError, match=f"--bucket {bucket} --list"):
            await commands._restore(settings, "0" * 36, tmp_path / "b.mp4", None, force=False)


async def test_drive_gives_a_file_back(
    s3_env: dict[str, str],
    drive_server: DriveServer,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """By ranges, each compared with what the object store was sent; short replies are gone on with."""
    for name, value in drive_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = make_settings(partitions=2, chunk_size=CHUNK)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        assert here.drive is not None
        video = await here.upload(content=CONTENT)
        facts = await here.facts(video)
        wanted = await from_drive(facts, here.drive)
        assert all(part.sha256 for part in wanted.parts)
        await rebuild(wanted, tmp_path / "film.mp4")
        assert (tmp_path / "film.mp4").read_bytes() == CONTENT
        copy = facts.drive_copy()
        assert copy is not None
        drive_server.corrupt(copy.file_id)
        with pytest.raises(DamagedCopyError, match="MD5"):
            await from_drive(facts, here.drive)
        await here.drive.delete(copy.file_id)
        with pytest.raises(DamagedCopyError, match="any more"):
            await from_drive(facts, here.drive)

"""Names in Redis, ids and paths: what everything else is found by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.identity import (
    adopted_row_id,
    adopted_video_id,
    event_id,
    new_video_id,
    root_subject,
    watched_video_id,
)
from streams.keys import Keys, partition_of
from streams.log import Log
from streams.paths import OsPath, escape_path, unescape_path
from tests.streams.driving import ROOT, numbered

PATHS = st.binary(max_size=80).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)

# ---------------------------------------------------------------- keys


def test_keys_read_as_the_manual_says() -> None:
    """For a person at redis-cli; two digits, a hash tag for each partition."""
    keys = Keys("spoolhouse")
    assert keys.log(7) == "spoolhouse:{07}:log"
    assert keys.subject(7, "abc") == "spoolhouse:{07}:subject:abc"
    assert keys.seen(7, "abc") == "spoolhouse:{07}:seen:abc"
    assert keys.meta(7) == "spoolhouse:{07}:meta"
    assert keys.delayed(7, "probe") == "spoolhouse:{07}:delayed:probe"
    assert keys.parked(7, "probe") == "spoolhouse:{07}:parked:probe"
    assert keys.lease(7, "probe") == "spoolhouse:{07}:lease:probe"
    assert keys.log(123) == "spoolhouse:{123}:log"


@given(st.text(), st.text(), st.integers(0, 1023))
def test_all_keys_of_a_partition_have_one_hash_tag(subject: str, group: str, partition: int) -> None:
    """So every script is legal on a cluster; a brace in a subject changes nothing."""
    keys = Keys("spoolhouse")
    some = [
        *(keys.log(partition), keys.meta(partition), keys.subject(partition, subject), keys.seen(partition, subject)),
        *(keys.lease(partition, group), keys.delayed(partition, group), keys.parked(partition, group)),
        *(keys.behind(partition, group, subject), keys.attempts(partition, group)),
    ]
    tags = {re.search(r"{(.*?)}", key)[1] for key in some}  # type: ignore[index]
    assert tags == {f"{partition:02d}"}


@given(st.text(max_size=50), st.integers(1, 1024))
def test_a_subject_has_one_partition(subject: str, partitions: int) -> None:
    """crc32 of its UTF-8 form, for ever: the same in every process and version."""
    assert partition_of(subject, partitions) == zlib.crc32(subject.encode()) % partitions


def test_partitions_are_pinned() -> None:
    """Changing the function would lose every subject there is."""
    assert [partition_of(f"video-{n}", 16) for n in range(6)] == [15, 9, 3, 5, 6, 0]


async def test_every_key_of_an_append_has_the_partitions_tag(any_log: Log) -> None:
    """As they are in Redis."""
    await any_log.append_all([numbered(f"video-{n}", n, checkpoint={"a": "b"}) for n in range(50)])
    found = [key.decode() async for key in any_log.redis.scan_iter()]
    assert len(found) == 4 + 4 + 50 + 50
    for key in found:
        assert re.match(r"^spoolhouse:\{0[0-3]\}:(log|meta|(subject|seen):video-\d+)$", key)


# ---------------------------------------------------------------- ids


def test_ids_are_the_same_in_every_process() -> None:
    """And on every day: pinned."""
    assert event_id("video-1", "probe/VideoProbed/1") == "0b6d02be-2926-5338-99d2-d8c56eda4d1b"
    assert watched_video_id("/videos", "a/b.mp4") == "13b6563c-b35a-5b9d-811f-cbc44184706a"
    program = (
        "from streams.identity import *; "
        "print(event_id('video-1', 'x'), watched_video_id('/v', 'a'), root_subject('/v'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7"},
    ).stdout.split()
    assert found == [event_id("video-1", "x"), watched_video_id("/v", "a"), root_subject("/v")]


@given(st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(0, 5)), st.data())
def test_other_ingredients_make_other_ids(one: tuple[str, str, int], data: st.DataObject) -> None:
    """Subject, step and ordinal each count."""
    other = data.draw(st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(0, 5)))
    same_text = (one[0], f"{one[1]}#{one[2]}") == (other[0], f"{other[1]}#{other[2]}")
    assert (event_id(*one) == event_id(*other)) == same_text
    assert uuid.UUID(event_id(*one)).version == 5


@given(PATHS, PATHS, st.integers(0, 3))
def test_watched_files_have_ids_by_root_path_and_generation(root: str, relative: str, generation: int) -> None:
    """Also where names are not UTF-8."""
    found = watched_video_id(root, relative, generation)
    assert found == watched_video_id(root, relative, generation)
    assert found != watched_video_id(root, relative, generation + 1)
    assert found != watched_video_id(root + "x", relative, generation)
    assert root_subject(root) != root_subject(root + "x")
    assert uuid.UUID(adopted_video_id(relative, "00")).version == 5


def test_ids_of_different_kinds_differ() -> None:
    """A row, a file, an upload."""
    some = [adopted_row_id(1), adopted_row_id(2), watched_video_id("1", ""), adopted_video_id("1", ""), new_video_id()]
    assert len(set(some)) == len(some)
    assert new_video_id() != new_video_id()


# ---------------------------------------------------------------- paths


@given(PATHS)
def test_escaped_paths_come_back_as_they_were(path: str) -> None:
    """And their storable form is text that UTF-8, JSON and SQL can hold."""
    stored = escape_path(path)
    stored.encode("utf-8")
    assert unescape_path(stored) == path
    assert os.fsencode(unescape_path(stored)) == os.fsencode(path)


@given(PATHS, PATHS)
def test_different_paths_stay_different(one: str, other: str) -> None:
    assert (escape_path(one) == escape_path(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("/videos/Ünïcode ☃.mp4", "/videos/Ünïcode ☃.mp4"),
        ("/videos/\udcff.mp4", "/videos/\\xff.mp4"),
        ("/videos/a\\b.mp4", "/videos/a\\\\b.mp4"),
        ("/videos/\\xff.mp4", "/videos/\\\\xff.mp4"),
        ("", ""),
    ],
)
def test_ordinary_paths_look_ordinary(path: str, stored: str) -> None:
    assert escape_path(path) == stored
    assert unescape_path(stored) == OsPath(path)


@given(st.text(max_size=40))
def test_any_stored_text_can_be_read(text: str) -> None:
    """Whatever a person wrote into a table: no error."""
    unescape_path(text)

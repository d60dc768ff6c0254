"""Events to bytes and back: whatever is appended today can be read for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import codec
from streams.codec import MAX_DATA, decode, encode, recorded, timestamp
from streams.entries import new_event
from streams.errors import UndecodableError
from streams.events import (
    EVENTS,
    UPCASTERS,
    EpochRaised,
    Event,
    RootRegistered,
    VideoNumbered,
    VideoProbed,
    VideoProbeFailed,
    event,
    upcaster,
)
from streams.log import Log
from streams.paths import OsPath
from tests.streams.golden_files import FOLDER, golden_file

# ---------------------------------------------------------------- any event there is

PATHS = st.binary(min_size=1, max_size=60).filter(lambda raw: b"\0" not in raw).map(os.fsdecode).map(OsPath)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=60),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    OsPath: PATHS,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return st.lists(values(typing.get_args(kind)[0]), max_size=5).map(tuple)
    if typing.get_origin(kind) is Mapping:
        inner = typing.get_args(kind)[1]
        leaves = st.none() | st.booleans() | KINDS[int] | KINDS[float] | KINDS[str]
        return st.dictionaries(KINDS[str], leaves | st.lists(leaves, max_size=3) if inner is Any else values(inner))
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        return st.one_of(*(st.none() if one is type(None) else values(one) for one in typing.get_args(kind)))
    return KINDS[kind]


def events(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Any event of a type."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in fields})


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_comes_back_as_it_was(name: str) -> None:
    """Whatever stands in its fields."""
    cls = EVENTS[name]

    @settings(max_examples=40, deadline=None)
    @given(events(cls))
    def check(original: Event) -> None:
        data = encode(original)
        data.decode("utf-8")
        assert decode(name, cls.sv, data) == original

    check()


@given(st.lists(st.sampled_from(sorted(EVENTS)).flatmap(lambda name: events(EVENTS[name])), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_events_with_equal_steps_have_equal_ids_and_no_others(some: list[Event]) -> None:
    """An id depends on subject, source and step: a retry makes the same one again."""
    ids = {one.step(): new_event("video-1", one, source="test").id for one in some}
    assert len(set(ids.values())) == len({one.step() for one in some})
    for one in some:
        assert new_event("video-1", one, source="test").id == ids[one.step()]
        assert new_event("video-2", one, source="test").id != ids[one.step()]
        assert new_event("video-1", one, source="other").id != ids[one.step()]
        assert new_event("video-1", one, source="test", ordinal=1).id != ids[one.step()]


# ---------------------------------------------------------------- golden files


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_version_of_every_event_has_its_stored_form(name: str) -> None:
    """From 1 to today's; `python -m tests.streams.golden_files` writes a new one."""
    for sv in range(1, EVENTS[name].sv + 1):
        assert golden_file(name, sv).exists(), "run python -m tests.streams.golden_files"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_stored_forms_are_readable_for_ever(file: Any) -> None:
    """Each reads as it did on the day when it was written; fields that came later have their defaults."""
    name, _, version = file.stem.partition(".v")
    golden = orjson.loads(file.read_bytes())
    read = decode(name, int(version), orjson.dumps(golden["stored"]))
    assert type(read) is EVENTS[name]
    found = {field: repr(getattr(read, field)) for field in golden["reads"]}
    assert found == golden["reads"]
    if int(version) == EVENTS[name].sv:
        assert set(golden["stored"]) <= {field.name for field in dataclasses.fields(read)}


# ---------------------------------------------------------------- old versions


@pytest.fixture
def registry() -> Iterator[None]:
    """Events and upcasters that a test registers are forgotten afterwards."""
    before_events, before_upcasters = dict(EVENTS), dict(UPCASTERS)
    yield
    for name in set(EVENTS) - set(before_events):
        del EVENTS[name]
        codec._structure.pop(name, None)
        codec._unstructure.pop(name, None)
    for key in set(UPCASTERS) - set(before_upcasters):
        del UPCASTERS[key]


@pytest.mark.usefixtures("registry")
def test_old_versions_are_turned_into_todays_step_by_step() -> None:
    """From 1 over 2 to 3, and from 2 to 3; each step is a pure function of the stored data."""

    @event(sv=3)
    class LidOpened(Event):
        """A test's own."""

        centimetres: float
        by: str

    @upcaster("LidOpened", 1)
    def metres(data: dict[str, Any]) -> dict[str, Any]:
        return {"metres": data["width"]}

    @upcaster("LidOpened", 2)
    def centimetres(data: dict[str, Any]) -> dict[str, Any]:
        return {"centimetres": data["metres"] * 100, "by": "unknown"}

    assert decode("LidOpened", 1, b'{"width": 2}') == LidOpened(centimetres=200, by="unknown")
    assert decode("LidOpened", 2, b'{"metres": 0.5}') == LidOpened(centimetres=50, by="unknown")
    assert decode("LidOpened", 3, b'{"centimetres": 1, "by": "me"}') == LidOpened(centimetres=1, by="me")
    with pytest.raises(ValueError, match=r"version 4.*up to 3.*upgrade"):
        decode("LidOpened", 4, b"{}")


@pytest.mark.usefixtures("registry")
def test_missing_or_failing_upcaster_is_said() -> None:
    """And is no crash of whoever reads: the entry is undecodable."""

    @event(sv=3)
    class LidClosed(Event):
        """A test's own."""

    with pytest.raises(ValueError, match="LidClosed of version 1 cannot be read as version 3"):
        decode("LidClosed", 1, b"{}")

    @upcaster("LidClosed", 1)
    def fails(data: dict[str, Any]) -> dict[str, Any]:
        return {"a": data["missing"] + None}

    with pytest.raises(ValueError, match="missing"):
        decode("LidClosed", 1, b"{}")


def test_there_is_an_upcaster_for_every_old_version() -> None:
    """Raising a version without one would make old logs unreadable."""
    for name, cls in EVENTS.items():
        for sv in range(1, cls.sv):
            assert (name, sv) in UPCASTERS


# ---------------------------------------------------------------- one place


@pytest.mark.usefixtures("registry")
async def test_adding_an_event_touches_one_place(any_log: Log) -> None:
    """A decorated class is all: it can be appended, read, waited for."""

    @event()
    class SubtitlesFound(Event):
        """A test's own."""

        language: str
        path: OsPath
        at: datetime

        def step(self) -> str:
            """One for each language."""
            return f"SubtitlesFound/{self.language}"

    found = SubtitlesFound(language="de", path=OsPath("/a/\udcff.srt"), at=datetime(2024, 1, 1, tzinfo=UTC))
    await any_log.append(new_event("video-1", found, source="test"))
    assert [one.event for one in await any_log.history("video-1")] == [found]
    waited = await any_log.wait_for("video-1", {"SubtitlesFound"}, timeout=5)
    assert waited is not None
    assert waited.event == found


@pytest.mark.usefixtures("registry")
def test_two_events_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match="VideoStored already"):

        @event()
        class VideoStored(Event):
            """A test's own."""


def test_events_are_frozen_and_say_what_they_are() -> None:
    """Nobody changes what happened; every event and every field that needs it is documented."""
    one = VideoNumbered(video="1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.video = "2"  # type: ignore[misc]
    for name, cls in EVENTS.items():
        assert cls.__doc__, name
        assert not cls.__doc__.startswith(name + "("), f"{name} has no docstring of its own"


# ---------------------------------------------------------------- bad data


def test_too_large_is_refused_when_it_is_written() -> None:
    """The log holds what happened, never content."""
    assert len(encode(VideoProbeFailed(revision=1, reason="x" * (MAX_DATA - 100)))) < MAX_DATA
    with pytest.raises(ValueError, match=f"more than the {MAX_DATA}"):
        encode(VideoProbeFailed(revision=1, reason="x" * MAX_DATA))


def test_what_json_cannot_hold_is_refused_when_it_is_written() -> None:
    """Lone surrogates outside paths, huge numbers, not-a-number: reading them would fail later."""
    with pytest.raises(ValueError, match="VideoProbeFailed holds what JSON cannot"):
        encode(VideoProbeFailed(revision=1, reason="\udcff"))
    with pytest.raises(ValueError):
        encode(EpochRaised(epoch=2**70, reason="", reappended=0))
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError):
            encode(
                VideoProbed(
                    revision=1,
                    container="mp4",
                    duration=number,
                    width=1,
                    height=1,
                    video_codec="h264",
                    audio_codec=None,
                    frame_rate=None,
                    bit_rate=None,
                    size=1,
                )
            )


@pytest.mark.parametrize("raw", [b"\xff", b"a\\b", b"\\xff", "ä\\x41 ☃".encode(), b"\\\xff\\\\", b"caf\xe9/\xf0\x9f"])
def test_paths_that_are_not_utf8_survive(raw: bytes) -> None:
    """As readable JSON, and as the very bytes afterwards."""
    data = encode(RootRegistered(path=OsPath(os.fsdecode(raw))))
    read = decode("RootRegistered", 1, data)
    assert isinstance(read, RootRegistered)
    assert os.fsencode(read.path) == raw


@pytest.mark.parametrize(
    ("name", "sv", "data", "said"),
    [
        ("NoSuchEvent", 1, b"{}", "unknown to this version"),
        ("VideoNumbered", 2, b"{}", "upgrade"),
        ("VideoNumbered", 0, b'{"video": "1"}', "cannot be read as version 1"),
        ("VideoNumbered", 1, b"{", "unexpected"),
        ("VideoNumbered", 1, b"[]", "not a JSON object"),
        ("VideoNumbered", 1, b"{}", "does not fit VideoNumbered"),
        ("EpochRaised", 1, b'{"epoch": "x", "reason": "", "reappended": 0}', "does not fit"),
        ("RootReleased", 1, b'{"path": "/", "hold": 1, "answer": "perhaps"}', "does not fit"),
        ("VideoNumbered", 1, b'{"video": "\xff"}', "invalid|utf|unexpected"),
    ],
)
def test_unreadable_data_is_a_value_error(name: str, sv: int, data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){said}"):
        decode(name, sv, data)


def test_fields_of_a_newer_version_are_no_trouble() -> None:
    """A field with a default may be added without a new version: older programs step over it."""
    assert decode("VideoNumbered", 1, b'{"video": "1", "later": true}') == VideoNumbered(video="1")


GOOD: dict[bytes, bytes] = {
    b"id": b"1",
    b"type": b"VideoNumbered",
    b"subject": b"video-1",
    b"ver": b"1",
    b"time": timestamp(datetime(2024, 11, 12, tzinfo=UTC)).encode(),
    b"source": b"test",
    b"cause": b"",
    b"corr": b"1",
    b"sv": b"1",
    b"data": b'{"video":"7"}',
}


def test_entry_reads_as_an_event() -> None:
    one = recorded(3, 9, GOOD)
    assert (one.partition, one.pos, one.ver, one.cause) == (3, 9, 1, None)
    assert one.event == VideoNumbered(video="7")
    assert one.time == datetime(2024, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_missing_field_is_named(missing: bytes) -> None:
    with pytest.raises(UndecodableError, match=f"entry 9 of partition 03.*no field.*{missing.decode()}"):
        recorded(3, 9, {name: value for name, value in GOOD.items() if name != missing})


@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)), st.binary(max_size=40) | st.text(max_size=20).map(str.encode)),
    st.sampled_from(sorted(EVENTS)),
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_person_puts_in_is_an_event_or_undecodable(changed: dict[bytes, bytes], name: str) -> None:
    """Never another error: a reader sorts entries by this alone."""
    with contextlib.suppress(UndecodableError):
        recorded(0, 1, {**GOOD, b"type": name.encode(), **changed})


@given(
    st.sampled_from(sorted(EVENTS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_whatever_json_is_stored_is_an_event_or_a_value_error(name: str, junk: Any, data: st.DataObject) -> None:
    """Also where only one field of a real event is junk."""
    stored = orjson.loads(golden_file(name, EVENTS[name].sv).read_bytes())["stored"]
    if stored and data.draw(st.booleans()):
        junk = {**stored, data.draw(st.sampled_from(sorted(stored))): junk}
    try:
        raw = orjson.dumps(junk)
    except TypeError:
        return
    with contextlib.suppress(ValueError):
        assert isinstance(decode(name, EVENTS[name].sv, raw), EVENTS[name])

"""How a download stands after what happened to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import Recorded
from streams.downloads import STATUS, Download, fold
from streams.events import (
    AttemptFailed,
    DownloadCancelled,
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadMerged,
    DownloadPartFinished,
    DownloadPostponed,
    DownloadRefreshed,
    DownloadRequested,
    DownloadSkipped,
    DownloadStarted,
    DownloadStored,
    EntryParked,
    Event,
)
from streams.identity import download_subject
from streams.paths import OsPath

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

REQUESTED = DownloadRequested(number=7, key="k", url="http://site.test/a", directory="/", options={"audio_only": True})
EXTRACTED = DownloadExtracted(
    take=1, attempt=1, extractor="Site", media_id="a", title="A film", uploader="me", uploader_url=None,
    upload_date=None, description=None, webpage_url="http://site.test/a", duration=12.5, chapters=(), thumbnails=(),
    formats=(), live=False, size=100,
)  # fmt: skip
STORED = DownloadStored(take=1, video="v", path=OsPath("/media/a.mp4"), size=90, files=(OsPath("/media/a.nfo"),))
EXPANDED = DownloadExpanded(take=1, title="A list", entries=3, more=False, limit=100, numbers=(8, 9), skipped=(3,))
CANCELLED = DownloadCancelled(take=1, reason="cancelled")
FAILED = DownloadFailed(take=1, attempt=1, kind="gone", reason="It is gone.")


def started(take: int = 1, attempt: int = 1) -> DownloadStarted:
    """Its turn has come."""
    return DownloadStarted(take=take, attempt=attempt, host="site.test", config={"audio_only": True})


def postponed(attempt: int = 1, kind: str = "retry") -> DownloadPostponed:
    """Put off for a minute."""
    until = AT + timedelta(minutes=1)
    return DownloadPostponed(take=1, attempt=attempt, kind=kind, reason="HTTP 503", until=until)


def parked() -> EntryParked:
    """The processor gave up, for our own sake."""
    return EntryParked(group="download", position=3, attempts=5, reason="the log is too small")


def history(*events: Event) -> list[Recorded[Any]]:
    """These events as the log has them, a second apart."""
    return [
        Recorded(0, ver, f"id-{ver}", type(one).__name__, download_subject(7), ver, AT + timedelta(seconds=ver), "test",
                 None, "c", one)
        for ver, one in enumerate(events, 1)
    ]  # fmt: skip


def after(*events: Event) -> Download:
    """How it stands after its request and these."""
    download = fold(history(REQUESTED, *events))
    assert download is not None
    assert download.ver == len(events) + 1
    return download


def test_a_download_from_its_request_to_its_file() -> None:
    """Each step shows."""
    steps = [started(), EXTRACTED, DownloadPartFinished(take=1, attempt=1, part="both", format="22", size=90),
             DownloadMerged(take=1, attempt=1, container="mp4", size=90, parts=1), STORED]  # fmt: skip
    seen = [after(*steps[:count]) for count in range(len(steps) + 1)]
    assert [one.phase for one in seen] == ["queued", "starting", "fetching", "fetching", "merged", "stored"]
    assert [one.status for one in seen] == ["Pending", *["Processing"] * 4, "Downloaded"]
    assert (seen[0].message, seen[0].audio_only, seen[0].attempt) == ("In-Queue", True, 0)
    last = seen[-1]
    assert (last.title, last.video, last.path, last.size) == ("A film", "v", "/media/a.mp4", 90)
    assert (last.entry, last.archive_key) == ("Site a", "Site a (audio)")
    assert (last.requested, last.changed) == (AT + timedelta(seconds=1), AT + timedelta(seconds=6))


def test_what_was_put_off_says_until_when_and_counts_only_failures() -> None:
    """An interruption costs nothing."""
    one = after(started(), postponed())
    assert (one.phase, one.failures, one.until) == ("postponed", 1, AT + timedelta(minutes=1))
    assert "03:05:05 UTC" in one.message
    again = after(started(), postponed(), started(1, 2), postponed(2, "interrupted"))
    assert (again.failures, again.attempt, again.message) == (1, 2, "In-Queue")


@pytest.mark.parametrize(
    "late",
    [started(1, 2), EXTRACTED, DownloadMerged(take=1, attempt=1, container="mp4", size=1, parts=1), postponed(), FAILED,
     DownloadSkipped(take=1, number=2, video="v", path=OsPath("/x"))],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_what_was_cancelled_does_not_come_to_life_again(late: Event) -> None:
    """Whoever fetched it wrote on until it heard of it."""
    one = after(started(), CANCELLED, late)
    assert (one.phase, one.status, one.message) == ("cancelled", "Error", "cancelled")


def test_what_was_stored_just_then_is_told_all_the_same() -> None:
    """It lies on the disk."""
    assert after(started(), CANCELLED, STORED).phase == "stored"
    assert after(started(), STORED, CANCELLED).phase == "stored"


def test_a_list_can_be_cancelled_before_and_after_it_was_read() -> None:
    """Its entries stay known, so that they are cancelled, too."""
    assert after(started(), EXPANDED).phase == "expanded"
    for events in ([EXPANDED, CANCELLED], [CANCELLED, EXPANDED]):
        one = after(started(), *events)
        assert (one.phase, one.numbers, one.title) == ("cancelled", (8, 9), "A list")


def test_a_new_take_begins_anew_and_the_old_one_is_over() -> None:
    """What is written about the former take says nothing of this one; what lies on the disk stays known."""
    one = after(started(), postponed(), FAILED, DownloadRefreshed(take=2))
    assert (one.phase, one.take, one.attempt, one.failures, one.error) == ("queued", 2, 0, 0, None)
    one = after(started(), STORED, DownloadRefreshed(take=2), CANCELLED, FAILED, postponed(), started(1, 2))
    assert (one.phase, one.path) == ("queued", "/media/a.mp4")
    assert after(started(), FAILED, DownloadRefreshed(take=3), DownloadRefreshed(take=2)).take == 3


def test_what_was_deleted_stays_so_and_its_files_are_known_until_they_are_gone() -> None:
    """Also those that came just then."""
    deleted = DownloadDeleted(keep_file=False)
    one = after(started(), deleted, STORED)
    assert (one.phase, one.path, one.files) == ("deleted", "/media/a.mp4", ("/media/a.nfo",))
    gone = DownloadFilesRemoved(paths=(OsPath("/media/a.mp4"),))
    one = after(started(), STORED, deleted, gone, DownloadRefreshed(take=2), started(2))
    assert (one.phase, one.path, one.files) == ("deleted", None, ())


def test_what_the_processor_gave_up_on_is_an_error_and_a_replay_goes_on() -> None:
    """So that it does not hold its place in the queue for ever."""
    failure = AttemptFailed(group="download", position=3, attempt=1, reason="oh", retry_at=AT)
    assert after(started(), failure).phase == "starting"
    one = after(started(), parked())
    assert (one.status, one.error) == ("Error", "parked")
    assert "replay" in one.message
    assert after(started(), parked(), EXTRACTED).phase == "fetching"
    assert after(started(), parked(), STORED).phase == "stored"
    assert after(started(), STORED, parked()).phase == "stored"
    other = EntryParked(group="probe", position=3, attempts=5, reason="no")
    assert after(started(), other).phase == "starting"


def test_what_was_never_asked_for_is_none() -> None:
    """Whatever else is written there."""
    assert fold(history(started(), STORED, DownloadDeleted(keep_file=True))) is None


ANY = st.sampled_from(
    [started(), started(1, 2), started(2), EXTRACTED, STORED, EXPANDED, CANCELLED, FAILED, postponed(), postponed(2),
     DownloadRefreshed(take=2), DownloadDeleted(keep_file=False), DownloadFilesRemoved(paths=()), parked(),
     DownloadCancelled(take=2, reason="no"), DownloadSkipped(take=1, number=2, video="v", path=OsPath("/x"))]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY, max_size=12))
def test_whatever_happens_it_holds_together(events: list[Event]) -> None:
    """Versions follow the log; what is cancelled or deleted is opened by a new take only, if at all."""
    deleted, cancelled = False, 0
    for count in range(len(events) + 1):
        one = after(*events[:count])
        assert one.phase in STATUS
        deleted |= one.phase == "deleted"
        assert not deleted or one.phase == "deleted"
        if one.phase == "cancelled":
            cancelled = one.take
        assert one.take > cancelled or one.phase in {"cancelled", "stored", "deleted"}
        assert one.until is None or one.phase == "postponed"

"""Ids are UUIDv5, to the letter: a repeat by any version of Spoolhouse makes the same."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from streams.identity import _SPOOLHOUSE, event_id, watched_video_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, TEXT, st.integers(0, 5))
def test_event_ids_are_uuid5_of_the_subjects_uuid5(subject: str, step: str, ordinal: int):
    namespace = uuid.uuid5(_SPOOLHOUSE, subject)
    assert event_id(subject, step, ordinal) == str(uuid.uuid5(namespace, f"{step}#{ordinal}"))


def test_an_id_stays_what_it_was():
    """Logs hold these: should this fail, a restart would take every watched file in again."""
    assert watched_video_id("/videos", "clip.mp4") == "959cd9c6-bda2-558f-ac46-9ee3f97b6707"
    assert event_id("registry:videos", "reserved") == "1e989225-8d86-5f6d-a08f-751d9e6440dc"

"""How downloads are made: settings below, a person's changes above them, what was asked for one on top."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from streams.download_config import (
    DownloadConfig,
    DownloadOptions,
    checked,
    checked_directory,
    configured,
    saved_config,
)
from streams.errors import RejectedError
from streams.events import DownloadConfigChanged
from streams.settings import Settings
from tests.streams.test_downloads_fold import history


def test_what_is_asked_for_wins_over_what_was_changed_and_that_over_the_settings(
    make_settings: Callable[..., Settings],
) -> None:
    """Each where it says something."""
    settings = make_settings(download_max_height=1080, download_concurrency=2, download_subtitles="en,de")
    base = configured(settings, {})
    assert (base.max_height, base.concurrency, base.subtitles, base.limit) == (1080, 2, ("en", "de"), 100)
    changed = configured(settings, {"max_height": None, "limit": 7, "of a later version": 1})
    assert (changed.max_height, changed.concurrency, changed.limit) == (None, 2, 7)
    assert configured(settings, {"limit": 0, "max_height": 480}) == base.model_copy(update={"max_height": 480})
    asked = changed.with_options({"max_height": 480, "subtitles": []})
    assert (asked.max_height, asked.subtitles, asked.limit, asked.audio_only) == (480, (), 7, False)
    assert DownloadConfig.model_validate(asked.model_dump(mode="json")) == asked


def test_settings_and_configuration_have_the_same_values_unless_told(settings: Settings) -> None:
    """What is written in two places is the same in both."""
    assert configured(settings, {}) == DownloadConfig()


def test_the_last_change_says_all() -> None:
    """Whoever follows may see one twice."""
    changes = [DownloadConfigChanged(change=n, config={"limit": n}, preferences={"n": n}) for n in (1, 2, 3)]
    told = history(*changes)
    saved = saved_config(told)
    assert (saved.change, saved.config, saved.preferences, saved.ver) == (3, {"limit": 3}, {"n": 3}, 3)
    assert saved_config(told[:2], saved) is saved


def test_every_fault_is_named_at_once() -> None:
    """In words for people, with the field's name."""
    given: dict[str, Any] = {
        "format": "",
        "max_height": 1,
        "template": "{x}",
        "directory": "a/../b",
        "cookies": "/x",
        "no": 1,
    }
    with pytest.raises(RejectedError) as refused:
        checked(DownloadConfig, given)
    for name in given:
        assert f"{name}: " in str(refused.value)
    assert refused.value.status == 400
    with pytest.raises(RejectedError, match="concurrency"):
        checked(DownloadOptions, {"concurrency": 5})


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", "/"), ("/", "/"), ("//", "/"), ("work", "/work"), ("/work/", "/work"), ("work//talks", "/work/talks"),
     ("日本/ä b", "/日本/ä b")],
)  # fmt: skip
def test_directories_are_kept_in_one_form(given: str, kept: str) -> None:
    assert checked_directory(given) == kept


@pytest.mark.parametrize(
    "given",
    ["..", "a/..", "../a", ".hidden", "a/.git", "a\\..\\b", "a\0b", "a\nb", " a", "a ", "x" * 513, "ä" * 130, "\udcff", "~/../x/.."],
)  # fmt: skip
def test_directories_that_could_leave_the_root_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"directory|folder"):
        checked_directory(given)


@limits(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text("./\\a ~\0", max_size=12))
def test_whatever_is_written_a_directory_stays_below_the_root(written: str) -> None:
    """Or is refused."""
    try:
        kept = checked_directory(written)
    except ValueError:
        return
    path = PurePosixPath("/media" + kept)
    assert ".." not in path.parts
    assert path.is_relative_to("/media")
    assert checked_directory(kept) == kept

"""What `spoolhouse up` says of the places that copies go to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from api.supervisor import _tell_choices
from streams.settings import Settings


def told(settings: Settings) -> list[str]:
    lines: list[str] = []
    _tell_choices(settings, lines.append)
    return lines


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({}, "S3         not configured"),
        ({"s3_bucket": "videos"}, "S3         s3://videos"),
        ({"s3_endpoint": "http://s3:9000"}, "S3         s3://videos at http://s3:9000"),
        ({"s3_endpoint": "file:///mnt/other-disk/"}, "S3         file:///mnt/other-disk/videos"),
        ({"drive_folder_id": "abc"}, "Drive      DRIVE_FOLDER_ID without credentials.json: uploads will say so"),
        ({"drive_folder_id": "abc", "drive_credentials": "/key.json"}, "Drive      folder abc"),
        ({"drive_credentials": "/key.json"}, "Drive      /key.json without DRIVE_FOLDER_ID: uploads will say so"),
    ],
)
def test_says_where_copies_go(make_settings: Callable[..., Settings], chosen: dict[str, str], line: str) -> None:
    assert line in told(make_settings(**chosen))


def test_a_key_in_the_working_directory_is_seen(make_settings: Callable[..., Settings], clean_env: Path) -> None:
    (clean_env / "credentials.json").write_text("{}")
    assert "Drive      folder abc" in told(make_settings(drive_folder_id="abc"))

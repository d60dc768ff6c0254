"""URLs of watched files, as contract 2 has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from projections.urls import des_url
from streams.settings import Settings


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/srv/media/a.mp4", "http://host/media/a.mp4"),
        ("/srv/media//sub/../a b.mp4", "http://host/media/a%20b.mp4"),
        ("/srv/media/ä#?%.mp4", "http://host/media/%C3%A4%23%3F%25.mp4"),
        ("/srv/media/bad\udcff.mp4", "http://host/media/bad%FF.mp4"),
        ("/storage/pc/x/y.mp4", "https://storage/v/x/y.mp4"),
        ("/storage/pcs/y.mp4", "http://host/storage/pcs/y.mp4"),
        ("/srvx/a.mp4", "http://host/srvx/a.mp4"),
    ],
)
def test_a_url_is_the_base_and_the_path_below_it(make_settings: Callable[..., Settings], path: str, url: str) -> None:
    """Normalised, percent-encoded, without doubled slashes."""
    settings = make_settings(
        base_url="http://host/", base_path="/srv/", storage_dir="/storage/pc", storage_url="https://storage/v/"
    )
    assert des_url(settings, path) == url


def test_without_a_base_path_it_is_relative_to_the_watched_root(make_settings: Callable[..., Settings]) -> None:
    """The embedded default."""
    settings = make_settings(watch="/inbox,/more", port="8123")
    assert des_url(settings, "/more/sub/a.mp4") == "http://127.0.0.1:8123/sub/a.mp4"

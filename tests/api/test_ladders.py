"""Ladders for adaptive streaming: the master playlist, its rungs' playlists, and their media."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams.media import Rendition
from streams.settings import Settings
from tests.api.films import VIDEO, Films, running_films
from tests.api.test_streaming import OTHER, fetch

PLACE = f"/processed_videos/{VIDEO}"


@pytest.fixture
async def films(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Films]:
    async with running_films(make_settings(redis_url=redis_url)) as running:
        yield running


def put_rung(films: Films, height: int, content: bytes = b"0123456789" * 100) -> Rendition:
    """A rung whose playlist names its media file."""
    playlist = films.folder / f"{height}-{films.made}.m3u8"
    rung = films.put(
        content,
        kind="hls",
        height=height,
        width=height * 16 // 9,
        bit_rate=height * 1000,
        playlist=str(playlist),
    )
    playlist.write_text(f"#EXTM3U\n#EXTINF:2,\n{rung.id}.mp4\n#EXT-X-ENDLIST\n")
    return rung


async def test_a_ladder(films: Films) -> None:
    """The master names the rungs, each of them its media, all relative to where they stand."""
    small, large = put_rung(films, 180), put_rung(films, 360)
    status, body, headers = await fetch(films, f"{PLACE}/master.m3u8")
    assert status == 200
    assert headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert body.decode().splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        '#EXT-X-STREAM-INF:BANDWIDTH=360000,AVERAGE-BANDWIDTH=4000,RESOLUTION=640x360,CODECS="avc1.64001f,mp4a.40.2"',
        f"hls/{large.id}.m3u8",
        '#EXT-X-STREAM-INF:BANDWIDTH=180000,AVERAGE-BANDWIDTH=4000,RESOLUTION=320x180,CODECS="avc1.64001f,mp4a.40.2"',
        f"hls/{small.id}.m3u8",
    ]
    assert (await fetch(films, f"{PLACE}/master.m3u8", if_none_match=headers["ETag"]))[0] == 304
    status, body, headers = await fetch(films, f"{PLACE}/hls/{large.id}.m3u8")
    assert (status, headers["Content-Type"]) == (200, "application/vnd.apple.mpegurl")
    assert f"\n{large.id}.mp4\n" in body.decode()
    status, body, headers = await fetch(films, f"{PLACE}/hls/{large.id}.mp4", Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, b"0123456789", "bytes 10-19/1000")
    assert headers["ETag"] == f'"{large.sha256}"'


async def test_of_each_height_the_newest(films: Films) -> None:
    old, new = put_rung(films, 180), put_rung(films, 180)
    body = (await fetch(films, f"{PLACE}/master.m3u8"))[1].decode()
    assert new.id in body
    assert old.id not in body


async def test_rungs_whose_files_are_gone_are_not_offered(films: Films) -> None:
    """A player would try them; without any rung it is told how to get them back."""
    small, large = put_rung(films, 180), put_rung(films, 360)
    Path(large.path).unlink()
    assert large.id not in (await fetch(films, f"{PLACE}/master.m3u8"))[1].decode()
    assert (await fetch(films, f"{PLACE}/hls/{large.id}.mp4"))[0] == 409
    assert small.playlist is not None
    Path(small.playlist).unlink()
    for path in ("master.m3u8", f"hls/{small.id}.m3u8"):
        status, body, _ = await fetch(films, f"{PLACE}/{path}")
        assert (status, json.loads(body)["status"]) == (409, "missing")
    films.known.rows[large.id] = {"state": "offloaded"}
    status, body, _ = await fetch(films, f"{PLACE}/master.m3u8")
    assert (status, json.loads(body)["status"]) == (409, "offloaded")


async def test_no_ladder(films: Films) -> None:
    """404 where the video plays as one file, 409 where nothing was made of it yet."""
    assert (await fetch(films, f"{PLACE}/master.m3u8"))[0] == 404
    films.know()
    assert (await fetch(films, f"{PLACE}/master.m3u8"))[0] == 409
    one = films.put(b"film")
    status, body, _ = await fetch(films, f"{PLACE}/master.m3u8")
    assert status == 404
    assert PLACE in json.loads(body)["error"]
    for path in (f"hls/{one.id}.m3u8", f"hls/{one.id}.mp4", f"hls/{OTHER}.m3u8", "hls/..%2f..%2fsecret.mp4"):
        assert (await fetch(films, f"{PLACE}/{path}"))[0] == 404


async def test_playlists_lie_in_the_folder(films: Films, tmp_path: Path) -> None:
    """Nothing else is read, whatever the catalogue says."""
    (tmp_path / "secret").write_text("secret")
    rung = films.put(b"media", kind="hls", playlist=str(tmp_path / "secret"))
    assert (await fetch(films, f"{PLACE}/hls/{rung.id}.m3u8"))[0] == 409
    link = films.folder / "link.m3u8"
    link.symlink_to(tmp_path / "secret")
    rung = films.put(b"media", kind="hls", playlist=str(link))
    assert (await fetch(films, f"{PLACE}/hls/{rung.id}.m3u8"))[0] == 409

"""Posters, sheets of small pictures, and metadata documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from api.handlers.previews import likes_webp
from streams.settings import Settings
from tests.api.films import VIDEO, Films, running_films
from tests.api.test_streaming import OTHER, fetch

CUES = b"WEBVTT\n\n00:00:00.000 --> 00:00:05.000\nsprite.jpg#xywh=0,0,160,90\n"
CONTENTS = {"poster.jpg": b"jpeg", "poster.webp": b"webp", "sprite.jpg": b"sheet", "thumbnails.vtt": CUES}


@pytest.fixture
async def films(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Films]:
    async with running_films(make_settings(redis_url=redis_url)) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "body", "mime"),
    [
        ("poster", b"jpeg", "image/jpeg"),
        ("poster?format=jpg", b"jpeg", "image/jpeg"),
        ("poster?format=webp", b"webp", "image/webp"),
        ("sprite", b"sheet", "image/jpeg"),
        ("sprite.jpg", b"sheet", "image/jpeg"),
        ("thumbnails.vtt", CUES, "text/vtt; charset=utf-8"),
    ],
)
async def test_pictures(films: Films, path: str, body: bytes, mime: str) -> None:
    """With their types, an entity tag of their content, and 304 where the caller has it."""
    films.previews(CONTENTS)
    status, got, headers = await fetch(films, f"/api/videos/{VIDEO}/{path}")
    assert (status, got, headers["Content-Type"]) == (200, body, mime)
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert headers["Cache-Control"] == "private, max-age=300"
    assert headers["Access-Control-Allow-Origin"] == "*"
    status, got, _ = await fetch(films, f"/api/videos/{VIDEO}/{path}", if_none_match=headers["ETag"])
    assert (status, got) == (304, b"")
    status, got, headers = await fetch(films, f"/api/videos/{VIDEO}/{path}", "HEAD")
    assert (status, got, headers["Content-Length"]) == (200, b"", str(len(body)))


@pytest.mark.parametrize(
    ("accept", "webp"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", True),
        ("image/webp", True),
        ("image/jpeg, image/webp;q=0.5", False),
        ("image/webp;q=0.9, image/jpeg;q=0.9", True),
        ("image/webp;q=0", False),
        ("image/webp;q=lots", False),
        ("*/*", False),
        ("image/*", False),
        ("", False),
        (";;;,,=", False),
    ],
)
async def test_which_poster(films: Films, accept: str, webp: bool) -> None:
    """What the caller likes better; caches are told that it depends on that."""
    assert likes_webp(accept) is webp
    films.previews(CONTENTS)
    status, body, headers = await fetch(films, f"/api/videos/{VIDEO}/poster", Accept=accept)
    assert (status, body) == (200, b"webp" if webp else b"jpeg")
    assert "Accept" in headers["Vary"]


async def test_vary_names_both_reasons(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """The caller's taste and its origin."""
    async with running_films(make_settings(redis_url=redis_url, cors_origins="https://example.com")) as films:
        films.previews(CONTENTS)
        headers = (await fetch(films, f"/api/videos/{VIDEO}/poster", Origin="https://example.com"))[2]
        assert headers["Vary"] == "Accept, Origin"
        assert "Content-Range" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", ["poster", "sprite", "sprite.jpg", "thumbnails.vtt"])
async def test_no_pictures(films: Films, path: str) -> None:
    """404, and why."""

    async def words() -> str:
        status, body, _ = await fetch(films, f"/api/videos/{VIDEO}/{path}")
        assert status == 404
        return str(json.loads(body)["error"])

    assert "no video" in await words()
    films.know()
    assert "SPOOLHOUSE_PREVIEWS" in await words()
    films.stands("previews", "processing")
    assert "yet" in await words()
    films.stands("previews", "failed", "there is no picture in it")
    assert "there is no picture in it" in await words()
    films.previews({})
    assert "not there" in await words() or "length is not known" in await words()
    assert (await fetch(films, f"/api/videos/nothing/{path}"))[0] == 404


async def test_pictures_lie_in_their_folder(films: Films) -> None:
    """Nothing else is shown, whatever the catalogue says."""
    files = films.previews(CONTENTS)
    secret = films.folder / "poster.jpg"
    secret.write_bytes(b"secret")
    films.know(OTHER, previews=type(files)(1, str(secret), str(secret), None, None, 1, 1))  # type: ignore[arg-type]
    assert (await fetch(films, f"/api/videos/{OTHER}/poster"))[0] == 404
    status, body, _ = await fetch(films, f"/api/videos/{VIDEO}/poster?format=gif")
    assert status == 400
    assert b"format" in body


async def test_metadata(films: Films) -> None:
    """The document, under the names that the video goes by here; 304 where the caller has it."""
    document: dict[str, Any] = {"container": {"name": "avi"}, "streams": [{"codec": "cinepak"}], "duration": 2.5}
    films.know(metadata=document, filename="Lesson \\xff.avi", revision=3)
    status, body, headers = await fetch(films, f"/metadata/{VIDEO}.json")
    assert status == 200
    assert json.loads(body) == {**document, "file_id": VIDEO, "filename": "Lesson \\xff.avi", "revision": 3}
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert (await fetch(films, f"/metadata/{VIDEO}.json", if_none_match=headers["ETag"]))[:2] == (304, b"")


async def test_no_metadata(films: Films) -> None:
    """404 for what is not there, 409 with the status for what is not finished or failed."""
    for nothing in (VIDEO, "nothing", "..%2f..%2fsecret"):
        assert (await fetch(films, f"/metadata/{nothing}.json"))[0] == 404
    films.know()
    for state, error in ((None, None), ("queued", None), ("processing", None), ("failed", "it is no video")):
        if state is not None:
            films.stands("metadata-extraction", state, error)  # type: ignore[arg-type]
        status, body, _ = await fetch(films, f"/metadata/{VIDEO}.json")
        said = json.loads(body)
        assert (status, said["file_id"], said["status"]) == (409, VIDEO, state or "none")
        assert (error or "") in said["error"]

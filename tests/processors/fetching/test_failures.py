"""What yt-dlp says, sorted."""

from __future__ import annotations

import io

import pytest
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UserNotLive

from processors.fetching.failures import failure_of, reason_of, waited
from processors.fetching.printable import line, lines, web_url
from processors.ports import FINAL_FAILURES

SAID = {
    "This video is DRM protected": "drm",
    "Sign in to confirm your age. This video may be inappropriate for some users": "age",
    "Private video. Sign in if you've been granted access to this video": "login",
    "This video is private": "private",
    "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the authentication": "login",
    "This video is only available for registered users. Use --cookies, --username and --password": "login",
    "Join this channel to get access to members-only content": "payment",
    "This video requires payment to watch": "payment",
    "The uploader has not made this video available in your country": "geo",
    "Video unavailable. This video has been removed by the uploader": "gone",
    "Video unavailable. This video is no longer available because the account has been terminated": "gone",
    "This video does not exist": "gone",
    "Requested format is not available. Use --list-formats for a list of available formats": "format",
    "The page says: too many requests, try again later": "limited",
    "Unable to extract title; please report this issue on  https://github.com/yt-dlp": "extractor",
    "No video formats found!": "extractor",
    "Something new": "extractor",
}


@pytest.mark.parametrize(("words", "kind"), SAID.items())
def test_words(words: str, kind: str) -> None:
    """As extractors put them."""
    failed = failure_of(wrapped(ExtractorError(words, expected=True, video_id="x1", ie="Some:site")))
    assert failed.kind == kind
    assert "--" not in failed.reason
    assert "report" not in failed.reason
    if kind in {"age", "login", "private", "payment"}:
        assert "SPOOLHOUSE_COOKIES_DIR" in failed.advice


def wrapped(error: Exception) -> Exception:
    """As YoutubeDL raises it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise DownloadError(f"\x1b[0;31mERROR:\x1b[0m {inner}", (type(inner), inner, None))  # noqa: B904
    except DownloadError as outer:
        return outer


def answered(status: int, **headers: str) -> HTTPError:
    """An answer of a server."""
    return HTTPError(Response(io.BytesIO(), "http://x/", headers, status))


def test_answers() -> None:
    """By status; while a file is fetched a 403 may pass."""
    cases = {401: "login", 404: "gone", 410: "gone", 429: "limited", 451: "geo", 500: "server", 503: "server"}
    for status, kind in cases.items():
        cause = answered(status, **{"Retry-After": "5"})
        failed = failure_of(wrapped(ExtractorError("Unable to download webpage", cause=cause)))
        assert (failed.kind, failed.retry_after) == (kind, 5.0)
    assert failure_of(answered(403)).kind == "login"
    assert failure_of(answered(403), fetching=True).kind == "limited"
    assert {"login", "gone", "geo"} <= FINAL_FAILURES
    assert not {"limited", "server"} & FINAL_FAILURES


def test_kinds_of_exceptions() -> None:
    """Where yt-dlp has a class of its own, its words do not matter."""
    assert failure_of(wrapped(GeoRestrictedError("no", countries=["DE"]))).kind == "geo"
    assert failure_of(wrapped(UserNotLive())).kind == "live"
    assert failure_of(wrapped(TransportError("gone away"))).kind == "network"
    assert failure_of(OSError(28, "No space left on device"), fetching=True).kind == "no_space"
    assert failure_of(DownloadError("unable to write data: [Errno 28] No space left")).kind == "no_space"
    assert failure_of(OSError(30, "Read-only file system"), fetching=True).kind == "unwritable"
    assert failure_of(MemoryError()).kind == "memory"
    assert failure_of(ValueError("what")).kind == "crashed"


def test_reasons() -> None:
    """One printable line without prefixes, boilerplate and secrets."""
    assert reason_of("ERROR: [youtube] abc-1: Video unavailable") == "Video unavailable"
    assert reason_of("\x1b[0;31mERROR:\x1b[0m [generic] Unable to x; please report this issue on y") == "Unable to x"
    assert reason_of("cannot reach http://download:t0ken@127.0.0.1:99", ["t0ken"]) == "cannot reach http://127.0.0.1:99"
    assert len(reason_of("x" * 10_000)) == 1000
    assert reason_of("")


def test_waiting() -> None:
    """Seconds, dates, nonsense."""
    assert waited("120") == 120.0
    assert waited("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert waited("1e99") == 24 * 3600.0
    assert [waited(text) for text in ("", None, "soon", "nan")] == [None] * 4


def test_text() -> None:
    """What steers is gone, what is text stays."""
    assert line("a\x00b\r\n\x1b[31mc\x1b[0m \u202edef\u202c 👩‍👩‍👧\ud800", 99) == "a b c def 👩‍👩‍👧"
    assert line(["no text"], 99) == ""
    assert lines("one\r\ntwo\x07\rthree", 99) == "one\ntwo \nthree"
    assert web_url("javascript:alert(1)") is None
    assert web_url("https://x/\n") is None
    assert web_url("HTTPS://x/y") == "HTTPS://x/y"

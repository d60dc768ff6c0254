"""yt-dlp, set up for one question: what it may do, and our eye on everything that it opens. In the child."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yt_dlp import YoutubeDL
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.networking import Request

from processors.children.answering import Tell
from processors.fetching import choosing
from processors.fetching.failures import COOKIES, FORMAT, FailedError
from processors.fetching.printable import line
from processors.fetching.resuming import PartFile
from streams.download_config import MAX_LIST, DownloadConfig

MAX_PAGE = 64 * 2**20
"""Bytes of a page, a manifest or whatever is read whole."""

MAX_COOKIES = 2**20
"""Bytes of a file of cookies."""

MAX_WARNINGS = 20

_BLOCK = 2**20


@dataclass(frozen=True)
class Surroundings:
    """What a child works with, besides the question. The fields of `told_surroundings`, as they come."""

    proxy: str | None = None
    cookies: str | None = None
    """The folder."""
    extractor_args: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
    max_size: int = 2**63
    """Bytes of one file."""
    socket_timeout: float = 20.0
    """Seconds."""
    seconds: float = 3600.0
    """That all of it may take."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """Of JavaScript: name → path."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be told."""
        token = re.search(r":([^:/@]+)@", self.proxy or "")
        return (*([self.proxy] if self.proxy else ()), *([token[1]] if token else ()))


class Notes:
    """What yt-dlp says meanwhile: warnings are kept, the rest is not heard."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.warnings: list[str] = []
        self._secrets = secrets

    def debug(self, message: str) -> None:
        """Not heard."""

    info = error = debug

    def warning(self, message: str) -> None:
        """Kept, if it is worth it."""
        text = line(message, 300).removeprefix("WARNING: ")
        for secret in self._secrets:
            text = text.replace(secret, "…")
        if "generic information extractor" in text or "direct video link" in text:
            return
        if text and text not in self.warnings and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)


class Engine(YoutubeDL):  # type: ignore[misc]
    """yt-dlp for one question. Close it."""

    def __init__(self, config: DownloadConfig, around: Surroundings, tell: Tell) -> None:
        self.part: PartFile | None = None
        """The file of one piece that is being fetched."""
        self.tell, self.around, self.config = tell, around, config
        self.notes = Notes(around.secrets)
        self._alive_at = 0.0
        try:
            super().__init__(_options(config, around, self.notes))
        except SyntaxError as error:
            raise FailedError("format", f"the format cannot be understood: {error}", FORMAT) from error

    def urlopen(self, req: Any) -> Any:
        """Everything that yt-dlp opens comes by here."""
        request = Request(req) if isinstance(req, str) else req
        self.alive()
        if self.part is not None:
            return self.part.urlopen(super().urlopen, request)
        return self._bounded(super().urlopen(request))

    def alive(self) -> None:
        """Tell that something goes on, now and then."""
        now = time.monotonic()
        if now - self._alive_at >= 1:
            self._alive_at = now
            self.tell({"alive": {}})

    def _bounded(self, response: Any) -> Any:
        """A response that is read to a bound at most; yt-dlp reads pages whole, however long."""
        read, had = response.read, 0

        def bounded(amount: int | None = None) -> bytes:
            nonlocal had
            if amount is not None and amount >= 0:
                data: bytes = read(amount)
                had += len(data)
                if had > MAX_PAGE:
                    raise FailedError("invalid", f"a page or list has more than {MAX_PAGE >> 20} MiB")
                self.alive()
                return data
            blocks = []
            while block := bounded(_BLOCK):
                blocks.append(block)
            return b"".join(blocks)

        response.read = bounded
        return response


def _options(config: DownloadConfig, around: Surroundings, notes: Notes) -> dict[str, Any]:
    return {
        "logger": notes,
        "quiet": True,
        "noprogress": True,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "cachedir": False,
        "ignoreerrors": False,
        "enable_file_urls": False,
        "proxy": around.proxy or "",
        "socket_timeout": around.socket_timeout,
        "cookiefile": _cookies(config, around),
        "extractor_args": {site: dict(args) for site, args in around.extractor_args.items()},
        "js_runtimes": {name: {"path": path} for name, path in around.runtimes.items()},
        # A URL of one video within a list is that video; the list has a URL of its own.
        "noplaylist": True,
        "default_search": "error",
        "playlistend": MAX_LIST + 1,
        "format": choosing.selector(config),
        "format_sort": choosing.order(config),
        "writesubtitles": bool(config.subtitles),
        "writeautomaticsub": config.auto_subtitles and bool(config.subtitles),
        "subtitleslangs": list(config.subtitles),
        "subtitlesformat": "srt/vtt/ass/best",
        "continuedl": True,
        "nopart": False,
        "updatetime": False,
        "retries": 3,
        "fragment_retries": 3,
        "file_access_retries": 0,
        "extractor_retries": 2,
        "retry_sleep_functions": {"http": _pause, "fragment": _pause, "extractor": _pause},
        # A film with holes is not what was asked for.
        "skip_unavailable_fragments": False,
        "hls_prefer_native": True,
        # Nothing of ffmpeg is wanted: our own studio puts the parts together.
        "ffmpeg_location": "/nonexistent",
        "fixup": "never",
        "ratelimit": config.rate_limit,
        "sleep_interval_requests": config.sleep or None,
    }


def _pause(n: int) -> float:
    """Seconds until the retry after `n` others: yt-dlp names it so."""
    return float(min(0.5 * 2**n, 5))


def _cookies(config: DownloadConfig, around: Surroundings) -> io.StringIO | None:
    """The cookies, in memory: yt-dlp writes them back to where it has them from. Raises FailedError."""
    if config.cookies is None or around.cookies is None:
        return None
    path = Path(around.cookies) / config.cookies
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_COOKIES + 1)
    except (OSError, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FailedError("login", f"the file with cookies {config.cookies} cannot be read: {told}", COOKIES) from error
    if len(text) > MAX_COOKIES:
        raise FailedError(
            "login", f"the file with cookies {config.cookies} has more than {MAX_COOKIES >> 20} MiB", COOKIES
        )
    try:
        YoutubeDLCookieJar(io.StringIO(text)).load()
    except Exception as error:
        reason = f"the file with cookies {config.cookies} is not in Netscape's format"
        raise FailedError("login", reason, COOKIES) from error
    return io.StringIO(text)

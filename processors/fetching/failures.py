"""Why a download failed, sorted into the kinds of `ports.FetchFailure`, from what yt-dlp raises. In the child."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    ExtractorError,
    GeoRestrictedError,
    RegexNotFoundError,
    UnsupportedError,
    UserNotLive,
)

from processors.fetching.printable import line

COOKIES = (
    "Where you may see it: save your browser's cookies for that site in Netscape's format in the folder "
    "SPOOLHOUSE_COOKIES_DIR, and name the file by PATCH /config (`cookies`)."
)
LIVE = "PATCH /config with `wait_for_live` (SPOOLHOUSE_DOWNLOAD_WAIT_FOR_LIVE) has streams waited for and recorded."
SIZE = (
    "SPOOLHOUSE_DOWNLOAD_MAX_SIZE says how many bytes one file may have; PATCH /config with `max_height` asks for less."
)
MEMORY = "SPOOLHOUSE_DOWNLOAD_MEMORY says how much memory a download may take."
FORMAT = "Ask for another `format`, or leave it out."
PROXY = "Where a country is the reason, SPOOLHOUSE_DOWNLOAD_PROXY says through which proxy downloads go out."
CURRENT = "Sites change: a newer yt-dlp may know it (requirements.lock)."

LONGEST_WAIT = 24 * 3600.0
"""Seconds that a server may ask us to wait."""

_CHAIN = 20


class FailedError(Exception):
    """A download failed, and we know why."""

    def __init__(
        self, kind: str, reason: str, advice: str = "", *, retry_after: float | None = None, begins: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.advice = kind, reason, advice
        self.retry_after = retry_after
        self.begins = begins
        """Seconds since 1970."""

    def told(self) -> dict[str, Any]:
        """The fields of `ports.FetchFailure`."""
        begins = None if self.begins is None else datetime.fromtimestamp(self.begins, UTC).isoformat()
        return {
            "kind": self.kind,
            "reason": self.reason,
            "advice": self.advice,
            "retry_after": self.retry_after,
            "begins": begins,
        }


@dataclass(frozen=True)
class _Sign:
    """Words of a site or of yt-dlp, and what they mean."""

    kind: str
    words: re.Pattern[str]
    advice: str = ""


def _sign(kind: str, words: str, advice: str = "") -> _Sign:
    return _Sign(kind, re.compile(words, re.IGNORECASE), advice)


# The first that fits: what is said more exactly stands above.
_SIGNS = (
    _sign("drm", r"\bDRM\b"),
    _sign("age", r"confirm your age|age[- ](?:restrict|gate|verif|limit)|inappropriate for some users", COOKIES),
    _sign("limited", r"too many requests|rate[- ]?limit|try again later|temporarily (?:blocked|banned)"),
    _sign("payment", r"members[- ]only|join this channel|requires? (?:payment|purchase|a subscription)|"
          r"premium|subscribers? only|(?:rent|buy|purchase) (?:this|it|the)|pay[- ]?per|paid", COOKIES),
    _sign("login", r"sign in|log[- ]?in\b|logged[- ]in|registered users|authenticat|not a bot|"
          r"password[- ]protected|--cookies|--username|--video-password", COOKIES),
    _sign("private", r"\b(?:is|video|playlist|account|set to) private\b|private (?:video|account|playlist)", COOKIES),
    _sign("geo", r"geo[- ]?(?:restrict|block)|your (?:country|location|region)|outside of", PROXY),
    _sign("gone", r"(?:been|was) (?:removed|deleted|taken down|terminated)|no longer (?:available|exist)|does ?n.t exist|"
          r"does not exist|not found|video unavailable|(?:isn't|is not|not) available (?:any ?more)|terminated"),
    _sign("format", r"requested format is not available|invalid format|only images are available", FORMAT),
    _sign("no_space", r"no space left|disk quota exceeded|\[errno (?:28|122)\]"),
    _sign("too_large", r"\[errno 27\]|file too large", SIZE),
    _sign("unwritable", r"unable to (?:open for writing|write data|create directory)"),
    _sign("refused", r"no connection adapters|unsupported url scheme|file:// urls"),
    _sign("unsupported", r"unsupported url|no suitable extractor|is not a valid url"),
    _sign("network", r"timed? ?out|connection (?:reset|refused|aborted|broken)|bytes read|remote end closed|"
          r"name or service not known|temporary failure in name|downloaded file is empty|got error"),
    _sign("extractor", r"unable to (?:extract|parse)|no video formats found|failed to parse", CURRENT),
)  # fmt: skip

_ADVICE = {sign.kind: sign.advice for sign in _SIGNS} | {"too_large": SIZE, "memory": MEMORY}

_DISK = {errno.ENOSPC: "no_space", errno.EDQUOT: "no_space", errno.EFBIG: "too_large"}
_WRITING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def failure_of(error: BaseException, *, fetching: bool = False, secrets: Sequence[str] = ()) -> FailedError:
    """What an exception means. `fetching`: the page was read already, this is about the file.

    `secrets` are blotted out of the reason.
    """
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, FailedError):
            return FailedError(
                one.kind,
                reason_of(one.reason, secrets),
                one.advice or _ADVICE.get(one.kind, ""),
                retry_after=one.retry_after,
                begins=one.begins,
            )
    reason = reason_of(_words(chain), secrets)
    kind, retry_after = _kind(chain, reason, fetching=fetching)
    return FailedError(kind, reason, _ADVICE.get(kind, ""), retry_after=retry_after)


def _kind(chain: list[BaseException], reason: str, *, fetching: bool) -> tuple[str, float | None]:
    """The kind, and how long the server wants us to wait."""
    for one in chain:
        if isinstance(one, MemoryError):
            return "memory", None
        if isinstance(one, UnsupportedError):
            return "unsupported", None
        if isinstance(one, GeoRestrictedError):
            return "geo", None
        if isinstance(one, UserNotLive):
            return "live", None
        if isinstance(one, HTTPError) and one.redirect_loop:
            return "unsupported", None
        if isinstance(one, OSError) and one.errno in _DISK:
            return _DISK[one.errno], None
    return _kind_of_answer(chain, reason, fetching=fetching)


def _kind_of_answer(chain: list[BaseException], reason: str, *, fetching: bool) -> tuple[str, float | None]:
    answer = next((one for one in chain if isinstance(one, HTTPError)), None)
    said = _said(reason)
    if answer is not None:
        retry_after = waited(answer.response.get_header("Retry-After"))
        if said not in {None, "gone", "network", "extractor"} and answer.status in {401, 403}:
            return str(said), retry_after
        return _of_status(answer.status, fetching=fetching), retry_after
    if said == "refused":
        return said, None
    for one in chain:
        if isinstance(one, (TransportError, ContentTooShortError)):
            return "network", None
        if isinstance(one, OSError) and one.errno in _WRITING and fetching:
            return "unwritable", None
    if said is not None:
        return said, None
    if any(isinstance(one, (RegexNotFoundError, ExtractorError)) for one in chain):
        return "extractor", None
    if any(isinstance(one, RequestError) for one in chain):
        return "network", None
    return "crashed", None


def _said(reason: str) -> str | None:
    return next((sign.kind for sign in _SIGNS if sign.words.search(reason)), None)


def _of_status(status: int, *, fetching: bool) -> str:
    if status >= 500:
        return "server"
    if status == 403:
        # A file's address may have run out since the page told it: worth reading the page again.
        return "limited" if fetching else "login"
    return {
        401: "login", 402: "payment", 404: "gone", 408: "network", 410: "gone", 416: "network", 425: "limited",
        429: "limited", 451: "geo",
    }.get(status, "extractor")  # fmt: skip


def waited(header: str | None) -> float | None:
    """Seconds of a `Retry-After`: seconds, or a date."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None  # noqa: PLR0124 - nan


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, the outermost first."""
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting and len(seen) < _CHAIN:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        info = getattr(one, "exc_info", None)
        waiting += [
            info[1] if isinstance(info, tuple) and len(info) == 3 else None,
            getattr(one, "cause", None),
            one.__cause__,
            one.__context__,
        ]
    return iter(seen)


def _words(chain: list[BaseException]) -> str:
    """What yt-dlp says, without what it says around it."""
    for one in chain:
        if isinstance(one, ExtractorError):
            return str(one.orig_msg)
    return str(chain[0]) or type(chain[0]).__name__


def reason_of(words: str, secrets: Sequence[str] = ()) -> str:
    """A reason for people: one line, without colours, prefixes, hints at yt-dlp's own options, and secrets."""
    text = line(words, 4000)
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    text = re.sub(r"(https?://)[^/\s@]+@", r"\1", text)
    text = re.sub(r"HTTPS?ConnectionPool\([^)]*\):\s*", "", text)  # it names the proxy
    text = re.sub(r"^(?:ERROR:\s*)+", "", text)
    text = re.sub(r"^\[[\w:.+-]+\]\s+(?:[^\s:]+:\s+)?", "", text)
    text = re.split(r"[;.,]?\s*(?:please report this issue|Confirm you are on the latest|\(caused by )", text)[0]
    text = re.sub(
        r"\s*(?:Use|See|Try|You can use|You might want to use|Also see)\b[^.]*(?:--[a-z]|VPN|yt-dlp/wiki).*$", "", text
    )
    return text.strip(" ;")[:1000] or "it failed, and yt-dlp does not say why"

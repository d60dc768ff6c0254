"""What went wrong at Google, in our kinds of failure and in words that a person can act on.

The words never hold a token or an upload session's address, so the client library's own texts,
which do, are not passed on.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Literal

import httplib2
import orjson
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

from processors.storage.drive_account import DRIVE, LOOK_AGAIN, Account
from streams.errors import DependencyDownError, SpoolhouseError, TransientError

A_MINUTE, AN_HOUR = 60.0, 3600.0
"""Seconds."""

LATER = (10.0, 30.0)
"""Seconds until the next attempt where Drive does not say when: an overload is not over after one of them."""

About = Literal["folder", "file", "upload", "account"]
"""What was asked for: it decides what a 403 or a 404 means."""

NETWORK = (OSError, http.client.HTTPException, httplib2.HttpLib2Error, TransportError)
"""What a connection that does not work raises."""

_SLOW_DOWN = frozenset({"userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded"})
_FOR_TODAY = frozenset({"dailyLimitExceeded", "dailyLimitExceededUnreg", "uploadLimitExceeded", "quotaExceeded"})
_FULL = frozenset({"storageQuotaExceeded", "teamDriveFileLimitExceeded", "activeItemCreationLimitExceeded"})
_SWITCHED_OFF = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})

LIMIT_OF_THE_DAY = "User rate limit exceeded."
"""The whole message where 750 GB were uploaded in a day; Google gives it the reason of a rate limit."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not a success."""

    status: int
    reason: str
    """Google's own word, such as `rateLimitExceeded`; empty where there is none."""
    message: str
    """Google's own text; a few words."""
    retry_after: float | None = None
    """Seconds that the server asks for."""

    def __str__(self) -> str:
        """In words, with Google's own."""
        parts = [part for part in (self.reason, self.message) if part]
        return f"HTTP {self.status}" + (f" ({': '.join(parts)})" if parts else "")


class RefusedError(Exception):
    """Drive answered with a refusal; to be sorted."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class AccountRefusedError(DependencyDownError):
    """Google turned the credentials away: asking again does not help until the file changes, or some time has passed."""


class PassingError(Exception):
    """It may work in a moment. `final` is what to raise when it did not."""

    def __init__(self, final: SpoolhouseError, *, wait: float | None = None, tries: int = 5) -> None:
        super().__init__(str(final))
        self.final, self.wait, self.tries = final, wait, tries


def refusal(response: Any, content: bytes) -> Refusal:
    """What an answer of Google's says, in any of the forms it has."""
    reason = message = ""
    try:
        told = orjson.loads(content)["error"]
        message = str(told.get("message", ""))
        reason = str(told["errors"][0]["reason"]) if told.get("errors") else str(told.get("status", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        pass
    wait = response.get("retry-after", "")
    return Refusal(
        int(response.status), reason[:100], " ".join(message.split())[:300], float(wait) if wait.isdigit() else None
    )


def sorted_refusal(told: Refusal, about: About, account: Account) -> Exception:
    """The failure that a refusal is: PassingError, DependencyDownError or TransientError."""
    if told.status == 429 or told.status >= 500 or told.status == 408 or told.reason in _SLOW_DOWN:
        limit = about == "upload" and told.reason in _SLOW_DOWN and told.message == LIMIT_OF_THE_DAY
        later = told.retry_after or random.uniform(*LATER)
        final = (
            _for_today(told) if limit else TransientError(f"Drive asks to come back later: {told}", retry_after=later)
        )
        return PassingError(final, wait=told.retry_after)
    if told.status == 401:
        return refused_account(account, f"Drive does not accept the token: {told}")
    if told.status == 403:
        return _forbidden(told, about, account)
    if told.status == 404 and about in {"folder", "upload"}:
        return _down(f"the folder is not there or not visible: {_share(account)} and check DRIVE_FOLDER_ID ({told})")
    return TransientError(f"Drive answered {told}")


def refused_account(account: Account, words: str) -> DependencyDownError:
    """Google turned the account away."""
    advice = (
        "Is the key still listed for this service account, and the clock of this machine right?"
        if account.kind == "service account"
        else "The token was revoked or is too old (those of an OAuth app in testing mode live 7 days): "
        "publish the app, or sign in again and put the new token into the credentials file"
    )
    return AccountRefusedError(DRIVE, f"{words}. {advice}", retry_after=LOOK_AGAIN, unreachable=False)


def sorted_failure(error: Exception, account: Account) -> Exception:
    """The failure that an exception of the client library is."""
    if isinstance(error, RefreshError):
        if error.retryable:
            return PassingError(DependencyDownError(DRIVE, "Google's token service fails just now"))
        return refused_account(account, f"Google gives no token for the {account.kind}: {_told(error)}")
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return refused_account(account, f"no token can be had for the {account.kind}")
    cause: BaseException = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    if isinstance(cause, TimeoutError):
        return DependencyDownError(DRIVE, "no answer in time")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return DependencyDownError(DRIVE, f"its certificate is not accepted: {cause.verify_message}")
    if isinstance(cause, httplib2.ServerNotFoundError | socket.gaierror):
        return PassingError(DependencyDownError(DRIVE, "its name cannot be looked up"), tries=2)
    if isinstance(cause, ConnectionRefusedError):
        return PassingError(DependencyDownError(DRIVE, "connection refused"), tries=2)
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or type(cause).__name__
    return PassingError(DependencyDownError(DRIVE, words[:200]))


def _forbidden(told: Refusal, about: About, account: Account) -> SpoolhouseError:
    if told.reason in _FOR_TODAY:
        return _for_today(told)
    if told.reason in _FULL:
        advice = (
            "service accounts have no storage quota of their own: use a folder in a shared drive, or an OAuth user"
            if account.kind == "service account"
            else "make room in Drive or buy more"
        )
        return _down(f"there is no room: {advice} ({told})")
    if told.reason in _SWITCHED_OFF or "SERVICE_DISABLED" in told.message:
        return _down(f"the Drive API is switched off in the Google Cloud project: enable it there ({told})")
    if told.reason in {"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}:
        return _down(f"the token is not made for Drive: sign in again with the scope {_SCOPE} ({told})")
    if about in {"folder", "upload"}:
        return _down(f"nothing may be put into the folder: {_share(account)} as an editor ({told})")
    if about == "account":
        return _down(f"Drive turns us away: {told}")
    return TransientError(f"Drive does not allow it: {told}")


_SCOPE = "https://www.googleapis.com/auth/drive"


def _for_today(told: Refusal) -> DependencyDownError:
    return _down(
        f"the limit for today is reached (750 GB a day may be uploaded): it goes on by itself ({told})", AN_HOUR
    )


def _down(words: str, retry_after: float = A_MINUTE) -> DependencyDownError:
    return DependencyDownError(DRIVE, words, retry_after=retry_after, unreachable=False)


def _share(account: Account) -> str:
    return f"share the folder with {account.email}" if account.email else "share the folder with the signed-in user"


def _told(error: RefreshError) -> str:
    """`invalid_grant: Token has been expired or revoked.`: Google's words; never what we had sent."""
    words = str(error.args[0]) if error.args else "refused"
    return " ".join(words.split())[:200].rstrip(".")

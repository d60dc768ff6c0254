"""Who we are in Google Drive: the credentials file, read again whenever it changes.

Two kinds are taken, told apart by what the file holds: a service account's key, and a user's OAuth
token (as `google-auth` writes it). A person who mends the file need not restart anything.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from google.auth.exceptions import GoogleAuthError
from google.oauth2 import credentials as user_tokens
from google.oauth2 import service_account

from streams.errors import DependencyDownError
from streams.settings import Settings

DRIVE = "Google Drive"

UNUSABLE = "Could not initialize Drive service"
"""How people find in their logs that Drive was never reached."""

SCOPES = ("https://www.googleapis.com/auth/drive",)

LOOK_AGAIN = 5.0
"""Seconds after which a missing or refused credentials file is looked at again: here, not at Google."""

ASK_AGAIN = 60.0
"""Seconds during which Google is not asked about credentials that it refused, unless the file changed."""

LARGEST = 1_000_000
"""Bytes of a credentials file; a real one has 2,500."""


def unusable(reason: str) -> DependencyDownError:
    """Drive cannot even be asked."""
    return DependencyDownError(DRIVE, f"{UNUSABLE}: {reason}", retry_after=LOOK_AGAIN, unreachable=False)


@dataclass(frozen=True, slots=True)
class Account:
    """Readable credentials."""

    kind: Literal["service account", "OAuth user"]
    email: str
    """Whom a folder must be shared with; empty where the file does not say."""
    tokens: Tokens


class Tokens:
    """Access tokens for requests, fetched once for all threads.

    Stands where `AuthorizedHttp` wants credentials. Those of google-auth would also start a thread
    that asks Google for a region, over a connection that is in use.
    """

    def __init__(self, credentials: Any) -> None:
        self._credentials, self._lock = credentials, threading.Lock()

    def before_request(self, request: Any, _method: str, _url: str, headers: dict[str, str]) -> None:
        """Put a valid token into a request's headers. Raises GoogleAuthError, OSError."""
        with self._lock:
            if not self._credentials.valid:
                self._credentials.refresh(request)
            self._credentials.apply(headers)

    def refresh(self, request: Any) -> None:
        """Fetch a new token: Drive did not like the last one. Raises GoogleAuthError, OSError."""
        with self._lock:
            self._credentials.refresh(request)


class Accounts:
    """The account of the credentials file as it is now. Used from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._seen: tuple[Path, int, int] | None = None
        self._account: Account | None = None
        self._refused: tuple[DependencyDownError, float] | None = None

    def current(self) -> Account:
        """The account. Raises DependencyDownError in words where there is none, or Google refused it lately."""
        with self._lock:
            path = self._settings.drive_credentials_file
            if path is None:
                raise unusable(
                    "there is no credentials.json. Put a service account's key or a user's OAuth token there, "
                    "or name the file in SPOOLHOUSE_DRIVE_CREDENTIALS"
                )
            try:
                status = path.stat()
            except OSError as error:
                raise unusable(f"the credentials file {path} cannot be read: {error.strerror}") from None
            seen = (path, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._seen, self._account, self._refused = seen, None, None
            if self._refused is not None and time.monotonic() < self._refused[1]:
                raise self._refused[0]
            if self._account is None:
                self._account = read_account(path)
            return self._account

    def refused(self, account: Account, error: DependencyDownError) -> None:
        """Google turned the account away: do not ask again for a while, unless the file changes."""
        with self._lock:
            if account is self._account:
                self._refused = (error, time.monotonic() + ASK_AGAIN)

    def reconsider(self) -> None:
        """Ask Google again, now: a person wants to know."""
        with self._lock:
            self._refused = None


def read_account(path: Path) -> Account:
    """The account in a credentials file. Raises DependencyDownError saying what is wrong with it; never its content."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST)
    except OSError as error:
        raise unusable(f"the credentials file {path} cannot be read: {error.strerror}") from None
    try:
        told = json.loads(content)
    except ValueError:
        raise unusable(f"{path} is not JSON. Download the key or make the token again") from None
    if not isinstance(told, dict):
        raise unusable(f"{path} holds no credentials. Download the key or make the token again")
    if told.get("type") == "service_account":
        return _service_account(path, told)
    if "refresh_token" in told or told.get("type") == "authorized_user":
        return _user(path, told)
    if "installed" in told or "web" in told:
        raise unusable(
            f"{path} is an OAuth client's secret, not a user's token. Sign in with it once "
            "and put the token that this gives (with its refresh_token) in its place"
        )
    raise unusable(f"{path} is neither a service account's key nor a user's OAuth token")


def _service_account(path: Path, told: dict[str, Any]) -> Account:
    missing = [name for name in ("client_email", "private_key", "token_uri") if not _text(told, name)]
    if missing:
        raise unusable(f"the service account's key in {path} lacks {', '.join(missing)}. Download it again")
    try:
        credentials: Any = service_account.Credentials.from_service_account_info(told, scopes=SCOPES)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, GoogleAuthError):  # their words may quote the key
        raise unusable(f"the private key in {path} is damaged. Download the key again") from None
    return Account("service account", told["client_email"], Tokens(credentials))


def _user(path: Path, told: dict[str, Any]) -> Account:
    missing = [name for name in ("refresh_token", "client_id", "client_secret") if not _text(told, name)]
    if missing:
        raise unusable(
            f"the user's token in {path} lacks {', '.join(missing)}. Sign in again, asking for offline access"
        )
    credentials: Any = user_tokens.Credentials(  # type: ignore[no-untyped-call]
        token=None,
        refresh_token=told["refresh_token"],
        client_id=told["client_id"],
        client_secret=told["client_secret"],
        # The library's own reader would always take Google's address.
        token_uri=_text(told, "token_uri") or "https://oauth2.googleapis.com/token",
    )
    return Account("OAuth user", _text(told, "account"), Tokens(credentials))


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""

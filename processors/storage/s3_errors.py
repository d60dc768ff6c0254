"""What an S3 server, or the lack of one, said: in our words, sorted by who has to wait for what."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientError as HttpError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from streams.errors import DependencyDownError, SpoolhouseError, TransientError

ANY = (BotoCoreError, ClientError, HttpError, OSError)
"""Everything that a request raises on account of the server or the way there."""

NAME = "S3"
SOON = 5.0
"""Seconds until the next try: the log says so, and people grep for it."""
LATER = 60.0
"""Seconds until the next try where a person has to do something first."""

WITHOUT_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
    ProfileNotFound,
    InvalidConfigError,
)

BAD_CREDENTIALS = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"),
        *("InvalidSecurity", "NotSignedUp", "AccountProblem", "InvalidClientTokenId"),
    }
)
PASSING = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "TooManyRequests", "TooManyRequestsException", "Throttling"),
        *("RequestTimeout", "OperationAborted"),
    }
)
FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage", "QuotaExceededException"})

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def code_of(error: BaseException) -> str:
    """S3's error code (`NoSuchKey`; a number where the answer had no body), "" where there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status of the answer, 0 where there was none."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def concerns_credentials(error: BaseException) -> bool:
    """Whether other credentials would help."""
    return isinstance(error, WITHOUT_CREDENTIALS) or code_of(error) in BAD_CREDENTIALS


def explained(error: BaseException, *, bucket: str, endpoint: str, timeout: float, key: str | None) -> SpoolhouseError:
    """What to raise for what a request raised."""
    if isinstance(error, ClientError):
        return _answered(error, bucket, key)
    if isinstance(error, WITHOUT_CREDENTIALS):
        why = f"no credentials ({error}). Set {KEYS}, or use a credentials file or role of AWS's"
        return DependencyDownError(NAME, why, retry_after=LATER, unreachable=False)
    if isinstance(error, SSLError):
        why = f'TLS with "{endpoint}" failed: {error.kwargs.get("error")} (AWS_CA_BUNDLE names further authorities)'
        return DependencyDownError(NAME, why, retry_after=SOON)
    if isinstance(error, ConnectTimeoutError):
        return DependencyDownError(NAME, f'Connect timeout on endpoint URL: "{endpoint}"', retry_after=SOON)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        why = f'Read timeout on endpoint URL: "{endpoint}" (nothing moved for {timeout:g} s)'
        return DependencyDownError(NAME, why, retry_after=SOON)
    if isinstance(error, BotoCoreError) and not hasattr(error, "kwargs"):
        return TransientError(f"S3: {error}")
    inner = error.kwargs.get("error") if isinstance(error, BotoCoreError) else error
    reason = str(getattr(inner, "os_error", inner) or "")
    why = f'Could not connect to the endpoint URL: "{endpoint}"' + (f" ({reason})" if reason else "")
    return DependencyDownError(NAME, why, retry_after=SOON)


def _answered(error: ClientError, bucket: str, key: str | None) -> SpoolhouseError:
    code, status = code_of(error), status_of(error)
    said = str(error.response.get("Error", {}).get("Message", "")).strip()
    place = f"{bucket}/{key}" if key else f"bucket {bucket}"
    if code in BAD_CREDENTIALS or status == 401:
        why = f"the server does not accept the credentials ({code}). Set {KEYS} right"
        return DependencyDownError(NAME, why, retry_after=LATER, unreachable=False)
    if code == "RequestTimeTooSkewed":
        why = "the clocks of this machine and the server differ by too much (RequestTimeTooSkewed). Set them right"
        return DependencyDownError(NAME, why, retry_after=LATER, unreachable=False)
    if code in FULL or status == 507:
        why = f"there is no room left for {place} ({code or status}): {said}"
        return DependencyDownError(NAME, why, retry_after=LATER, unreachable=False)
    if code in PASSING or status >= 500 or status == 429:
        why = f"it answers {status} {code}".rstrip() + (f": {said}" if said else "")
        return DependencyDownError(NAME, why, retry_after=_retry_after(error), unreachable=False)
    if key is None:
        why = f"the bucket {bucket} cannot be used ({code or status}): {said or 'no reason given'}"
        return DependencyDownError(NAME, why, retry_after=LATER, unreachable=False)
    return TransientError(f"S3 refuses {place} ({code or status}): {said or 'no reason given'}")


def _retry_after(error: ClientError) -> float:
    headers: dict[str, Any] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    asked = str(headers.get("retry-after", ""))
    return max(SOON, min(LATER, float(asked))) if asked.isdigit() else SOON

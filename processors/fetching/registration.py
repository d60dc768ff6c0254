"""What the egress proxy and those who register with it have agreed on."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Literal

USER = "download"
"""User name in the proxy's URL; the password is the client's token."""

MAX_MESSAGE = 4096
"""Bytes of a line on the registration's connection."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the proxy did not do."""

    what: Literal["refused", "failed"]
    """`refused`: nobody may go there. `failed`: there is no way just now."""
    host: str
    """As far as it was understood."""
    reason: str
    """For people, printable."""


def credentials(token: str) -> bytes:
    """The Proxy-Authorization of a client."""
    return b"Basic " + b64encode(f"{USER}:{token}".encode())

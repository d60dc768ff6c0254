"""What shall go wrong, where, and how often: tests say so while the emulator runs."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

MESSAGES = {
    "userRateLimitExceeded": ("usageLimits", "User Rate Limit Exceeded"),
    "rateLimitExceeded": ("usageLimits", "Rate Limit Exceeded"),
    "dailyLimitExceeded": ("usageLimits", "Daily Limit Exceeded"),
    "quotaExceeded": ("usageLimits", "The user has exceeded their upload quota."),
    "storageQuotaExceeded": ("global", "The user's Drive storage quota has been exceeded."),
    "insufficientFilePermissions": (
        "global",
        "The user does not have sufficient permissions for this file.",
    ),
    "accessNotConfigured": (
        "usageLimits",
        "Access Not Configured. The API (Google Drive API) is not enabled for your project.",
    ),
    "backendError": ("global", "Backend Error"),
    "internalError": ("global", "Internal Error"),
    "authError": ("global", "Invalid Credentials"),
    "notFound": ("global", "Not Found"),
}
"""Reason → (domain, message) of errors that tests inject."""

REASONS = {401: "authError", 403: "userRateLimitExceeded", 404: "notFound", 429: "rateLimitExceeded"}


class HangUpError(Exception):
    """Close the connection without a word."""


@dataclass
class Rule:
    """What shall go wrong, where, and how often."""

    match: re.Pattern[str]
    told: dict[str, Any]
    times: int
    after: int = 0
    """How many matching requests pass unharmed before."""
    hits: int = 0


@dataclass
class Faults:
    """The rules in force, in order."""

    rules: list[Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def add(self, told: dict[str, Any]) -> None:
        """A rule from a test."""
        with self.lock:
            self.released = threading.Event()
            self.rules.append(
                Rule(re.compile(told.pop("match")), told, int(told.pop("times", 1)), int(told.pop("after", 0)))
            )

    def clear(self) -> None:
        """Forget them all, and let go what hangs."""
        with self.lock:
            self.rules.clear()
            self.released.set()

    def next(self, request: str) -> dict[str, Any]:
        """What shall go wrong with this request; empty: nothing."""
        with self.lock:
            for rule in self.rules:
                if not rule.match.search(request):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif rule.times > 0:
                    rule.times -= 1
                    rule.hits += 1
                    return rule.told
        return {}

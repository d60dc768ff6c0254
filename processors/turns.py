"""Whose turn it is among the downloads: everything the dispatcher knows, and how it decides. No waiting, no log.

Times are those of the log's entries and of the caller's clock; both are the wall's.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from streams.codec import Recorded
from streams.download_config import DownloadConfig
from streams.downloads import Download, folded
from streams.events import DownloadRefreshed, DownloadRequested

GRACE = 5.0
"""Seconds for which a number that was handed out holds back those above it until its request is known."""

ASIDE = 5.0
"""Seconds for which a download that could not be started is passed over."""

LONGEST_CHAIN = 10
"""Lists within lists that are looked at."""

MAX_LISTS = 1000
"""Lists that are remembered, and more only where their entries are open."""

MAX_TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done now."""

    start: tuple[Download, ...]
    """In this order."""
    again: datetime | None
    """When to look again if nothing happens until then; None: only once something happened."""


class Turns:
    """The open downloads, and what stands in the way of each."""

    def __init__(self, config: DownloadConfig, began: datetime) -> None:
        """`began`: sites may have been visited until then, for all that is known."""
        self.config = config
        self._began = began
        self.open: dict[int, Download] = {}
        """Pending and Processing, by number."""
        self.lists: dict[int, Download] = {}
        """Lists that open downloads are entries of."""
        self._pending: list[int] = []
        self._missing: dict[int, datetime] = {}
        self._aside: dict[int, datetime] = {}
        self._visited: dict[str, datetime] = {}
        self._running: Counter[str] = Counter()
        self._told: set[int] = set()

    @property
    def processing(self) -> int:
        """How many are under way."""
        return self._running.total()

    def handed_out(self, number: int, at: datetime) -> None:
        """A number belonged to a request from then on, which may not be known yet."""
        if number in self._told:  # partitions are read one after the other
            self._told.discard(number)
        elif number not in self.open:
            self._missing[number] = at + timedelta(seconds=GRACE)

    def take_in(self, recorded: Recorded[Any], number: int) -> int | None:
        """Something happened to a download; the number of one whose whole history must be `put` now, if any."""
        known = self.open.get(number) or self.lists.get(number)
        if known is None:
            if isinstance(recorded.event, DownloadRequested) and recorded.ver == 1:
                if self._missing.pop(number, None) is None:
                    self._told.add(number)
                    if len(self._told) > MAX_TOLD:
                        self._told = {number}
                return self.put(folded(None, recorded))
            # It ended before we came, and may be open again; else it is nothing to us.
            wanted = isinstance(recorded.event, DownloadRequested | DownloadRefreshed)
            return number if wanted else None
        if recorded.ver <= known.ver:
            return None  # its row, or its history, was of a later moment
        if recorded.ver > known.ver + 1:
            return number
        return self.put(folded(known, recorded))

    def put(self, download: Download | None) -> int | None:
        """This is how a download stands; the number of a list whose history must be `put`, too, if any."""
        if download is None:
            return None
        number = download.number
        before = self.open.pop(number, None)
        self._missing.pop(number, None)
        if before is not None:
            self._forget(before, download.changed)
        if download.is_open:
            self._remember(download)
        is_list = download.phase in {"expanded", "cancelled"} and any(
            one.parent == number for one in self.open.values()
        )
        if number in self.lists or is_list:
            self.lists[number] = download
            if len(self.lists) > MAX_LISTS:
                self._forget_lists()
        parent = download.parent
        concerned = download.is_open or number in self.lists
        unknown = parent is not None and parent not in self.lists and parent not in self.open
        return parent if concerned and unknown else None

    def put_list(self, download: Download) -> int | None:
        """This is how a list stands that an open download is an entry of; as `put`."""
        self.lists[download.number] = download
        return self.put(download)

    def set_aside(self, number: int, now: datetime) -> None:
        """It could not be started: others go first for a moment."""
        self._aside[number] = now + timedelta(seconds=ASIDE)

    def cancelled(self) -> list[Download]:
        """Open entries of lists that were cancelled, but for those that a person queued again after that."""
        gone = {number for number, one in self.lists.items() if one.phase == "cancelled"}
        if not gone:
            return []
        found = [one for _, one in sorted(self.open.items()) if self._cancelled_with(one)]
        if not found:
            # Whoever comes late has its list looked up anew.
            self.lists = {number: one for number, one in self.lists.items() if number not in gone}
        return found

    def choose(self, now: datetime) -> Choice:
        """What to start: the lowest numbers that are due, as far as all limits allow."""
        free = self.config.concurrency - self.processing
        if free <= 0 or not self._pending:
            return Choice((), None)
        self._missing = {number: until for number, until in self._missing.items() if until > now}
        self._aside = {number: until for number, until in self._aside.items() if until > now}
        barrier = min(self._missing, default=None)
        later: list[datetime] = [] if barrier is None else [self._missing[barrier]]
        start: list[Download] = []
        begun: Counter[str] = Counter()
        for number in self._pending:
            if barrier is not None and number > barrier:
                break
            download = self.open[number]
            host = host_of(download.url)
            if self.config.per_host and self._running[host] + begun[host] >= self.config.per_host:
                continue  # one of them will end: that is heard of
            due = self._due(download, host, now, visited_now=bool(begun[host]))
            if due is None:
                start.append(download)
                begun[host] += 1
                if len(start) == free:
                    return Choice(tuple(start), None)
            else:
                later.append(due)
        return Choice(tuple(start), min(later, default=None))

    def keep_to(self, other: Turns) -> None:
        """Take over what `other` knew beside the downloads: to begin anew is no reason to hurry."""
        self._began, self._aside = other._began, other._aside
        for host, at in other._visited.items():
            self._visit(host, at)
        self._missing = {number: until for number, until in other._missing.items() if number not in self.open}

    def _due(self, download: Download, host: str, now: datetime, *, visited_now: bool) -> datetime | None:
        """When it may be started; None: now."""
        due = [self._aside.get(download.number, now)]
        # What was interrupted is due at once, and before all others, whatever another machine's clock says.
        if download.until is not None and download.until > download.changed:
            due.append(download.until)
        if self.config.sleep:
            last = now if visited_now else self._visited.get(host, self._began)
            due.append(last + timedelta(seconds=self.config.sleep))
        return max((at for at in due if at > now), default=None)

    def _remember(self, download: Download) -> None:
        self.open[download.number] = download
        if download.status == "Processing":
            self._running[_host(download)] += 1
            self._visit(_host(download), download.changed)
        else:
            insort(self._pending, download.number)

    def _forget(self, download: Download, at: datetime) -> None:
        if download.status == "Processing":
            host = _host(download)
            self._visit(host, at)
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]
        else:
            del self._pending[bisect_left(self._pending, download.number)]

    def _visit(self, host: str, at: datetime) -> None:
        self._visited[host] = max(at, self._visited.get(host, at))

    def _forget_lists(self) -> None:
        """All but those above what is open."""
        needed: set[int] = set()
        for one in self.open.values():
            parent = one.parent
            while parent in self.lists and parent not in needed:
                needed.add(parent)
                parent = self.lists[parent].parent
        self.lists = {number: one for number, one in self.lists.items() if number in needed}

    def _cancelled_with(self, download: Download) -> bool:
        parent = download.parent
        for _ in range(LONGEST_CHAIN):
            one = None if parent is None else self.lists.get(parent) or self.open.get(parent)
            if one is None:
                return False
            if one.phase == "cancelled":
                return download.take == 1 or download.changed <= one.changed
            parent = one.parent
        return False


def host_of(url: str) -> str:
    """Whose limits a URL counts against; empty where it names no host."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _host(download: Download) -> str:
    return host_of(download.url) if download.host is None else download.host

"""The Fetcher in child processes: some that fetch, and a few that read lists meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from processors.children.answers import understood
from processors.children.limits import Limits
from processors.children.pool import Pool
from processors.fetching.child import PROGRAM
from processors.fetching.destinations import refusal_of
from processors.fetching.egress import open_egress
from processors.ports import (
    Extracted,
    Fetched,
    FetchFailure,
    FetchJob,
    Listed,
    ListEntry,
    PartFinished,
    Received,
)
from streams.download_config import MAX_CONCURRENCY, MAX_LIST, DownloadConfig
from streams.paths import escape_path
from streams.settings import Settings

JOBS = 50
"""Downloads that one child makes before another takes its place."""

GROWN = 400 * 2**20
"""Bytes of memory with which a child is replaced, whatever it did."""

LISTERS = 2
"""Lists that are read at once."""

LIST_TIMEOUT = 300.0
"""Seconds that reading a list may take."""

SOCKET = 20.0
"""Seconds that one read from a server may take, at most."""

RUNTIMES = ("deno", "node", "bun")
"""Of JavaScript, which some sites need: whichever is there."""

NONSENSE = FetchFailure("crashed", "fetching it gave an answer that makes no sense")

Said = Extracted | Listed | Received | PartFinished | Fetched | FetchFailure


class ChildFetcher:
    """The Fetcher that asks yt-dlp. Open it with `open_fetcher`."""

    def __init__(self, settings: Settings, downloads: Pool, lists: Pool) -> None:
        self._settings, self._downloads, self._lists = settings, downloads, lists
        self._runtimes = _runtimes()

    async def fetch(self, job: FetchJob) -> AsyncGenerator[Said, None]:
        """Read the page and fetch what it shows; see `ports.Fetcher`."""
        if (refused := self.refusal(job.url)) is not None:
            yield refused
            return
        settings = self._settings
        question = self._question("fetch", job.url, job.config, settings.download_timeout)
        question["folder"] = escape_path(job.folder)
        said: Said | None = NONSENSE
        entries: list[ListEntry] = []
        asking = self._downloads.ask(question, seconds=settings.download_timeout, stall=settings.download_stall)
        async with aclosing(asking) as messages:
            async for message in messages:
                if "answer" in message:
                    said = _answered(message["answer"], entries)
                    break
                told = message["told"]
                if "entries" in told:
                    _gather(told, entries)
                elif "alive" not in told:
                    said = understood(told, _TOLD)
                    if said is None:
                        break
                    yield said
        yield said if isinstance(said, (Fetched, Listed, FetchFailure)) else NONSENSE

    async def listed(self, url: str, config: DownloadConfig) -> Listed | FetchFailure:
        """Read a list without fetching anything; see `ports.Fetcher`."""
        if (refused := self.refusal(url)) is not None:
            return refused
        entries: list[ListEntry] = []
        question = self._question("list", url, config, LIST_TIMEOUT)
        asking = self._lists.ask(question, seconds=LIST_TIMEOUT, stall=self._settings.download_stall)
        async with aclosing(asking) as messages:
            async for message in messages:
                if "answer" in message:
                    said = _answered(message["answer"], entries)
                    return said if isinstance(said, (Listed, FetchFailure)) else NONSENSE
                _gather(message["told"], entries)
        return NONSENSE

    def refusal(self, url: str) -> FetchFailure | None:
        """Why a URL will not be fetched, where that is clear without asking anyone."""
        reason = refusal_of(url, self._settings.inner_hosts)
        return None if reason is None else FetchFailure("refused", reason)

    def _question(self, do: str, url: str, config: DownloadConfig, seconds: float) -> dict[str, Any]:
        settings = self._settings
        return {
            "do": do,
            "url": url,
            "config": config.model_dump(mode="json"),
            "cpu": seconds,
            "around": {
                "cookies": str(settings.cookies),
                "extractor_args": settings.download_extractor_args,
                "max_size": settings.download_max_size,
                "socket_timeout": min(SOCKET, settings.download_stall / 2),
                "seconds": seconds,
                "runtimes": self._runtimes,
            },
        }


_TOLD: Mapping[str, type[Extracted | Received | PartFinished]] = {
    "extracted": Extracted,
    "received": Received,
    "part_finished": PartFinished,
}
_ENTRIES: Mapping[str, type[tuple[ListEntry, ...]]] = {"entries": tuple[ListEntry, ...]}
_FETCHED: Mapping[str, type[Fetched]] = {"fetched": Fetched}


def _gather(told: Mapping[str, Any], entries: list[ListEntry]) -> None:
    more = understood(told, _ENTRIES)
    if more is not None and len(entries) + len(more) <= MAX_LIST:
        entries += more


def _answered(answer: Mapping[str, Any], entries: list[ListEntry]) -> Said | None:
    if "listed" in answer:
        whole = {"listed": {**answer["listed"], "entries": []}}
        found = understood(whole, {"listed": Listed})
        return None if found is None else Listed(found.title, tuple(entries), found.total, found.more)
    if "failure" in answer:
        return _failed(answer["failure"])
    return understood(answer, _FETCHED)


# What the pool and the loop of a child say, in the words of downloads.
_KINDS = {"disk_full": "no_space", "unreadable": "crashed"}
_ADVICE = {
    "memory": "SPOOLHOUSE_DOWNLOAD_MEMORY says how much memory a download may take.",
    "timeout": "SPOOLHOUSE_DOWNLOAD_TIMEOUT says how long one attempt may take.",
}


def _failed(failure: Any) -> FetchFailure | None:
    if not isinstance(failure, dict):
        return None
    kind = failure.get("kind")
    told = {"advice": _ADVICE.get(str(kind), ""), **failure, "kind": _KINDS.get(str(kind), kind)}
    return understood({"failure": told}, {"failure": FetchFailure})


def _runtimes() -> dict[str, str]:
    """Where runtimes of JavaScript lie: beside our own Python, or on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = {name: shutil.which(name, path=path) for name in RUNTIMES}
    return {name: where for name, where in found.items() if where}


@asynccontextmanager
async def open_fetcher(settings: Settings, *, program: str = PROGRAM) -> AsyncIterator[ChildFetcher]:
    """The Fetcher that the settings ask for; its children end with the body. `program`: what they run.

    Raises StartError where the egress proxy cannot be started.
    """
    limits = Limits(
        memory=settings.download_memory,
        nice=0,
        file_size=settings.download_max_size,
        open_files=256,
        reserves=True,
        offline=False,
    )
    async with open_egress(settings) as egress:
        downloads, lists = (
            Pool(
                limits,
                program=program,
                children=children,
                jobs=JOBS,
                grown=GROWN,
                arguments=[str(egress.socket_path)],
                starts_over=False,
            )
            for children in (MAX_CONCURRENCY, LISTERS)
        )
        try:
            yield ChildFetcher(settings, downloads, lists)
        finally:
            await asyncio.gather(downloads.close(), lists.close())

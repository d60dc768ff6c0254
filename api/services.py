"""What the handlers need, in their own words; `bootstrap` puts the real things in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from processors.download_door import DownloadDoor
from processors.subscription_requests import SubscriptionRequests
from projections.queries import Filters, Page, Sort, Totals, Video
from streams.download_config import SavedConfig
from streams.downloads import Download, DownloadStatus
from streams.events import VideoStored
from streams.log import Log
from streams.media import MediaOf
from streams.settings import Settings
from streams.subscriptions import Subscription


class Stored(Protocol):
    """A video that is durable."""

    @property
    def video(self) -> str:
        """Its id."""

    @property
    def event(self) -> VideoStored:
        """What happened."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def logged(self) -> bool:
        """Whether the log has the event; if not, it follows by itself."""


class Receiving(Protocol):
    """An upload under way."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises RejectedError."""

    async def finish(self, *, label: str | None = None, client_id: str | None = None) -> Stored:
        """All bytes are in: make it durable. Raises RejectedError."""


class Door(Protocol):
    """Where uploads come in."""

    def receive(
        self,
        original_name: str,
        label: str = "",
        mime: str = "",
        client_id: str | None = None,
        expected_size: int | None = None,
        enhance: bool = False,
    ) -> AbstractAsyncContextManager[Receiving]:
        """Begin an upload; what is not finished when the block ends leaves nothing behind."""


class Catalogue(Protocol):
    """What is known of all videos. Raises DependencyDownError where it cannot be asked."""

    async def list(
        self,
        filters: Filters = ...,
        *,
        sort: Sort = ...,
        descending: bool = ...,
        cursor: str | None = ...,
        limit: int = ...,
    ) -> Page:
        """Part of the list."""

    async def get(self, video: str) -> Video | None:
        """One video by its id."""

    async def by_filename(self, name: str, *, door: str | None = ...) -> Video | None:
        """The video that lies there under this name."""

    def files(self, door: str | None = ...) -> AsyncIterator[Video]:
        """All that lies there, oldest first."""

    async def totals(self, door: str | None = ..., *, state: str = ...) -> Totals:
        """How much lies there, or is in another state."""

    async def media(self, video: str) -> MediaOf | None:
        """How the work on one video stands, and what came of it; None for what is no video that came in."""

    async def media_of(self, videos: Sequence[str]) -> dict[str, MediaOf]:
        """The same of many, by id, without their metadata documents."""

    async def media_of_client(self, client_id: str, limit: int, *, everyone: bool = ...) -> Sequence[MediaOf]:
        """A client's videos (or everyone's), newest first, without their metadata documents."""

    async def media_positions(self) -> Sequence[int] | None:
        """Up to where in each partition that follows the log; None: it was not made yet."""

    async def downloads(
        self, status: DownloadStatus | None = ..., *, after: int = ..., limit: int | None = ...
    ) -> Sequence[Download]:
        """Downloads beyond a number, by number. What was deleted is left out, here and below."""

    async def download(self, number: int) -> Download | None:
        """One download."""

    async def download_versions(self, numbers: Sequence[int]) -> dict[int, int]:
        """The versions that are known of these, by number; of deleted ones, too."""

    async def downloads_of_client(self, client_id: str, limit: int, *, everyone: bool = ...) -> Sequence[Download]:
        """A client's downloads (or everyone's): those that changed last, the newest first."""

    async def download_positions(self) -> Sequence[int] | None:
        """Up to where in each partition that follows the log; None: it was not made yet."""

    async def download_config(self) -> SavedConfig:
        """What a person changed of how downloads are made."""

    async def subscription(self, number: int) -> Subscription | None:
        """One subscription, also where it was ended."""

    async def subscriptions(self) -> Sequence[Subscription]:
        """All that were not ended, by number."""


class History(Protocol):
    """What happened to one subject."""

    async def __call__(self, subject: str, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Beyond version `after`, in order. Raises DependencyDownError."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that answers a request."""

    settings: Settings
    log: Log
    door: Door
    downloads: DownloadDoor
    subscriptions: SubscriptionRequests
    catalogue: Catalogue
    history: History


SERVICES = web.AppKey("services", Services)

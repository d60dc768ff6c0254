"""What a person may ask of the queue of downloads: for the API and the command line."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import structlog

from processors.download_requests import SOURCE, Requests, Wanted
from processors.fetching.destinations import refusal_of
from processors.storage.disk import refusal
from processors.storage.threads import in_thread
from processors.uploads import check_client
from streams.codec import Recorded
from streams.download_config import (
    DownloadConfig,
    DownloadOptions,
    SavedConfig,
    checked,
    checked_directory,
    configured,
    saved_config,
)
from streams.downloads import Download, fold
from streams.entries import NewEvent, new_event
from streams.errors import (
    ConflictError,
    DependencyDownError,
    LogUnavailableError,
    NotFoundError,
    RejectedError,
    SpoolhouseError,
)
from streams.events import DownloadCancelled, DownloadConfigChanged, DownloadDeleted, DownloadRefreshed, Event
from streams.identity import DOWNLOAD_CONFIG, download_subject, event_id
from streams.log import Log
from streams.queries import Downloads
from streams.settings import Settings

TRIES = 10
"""How often a wish is decided anew because something else was written first."""

APPEND_WITHIN = 2.0
"""Seconds that a request waits for the log."""

MAX_PREFERENCES = 32 * 1024
"""Bytes of JSON."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CurrentConfig:
    """How downloads are made just now."""

    config: DownloadConfig
    preferences: Mapping[str, Any]


Refusal = Callable[[str], str | None]
"""Why a URL will never be fetched, where that can be told without asking anyone; None: it may be."""


class DownloadDoor:
    """Takes wishes. One for each process that takes any; everything raises LogUnavailableError with the log down."""

    def __init__(
        self, log: Log, settings: Settings, *, known: Downloads | None = None, refused: Refusal | None = None
    ) -> None:
        """`known` tells of a list whether any entry of it is still open; without it, that is not asked."""
        self._log, self._settings, self._known = log, settings, known
        self._refused = refused or refusals(settings)
        self._requests = Requests(log, settings)
        self._saved = SavedConfig()

    async def request(
        self,
        url: str,
        directory: str = "",
        options: Mapping[str, Any] | None = None,
        client_id: str | None = None,
        *,
        key: str | None = None,
    ) -> Download:
        """Queue what lies behind a URL. It is kept for good when this returns.

        An empty `directory` is the one that is configured. `key`: the request's own id, of which a repeat changes
        nothing; None: a new one. Raises RejectedError (400; 507 and 500 where it cannot be kept), LogUnavailableError:
        then nothing was taken.
        """
        url = url.strip()
        if fault := self._refused(url):
            raise RejectedError(400, f"url: {fault}")
        check_client(client_id)
        given = checked(DownloadOptions, options or {}).model_dump(mode="json", exclude_none=True)
        folder = _directory(directory) if directory else (await self.config()).config.directory
        wanted = Wanted(key or str(uuid.uuid4()), url, folder, given, client_id)
        try:
            [taken] = await self._requests.take([wanted], timeout=APPEND_WITHIN)
        except OSError as error:
            raise refusal(error, self._settings.download_requests) from error
        except ValueError as error:
            raise RejectedError(400, f"It cannot be kept: {error}") from error
        _log.info("download requested", number=taken.number, key=taken.key)
        download = fold([_told(taken.events[0])])
        assert download is not None  # a request is the first event of a download
        return download

    async def get(self, number: int) -> Download:
        """A download as the log has it by now. Raises NotFoundError."""
        return _folded(number, await self._log.history(download_subject(number)))

    async def cancel(self, number: int, *, reason: str = "cancelled") -> Download:
        """Stop it, and where it is a list, what is still open of its entries.

        Raises NotFoundError, RejectedError (409: it is over).
        """

        async def decide(download: Download) -> Event | None:
            over = f"Download {number} is over ({download.phase}): there is nothing to cancel."
            if download.phase == "expanded":
                if await self._all_over(download):
                    raise RejectedError(409, f"All entries of list {number} are over: there is nothing to cancel.")
            elif not download.is_open:
                raise RejectedError(409, over)
            return DownloadCancelled(take=download.take, reason=reason)

        return await self._change(number, decide)

    async def refresh(self, number: int) -> Download:
        """Queue it again, under its number; what was put off is due at once. What is queued stays as it is.

        Raises NotFoundError, RejectedError (409: it is under way).
        """

        async def decide(download: Download) -> Event | None:
            if download.status == "Processing":
                raise RejectedError(409, f"Download {number} is under way. Cancel it first to begin anew.")
            return None if download.phase == "queued" else DownloadRefreshed(take=download.take + 1)

        return await self._change(number, decide)

    async def delete(self, number: int, *, keep_file: bool = False) -> Download:
        """Take it off the list; what is under way is stopped. Its files are removed soon after unless they are kept.

        Raises NotFoundError.
        """

        async def decide(_: Download) -> Event | None:
            return DownloadDeleted(keep_file=keep_file)

        return await self._change(number, decide)

    async def config(self) -> CurrentConfig:
        """How downloads are made just now."""
        if await self._log.version(DOWNLOAD_CONFIG) != self._saved.ver:
            self._saved = saved_config(await self._log.history(DOWNLOAD_CONFIG))
        return CurrentConfig(configured(self._settings, self._saved.config), self._saved.preferences)

    async def change_config(
        self, patch: Mapping[str, Any], preferences: Mapping[str, Any] | None = None
    ) -> CurrentConfig:
        """Set some of the configuration, and the preferences where they are given: they take the place of what was there.

        Raises RejectedError (400) that names every fault.
        """
        if preferences is not None:
            _check_preferences(preferences)
        for _ in range(TRIES):
            saved = saved_config(await self._log.history(DOWNLOAD_CONFIG))
            before = configured(self._settings, saved.config)
            after = checked(DownloadConfig, {**before.model_dump(), **patch})
            assert isinstance(after, DownloadConfig)
            self._check_cookies(patch)
            told = after.model_dump(mode="json")
            change = DownloadConfigChanged(
                change=saved.change + 1,
                config=dict(saved.config) | {name: told[name] for name in patch},
                preferences=saved.preferences if preferences is None else preferences,
            )
            # Two changes of one number must not be taken for one: its id is this call's own.
            new = NewEvent(
                DOWNLOAD_CONFIG, change, event_id(DOWNLOAD_CONFIG, str(uuid.uuid4())), SOURCE, expected=saved.ver
            )
            try:
                await self._log.append(new, timeout=APPEND_WITHIN)
            except ConflictError:
                continue
            except ValueError as error:
                raise RejectedError(400, f"It cannot be kept: {error}") from error
            try:
                await in_thread(self._requests.files.keep_config, replace(new, expected=None))
            except OSError as error:
                _log.warning("the configuration of downloads is in the log only", error=str(error))
            return CurrentConfig(after, change.preferences)
        raise LogUnavailableError("The configuration changes too fast to decide anything: try again in a moment.")

    async def _change(self, number: int, decide: Callable[[Download], Any]) -> Download:
        """Append what is decided about a download as it stands; it as it stands then. None: nothing is to be done."""
        subject = download_subject(number)
        for _ in range(TRIES):
            download = _folded(number, await self._log.history(subject))
            event = await decide(download)
            if event is None:
                return download
            new = new_event(subject, event, source=SOURCE, expected=download.ver)
            try:
                placed = await self._log.append(new, timeout=APPEND_WITHIN)
            except ConflictError:
                continue
            await self._keep(number)
            # As it stands by what was decided, whatever came of that by now.
            after = fold(one for one in await self._log.history(subject) if one.ver <= placed.ver)
            assert after is not None  # it was there before
            return after
        raise LogUnavailableError(f"Download {number} changes too fast to decide anything: try again in a moment.")

    async def _keep(self, number: int) -> None:
        try:
            await self._requests.keep(number)
        except (OSError, SpoolhouseError) as error:  # whoever follows the log does it again
            _log.warning("what was asked of a download is in the log only", number=number, error=str(error))

    async def _all_over(self, download: Download) -> bool:
        """Whether the entries of a list are known, all of them, and none is open."""
        if self._known is None:
            return False
        try:
            children = await self._known.children(download.number)
        except DependencyDownError:
            return False
        told = {one.number for one in children}
        return told.issuperset(download.numbers) and not any(one.is_open or one.phase == "expanded" for one in children)

    def _check_cookies(self, patch: Mapping[str, Any]) -> None:
        name = patch.get("cookies")
        if name and not (self._settings.cookies / name).is_file():
            raise RejectedError(
                400, f"cookies: there is no file {name} in {self._settings.cookies}. Put it there first."
            )


def refusals(settings: Settings) -> Refusal:
    """What can be told of a URL with these settings, without asking anyone."""
    return partial(refusal_of, opened=settings.inner_hosts)


def _directory(directory: str) -> str:
    try:
        return checked_directory(directory)
    except ValueError as error:
        raise RejectedError(400, f"directory: {error}") from None


def _check_preferences(preferences: Mapping[str, Any]) -> None:
    try:
        size = len(orjson.dumps(preferences))
    except TypeError as error:
        raise RejectedError(400, f"preferences: {error}") from None
    if size > MAX_PREFERENCES:
        raise RejectedError(400, f"preferences: they have {size} bytes, more than {MAX_PREFERENCES}.")


def _folded(number: int, history: list[Recorded[Any]]) -> Download:
    download = fold(history)
    if download is None or download.phase == "deleted":
        raise NotFoundError(f"There is no download {number}.")
    return download


def _told(new: NewEvent) -> Recorded[Any]:
    """An event as the log has it, or will."""
    return Recorded(
        partition=0,
        pos=0,
        id=new.id,
        type=type(new.event).__name__,
        subject=new.subject,
        ver=1,
        time=new.time,
        source=new.source,
        cause=new.cause,
        corr=new.corr or new.id,
        event=new.event,
    )

"""How downloads are made: what the settings say, what a person changed, and what was asked for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from streams.codec import Recorded
from streams.download_checks import LANGUAGE, checked_cookies, checked_directory, checked_template
from streams.errors import RejectedError
from streams.events import DownloadConfigChanged
from streams.settings import Settings

__all__ = [
    "MAX_CONCURRENCY",
    "MAX_LIST",
    "DownloadConfig",
    "DownloadOptions",
    "SavedConfig",
    "checked",
    "checked_directory",
    "checked_template",
    "configured",
    "saved_config",
]

MAX_CONCURRENCY = 16
MAX_LIST = 10_000
"""Entries of one list that may be taken at the most."""

Language = Annotated[str, StringConstraints(pattern=LANGUAGE)]


class DownloadOptions(BaseModel):
    """What may be asked for one download alone. None: as the configuration says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str | None = Field(None, min_length=1, max_length=500)
    """A yt-dlp format selector, e.g. `bv*+ba/b`."""
    max_height: int | None = Field(None, ge=16, le=8640)
    """Pixels: the quality ceiling."""
    audio_only: bool | None = None
    subtitles: tuple[Language, ...] | None = Field(None, max_length=50)
    """Languages (`en`, `de`, `en.*`); empty: none."""
    auto_subtitles: bool | None = None
    """Also subtitles that a machine wrote."""
    limit: int | None = Field(None, ge=1, le=MAX_LIST)
    """Entries of a playlist or channel that are taken."""


class DownloadConfig(BaseModel):
    """Everything that can be set, with a value for each; what `GET /config` shows beside `preferences`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = Field("bv*+ba/b", min_length=1, max_length=500)
    max_height: int | None = Field(None, ge=16, le=8640)
    audio_only: bool = False
    subtitles: tuple[Language, ...] = Field((), max_length=50)
    auto_subtitles: bool = False
    limit: int = Field(100, ge=1, le=MAX_LIST)
    concurrency: int = Field(1, ge=1, le=MAX_CONCURRENCY)
    """Downloads side by side."""
    per_host: int = Field(0, ge=0, le=MAX_CONCURRENCY)
    """Of those, from one host; 0: no limit of its own."""
    sleep: float = Field(0.0, ge=0, le=3600)
    """Seconds between two downloads from one host, and between two requests of one download."""
    rate_limit: int | None = Field(None, ge=1024)
    """Bytes a second, of each download; None: as fast as it goes."""
    template: str = Field("{title} ({year})/{title} ({year}) [{id}]", min_length=1, max_length=300)
    """Folder and name below the media root, without the extension; see TEMPLATE_FIELDS."""
    directory: str = "/"
    """Where what names no directory goes, below the media root."""
    cookies: str | None = Field(None, max_length=100)
    """Name of a file in the folder for cookies (`SPOOLHOUSE_COOKIES_DIR`), in Netscape's format; None: no cookies."""
    wait_for_live: bool = False
    """Streams that are live, or have not begun, are waited for and recorded; else they are refused."""

    @field_validator("template")
    @classmethod
    def _real_template(cls, value: str) -> str:
        return checked_template(value)

    @field_validator("directory")
    @classmethod
    def _real_directory(cls, value: str) -> str:
        return checked_directory(value)

    @field_validator("cookies")
    @classmethod
    def _real_cookies(cls, value: str | None) -> str | None:
        return None if value is None else checked_cookies(value)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """This, but for what was asked for one download."""
        given = DownloadOptions.model_validate(options).model_dump(exclude_none=True)
        return self.model_copy(update=given)


@dataclass(frozen=True, slots=True)
class SavedConfig:
    """What a person changed, as the log or the table tells it."""

    change: int = 0
    """How often it was changed."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What was set, all of it."""
    preferences: Mapping[str, Any] = field(default_factory=dict)
    ver: int = 0
    """Of `sys:downloads`."""
    changed: datetime | None = None


def saved_config(history: Iterable[Recorded[Any]], before: SavedConfig = SavedConfig()) -> SavedConfig:
    """What holds after these events of `sys:downloads`: the last of them says all."""
    for recorded in history:
        if recorded.ver <= before.ver:
            continue
        event = recorded.event
        if isinstance(event, DownloadConfigChanged):
            before = SavedConfig(event.change, event.config, event.preferences, recorded.ver, recorded.time)
    return before


def configured(settings: Settings, changed: Mapping[str, Any]) -> DownloadConfig:
    """What holds: the settings' values, and above them what a person changed (`DownloadConfigChanged.config`)."""
    base = {
        "format": settings.download_format,
        "max_height": settings.download_max_height,
        "subtitles": settings.download_subtitles,
        "limit": settings.download_playlist_limit,
        "concurrency": settings.download_concurrency,
        "per_host": settings.download_per_host,
        "sleep": settings.download_sleep,
        "rate_limit": settings.download_rate_limit,
        "template": settings.download_template,
        "cookies": settings.download_cookies,
        "wait_for_live": settings.download_wait_for_live,
    }
    known = {name: value for name, value in changed.items() if name in DownloadConfig.model_fields}
    try:
        return DownloadConfig.model_validate(base | known)
    except ValidationError as error:  # a change of another version: what it says wrong today is as the settings say
        wrong = {str(one["loc"][0]) for one in error.errors() if one["loc"]}
        return DownloadConfig.model_validate(base | {name: known[name] for name in known if name not in wrong})


def checked(model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    """What was given, as the model has it. Raises RejectedError (400) that names every fault."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:10]]
        raise RejectedError(400, "; ".join(faults).replace("Value error, ", "")) from None

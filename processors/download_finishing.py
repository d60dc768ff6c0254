"""From fetched files to what lies in the media root: merged, described, and everything that media servers look for."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processors.ports import Advanced, Extracted, Fetched, FetchedFile, FinishedFile, FinishJob, MediaFailure, Studio
from processors.storage.library import Event, Ready
from processors.storage.library_names import language_of, named
from processors.storage.library_nfo import Film, nfo
from processors.storage.library_places import POSTER, SUBTITLES
from processors.storage.names import printable
from processors.storage.threads import in_thread
from streams.download_config import DownloadConfig
from streams.downloads import Download
from streams.events import VideoStored
from streams.paths import OsPath

MAX_SUBTITLES = 20 * 2**20
"""Bytes of a file of subtitles."""

MAX_WARNINGS = 20


@dataclass(slots=True)
class Finishing:
    """One download that came in whole."""

    download: Download
    page: Extracted
    fetched: Fetched
    config: DownloadConfig
    playlist: str
    """Title of the list that it is an entry of; empty: of none."""
    folder: Path
    """Empty, in the work folder."""
    warnings: list[str] = field(default_factory=list)
    finished: FinishedFile | None = None

    @property
    def year(self) -> str | None:
        """When it was published, where the page says it."""
        date = self.page.upload_date or ""
        return date[:4] if len(date) == 10 and date[:4].isdecimal() and date[:4] != "0000" else None

    @property
    def video(self) -> Path:
        """The finished file."""
        return self.folder / "video"

    def job(self) -> FinishJob:
        """What the studio is to do."""
        page = self.page
        tags = {
            "title": page.title,
            "artist": page.uploader or "",
            "date": page.upload_date or "",
            "comment": page.webpage_url or self.download.url,
            "description": page.description or "",
            "synopsis": page.description or "",
        }
        return FinishJob(
            media=tuple(one.path for one in self.fetched.media),
            target=OsPath(str(self.video)),
            tags={name: text for name, text in tags.items() if text},
            chapters=page.chapters,
            audio_only=self.config.audio_only,
        )

    async def merge(self, studio: Studio) -> AsyncGenerator[Advanced | MediaFailure]:
        """Make one file of the parts; `finished` is set where that went well."""
        async with aclosing(studio.finish(self.job())) as answers:
            async for answer in answers:
                if isinstance(answer, FinishedFile):
                    self.finished = answer
                    self.warnings += answer.warnings
                else:
                    yield answer

    async def ready(self, studio: Studio) -> Ready:
        """Poster, `.nfo` and subtitles; and what all of it is to be called. Raises OSError."""
        assert self.finished is not None
        poster = await self._poster(studio)
        sides = await in_thread(self._sides)
        parts = named(self.config.template, self._fields())
        folders = tuple(part for part in self.download.directory.split("/") if part)
        return Ready(
            folders=(*folders, *parts[:-1]),
            name=parts[-1],
            own_folder="{title}" in os.path.dirname(self.config.template)
            or "{id}" in os.path.dirname(self.config.template),
            video=self.video,
            extension=f".{self.finished.container}",
            sides=tuple(sides),
            poster=poster,
        )

    def event(self, received: datetime, seconds: float) -> Event:
        """What makes the video's own first event."""
        finished = self.finished
        assert finished is not None

        def made(path: Path, status: os.stat_result, sha256: str) -> VideoStored:
            return VideoStored(
                door="download",
                path=OsPath(str(path)),
                stored_name=path.name,
                filename=path.name,
                original_name=printable(self.page.title) or path.name,
                label=printable(self.page.uploader or ""),
                mime=finished.mime,
                size=status.st_size,
                sha256=sha256,
                received_at=received,
                modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
                duration_receiving=round(seconds, 3),
                client_id=self.download.client_id,
            )

        return made

    def said(self) -> tuple[str, ...]:
        """What people should know of it."""
        return tuple(printable(one) for one in (*self.fetched.warnings, *self.warnings))[:MAX_WARNINGS]

    def _fields(self) -> Mapping[str, str | None]:
        page = self.page
        return {
            "title": page.title or self.download.title,
            "year": self.year,
            "id": page.media_id,
            "uploader": page.uploader,
            "date": page.upload_date if self.year else None,
            "extractor": page.extractor,
            "playlist": self.playlist,
        }

    async def _poster(self, studio: Studio) -> Path | None:
        """Of the picture that the page has for it, or else of the film itself."""
        target = self.folder / f"poster{POSTER}"
        sources = [] if self.fetched.thumbnail is None else [self.fetched.thumbnail.path]
        assert self.finished is not None
        if not self.finished.mime.startswith("audio/"):
            sources.append(OsPath(str(self.video)))
        for source in sources:
            failure = await studio.still(source, OsPath(str(target)))
            if failure is None:
                return target
            self.warnings.append(f"no poster could be made: {failure.reason}")
        return None

    def _sides(self) -> list[tuple[str, Path]]:
        """The `.nfo` and the subtitles, by what their names end in."""
        sides = {".nfo": self.folder / "video.nfo"}
        sides[".nfo"].write_bytes(nfo(self._film()))
        for one in self.fetched.subtitles:
            if (found := self._subtitles(one)) is not None:
                sides.setdefault(*found)
        return list(sides.items())

    def _subtitles(self, one: FetchedFile) -> tuple[str, Path] | None:
        source = Path(one.path)
        suffix, language = source.suffix.lower(), language_of(one.language)
        if suffix not in SUBTITLES or not source.is_file() or source.is_symlink():
            self.warnings.append(f"subtitles ({language}) of a kind that media servers do not read were left out")
            return None
        if source.stat().st_size > MAX_SUBTITLES:
            self.warnings.append(f"subtitles ({language}) were left out: they are too large")
            return None
        ending = f".{language}{suffix}"
        target = self.folder / f"video{ending}"
        with suppress(FileExistsError), open(target, "xb") as out, open(source, "rb") as into:
            shutil.copyfileobj(into, out)
        return ending, target

    def _film(self) -> Film:
        page = self.page
        tags: list[Any] = [page.extractor, *([self.playlist] if self.playlist else [])]
        return Film(
            title=page.title or self.download.title,
            plot=page.description,
            date=page.upload_date if self.year else None,
            uploader=page.uploader,
            duration=page.duration,
            extractor=page.extractor,
            id=page.media_id,
            url=page.webpage_url or self.download.url,
            tags=tuple(tags),
        )

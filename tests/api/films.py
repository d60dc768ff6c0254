"""An API whose catalogue says what a test wants of videos, over files that the test has written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from api.app import make_app
from api.bootstrap import api_services
from api.server import serving
from streams.errors import DependencyDownError
from streams.media import MediaOf, PreviewFiles, Rendition, Status, Task, TaskState
from streams.paths import OsPath
from streams.settings import Settings
from tests.api.running import Api

VIDEO = "3f2b8c1e-6d5a-4e0f-9b7c-2a1d0e4f5a6b"
STORED = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
LAST_MODIFIED = "Sun, 01 Mar 2026 12:30:15 GMT"


class Known:
    """A catalogue that knows what it was told."""

    def __init__(self) -> None:
        self.of: dict[str, MediaOf] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.down = False
        self.asked = 0

    async def media(self, video: str) -> MediaOf | None:
        """What is known of the work on a video."""
        self.asked += 1
        if self.down:
            raise DependencyDownError("catalogue", "it was taken down by the test")
        return self.of.get(video)

    async def get(self, video: str) -> dict[str, Any] | None:
        """Its row, of which only the state matters here."""
        return self.rows.get(video)


@dataclass(slots=True)
class Films:
    """The running API, its catalogue and its folder."""

    api: Api
    known: Known
    folder: Path
    made: int = field(default=0)

    def put(self, content: bytes | Path, video: str = VIDEO, **changes: Any) -> Rendition:
        """Write a rendition's file and let the catalogue know of it as the newest; `changes` of its facts."""
        self.made += 1
        content = content if isinstance(content, bytes) else content.read_bytes()
        identity = f"00000000-0000-4000-8000-{self.made:012x}"
        path = self.folder / f"{identity}.mp4"
        path.write_bytes(content)
        plain = Rendition(
            id=identity,
            revision=1,
            preset="web",
            kind="progressive",
            action="encode",
            path=OsPath(str(path)),
            playlist=None,
            mime="video/mp4",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            duration=2.0,
            width=320,
            height=180,
            codecs="avc1.64001f,mp4a.40.2",
            bit_rate=400_000,
            stored=STORED,
        )
        one = dataclasses.replace(plain, **changes)
        media = self.known.of.get(video) or empty(video)
        self.known.of[video] = dataclasses.replace(media, renditions=(one, *media.renditions))
        return one

    def stands(self, task: Task, status: Status, error: str | None = None, video: str = VIDEO) -> None:
        """Let the catalogue know how a task stands."""
        media = self.known.of.get(video) or empty(video)
        state = TaskState(task, status, f"It is {status}.", error, STORED, 3)
        self.known.of[video] = dataclasses.replace(media, tasks={**media.tasks, task: state})

    def know(self, video: str = VIDEO, **changes: Any) -> None:
        """Let the catalogue know of a video, or more of it."""
        self.known.of[video] = dataclasses.replace(self.known.of.get(video) or empty(video), **changes)

    def previews(self, contents: dict[str, bytes], video: str = VIDEO) -> PreviewFiles:
        """Write `poster.jpg`, `poster.webp`, `sprite.jpg`, `thumbnails.vtt`, as far as there is content for them."""
        folder = self.api.settings.previews_folder / video
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)

        def at(name: str) -> OsPath | None:
            return OsPath(str(folder / name)) if name in contents else None

        files = PreviewFiles(
            revision=1,
            poster=OsPath(str(folder / "poster.jpg")),
            poster_webp=OsPath(str(folder / "poster.webp")),
            sprite=at("sprite.jpg"),
            thumbnails=at("thumbnails.vtt"),
            width=320,
            height=180,
        )
        self.know(video, previews=files)
        return files


def empty(video: str) -> MediaOf:
    """A video of which nothing is known but that it is there."""
    return MediaOf(video, 1, "My Lesson.avi", None, {}, (), None, None)


@asynccontextmanager
async def running_films(settings: Settings) -> AsyncIterator[Films]:
    """The API of these settings until the block ends."""
    settings.processed.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(api_services(settings))
        known = Known()
        catalogue: Any = known
        services = dataclasses.replace(services, catalogue=catalogue)
        app = make_app(services)
        addresses = await stack.enter_async_context(serving(app, settings))
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        yield Films(Api(addresses[0], settings, services, session, app, None), known, settings.processed)

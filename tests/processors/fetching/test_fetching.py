"""What comes of the pages, files, streams and lists of a real site, by the real yt-dlp."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from processors.ports import Extracted, Fetched, FetchFailure, FetchJob, Listed, PartFinished, Received
from streams.download_config import DownloadConfig
from streams.paths import OsPath
from tests.sites import Item, Manners, Page, film_bytes
from tests.sites.films import dash, hls, picture
from tests.sites.pages import EMOJI, LONG

from .conftest import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

Read = Callable[[Fetched], bytes]


def segments() -> bytes:
    """What the HLS stream is when it is whole."""
    files = hls()
    return b"".join(files[f"segment{number}.ts"] for number in range(len(files) - 1))


@pytest.mark.parametrize(
    "path",
    [
        "/film.mp4", "/film.mp4?ranges=0", "/film.mp4?length=0", "/film.mp4?etag=0", "/video", "/og", "/jsonld",
        "/to?url=/film.mp4", "/to?code=301&url=/to?url=/jsonld",
    ],
)  # fmt: skip
async def test_one_file(world: World, tmp_path: Path, content: Read, path: str) -> None:
    """Whole, whatever leads to it."""
    assert content(await world.fetched(path, tmp_path)) == film_bytes()


@pytest.mark.parametrize("path", ["/hls/index.m3u8", "/hls-aes/index.m3u8"])
async def test_hls(world: World, tmp_path: Path, content: Read, path: str) -> None:
    """Put together, and decrypted."""
    assert content(await world.fetched(path, tmp_path)) == segments()


async def test_dash(world: World, tmp_path: Path) -> None:
    """Picture and sound stay two files."""
    said = await world.fetch("/dash/manifest.mpd", tmp_path)
    video, audio = said[-1].media
    assert (video.part, audio.part) == ("video", "audio")
    expected = [dash()[name] for name in sorted(dash()) if "stream0" in name]
    expected.insert(0, expected.pop())
    assert Path(video.path).read_bytes() == b"".join(expected)
    assert [one.part for one in said if isinstance(one, PartFinished)] == ["video", "audio"]
    (told,) = [one for one in said if isinstance(one, Extracted)]
    assert [form["kind"] for form in told.formats] == ["video", "audio"]


async def test_what_a_page_tells(world: World, tmp_path: Path) -> None:
    """Title, who, when, chapters; the picture beside the film."""
    said = await world.fetch("/jsonld", tmp_path)
    told, fetched = next(one for one in said if isinstance(one, Extracted)), said[-1]
    assert (told.extractor, told.title, told.uploader) == ("Generic", "A train goes by", "Ada")
    assert (told.upload_date, told.description, told.duration) == ("2021-05-06", "It comes, and it goes.", 6.0)
    assert told.webpage_url == world.site.url("/jsonld")
    assert [dict(one) for one in told.chapters] == [
        {"start": 0.0, "end": 2.0, "title": "It comes"},
        {"start": 2.0, "end": 6.0, "title": "It goes"},
    ]
    assert told.thumbnails == (world.site.url("/poster.jpg"),)
    assert Path(fetched.thumbnail.path).read_bytes() == picture()
    assert told.media_id.startswith("jsonld-")


async def test_titles_are_only_text(world: World, tmp_path: Path) -> None:
    """Kept as they are, but for what steers; nothing of them is in a file's name."""
    assert (await world.extracted("/emoji", tmp_path / "1")).title == EMOJI
    assert (await world.extracted("/long", tmp_path / "2")).title == LONG.strip()
    told = await world.extracted("/hostile", tmp_path / "3")
    assert told.title == "../../etc/passwd <script>alert(1)</script> gpj.exe $(reboot) %(id)s {id}"
    assert {entry.name for entry in os.scandir(tmp_path / "3")} == {"both", "both.state", "thumbnail"}


async def test_much_that_a_page_tells_fits_an_event(world: World, tmp_path: Path) -> None:
    """Chapters and description are cut."""
    chapters = tuple((n, n + 1, "🎬" * 150) for n in range(1000))
    world.site.pages["/much"] = Page(description="👩‍👩‍👧" * 10_000, chapters=chapters, title="t" * 5000)
    told = await world.extracted("/much", tmp_path)
    assert len(told.title) == 500
    assert told.description is not None
    assert 0 < len(told.description) <= 10_000
    assert 0 < len(told.chapters) <= 500


async def test_formats(world: World, tmp_path: Path, content: Read) -> None:
    """The best, the ceiling, the smallest above it, one by name, none."""
    large, small = film_bytes(900_000), film_bytes(300_000)
    assert content(await world.fetched("/formats", tmp_path / "1")) == large
    assert content(await world.fetched("/formats", tmp_path / "2", max_height=720)) == small
    assert content(await world.fetched("/formats", tmp_path / "3", max_height=16)) == small
    # The same folder with another format: what lies there is not gone on from.
    assert content(await world.fetched("/formats", tmp_path / "1", format="72p")) == small
    assert (await world.failed("/formats", tmp_path / "4", format="nothing")).kind == "format"
    failed = await world.failed("/formats", tmp_path / "4", format="bv[[")
    assert failed.kind == "format", failed


async def test_sound_alone(world: World, tmp_path: Path) -> None:
    """Where it is to be had alone; else what has it."""
    (audio,) = (await world.fetched("/dash/manifest.mpd", tmp_path / "1", audio_only=True)).media
    assert audio.part == "audio"
    (both,) = (await world.fetched("/film.mp4", tmp_path / "2", audio_only=True)).media
    assert both.part == "both"


async def test_subtitles(world: World, tmp_path: Path) -> None:
    """Those that are asked for; without them, and without the picture, there is a film and a warning."""
    fetched = await world.fetched("/video", tmp_path / "1", subtitles=("de", "fr"))
    (german,) = fetched.subtitles
    assert (german.part, german.language, german.format) == ("subtitles:de", "de", "vtt")
    assert "It comes (de.vtt)" in Path(german.path).read_text()
    world.site.pages["/poor"] = Page(how="video", tracks={"en": "/nothing.vtt"}, poster="/nothing.jpg")
    fetched = await world.fetched("/poor", tmp_path / "2", subtitles=("en",))
    assert (fetched.subtitles, fetched.thumbnail) == ((), None)
    assert len(fetched.warnings) == 2
    assert all("404" in warning for warning in fetched.warnings)


@pytest.mark.parametrize(
    ("path", "kind", "retry_after"),
    [
        ("/status/401", "login", None), ("/status/402", "payment", None), ("/status/403", "login", None),
        ("/status/404", "gone", None), ("/status/410", "gone", None), ("/status/429", "limited", None),
        ("/status/429?retry_after=7", "limited", 7.0), ("/status/451", "geo", None),
        ("/status/500", "server", None), ("/status/503?retry_after=120", "server", 120.0),
        ("/empty", "unsupported", None), ("/around", "unsupported", None), ("/huge?count=50000", "unsupported", None),
        ("/to?url=file:///etc/passwd", "refused", None), ("/to?url=http://127.0.0.2/film.mp4", "refused", None),
        ("/to?url=http://169.254.169.254/latest", "refused", None), ("http://nowhere.invalid/", "network", None),
        ("http://127.0.0.1:1/", "network", None), ("file:///etc/passwd", "refused", None),
        ("http://10.0.0.1/film.mp4", "refused", None),
    ],
)  # fmt: skip
async def test_failures(world: World, tmp_path: Path, path: str, kind: str, retry_after: float | None) -> None:
    """Each has its kind, a clean reason, and what can be done."""
    failed = await world.failed(path, tmp_path)
    assert (failed.kind, failed.retry_after) == (kind, retry_after)
    assert not failed.reason.startswith(("ERROR", "["))
    assert "report this" not in failed.reason
    assert bool(failed.advice) == (kind in {"login", "payment", "geo"})
    assert not list(tmp_path.iterdir())


async def test_a_date_to_come_back(world: World, tmp_path: Path) -> None:
    """Retry-After may be a date."""
    at = datetime.now(UTC) + timedelta(seconds=90)
    world.site.manners["/status/429"] = Manners(retry_after=format_datetime(at, usegmt=True))
    failed = await world.failed("/status/429", tmp_path)
    del world.site.manners["/status/429"]
    assert failed.retry_after == pytest.approx(90, abs=15)


async def test_a_page_that_never_ends(world: World, tmp_path: Path) -> None:
    """It is not read to its end."""
    world.site.manners["/empty"] = Manners(endless=True)
    failed = await world.failed("/empty", tmp_path)
    del world.site.manners["/empty"]
    assert failed.kind == "invalid"


@pytest.mark.parametrize("query", ["size=5000000", "endless=1&length=0", "claims=5000000"])
async def test_too_large(world: World, tmp_path: Path, query: str) -> None:
    """Said at once where the server says it, else when it is there."""
    failed = await world.failed(f"/film.mp4?{query}", tmp_path)
    assert failed.kind == "too_large"
    assert "SPOOLHOUSE_DOWNLOAD_MAX_SIZE" in failed.advice


async def test_broken_in_the_middle(world: World, tmp_path: Path, content: Read) -> None:
    """Once or twice: gone on with. A server that promises more than it has: a failure, never a film."""
    sent = world.site.sent["/films/broken.mp4"]
    fetched = await world.fetched("/films/broken.mp4?size=3000000&seed=4&cut=1400000&times=2", tmp_path / "1")
    assert content(fetched) == film_bytes(3_000_000, 4)
    # The page was looked at as well: that is one broken answer.
    assert world.site.sent["/films/broken.mp4"] - sent < 3_000_000 + 2 * 1_400_000
    failed = await world.failed("/film.mp4?size=300000&claims=310000&times=1", tmp_path / "2")
    assert failed.kind == "network"
    assert not (tmp_path / "2" / "both").exists()


async def test_fails_a_few_times(world: World, tmp_path: Path, content: Read) -> None:
    """Each attempt is another chance."""
    url = "/films/shy.mp4?size=100000&seed=1&status=500&times=1"
    assert (await world.failed(url, tmp_path)).kind == "server"
    assert content(await world.fetched(url, tmp_path)) == film_bytes(100_000, 1)


async def test_progress(world: World, tmp_path: Path) -> None:
    """At most twice a second, and forwards."""
    began = time.monotonic()
    said = await world.fetch("/film.mp4?size=1000000&speed=700000", tmp_path)
    taken = time.monotonic() - began
    told = [one for one in said if isinstance(one, Received)]
    assert 2 <= len(told) <= taken / 0.5 + 1
    assert [one.bytes for one in told] == sorted(one.bytes for one in told)
    assert {(one.part, one.number, one.parts, one.total) for one in told} == {("both", 0, 1, 1_000_000)}
    assert told[-1].percent == pytest.approx(told[-1].bytes / 10_000, abs=0.01)
    assert told[-1].speed
    assert told[-1].eta is not None


# ---------------------------------------------------------------- going on


async def interrupted(world: World, path: str, folder: Path, enough: int, how: str = "kill") -> int:
    """Begin a download, and kill its child (or close it) when so many bytes are there; the child's process id."""
    folder.mkdir(exist_ok=True)
    job = FetchJob(world.site.base + path, OsPath(str(folder)), DownloadConfig())
    pid = 0
    async with aclosing(world.fetcher.fetch(job)) as saying:
        async for said in saying:
            if isinstance(said, Received) and said.bytes >= enough:
                (child,) = world.fetcher._downloads._busy
                pid = child.pid
                if how != "kill":
                    break
                os.kill(pid, signal.SIGKILL)
            if isinstance(said, FetchFailure):
                assert said.kind == "killed"
    assert pid
    return pid


async def test_killed_in_mid_download(world: World, tmp_path: Path, content: Read) -> None:
    """Goes on from where it was, and is the same to the byte."""
    path = "/film.mp4?size=2000000&seed=7"
    await interrupted(world, f"{path}&speed=1000000", tmp_path, 700_000)
    world.site.seen.clear()
    assert content(await world.fetched(path, tmp_path)) == film_bytes(2_000_000, 7)
    asked = [headers["Range"] for _, headers in world.site.seen if "Range" in headers]
    assert len(asked) == 1
    assert int(asked[0].removeprefix("bytes=").removesuffix("-")) >= 400_000


async def test_killed_in_mid_stream(world: World, tmp_path: Path, content: Read) -> None:
    """The same by fragments, in whatever state its notes are."""
    world.site.manners["/hls/"] = Manners(speed=60_000)
    await interrupted(world, "/hls/index.m3u8", tmp_path / "begun", 30_000)
    del world.site.manners["/hls/"]
    for name in ("as it was", "doubled", "no note", "torn note"):
        folder = Path(shutil.copytree(tmp_path / "begun", tmp_path / name))
        part, note = folder / "both.part", folder / "both.ytdl"
        if name == "doubled":
            part.write_bytes(part.read_bytes() + b"a fragment that was not noted")
        elif name == "no note":
            note.unlink()
        elif name == "torn note":
            note.write_bytes(note.read_bytes()[:-5])
        world.site.requests.clear()
        assert content(await world.fetched("/hls/index.m3u8", folder)) == segments(), name
        assert bool(world.site.requests["/hls/segment0.ts"]) == (name in {"no note", "torn note"})


async def test_changed_meanwhile(world: World, tmp_path: Path, content: Read) -> None:
    """Another file now, or one that cannot be gone on with: never glued to what is there."""
    world.site.pages["/changing"] = Page(film="/films/x.mp4?size=1500000&seed=8&speed=1500000")
    await interrupted(world, "/changing", tmp_path / "begun", 500_000)
    changes: list[dict[str, Any]] = [
        {"seed": 9}, {"size": 2_500_000}, {"size": 300_000}, {"size": 300_000, "seed": 9}, {"seed": 9, "ranges": 0},
        {"seed": 9, "etag": 0}, {"seed": 9, "length": 0}, {"length": 0}, {},
    ]  # fmt: skip
    for number, change in enumerate(changes):
        folder = Path(shutil.copytree(tmp_path / "begun", tmp_path / str(number)))
        now = {"size": 1_500_000, "seed": 8} | change
        query = "&".join(f"{name}={value}" for name, value in now.items())
        world.site.pages["/changing"] = Page(film=f"/films/x.mp4?{query}")
        fetched = await world.fetched("/changing", folder)
        assert content(fetched) == film_bytes(now["size"], now["seed"]), change


async def test_a_file_without_any_mark(world: World, tmp_path: Path, content: Read) -> None:
    """Where nothing tells one file from another there is no going on."""
    world.site.pages["/plain"] = Page(film="/films/x.mp4?size=1500000&seed=8&speed=1500000&etag=0&length=0")
    await interrupted(world, "/plain", tmp_path, 500_000)
    world.site.pages["/plain"] = Page(film="/films/x.mp4?size=1500000&seed=9&etag=0&length=0")
    assert content(await world.fetched("/plain", tmp_path)) == film_bytes(1_500_000, 9)


async def test_what_is_whole_is_not_fetched_again(world: World, tmp_path: Path, content: Read) -> None:
    """The next attempt finds it."""
    await world.fetched("/video", tmp_path)
    world.site.sent.clear()
    assert content(await world.fetched("/video", tmp_path)) == film_bytes()
    assert world.site.sent["/film.mp4"] == 0


async def test_cancelled(world: World, tmp_path: Path, content: Read) -> None:
    """Closed, its child is gone at once; what came in stays."""
    path = "/film.mp4?size=3000000&seed=3"
    began = time.monotonic()
    pid = await interrupted(world, f"{path}&speed=1000000", tmp_path, 500_000, how="close")
    assert time.monotonic() - began < 3
    assert not Path(f"/proc/{pid}").exists()
    assert (tmp_path / "both.part").stat().st_size >= 400_000
    assert content(await world.fetched(path, tmp_path)) == film_bytes(3_000_000, 3)


async def test_the_site_vanishes(world: World, tmp_path: Path, content: Read) -> None:
    """In mid-download, for a while."""
    task = asyncio.create_task(world.fetch("/film.mp4?size=2000000&seed=5&speed=1000000", tmp_path))
    while not (tmp_path / "both.part").exists() or (tmp_path / "both.part").stat().st_size < 500_000:
        await asyncio.sleep(0.05)
    await world.site.vanish()
    await asyncio.sleep(0.5)
    await world.site.start()
    said = await task
    last = said[-1] if isinstance(said[-1], Fetched) else await world.fetched("/film.mp4?size=2000000&seed=5", tmp_path)
    assert content(last) == film_bytes(2_000_000, 5)


# ---------------------------------------------------------------- lists


async def test_a_feed(world: World, tmp_path: Path, content: Read) -> None:
    """As it is now; each entry's key is what its own page tells, and each URL comes once."""
    world.site.feeds["/mine"] = [Item(f"/films/{n}.mp4", f"Film {n}") for n in (1, 2, 2, 3)]
    found = await world.listed("/mine")
    assert [one.title for one in found.entries] == ["Film 1", "Film 2", "Film 3"]
    assert (found.title, found.total, found.more) == ("Feed /mine", 3, False)
    world.site.feeds["/mine"].insert(0, Item("/jsonld", "The train"))
    (said,) = await world.fetch("/mine", tmp_path, limit=2)
    assert isinstance(said, Listed)
    assert [one.title for one in said.entries] == ["The train", "Film 1"]
    assert said.more
    assert said.total == 5
    told = [await world.extracted(one.url, tmp_path / str(n)) for n, one in enumerate(said.entries)]
    assert [f"{one.extractor} {one.media_id}" for one in told] == [one.key for one in said.entries]


async def test_a_page_with_many_films(world: World, tmp_path: Path, content: Read) -> None:
    """Each can be had by itself, though it has no page of its own."""
    found = await world.listed("/many?count=500", limit=120)
    assert (len(found.entries), len({one.key for one in found.entries}), found.more) == (120, 120, True)
    assert found.total == 500
    entry = found.entries[41]
    said = await world.fetch(entry.url, tmp_path / "1")
    told = next(one for one in said if isinstance(one, Extracted))
    assert f"{told.extractor} {told.media_id}" == entry.key
    (file,) = said[-1].media
    expected = Path((await world.fetched("/films/41.mp4", tmp_path / "2")).media[0].path).read_bytes()
    assert Path(file.path).read_bytes() == expected
    gone = await world.failed(entry.url.replace("-42", "-4200"), tmp_path / "3")
    assert gone.kind == "gone"


async def test_a_list_of_one(world: World, tmp_path: Path) -> None:
    """A video is a list of one for who asks for a list, and a page with one video is that video."""
    found = await world.listed("/jsonld")
    ((entry,), more) = (found.entries, found.more)
    assert (entry.url, entry.title, more) == (world.site.url("/jsonld"), "A train goes by", False)
    told = await world.extracted("/jsonld", tmp_path)
    assert entry.key == f"{told.extractor} {told.media_id}"
    failed = await world.fetcher.listed(world.site.url("/status/404"), DownloadConfig())
    assert isinstance(failed, FetchFailure)
    assert failed.kind == "gone"


# ---------------------------------------------------------------- live, cookies


async def test_live(world: World, tmp_path: Path, content: Read) -> None:
    """Refused, unless it is to be waited for; then recorded from what is there to its end."""
    failed = await world.failed("/live.m3u8", tmp_path / "1")
    assert failed.kind == "live"
    assert "SPOOLHOUSE_DOWNLOAD_WAIT_FOR_LIVE" in failed.advice
    world.site.requests.clear()
    task = asyncio.create_task(world.fetch("/live.m3u8", tmp_path / "2", wait_for_live=True))
    while world.site.requests["/hls/segment5.ts"] == 0:
        await asyncio.sleep(0.05)
    world.site.live_ended = True
    said = await task
    world.site.live_ended = False
    assert next(one for one in said if isinstance(one, Extracted)).live
    assert content(said[-1]) == segments()


async def test_cookies(world: World, tmp_path: Path) -> None:
    """Sent to whom they are for; the file stays as it is, and no copy is left."""
    folder = world.settings.cookies
    folder.mkdir(parents=True, exist_ok=True)
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tpass\tgeheim\n"
    (folder / "mine.txt").write_text(text)
    world.site.seen.clear()
    await world.fetched("/jsonld", tmp_path, cookies="mine.txt")
    assert {headers.get("Cookie") for path, headers in world.site.seen} == {"pass=geheim"}
    assert (folder / "mine.txt").read_text() == text
    assert not any(b"geheim" in one.read_bytes() for one in tmp_path.iterdir())
    (folder / "bad.txt").write_text("no cookies\n")
    for name in ("bad.txt", "none.txt"):
        failed = await world.failed("/jsonld", tmp_path, cookies=name)
        assert (failed.kind, name in failed.reason) == ("login", True)
        assert "SPOOLHOUSE_COOKIES_DIR" in failed.advice


async def test_many_at_once(world: World, tmp_path: Path) -> None:
    """Each in a process of its own, and no more than are needed."""

    async def one(number: int) -> Any:
        return await world.fetched(f"/films/{number}.mp4?size=300000&speed=400000", tmp_path / str(number))

    got = await asyncio.gather(*(one(number) for number in range(3)))
    assert len({fetched.media[0].path for fetched in got}) == 3
    assert len(world.fetcher._downloads._resting) <= 3

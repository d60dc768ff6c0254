"""Downloads while everything around them fails: sites, disks, and our own processes, again and again.

`SPOOLHOUSE_DOWNLOAD_KILLS` says how often something is killed during one download, `SPOOLHOUSE_DOWNLOAD_QUEUE` how many
wait while everything is started anew (50 and 1000, say).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from processors.storage.disk import space
from streams.events import DownloadStarted, DownloadStored
from streams.identity import download_subject
from streams.log import open_log
from streams.settings import load_settings
from tests.disks import small_disk
from tests.e2e.downloading import SiteBeside, add, ask, ends, opened_to, site_beside, stored
from tests.e2e.running import Running, free_port, spoolhouse, until
from tests.servers import RedisServer
from tests.sites import Manners, Page

KILLS = int(os.environ.get("SPOOLHOUSE_DOWNLOAD_KILLS", "4"))
QUEUED = int(os.environ.get("SPOOLHOUSE_DOWNLOAD_QUEUE", "40"))
LISTED_WITHIN = 5.0
"""Seconds for the whole list."""

MIB = 2**20
SPEED = 2 * MIB
"""Bytes a second of the film that is killed: each block that yt-dlp reads is about a second's."""

FAST = 16 * MIB

FILM = "/noise.mov"
VICTIMS = ("worker", "fetching", "redis", "api")
SIZE = (4 + 2 * KILLS) * MIB
HARD = 6
"""MiB that must be free."""

MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-live:2011"><BaseURL>{base}</BaseURL><Period><AdaptationSet mimeType="video/mp4"
><SegmentTemplate media="$Number$.m4s" initialization="init.m4s" duration="1" timescale="1" startNumber="1"/>
<Representation id="1" bandwidth="1000" width="64" height="36" codecs="avc1.42c00a"/></AdaptationSet></Period></MPD>"""
"""A list of segments that lie elsewhere."""


# ---------------------------------------------------------------- what all of them look at


def noise_film(path: Path, size: int, seed: int) -> bytes:
    """A film of which every byte counts: its sound is noise, as it is."""
    rng, rate, channels = np.random.default_rng(seed), 96_000, 8
    with av.open(str(path), "w", format="mov", options={"movflags": "faststart"}) as out:
        picture = out.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = 64, 36, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=rate, layout="7.1")
        for second in range(-(-size // (rate * channels * 2))):
            image = av.VideoFrame.from_ndarray(np.full((54, 64), 100 + second, np.uint8), format="yuv420p")
            image.pts = second
            out.mux(picture.encode(image))
            samples = rng.integers(-(2**15), 2**15, (1, rate * channels), np.int16)
            heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="7.1")
            heard.sample_rate, heard.pts = rate, second * rate
            out.mux(sound.encode(heard))
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))
    return path.read_bytes()


def content(path: Path) -> dict[str, str]:
    """What a film holds, whatever container it is in: a digest of each stream's bytes."""
    digests = {"video": hashlib.sha256(), "audio": hashlib.sha256()}
    with av.open(str(path)) as film:
        for packet in film.demux():
            digests[packet.stream.type].update(bytes(packet))
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


class Watch(threading.Thread):
    """Looks at the media root all the time: what is there is whole, and nothing else is ever there."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.enough = root, threading.Event()
        self.names: set[str] = set()
        self.changed: list[str] = []
        self.looks = 0

    def run(self) -> None:
        """Until it is enough."""
        films: dict[str, tuple[int, int]] = {}
        while not self.enough.wait(0.01):
            self.looks += 1
            for place, _, names in os.walk(self.root):
                for name in names:
                    path = os.path.join(place, name)
                    self.names.add(path)
                    if not name.endswith((".nfo", ".jpg")):
                        status = os.stat(path)
                        now = (status.st_ino, status.st_size)
                        if films.setdefault(path, now) != now:
                            self.changed.append(f"{path}: {films[path]}, then {now}")

    def check(self) -> None:
        """End it, and say what was wrong. Nothing was taken away on purpose meanwhile."""
        self.enough.set()
        self.join(30)
        assert self.looks > 100
        assert not self.changed
        gone = {path for path in self.names if not os.path.exists(path)}
        assert not gone, f"something unfinished was visible: {gone}"


@contextmanager
def canary() -> Iterator[tuple[int, list[int]]]:
    """A server on loopback that nobody may ask: its port, and an entry for each connection."""
    asked: list[int] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:

        def take() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                asked.append(peer[1])
                connection.close()

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30)


class Story:
    """A Spoolhouse with a second worker, on a Redis and a site that may be broken."""

    def __init__(self, beside: SiteBeside, redis: RedisServer, media: Path, data: Path, rng: random.Random) -> None:
        self.beside, self.site, self.redis, self.media, self.rng = beside, beside.site, redis, media, rng
        self.data, self.port = data, free_port()
        self.running: Running = None  # type: ignore[assignment]
        self._beside, self._other = ExitStack(), 0
        self.environment = {
            **opened_to(self.site),
            "SPOOLHOUSE_REDIS_URL": redis.url,
            "SPOOLHOUSE_MEDIA_ROOT": str(media),
            "SPOOLHOUSE_LEASE_TTL": "2",
            "SPOOLHOUSE_DISK_LOW": str((HARD + 1) * MIB),
            "SPOOLHOUSE_DISK_HARD": str(HARD * MIB),
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """All of it runs while the body does."""
        with self._beside, spoolhouse(self.data, port=self.port, **self.environment) as self.running:
            self._begin_other()
            yield

    def events(self, numbers: list[int], kind: type[Any]) -> dict[int, list[Any]]:
        """The events of one kind of these downloads."""

        async def read() -> dict[int, list[Any]]:
            async with open_log(load_settings(data=self.data), self.redis.url) as log:
                found = {number: await log.history(download_subject(number)) for number in numbers}
            return {
                number: [one for one in history if isinstance(one.event, kind)] for number, history in found.items()
            }

        return asyncio.run(read())

    def sent(self) -> int:
        """Bytes of the film that were sent."""
        return self.site.sent[FILM]

    # ------------------------------------------------------------ what happens

    def inner_places_are_refused(self) -> None:
        """However a site leads there."""
        with canary() as (port, asked):
            segments = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/0.ts\n#EXT-X-ENDLIST\n"
            self.site.files["/lists/in.m3u8"] = (segments.encode(), "application/vnd.apple.mpegurl")
            manifest = MPD.format(base=f"http://127.0.0.1:{port}/")
            self.site.files["/lists/in.mpd"] = (manifest.encode(), "application/dash+xml")
            places = {
                self.site.url("/lists/in.m3u8"): "127.0.0.1",
                self.site.url("/lists/in.mpd"): "127.0.0.1",
                self.site.url("/to", url="http://169.254.169.254/latest/meta-data"): "169.254.169.254",
                self.site.url("/to", url=f"http://127.0.0.1:{port}/film.mp4"): "127.0.0.1",
                self.site.url("/to", url=f"http://[::1]:{port}/film.mp4"): "::1",
            }
            numbers = {add(self.running, url): place for url, place in places.items()}
            for number, place in numbers.items():
                told = ends(self.running, number, "Error")
                assert f"{place} is " in told["status_message"], told
                assert "SPOOLHOUSE_DOWNLOAD_ALLOW" in told["status_message"], told
            assert not asked

    def site_vanishes(self) -> None:
        """In the middle; the download goes on from where it was."""
        before = self.sent()
        self.site.manners[FILM] = Manners(speed=4 * MIB)
        number = add(self.running, self.site.url("/vanishing"))
        until(lambda: self.sent() > before + 3 * MIB, why="the film on its way")
        self.beside.vanish()
        time.sleep(1.0)
        self.site.manners[FILM] = Manners(speed=FAST)
        self.beside.come_back()
        stored(self.running, number)
        excess = self.sent() - before - SIZE
        assert excess < 6 * MIB, f"{excess} bytes were sent in vain"
        ask(self.running, "DELETE", f"/videos/{number}")

    def disk_fills_up(self, disk: Path) -> None:
        """Nothing more is begun, and that is said; with room again it goes on by itself."""
        filler = disk / "filler"
        filler.write_bytes(bytes(space(disk).free - (HARD - 1) * MIB))
        number = add(self.running, self.site.url("/films/waiting.mp4"))
        until(lambda: "downloads wait" in str(ask(self.running, "GET", "/readyz")), why="a word of the full disk")
        assert (self.running.get(f"/videos/{number}") or {})["status"] == "Pending"
        filler.unlink()
        stored(self.running, number)

    def everyone_is_killed(self) -> None:
        """Again and again during one download; several wait behind it."""
        before, behind = self.sent(), [f"/films/behind{n}.mp4" for n in range(4)]
        self.site.manners[FILM] = Manners(speed=SPEED)
        watch = Watch(self.media)
        watch.start()
        number = add(self.running, self.site.url("/noise"))
        waiting = [add(self.running, self.site.url(path)) for path in behind]
        killed: Counter[str] = Counter()
        for _ in range(KILLS):
            until(self._moves(), why=f"the film on its way (killed so far: {dict(killed)})")
            killed[self._kill(VICTIMS[killed.total() % len(VICTIMS)])] += 1
        self.site.manners[FILM] = Manners(speed=FAST)
        for pid in self._fetching():
            os.kill(pid, signal.SIGKILL)  # what goes on is served at full speed
        film = stored(self.running, number)
        for one in waiting:
            stored(self.running, one)
        watch.check()
        assert content(Path(film["file_path"])) == content(self.data.parent / "noise.mov")
        excess = self.sent() - before - SIZE
        print(f"killed {dict(killed)}; {SIZE} bytes, and {excess} once more; {film['attempt']} attempts")
        # Each kill costs the block that was being read, and what was on its way.
        assert excess < (KILLS + 2) * SPEED / 2, f"{excess} bytes were sent in vain"
        order = self.events([number, *waiting], DownloadStored)
        assert all(len(found) == 1 for found in order.values()), order
        assert sorted(order, key=lambda one: order[one][0].time) == [number, *waiting]
        begun = self.events(waiting, DownloadStarted)
        assert all(len(found) == 1 for found in begun.values()), "two workers fetched the same"

    def _moves(self) -> Callable[[], bool]:
        """Whether some more of the film was sent from now on."""
        target = self.sent() + self.rng.uniform(0.2, 1.0) * MIB
        return lambda: self.sent() > target

    def _kill(self, victim: str) -> str:
        """Kill it, or the processes that fetch where it is not there just now; which of them it was."""
        api, worker = self.running.child("api"), self.running.child("worker")
        if victim == "redis":
            self.redis.restart(kill=True)
        elif victim == "api" and api:
            os.kill(api, signal.SIGKILL)
        elif victim == "worker" and worker and self._children(worker):
            os.kill(worker, signal.SIGKILL)
        elif victim == "worker":
            os.kill(self._other, signal.SIGKILL)
            self._begin_other()
        else:
            victim = "fetching"
            for pid in self._fetching():
                os.kill(pid, signal.SIGKILL)
        return victim

    def _child(self, name: str) -> int:
        """One of `spoolhouse up`'s processes; waits for it where it died a moment ago."""
        found: int = until(lambda: self.running.child(name), why=f"another {name}")
        return found

    def _begin_other(self) -> None:
        """A second worker, with the same data."""
        self._beside.close()
        self._other = self._beside.enter_context(self.running.worker()).pid

    def _fetching(self) -> list[int]:
        """The processes that fetch."""
        return [*self._children(self._other), *self._children(self.running.child("worker"))]

    def _children(self, worker: int) -> list[int]:
        """Those of one worker; none of one that is not there."""
        told = subprocess.run(
            ["pgrep", "-P", str(worker), "-f", r"processors\.fetching\.child"],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(pid) for pid in told.stdout.split()] if worker else []

    def everything_is_started_anew(self) -> None:
        """With many waiting: all of them are listed, in order, and are gone on with."""
        number = add(self.running, self.site.url("/films/slow.mp4", speed=2000))
        waiting = [add(self.running, self.site.url(f"/films/{n}.mp4")) for n in range(QUEUED)]
        pids = [self.running.process.pid, self._child("api"), self._child("worker"), self._other]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.running.process.wait(30)
        self.redis.restart(kill=True)
        with spoolhouse(self.data, port=self.port, **self.environment) as self.running:
            began = time.monotonic()

            def listed() -> bool:
                found = [one["id"] for one in self.running.get("/videos") or [] if one["id"] >= number]
                assert found == [number, *waiting][: len(found)]
                return len(found) == 1 + QUEUED

            until(listed, why="the whole list")
            took = time.monotonic() - began
            print(f"{1 + QUEUED} downloads listed within {took:.2f} s")
            assert took < LISTED_WITHIN
            ask(self.running, "PATCH", f"/videos/{number}", {"status": "cancel"})
            stored(self.running, waiting[0])


@pytest.mark.timeout(300 + 20 * KILLS + 2 * QUEUED)
def test_downloads_come_through_all_of_it(
    own_redis: RedisServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, rng: random.Random
) -> None:
    """Given two workers and one Redis, whatever fails around a download, then it is there once, whole, in its turn."""
    place = tmp_path_factory.mktemp("disk")
    film = noise_film(tmp_path / "noise.mov", SIZE, rng.randrange(2**32))
    with small_disk(place, f"{5 * SIZE + 64 * MIB}") as missing, site_beside() as beside:
        beside.site.files[FILM] = (film, "video/quicktime")
        for page in ("/noise", "/vanishing"):
            # A page is read anew with each attempt; a film that is asked for by its own address would be, too.
            beside.site.pages[page] = Page(how="video", title=page[1:], film=FILM)
        story = Story(beside, own_redis, place / "media", tmp_path / "data", rng)
        with story.up():
            ask(story.running, "PATCH", "/config", {"concurrency": 2})
            story.inner_places_are_refused()
            ask(story.running, "PATCH", "/config", {"concurrency": 1})
            story.site_vanishes()
            if not missing:
                story.disk_fills_up(place)
            story.everyone_is_killed()
            story.everything_is_started_anew()

"""yt-dlp itself, which goes out by the egress proxy: pages, manifests, segments, keys and pictures alike."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from processors.fetching.fetcher import ChildFetcher, open_fetcher
from processors.ports import Fetched, FetchFailure, FetchJob, Listed
from streams.download_config import configured
from streams.paths import OsPath
from streams.settings import Settings
from tests.processors.fetching.proxying import serving
from tests.sites.site import Site, open_site

MakeSettings = Callable[..., Settings]

PLACES = {
    "redirect": "{to}{inner}/film.mp4",
    "redirect by name": "{to}http://localhost:{secret}/film.mp4",
    "redirect by IPv6": "{to}http://[::1]:{secret}/film.mp4",
    "redirect by an odd form": "{to}http://2130706433:{secret}/film.mp4",
    "metadata of a cloud": "{to}http://169.254.169.254/latest/meta-data/",
    "film of a page": "<video src='{inner}/film.mp4'></video>",
    "manifest": "<video><source type='application/x-mpegURL' src='{inner}/index.m3u8'></video>",
    "stream": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{inner}/index.m3u8\n",
    "segment": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{inner}/1.ts\n#EXT-X-ENDLIST\n",
    "redirected segment": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{to}{inner}/1.ts\n#EXT-X-ENDLIST\n",
    "key": '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI="{inner}/key"\n#EXTINF:4,\n1.ts\n#EXT-X-ENDLIST\n',
}
"""What leads inside: where a page redirects to, a page, or a playlist."""


class Inside:
    """A service that nobody from outside may reach."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.asked.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\ninner secret")


@asynccontextmanager
async def hostile(secret: int) -> AsyncGenerator[dict[str, str]]:
    """A site that may be reached, and leads inside. What leads there: the URL."""
    texts: dict[str, str] = {}

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        _, to, target = path.partition("/to?url=")
        text = texts.get(path.split("/")[1], "")
        if to or text.startswith("http"):
            target = target or text.partition("/to?url=")[2]
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        kind = "application/vnd.apple.mpegurl" if text.startswith("#EXTM3U") else "text/html"
        body = text.encode()
        if path.endswith(".ts"):
            kind, body = "video/mp2t", b"\x47" * 188
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    async with serving(serve) as port:
        base = f"http://127.0.0.1:{port}"
        urls = {}
        for number, (name, text) in enumerate(PLACES.items()):
            texts[str(number)] = text.format(to=f"{base}/to?url=", inner=f"http://127.0.0.1:{secret}", secret=secret)
            urls[name] = f"{base}/{number}/{'index.m3u8' if text.startswith('#') else 'page'}"
        yield urls


async def fetched(fetcher: ChildFetcher, settings: Settings, url: str, folder: Path) -> Fetched | FetchFailure | Listed:
    """How it ends."""
    folder.mkdir(exist_ok=True)
    last = None
    async with asyncio.timeout(60):
        async for said in fetcher.fetch(FetchJob(url, OsPath(str(folder)), configured(settings, {}))):
            last = said
    assert isinstance(last, (Fetched, FetchFailure, Listed))
    return last


async def test_nothing_inner_is_reached_by_whatever_way(make_settings: MakeSettings, tmp_path: Path) -> None:
    """A site that may be reached leads inside by everything that yt-dlp follows: refused, and nobody inside hears of it."""
    inside = Inside()
    async with serving(inside.serve) as secret, hostile(secret) as urls:
        site = urls["redirect"].split("/")[2]
        settings = make_settings(download_allow=site)
        async with open_fetcher(settings) as fetcher:
            outcomes = {
                name: await fetched(fetcher, settings, url, tmp_path / str(number))
                for number, (name, url) in enumerate(urls.items())
            }
    assert inside.asked == []
    kinds = {name: outcome.kind if isinstance(outcome, FetchFailure) else outcome for name, outcome in outcomes.items()}
    assert kinds == dict.fromkeys(PLACES, "refused"), outcomes


def egresses() -> Iterator[int]:
    """Process ids of our own egress proxies."""
    for one in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((one / "stat").read_text("ascii").rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"processors.fetching.egress_child" in (one / "cmdline").read_bytes():
                yield int(one.name)
        except OSError:
            pass


async def test_no_child_goes_on_with_a_proxy_that_died(make_settings: MakeSettings, tmp_path: Path) -> None:
    """When it is killed, the next download is served by the next one, though its child had worked before."""
    site: Site
    async with open_site() as site:
        settings = make_settings(download_allow=f"127.0.0.1:{site.port}")
        async with open_fetcher(settings) as fetcher:
            for turn in range(2):
                outcome = await fetched(fetcher, settings, site.url("/film.mp4"), tmp_path / str(turn))
                assert isinstance(outcome, Fetched), (turn, outcome)
                (egress,) = egresses()
                os.kill(egress, signal.SIGKILL)
                async with asyncio.timeout(20):
                    while Path(f"/proc/{egress}").exists():  # its last thread has closed what it had open
                        await asyncio.sleep(0.02)

"""Brings the files of one video, one after another, and goes on from what lies there. In the child."""

from __future__ import annotations

import os
from typing import Any

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.downloader.ism import IsmFD
from yt_dlp.networking import Request

from processors.fetching import choosing, fragments, live
from processors.fetching.engine import Engine
from processors.fetching.failures import LIVE, FailedError
from processors.fetching.meter import Meter
from processors.fetching.printable import line
from processors.fetching.resuming import PartFile

PLAYLIST = 16 * 2**20
"""Bytes of a media playlist."""

BLOCK = 256 * 1024
"""Bytes that are read at once, at the most."""

_KNOWN = (HttpFD, HlsFD, DashSegmentsFD, IsmFD)


class _SmallBlocks:
    """Stands before yt-dlp's downloader by HTTP: a block that a broken connection cuts short is lost."""

    @staticmethod
    def best_block_size(elapsed: float, size: int) -> int:
        """Bytes of the next block."""
        return min(int(HttpFD.best_block_size(elapsed, size)), BLOCK)


class Part:
    """One file that is to come."""

    def __init__(self, engine: Engine, info: dict[str, Any], kind: str, form: dict[str, Any]) -> None:
        """`info`: of the video. `kind`: see `choosing.kind_of`. `form`: of the format."""
        self.kind, self.engine = kind, engine
        self.format = line(form.get("format_id"), 100)
        self.identity = choosing.identity(form)
        self.live = False
        """Whether it is a stream that goes on."""
        self._info = {**engine._copy_infodict(info), **form}  # noqa: SLF001 - as yt-dlp does it
        self._info.pop("requested_formats", None)
        self._pieces = ""

    def prepare(self) -> None:
        """Look at the manifest, where there is one. Raises what yt-dlp does."""
        info = self._info
        if info.get("protocol") in {"m3u8", "m3u8_native"}:
            manifest = info.get("hls_media_playlist_data")
            if not manifest:
                headers = info.get("http_headers") or {}
                response = self.engine.urlopen(Request(info["url"], headers=headers))
                manifest = response.read(PLAYLIST + 1).decode("utf-8", "ignore")
                response.close()
                if len(manifest) > PLAYLIST:
                    raise FailedError("invalid", f"the playlist has more than {PLAYLIST >> 20} MiB")
                info["url"] = response.url
            if not manifest.lstrip("\ufeff \r\n").startswith("#EXTM3U"):
                raise FailedError("extractor", "what should be a playlist is none")
            self.live = live.goes_on(manifest)
            info["hls_media_playlist_data"] = manifest
            self._pieces = "live" if self.live else fragments.mark(manifest, None)
        else:
            self.live = bool(info.get("is_live"))
            listed = info.get("fragments")
            self._pieces = fragments.mark(None, listed) if isinstance(listed, (list, tuple)) else ""
            if self.live:
                raise FailedError("live", "it is live, and of live streams only HLS can be recorded", LIVE)

    def bring(self, folder: str, name: str, meter: Meter) -> int:
        """Have it in `folder` under `name`; its size. Raises what yt-dlp does, and FailedError."""
        file = PartFile(folder, name)
        size = file.begin(self.identity, self._pieces)
        if size is not None:
            return size
        if self.live:
            live.record(self.engine, self._info, file, meter)
            return file.finish()
        downloader = get_suitable_downloader(dict(self._info), self.engine.params)
        if downloader not in _KNOWN and getattr(downloader, "__name__", "") not in {"BunnyCdnFD", "SoopVodFD"}:
            raise FailedError(
                "unsupported", f"it comes in a way that is not fetched ({line(self._info.get('protocol'), 30)})"
            )
        if issubclass(downloader, FragmentFD):
            downloader = fragments.careful(downloader)
        else:
            downloader = type(f"Careful{downloader.__name__}", (_SmallBlocks, downloader), {})
            self.engine.part = file
        try:
            worker = downloader(self.engine, self.engine.params)
            worker.add_progress_hook(meter.hook)
            brought, _ = worker.download(file.path, self._info)
        finally:
            self.engine.part = None
        if not brought or not os.path.isfile(file.path):
            raise FailedError("network", "it did not come in whole")
        size = file.finish()
        least = self._info.get("filesize")
        if file.known.total is None and isinstance(least, int) and size < least:
            file.clean()
            raise FailedError("network", f"{size} bytes came, and the page told of {least}")
        return size

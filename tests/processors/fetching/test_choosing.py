"""What is chosen of what a page offers, and what is left to wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from yt_dlp.utils import ExtractorError, UserNotLive

from processors.fetching import choosing, jobs, pages
from processors.fetching.engine import Engine, Surroundings
from processors.fetching.failures import FailedError
from streams.download_config import DownloadConfig


def video(*formats: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A video as an extractor has it."""
    return {"id": "1", "title": "A video", "extractor": "x", "extractor_key": "X", "formats": list(formats), **more}


def form(name: str, height: int | None, codec: str, sound: str = "none", **more: Any) -> dict[str, Any]:
    """A format."""
    return {"format_id": name, "url": f"https://x.example/{name}", "ext": "mp4", "height": height,
            "width": height and height * 16 // 9, "vcodec": codec, "acodec": sound, **more}  # fmt: skip


def chosen(info: dict[str, Any], **config: Any) -> list[str]:
    """Ids of what is chosen."""
    with Engine(DownloadConfig(**config), Surroundings(), lambda _: None) as engine:
        choosing.keep_fetchable(info)
        return [str(one["format_id"]) for _, one in choosing.chosen(engine.process_ie_result(info, download=False))]


def test_what_plays_everywhere_comes_first() -> None:
    """At the same height; a better picture is worth another codec."""
    offered = [
        form("av1", 1080, "av01.0.08M.08"), form("vp9", 1080, "vp9"), form("h264", 1080, "avc1.640028"),
        form("uhd", 2160, "vp9"), form("opus", None, "none", "opus", abr=160), form("aac", None, "none", "mp4a.40.2", abr=128),
        form("progressive", 720, "avc1.4d401f", "mp4a.40.2"),
    ]  # fmt: skip
    assert chosen(video(*offered)) == ["uhd", "aac"]
    assert chosen(video(*offered), max_height=1080) == ["h264", "aac"]
    assert chosen(video(*offered), max_height=100) == ["progressive"], "nothing is as small: the smallest"
    assert chosen(video(*offered), audio_only=True) == ["aac"]
    assert chosen(video(*offered), format="b") == ["progressive"]
    with pytest.raises(FailedError) as failed:
        choosing.chosen({"requested_formats": offered[:3]})
    assert failed.value.kind == "format"


def test_only_http_is_fetched() -> None:
    """Other ways are left out, and named where there is nothing else."""
    offered = [form("flash", 2160, "h264", protocol="rtmp"), form("ok", 360, "h264", "mp4a", protocol="m3u8")]
    assert chosen(video(*offered), format="b") == ["ok"]
    with pytest.raises(FailedError, match="rtmp") as failed:
        chosen(video(offered[0]))
    assert failed.value.kind == "unsupported"
    with pytest.raises(FailedError):
        chosen(video({**form("file", 1, "h264"), "url": "file:///etc/passwd"}))


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("how", ["told", "raised", "off"])
def test_what_has_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, wait: bool) -> None:
    """Its time is told where it is to be waited for."""

    def read(engine: Engine, url: str) -> dict[str, Any]:
        if how == "off":
            raise UserNotLive(video_id="1")
        if how == "raised" and not engine.params.get("ignore_no_formats_error"):
            raise ExtractorError("Premieres in 3 hours", expected=True)
        return video(live_status="is_upcoming", release_timestamp=2_000_000_000)

    monkeypatch.setattr(pages, "read", read)
    with (
        Engine(DownloadConfig(wait_for_live=wait), Surroundings(), lambda _: None) as engine,
        pytest.raises(FailedError) as failed,
    ):
        jobs._Fetching(engine, "https://x.example/", str(tmp_path)).run()
    told = failed.value.told()
    assert told["kind"] == ("scheduled" if wait else "live")
    assert told["begins"] == ("2033-05-18T03:33:20+00:00" if wait and how != "off" else None)
    assert "wait_for_live" in told["advice"]

"""Lists within lists, as channels have them."""

from __future__ import annotations

from typing import Any

from processors.fetching.engine import Engine, Surroundings
from processors.fetching.lists import tell_list
from streams.download_config import DownloadConfig


def told(found: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Entries, and what is said of the list."""
    entries: list[dict[str, Any]] = []
    with Engine(DownloadConfig(), Surroundings(), lambda message: entries.extend(message.get("entries", []))) as engine:
        return entries, tell_list(engine, found, limit)


def watch(number: int) -> dict[str, Any]:
    """As a channel's list names a video."""
    video = f"abcdefg{number:04d}"
    return {"_type": "url", "url": f"https://www.youtube.com/watch?v={video}", "ie_key": "Youtube", "id": video, "title": f"V {number}"}  # fmt: skip


def test_lists_in_lists() -> None:
    """Flattened in order, each once; keys are those that the videos will tell."""
    tabs = [{"_type": "playlist", "entries": [watch(n) for n in part]} for part in (range(3), range(2, 5))]
    entries, said = told({"_type": "playlist", "title": "A channel", "entries": tabs}, 10)
    assert [entry["title"] for entry in entries] == [f"V {n}" for n in range(5)]
    assert entries[0]["key"] == "Youtube abcdefg0000"
    assert said == {"title": "A channel", "total": 5, "more": False}


def test_no_more_is_read_than_is_wanted() -> None:
    """A list that never ends, page by page."""
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield watch(read)

    entries, said = told({"_type": "playlist", "title": "Endless", "entries": endless()}, 120)
    assert (len(entries), said["more"], said["total"]) == (120, True, 121)
    assert read < 200


def test_what_is_no_entry() -> None:
    """Left out: what is not of the web, what has no address, what goes round in circles."""
    loop: dict[str, Any] = {"_type": "playlist", "title": "Loop", "entries": []}
    loop["entries"] = [
        loop,
        None,
        {"_type": "url", "url": "file:///etc/passwd"},
        {"_type": "url", "url": "x\ny"},
        watch(1),
    ]
    entries, said = told(loop, 10)
    assert [entry["title"] for entry in entries] == ["V 1"]
    assert said["total"] == 1

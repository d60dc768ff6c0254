"""A small, honest catalogue of watched files for tests: it folds the whole log each time it is asked."""

from __future__ import annotations

from dataclasses import replace

from streams.codec import Recorded, recorded
from streams.events import FileMoved, FileRemoved, FileReturned, FileSettled, RowAdopted, VideoOffloaded, VideoRestored
from streams.log import Log
from streams.paths import unescape_path
from streams.queries import KnownFile


async def all_events(log: Log) -> list[Recorded]:
    """Everything in the log, partition by partition."""
    events = []
    for partition in range(log.partitions):
        after = 0
        while entries := await log.read(partition, after=after):
            events += [recorded(entry.partition, entry.pos, entry.fields) for entry in entries]
            after = entries[-1].pos
    return events


def blank(id: str, relative: str, number: int) -> KnownFile:
    """A video without content."""
    numbers = dict.fromkeys(
        ("ver", "size", "modified_ns", "device", "inode", "revision", "generation", "moves", "removals"), 0
    )
    return KnownFile(id=id, relative=relative, number=number, present=False, **numbers)


class FoldedFiles:
    """`WatchedFiles` straight from the log."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def caught_up(self, timeout: float) -> bool:
        return True

    async def known(self, root: str) -> list[KnownFile]:
        videos: dict[str, KnownFile] = {}
        roots: dict[str, str] = {}
        for entry in await all_events(self.log):
            event, id = entry.event, entry.subject
            if isinstance(event, RowAdopted):
                path = unescape_path(event.path)
                if path.startswith(root + "/"):
                    roots[id] = root
                    videos[id] = blank(id, path[len(root) + 1 :], event.number)
            if isinstance(event, FileSettled):
                before = videos.get(id) or blank(id, event.relative, event.number)
                roots[id] = event.root
                videos[id] = replace(
                    before, relative=event.relative, revision=event.revision, generation=event.generation, present=True
                )
            if id not in videos:
                continue
            file = videos[id]
            file.ver = entry.ver
            if isinstance(event, FileMoved):
                file.relative, file.moves, file.present = event.relative, event.move, True
            if isinstance(event, FileReturned):
                file.present = True
            if isinstance(event, FileSettled | FileMoved | FileReturned):
                file.size, file.modified_ns = event.size, event.modified_ns
                file.device, file.inode = event.device, event.inode
            if isinstance(event, FileRemoved):
                file.present, file.removals = False, event.removal
            if isinstance(event, VideoOffloaded):
                file.present, file.device, file.inode, file.removals = False, 0, 0, file.removals + 1
            if isinstance(event, VideoRestored):
                file.present = True
        newest: dict[str, KnownFile] = {}
        for id, file in videos.items():
            if roots[id] != root:
                continue
            other = newest.get(file.relative)
            if other is None or (file.present, file.generation) > (other.present, other.generation):
                newest[file.relative] = file
        return list(newest.values())

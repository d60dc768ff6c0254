"""What is known of one root's files, in memory: by path, by folder, by inode.

Filled from the catalogue at start and changed only after the log took an event.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from processors.watching.comparing import Found
from streams.codec import Recorded
from streams.collecting import garbage_uncollected
from streams.events import FileMoved, FileRemoved, FileReturned, FileSettled, RowAdopted, VideoOffloaded, VideoRestored
from streams.queries import KnownFile


class Index:
    """The known files of a root."""

    def __init__(self, files: Iterable[KnownFile] = ()) -> None:
        self._at: dict[str, KnownFile] = {}
        self._by_inode: dict[int, str] = {}
        self._by_folder: dict[str, set[str]] | None = None  # made when first asked for
        self.at = self._at.get
        """The newest generation at a path, present or not."""
        self.present = 0
        """How many files are there."""
        with garbage_uncollected():
            for file in files:
                if file.relative in self._at:
                    self.put(file)
                    continue
                # The same as `put`, written out: a large root has 100,000 of them.
                self._at[file.relative] = file
                if file.present:
                    self.present += 1
                    self._by_inode[file.inode] = file.relative

    def put(self, file: KnownFile) -> None:
        """Take a file in at its path; a present one is never hidden by an absent one."""
        before = self._at.get(file.relative)
        if before is not None:
            if before.present and not file.present and before.id != file.id:
                return
            self._forget(before)
        self._at[file.relative] = file
        if file.present:
            self.present += 1
            self._by_inode[file.inode] = file.relative
            if self._by_folder is not None:
                self._by_folder.setdefault(os.path.dirname(file.relative), set()).add(file.relative)

    def drop(self, file: KnownFile) -> None:
        """Forget a file (it is elsewhere now)."""
        if self._at.get(file.relative) is file:
            self._forget(file)
            del self._at[file.relative]

    def renumber(self, file: KnownFile, found: Found) -> None:
        """Its file system has another number now; that is no event, only a fact of this boot."""
        if self._by_inode.get(file.inode) == file.relative:
            del self._by_inode[file.inode]
        file.device, file.inode = found.device, found.inode
        if file.present:
            self._by_inode[file.inode] = file.relative

    def like(self, found: Found, devices: dict[int, int]) -> KnownFile | None:
        """A present file that was this very one, wherever it was."""
        file = self._at.get(self._by_inode.get(found.inode, ""))
        if file is None or not file.present:
            return None
        device = devices.get(file.device, file.device)
        return file if Found(file.size, file.modified_ns, device, file.inode) == found else None

    def below(self, folders: Iterable[str]) -> list[KnownFile]:
        """The present files in these folders and in those below them."""
        wanted = set(folders)
        files = []
        if self._by_folder is None:
            self._by_folder = {}
            for file in self.there():
                self._by_folder.setdefault(os.path.dirname(file.relative), set()).add(file.relative)
        for folder, names in self._by_folder.items():
            part = folder
            while part and part not in wanted:
                part = os.path.dirname(part)
            if part in wanted:
                files += [self._at[name] for name in names]
        return files

    def devices(self) -> set[int]:
        """The devices on which present files were."""
        return {file.device for file in self.there()}

    def there(self) -> Iterator[KnownFile]:
        """The present files. Do not change the index meanwhile."""
        return (file for file in self._at.values() if file.present)

    def _forget(self, file: KnownFile) -> None:
        if not file.present:
            return
        self.present -= 1
        if self._by_inode.get(file.inode) == file.relative:
            del self._by_inode[file.inode]
        if self._by_folder is None:
            return
        folder = os.path.dirname(file.relative)
        names = self._by_folder[folder]
        names.discard(file.relative)
        if not names:
            del self._by_folder[folder]


def refold(history: list[Recorded[Any]], relative: str) -> KnownFile | None:
    """What the log says about a video; None where it says nothing.

    `relative` is the path that an adopted row without a file is known under.
    """
    file: KnownFile | None = None
    for recorded in history:
        event = recorded.event
        if file is None:
            if not isinstance(event, FileSettled | RowAdopted):
                continue
            file = unseen_file(recorded.subject, relative, event.number)
        match event:
            case FileSettled():
                file.relative, file.revision, file.generation = event.relative, event.revision, event.generation
                file.number, file.present = event.number, True
            case FileMoved():
                file.relative, file.moves, file.present = event.relative, event.move, True
            case FileReturned():
                file.present = True
            case FileRemoved():
                file.removals, file.present = event.removal, False
            case VideoOffloaded():
                # Removed by us on purpose. What is put back has another inode: see `same_file`.
                file.present, file.device, file.inode = False, 0, 0
                file.removals += 1
            case VideoRestored():
                file.present = True
            case RowAdopted():
                file.number = event.number
        if isinstance(event, FileSettled | FileMoved | FileReturned):
            file.size, file.modified_ns = event.size, event.modified_ns
            file.device, file.inode = event.device, event.inode
        file.ver = recorded.ver
    return file


def offloaded(file: KnownFile) -> bool:
    """Whether a file was removed by ourselves, on purpose (the catalogue says it the same way)."""
    return not file.present and file.revision > 0 and file.device == file.inode == 0


def unseen_file(id: str, relative: str, number: int, generation: int = 0) -> KnownFile:
    """A video of which no content is known yet."""
    return KnownFile(
        id=id,
        ver=0,
        relative=relative,
        size=0,
        modified_ns=0,
        device=0,
        inode=0,
        revision=0,
        generation=generation,
        number=number,
        present=False,
        moves=0,
        removals=0,
    )

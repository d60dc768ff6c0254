"""Decides between "removed" and "is the disk gone?", and remembers the answers."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from processors.watching.comparing import Changes, suspicious
from processors.watching.holds import RootState, digest_of, fold_root
from processors.watching.intake import Intake
from processors.watching.patience import patiently
from processors.watching.registering import Registrar
from processors.watching.settling import times
from streams.entries import Appended
from streams.errors import ConflictError
from streams.events import Event, RootHeld, RootRegistered, RootReleased
from streams.identity import root_subject
from streams.log import Log, new_event
from streams.paths import OsPath, escape_path
from streams.queries import KnownFile

ANSWER_CHECK = 2.0
"""Seconds between looks for an answer while a root is held."""

_log = structlog.get_logger(__name__)


class Questions:
    """The holds of one root."""

    def __init__(self, log: Log, root: OsPath, registrar: Registrar, intake: Intake) -> None:
        self._log, self._root, self._registrar, self._intake = log, root, registrar, intake
        self._subject = root_subject(root)
        self._asked: set[str] | None = None
        """Videos that our question is about; None: there is no question that we wait to see answered."""
        self._kept: set[str] = set()
        """Videos that a person wants to keep although their files are gone."""
        self._next_check = 0.0
        self.accepted = False
        """A person said that what stands at the root now is right."""
        self.state = RootState()

    async def open(self) -> None:
        """Read the root's history."""
        self.state = await self._read()

    async def _read(self) -> RootState:
        return fold_root(await patiently(lambda: self._log.history(self._subject)))

    async def register(self) -> None:
        """Say that this root is watched, for the first time."""
        await self._append(RootRegistered(path=self._root))

    # ------------------------------------------------------------ what is missing

    async def root_gone(self, reason: str) -> None:
        """The root itself is not there: every file of it is missing."""
        missing = list(self._registrar.index.there())
        await self._judge(missing, reason, asked_before=self.state.held is not None and not missing)

    async def vanished(self, removed: list[KnownFile], continuous: bool) -> None:
        """Files whose removal was seen as it happened."""
        if self.state.open is not None or not continuous:
            return  # the next scan sees them
        await self._judge(self._unkept(removed), None, continuous=True)

    async def judge(self, missing: list[KnownFile], seen: Collection[str], *, continuous: bool, strange: bool) -> None:
        """A whole scan's missing files: a question, a removal, or the end of a question."""
        if self._kept:
            index = self._registrar.index
            back = {file.id for relative in seen if (file := index.at(relative)) and file.id in self._kept}
            self._kept -= back
        reason = "another file system seems to be mounted there" if strange and missing else None
        await self._judge(missing, reason, continuous=continuous, whole=True)

    async def _judge(
        self,
        missing: list[KnownFile],
        reason: str | None,
        *,
        continuous: bool = False,
        whole: bool = False,
        asked_before: bool = False,
    ) -> None:
        await self._hear()
        if self.state.open is None:
            await self._apply_old_answer(missing)
        at = self._registrar.index.at
        missing = await self._registrar.unexplained(missing)
        missing = [file for file in self._unkept(missing) if at(file.relative) is file]
        ids = {file.id for file in missing}
        question = self.state.open
        if question is not None:
            if self._asked is None and len(ids) <= question.missing:
                self._asked = ids  # after a restart: the question still stands
            if self._asked is None or ids - self._asked:
                await self._hold(reason or f"{len(ids)} known files are missing", missing)
            elif not ids and whole:
                await self._release_returned()
            return
        present = self._registrar.index.present - len(self._kept)
        reason = reason or suspicious(len(missing), present, continuous=continuous)
        if reason and (ids or not asked_before) and not (self._kept and not ids):
            await self._hold(reason, missing)
        elif missing and not reason:
            await self._remove(missing)

    async def _apply_old_answer(self, missing: list[KnownFile]) -> None:
        """An answer that was given while no one watched is applied to the files it was given for."""
        if self._kept or not self.state.held or not missing:
            return
        if digest_of(missing) != self.state.held.event.digest:
            return
        if self.state.answer == "rejected":
            self._kept = {file.id for file in missing}
        elif self.state.answer == "confirmed":
            await self._remove(missing)

    def _unkept(self, files: list[KnownFile]) -> list[KnownFile]:
        return [file for file in files if file.id not in self._kept]

    # ------------------------------------------------------------ asking and hearing

    async def poll(self) -> bool:
        """Look for an answer, now and then; True where one was heard and acted on."""
        now, _ = times()
        if self.state.open is not None and now >= self._next_check:
            self._next_check = now + ANSWER_CHECK
            if await patiently(lambda: self._log.version(self._subject)) != self.state.ver:
                await self.open()
        return await self._hear()

    async def _hear(self) -> bool:
        """Act on the answer to our question, where there is one.

        It may come at any time: between our asking and our next look at the root's history, too.
        """
        if self._asked is None or self.state.open is not None:
            return False
        asked, self._asked = self._asked, None
        files = [file for file in self._registrar.index.there() if file.id in asked]
        _log.info("held root answered", root=escape_path(self._root), answer=self.state.answer, files=len(files))
        if self.state.answer == "confirmed":
            self.accepted = True
            await self._remove(await self._intake.really_gone(files))
        elif self.state.answer == "rejected":
            self._kept |= {file.id for file in files}
        return True

    async def _remove(self, files: list[KnownFile]) -> None:
        cause = self.state.released if self.state.answer == "confirmed" else None
        for relative in await self._registrar.register(Changes(removed=files), {}, cause):
            self._intake.add(relative)

    async def _hold(self, reason: str, missing: list[KnownFile]) -> None:
        number = self.state.held.event.hold + 1 if self.state.held else 1
        held = RootHeld(path=self._root, hold=number, reason=reason, missing=len(missing), digest=digest_of(missing))
        if await self._append(held):
            self._asked = {file.id for file in missing}
            _log.warning(
                "root held: nothing is removed until the files are back or someone says so "
                "(`spoolhouse held confirm` or `held reject`)",
                root=escape_path(self._root),
                reason=reason,
                missing=len(missing),
            )

    async def _release_returned(self) -> None:
        assert self.state.held is not None
        if await self._append(RootReleased(path=self._root, hold=self.state.held.event.hold, answer="returned")):
            self._asked = None
            _log.info("root released: its files are back", root=escape_path(self._root))

    async def _append(self, event: Event) -> bool:
        """Append to the root's subject; False where someone else wrote first (it is read again then)."""
        new = new_event(self._subject, event, source="watch", expected=self.state.ver)
        answer = (await patiently(lambda: self._log.try_append_all([new])))[0]
        await self.open()
        if isinstance(answer, Appended | ConflictError):
            return isinstance(answer, Appended)
        raise answer

"""The jobs that a child which fetches knows. Only child processes import this: see `child`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from processors.children.answering import Tell
from processors.fetching import choosing, describing, extras, lists, pages
from processors.fetching.confinement import Confined
from processors.fetching.engine import Engine, Surroundings
from processors.fetching.failures import LIVE, FailedError, failure_of
from processors.fetching.meter import Meter
from processors.fetching.parts import Part
from processors.fetching.printable import line, number
from streams.download_config import DownloadConfig

_OURS = frozenset(["format", "too_large", "no_space", "unwritable", "memory", "scheduled", "live"])
"""Kinds of failures that no server and nothing on the way has to do with."""

_SOON = ("live event will begin", "premieres in", "premiere will begin", "will begin in", "is upcoming", "starts in",
         "not started", "scheduled")  # fmt: skip


def fetch(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`{"url", "folder", "config": fields of DownloadConfig, "around": fields of Surroundings}`.

    Tells `extracted`, `received`, `part_finished`, `entries`; → `fetched`, `listed` or `failure`, with
    the fields of `ports`.
    """
    return _answered(asked, tell, lambda engine: _Fetching(engine, asked["url"], asked["folder"]).run())


def listed(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`{"url", "config", "around"}`. Tells `entries`; → `listed` or `failure`."""

    def work(engine: Engine) -> dict[str, Any]:
        found = pages.read(engine, asked["url"])
        if not pages.is_list(found):
            video = {**found, "webpage_url": asked["url"]}
            key = f"{describing.extractor_of(found)} {describing.media_id(found)}"
            title = line(found.get("title"), describing.LONGEST_TITLE)
            tell({"entries": [{"url": video["webpage_url"], "key": key, "title": title}]})
            return {"listed": {"title": title, "total": 1, "more": False}}
        return {"listed": lists.tell_list(engine, found, engine.config.limit)}

    return _answered(asked, tell, work)


_ways: list[Confined] = []


def leave_by(confined: Confined) -> None:
    """The one way out, for all jobs to come."""
    _ways[:] = [confined]


def _answered(asked: dict[str, Any], tell: Tell, work: Callable[[Engine], dict[str, Any]]) -> dict[str, Any]:
    (way,) = _ways
    if way.gone:
        raise SystemExit("the egress proxy has died, and with it this process's way out")  # a new one is asked
    way.forget()
    around = Surroundings(**asked["around"], proxy=way.proxy)
    try:
        with Engine(DownloadConfig(**asked["config"]), around, tell) as engine:
            return work(engine)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - every failure has its kind
        return {"failure": _on_its_way(failure_of(error, secrets=around.secrets), way).told()}


def _on_its_way(failed: FailedError, way: Confined) -> FailedError:
    """A failure, or what the way out had to do with it."""
    if failed.kind in _OURS:
        return failed
    if refusals := way.refusals():
        return FailedError("refused", refusals[0])
    if way.gone:
        return FailedError("network", "the egress proxy of downloads has died; it is started again")
    missed = [report.reason for report in way.reports() if report.what == "failed"]
    if missed and failed.kind in {"network", "server"}:
        return FailedError("network", missed[-1])
    return failed


class _Fetching:
    def __init__(self, engine: Engine, url: str, folder: str) -> None:
        self._engine, self._url, self._folder = engine, url, folder

    def run(self) -> dict[str, Any]:
        found = self._read()
        if pages.is_list(found):
            return {"listed": lists.tell_list(self._engine, found, self._engine.config.limit)}
        self._check_time(found)
        choosing.keep_fetchable(found)
        info = self._engine.process_ie_result(found, download=False)
        parts = [Part(self._engine, info, kind, form) for kind, form in choosing.chosen(info)]
        for part in parts:
            part.prepare()
        self._check_live(any(part.live for part in parts) or bool(info.get("is_live")))
        forms = choosing.chosen(info)
        self._check_sizes(forms)
        live = any(part.live for part in parts)
        self._engine.tell({"extracted": describing.extracted(info, forms, live=live)})
        return {"fetched": self._bring(info, parts, [choosing.size_of(form) for _, form in forms])}

    def _read(self) -> dict[str, Any]:
        try:
            return pages.read(self._engine, self._url)
        except Exception as error:
            failed = failure_of(error)
            if failed.kind == "live":
                self._check_live(live=True, reason=failed.reason)
                raise FailedError("scheduled", failed.reason, LIVE) from error
            if not any(words in failed.reason.lower() for words in _SOON):
                raise
            self._raise_scheduled(failed.reason)
            raise

    def _raise_scheduled(self, reason: str) -> None:
        """What a page says of a stream that has not begun is an error; asked otherwise, it tells when it will."""
        self._engine.params["ignore_no_formats_error"] = True
        try:
            found = pages.read(self._engine, self._url)
        finally:
            self._engine.params["ignore_no_formats_error"] = False
        self._check_time({**found, "live_status": found.get("live_status") or "is_upcoming"}, reason)

    def _check_time(self, found: dict[str, Any], reason: str = "it has not begun") -> None:
        if found.get("live_status") != "is_upcoming":
            return
        self._check_live(live=True, reason=reason)
        raise FailedError("scheduled", reason, LIVE, begins=number(found.get("release_timestamp")))

    def _check_live(self, live: bool, reason: str = "it is a live stream that goes on") -> None:
        if live and not self._engine.config.wait_for_live:
            raise FailedError("live", reason, LIVE)

    def _check_sizes(self, forms: list[tuple[str, dict[str, Any]]]) -> None:
        most = self._engine.around.max_size
        for _, form in forms:
            size = form.get("filesize")
            if isinstance(size, int) and size > most:
                raise FailedError("too_large", f"it has {size} bytes, and {most} are allowed")

    def _bring(self, info: dict[str, Any], parts: list[Part], sizes: list[int | None]) -> dict[str, Any]:
        engine, media = self._engine, []
        meter = Meter(engine.tell, engine.around.max_size, [part.kind for part in parts], sizes)
        for at, part in enumerate(parts):
            meter.begin(at)
            try:
                size = part.bring(self._folder, part.kind, meter)
            except MemoryError:
                raise
            except Exception as error:
                raise failure_of(error, fetching=True, secrets=engine.around.secrets) from error
            meter.done(at, size)
            engine.tell({"part_finished": {"part": part.kind, "format": part.format, "size": size}})
            media.append(
                {"part": part.kind, "path": f"{self._folder}/{part.kind}", "format": part.format, "size": size}
            )
        subtitles = [
            file
            for at, (language, one) in enumerate(extras.subtitles_of(info))
            if (file := extras.bring_subtitles(engine, self._folder, at, language, one))
        ]
        picture = extras.bring_picture(engine, self._folder, info)
        for file in [*subtitles, *([picture] if picture else [])]:
            engine.tell({"part_finished": {name: file[name] for name in ("part", "format", "size")}})
        return {"media": media, "subtitles": subtitles, "thumbnail": picture, "warnings": engine.notes.warnings}

"""The process in which yt-dlp runs; see `processors.children.answering`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from processors.children.answering import answer_all

PROGRAM = "processors.fetching.child"

JOBS: Mapping[str, str] = {
    "fetch": "processors.fetching.jobs:fetch",
    "list": "processors.fetching.jobs:listed",
}


def main(jobs: Mapping[str, str] = JOBS) -> None:
    """Answer until there is nothing more to answer."""
    # Code of others, from wherever they put it, is not loaded.
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    answer_all(jobs, prepare=_import, memory_setting="SPOOLHOUSE_DOWNLOAD_MEMORY")


def _import() -> None:
    """What takes long, before anybody waits for an answer."""
    importlib.import_module("processors.fetching.jobs")
    importlib.import_module("yt_dlp.extractor.generic")


if __name__ == "__main__":
    main()

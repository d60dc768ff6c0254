"""The process in which yt-dlp runs; see `processors.children.answering`.

Its one argument of its own is where the egress proxy takes registrations.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from processors.children.answering import answer_all
from processors.fetching.confinement import confine_network

PROGRAM = "processors.fetching.child"

JOBS: Mapping[str, str] = {
    "fetch": "processors.fetching.jobs:fetch",
    "list": "processors.fetching.jobs:listed",
}


def main(jobs: Mapping[str, str] = JOBS) -> None:
    """Answer until there is nothing more to answer."""
    # Code of others, from wherever they put it, is not loaded.
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    answer_all(jobs, prepare=_prepare, memory_setting="SPOOLHOUSE_DOWNLOAD_MEMORY")


def _prepare() -> None:
    """Give up the network, then import what takes long, before anybody waits for an answer."""
    confined = confine_network(sys.argv[3])
    from processors.fetching import jobs

    importlib.import_module("yt_dlp.extractor.generic")
    jobs.leave_by(confined)


if __name__ == "__main__":
    main()

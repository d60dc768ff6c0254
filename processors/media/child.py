"""The process in which PyAV runs; see `processors.children.answering`."""

from __future__ import annotations

from collections.abc import Mapping

from processors.children.answering import answer_all

PROGRAM = "processors.media.child"

JOBS: Mapping[str, str] = {
    "probe": "processors.media.jobs:probe",
    "preview": "processors.media.jobs:preview",
    "enhance": "processors.media.jobs:enhance",
    "finish": "processors.media.jobs:finish",
    "still": "processors.media.jobs:still",
}


def main(jobs: Mapping[str, str] = JOBS) -> None:
    """Answer until there is nothing more to answer."""
    answer_all(jobs, prepare=_quiet, memory_setting="SPOOLHOUSE_MEDIA_MEMORY")


def _quiet() -> None:
    import av.logging

    av.logging.set_level(None)


if __name__ == "__main__":
    main()

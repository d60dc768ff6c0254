"""A child that fetches and does to itself what a hostile page might: the path of the URL names it.

`python -m tests.processors.fetching.misbehaving` runs it in place of `processors.fetching.child`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from processors.children.answering import Tell
from processors.fetching import jobs
from processors.fetching.child import main


def fetch(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """A fetch that misbehaves where the URL says so."""
    trick = TRICKS.get(urlsplit(asked["url"]).path)
    return trick(asked, tell) if trick else jobs.fetch(asked, tell)


def _hang(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    time.sleep(3600)
    return {}


def _go_on(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    while True:
        tell({"alive": {}})
        time.sleep(0.05)


def _spin(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    while True:
        pass


def _eat(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    eaten = []
    while True:
        eaten.append(bytearray(64 * 2**20))


def _spawn(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Something else runs, and its process id lies in the folder."""
    process = subprocess.Popen(["sleep", "3600"])
    with open(os.path.join(asked["folder"], "pid"), "w") as file:
        file.write(str(process.pid))
    return _hang(asked, tell)


def _nonsense(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    tell({"extracted": {"title": 7}})
    return {"fetched": {"media": "much"}}


def _leave(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    os._exit(3)


TRICKS: dict[str, Callable[[dict[str, Any], Tell], dict[str, Any]]] = {
    "/hang": _hang,
    "/go-on": _go_on,
    "/spin": _spin,
    "/eat": _eat,
    "/spawn": _spawn,
    "/nonsense": _nonsense,
    "/leave": _leave,
}

if __name__ == "__main__":
    main({"fetch": f"{__name__}:fetch", "list": "processors.fetching.jobs:listed"})

"""`python tests/drive_emulator FOLDER PORT`: serves until SIGTERM.

Written from Google's published protocol. `tests/drive_server.py` starts it, and describes what tests
can ask of it; `/__…` is not Drive's but ours.

A thread for each connection, blocking reads into one large buffer: a fast client is not held up.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by its path, in another folder

from tests.drive_emulator.answering import DriveHTTPServer
from tests.drive_emulator.permissions import Permissions
from tests.drive_emulator.state import DriveError

ROUTES = (
    ("GET", "/drive/v3/about", "_about"),
    ("GET", "/drive/v3/files/generateIds", "_generate_ids"),
    ("GET", "/drive/v3/files", "_list"),
    ("POST", "/drive/v3/files", "_create"),
    ("GET", "/drive/v3/files/([^/]+)", "_get"),
    ("PATCH", "/drive/v3/files/([^/]+)", "_update"),
    ("DELETE", "/drive/v3/files/([^/]+)", "_delete"),
    ("POST", "/drive/v3/files/([^/]+)/permissions", "_share"),
    ("GET", "/drive/v3/files/([^/]+)/permissions", "_permissions"),
    ("DELETE", "/drive/v3/files/([^/]+)/permissions/([^/]+)", "_unshare"),
    ("GET", "/drive/v3/drives/([^/]+)", "_drive"),
    ("POST", "(?:/resumable)?/upload/drive/v3/files", "_open"),
    ("PATCH", "(?:/resumable)?/upload/drive/v3/files/([^/]+)", "_open"),
)


class Handler(Permissions):
    """All of it, and what tests ask."""

    def _route(self) -> None:
        if (self.command, self.at) == ("POST", "/token"):
            self._token()
            return
        session = self.query.get("upload_id")
        # The address of a session is a secret of its own: Google wants no token with it.
        if not session or self.headers.get("Authorization"):
            self._authorise()
        if session and self.command == "PUT":
            self._chunk(self.state.find_upload(session))
            return
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, self.at)
            if found and method == self.command:
                getattr(self, name)(*found.groups())
                return
        raise DriveError(404, "notFound", "Not Found")

    # ------------------------------------------------------------ what tests ask

    def _admin(self) -> None:
        told, self.fault = self._json(), {}
        match self.at:
            case "/__inject":
                self.server.faults.add(told)
            case "/__clear":
                self.server.faults.clear()
            case "/__configure":
                self.state.configure(told)
            case "/__corrupt":
                self.state.corrupt(told["id"])
            case "/__expire":
                for upload in list(self.state.uploads):
                    self.state.expire(upload)
            case "/__state":
                self._reply(200, self._everything())
                return
            case "/__alive":
                pass
            case _:
                self._reply(404, {"error": self.at})
                return
        self._reply(200, {})

    def _everything(self) -> dict[str, Any]:
        state, counts = self.state, dict[str, int]()
        journal = state.journal()
        for one in journal:
            key = one["method"] + " " + re.sub(r"/1[\w-]{32}", "/{id}", one["path"])
            counts[key] = counts.get(key, 0) + 1
        with state.lock:
            uploads = [(one, state.finished(one) is not None) for one in state.uploads.values()]
            return {
                "files": [
                    record | {"sha256": state.sha256(record), "path": str(state.content(record))}
                    for record in state.files.values()
                    if record["content"]
                ],
                "sessions": [
                    {
                        "id": one.id,
                        "file_id": one.metadata["id"],
                        "size": one.size,
                        "received": one.size if done else state.received(one),
                        "finished": done,
                    }
                    for one, done in uploads
                ],
                "requests": counts,
                "bytes_received": sum(one["bytes"] for one in journal if one["path"].startswith(("/upload", "/resum"))),
                "faults": [
                    {"match": r.match.pattern, "left": r.times, "hits": r.hits} for r in self.server.faults.rules
                ],
            }


def main() -> None:
    """Serve."""
    server = DriveHTTPServer(Path(sys.argv[1]), int(sys.argv[2]), Handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()

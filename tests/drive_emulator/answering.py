"""One connection: requests are read, go wrong where a test wants it, are answered, and noted in the journal."""

from __future__ import annotations

import json
import sys
import time
from abc import abstractmethod
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.drive_emulator.faults import MESSAGES, REASONS, Faults, HangUpError
from tests.drive_emulator.state import DriveError, State

BUFFER = 2**20
"""Bytes that are read or written at once."""


class DriveHTTPServer(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, folder: Path, port: int, handler: type[Answering]) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.state, self.faults = State(folder), Faults()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Answering(BaseHTTPRequestHandler):
    """What all requests share."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DriveHTTPServer

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 # the names that http.server looks for

    def log_message(self, *_: Any) -> None:
        """The journal says all."""

    @abstractmethod
    def _route(self) -> None:
        """Do what was asked. Raises DriveError."""

    @abstractmethod
    def _admin(self) -> None:
        """Do what a test asks."""

    def _answer(self) -> None:
        self.state, self.taken, self.status = self.server.state, 0, 0
        self.left = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        self.at = unquote(parts.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.at.startswith("/__"):
            self._admin()
            return
        self.fault = self.server.faults.next(f"{self.command} {self.path}")
        try:
            self._faulty()
        except HangUpError:
            self.status, self.close_connection = self.status or -1, True
        except (ConnectionError, TimeoutError):
            self.status, self.close_connection = -1, True
        finally:
            upload = self.query.get("upload_id")
            self.state.note(
                time=time.time(),
                method=self.command,
                path=self.at,
                range=self.headers.get("Content-Range"),
                status=self.status,
                bytes=self.taken,
                **({"upload": upload} if upload else {}),
            )

    def _faulty(self) -> None:
        """Do what was asked, or what a test wants to go wrong with it."""
        told, action = self.fault, self.fault.get("action")
        if action == "drop_before":
            self._drain()
            raise HangUpError
        if action == "hang":
            self._hang(float(told.get("seconds", 3600)))
            raise HangUpError
        if action == "slow":
            time.sleep(float(told.get("seconds", 1.0)))
        if action == "expire":
            self.state.expire(self.query.get("upload_id", ""))
        if action == "status":
            self._drain()
            status = int(told["status"])
            reason = told.get("reason") or REASONS.get(status, "backendError")
            domain, message = MESSAGES.get(reason, ("global", reason))
            error = DriveError(status, reason, told.get("message") or message, domain=domain)
            extra = {"Retry-After": str(told["retry_after"])} if "retry_after" in told else {}
            self._reply(status, error.body(), extra)
            return
        try:
            self._route()
        except DriveError as error:
            self._drain()
            extra = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'} if error.status == 401 else {}
            self._reply(error.status, error.body(), extra)

    def _hang(self, seconds: float) -> None:
        """Say nothing until the client goes away, the test lets go, or the time is up."""
        released = self.server.faults.released
        deadline = time.monotonic() + seconds
        self.connection.settimeout(0.05)
        while time.monotonic() < deadline and not released.is_set():
            try:
                if not self.connection.recv(65536):
                    return
            except TimeoutError:
                continue

    def _reply(self, status: int, told: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status = status
        if self.fault.get("action") == "drop_after":
            raise HangUpError
        data = b"" if told is None else json.dumps(told).encode()
        self._head(status, len(data), {"Content-Type": "application/json; charset=UTF-8"} | (headers or {}))
        self.wfile.write(data)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        phrase = "Resume Incomplete" if status == 308 else HTTPStatus(status).phrase
        self.send_response(status, phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self) -> bytes:
        data = self.rfile.read(self.left)
        self.taken += len(data)
        self.left -= len(data)
        return data

    def _json(self) -> dict[str, Any]:
        try:
            told = json.loads(self._body() or b"{}")
        except ValueError as error:
            raise DriveError(400, "parseError", "Parse Error") from error
        if not isinstance(told, dict):
            raise DriveError(400, "parseError", "Parse Error")
        return told

    def _drain(self) -> None:
        """Read what the client is still sending: it listens only afterwards."""
        buffer = memoryview(bytearray(min(self.left, BUFFER)))
        while self.left and (count := self.rfile.readinto1(buffer[: min(self.left, len(buffer))])):
            self.left -= count
            self.taken += count

    def _flag(self, name: str) -> bool:
        return self.query.get(name, "false").lower() == "true"

    def _fields(self) -> str | None:
        return self.query.get("fields")

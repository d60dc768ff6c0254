"""httplib2 as a resumable upload needs it: each request is sent once, and in pieces that each may take a while."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress
from typing import Any

import httplib2

PIECE = 256 * 1024
"""Bytes that are handed to the socket at once. Python's timeout is for one call of `sendall`: a whole
chunk in one call would have to be through within it, however steadily it moves."""

LARGEST = 256 * 2**20
"""Bytes of the largest answer that is read; we never ask for as much."""


class _Connection(http.client.HTTPConnection):
    def send(self, data: Any) -> None:
        """Send bytes piece by piece."""
        if isinstance(data, bytes | bytearray | memoryview) and len(data) > PIECE:
            view = memoryview(data)
            for start in range(0, len(view), PIECE):
                super().send(view[start : start + PIECE])
        else:
            super().send(data)

    def getresponse(self) -> http.client.HTTPResponse:
        """The answer. Raises ConnectionResetError where none came, so that httplib2 does not send it all again."""
        try:
            response = super().getresponse()
        except http.client.RemoteDisconnected as error:
            self.close()
            raise ConnectionResetError(str(error)) from None
        if response.length is not None and response.length > LARGEST:
            self.close()
            raise ConnectionAbortedError("the answer is absurdly long")
        return response


class _Plain(_Connection, httplib2.HTTPConnectionWithTimeout):  # type: ignore[misc]
    pass


class _Secure(_Connection, httplib2.HTTPSConnectionWithTimeout):  # type: ignore[misc]
    pass


class Http(httplib2.Http):  # type: ignore[misc]
    """One thread's connections. `timeout` (seconds): how long nothing may move."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout=timeout)
        # To Google's uploads 308 means "go on", not "look elsewhere".
        self.redirect_codes = httplib2.REDIRECT_CODES - {308}

    def request(self, uri: str, *args: Any, connection_type: Any = None, **kwargs: Any) -> Any:
        """As httplib2's."""
        kind = connection_type or (_Secure if uri.lower().startswith("https:") else _Plain)
        return super().request(uri, *args, connection_type=kind, **kwargs)

    def interrupt(self) -> None:
        """End what another thread is waiting for here."""
        for connection in list(self.connections.values()):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

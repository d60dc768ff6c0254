"""Reads multipart/form-data as it arrives: a few hundred kilobytes of memory for any size.

Stricter than most on one point: a body that ends before its closing boundary is an error, never a
shorter file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from urllib.parse import unquote

from aiohttp import StreamReader, web

from streams.errors import RejectedError

MAX_HEADERS = 16 * 1024
"""Bytes that the headers of one part may have."""

MAX_PREAMBLE = 64 * 1024
"""Bytes before the first boundary, and behind the last, that are overlooked."""

MAX_PARTS = 100

IDLE = 120.0
"""Seconds without a byte after which a sender counts as gone."""

_PARAMETER = re.compile(
    r';\s*(?P<name>[\w!#$%&\'+.^`|~-]+\*?)\s*=\s*(?:"(?P<quoted>(?:\\"|[^"])*)"|(?P<token>[^\s;]*))'
)


class BrokenOffError(Exception):
    """The sender went away before the form was complete: there is no one left to answer."""


@dataclass(slots=True)
class Part:
    """One part of a form. Take its bytes before you ask for the next part."""

    form: Form
    name: str
    filename: str | None
    """What the sender calls the file; None for a field that is no file."""
    mime: str
    """The part's own Content-Type, or empty."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, in order. Raises RejectedError, BrokenOffError."""
        async for chunk in self.form.body():
            yield chunk

    async def text(self, limit: int) -> str:
        """Its bytes as text. Raises RejectedError where they are more than `limit`."""
        taken = bytearray()
        async for chunk in self.chunks():
            taken += chunk
            if len(taken) > limit:
                raise RejectedError(400, f"The field `{self.name}` may have {limit} bytes.")
        return taken.decode("utf-8", "replace")


class Form:
    """A multipart/form-data body on its way in."""

    def __init__(self, content: StreamReader, boundary: bytes, *, idle: float = IDLE) -> None:
        self._content, self._idle = content, idle
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that the first boundary looks like all others
        self._in_body = False
        self._lead = 0

    async def parts(self) -> AsyncIterator[Part]:
        """The parts in the order they were sent. What of a part was not taken is skipped.

        Raises RejectedError for what is no form, BrokenOffError when the sender is gone.
        """
        self._in_body = True
        await self._skip(MAX_PREAMBLE, "The body does not begin with its boundary.")
        for _ in range(MAX_PARTS):
            line = await self._line()
            if line.startswith(b"--"):
                self._buffer = b""
                await self._drain(MAX_PREAMBLE)
                return
            if line.strip(b" \t"):
                raise RejectedError(400, "The body is no multipart/form-data: a boundary has something behind it.")
            part = self._part(await self._headers())
            self._in_body = True
            self._lead = 2
            yield part
            if self._in_body:
                await self._skip(None, "")
        raise RejectedError(400, f"A form may have {MAX_PARTS} parts.")

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the present part, up to its boundary."""
        keep = len(self._delimiter) - 1  # what may be the beginning of a boundary
        while self._in_body:
            at = self._buffer.find(self._delimiter)
            if at >= 0:
                chunk, self._buffer = self._buffer[:at], self._buffer[at + len(self._delimiter) :]
                self._in_body = False
            else:
                safe = max(0, len(self._buffer) - keep)
                if safe < self._lead:
                    safe = 0
                chunk, self._buffer = self._buffer[:safe], self._buffer[safe:]
            if chunk:
                chunk, self._lead = chunk[self._lead :], 0
            if chunk:
                yield chunk
            if self._in_body:
                self._buffer += await self._more()

    async def _skip(self, limit: int | None, complaint: str) -> None:
        """Overlook everything up to the next boundary."""
        skipped = 0
        async for chunk in self.body():
            skipped += len(chunk)
            if limit is not None and skipped > limit:
                raise RejectedError(400, complaint)

    async def _line(self) -> bytes:
        while (at := self._buffer.find(b"\r\n")) < 0 and not self._buffer.startswith(b"--"):
            if len(self._buffer) > MAX_HEADERS:
                raise RejectedError(400, "The body is no multipart/form-data: a boundary's line has no end.")
            self._buffer += await self._more()
        if at < 0:
            return b"--"
        line, self._buffer = self._buffer[:at], self._buffer[at:]  # the line's end may begin the headers' end
        return line

    async def _headers(self) -> str:
        while (at := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEADERS:
                raise RejectedError(400, f"The headers of a part may have {MAX_HEADERS} bytes.")
            self._buffer += await self._more()
        # The buffer goes on with the line end before the content (`_lead`): in a part without content
        # that line end may be the boundary's own.
        headers, self._buffer = self._buffer[2:at], self._buffer[at + 2 :]
        return headers.decode("utf-8", "replace")

    def _part(self, headers: str) -> Part:
        found = dict(_header(line) for line in headers.split("\r\n"))
        kind, parameters = _disposition(found.get("content-disposition", ""))
        if kind != "form-data" or "name" not in parameters:
            raise RejectedError(400, "A part of the form has no name (Content-Disposition: form-data; name=…).")
        if found.get("content-transfer-encoding", "binary").lower() not in {"binary", "7bit", "8bit"}:
            raise RejectedError(400, "Send the file as it is, without a Content-Transfer-Encoding.")
        return Part(self, parameters["name"], parameters.get("filename"), found.get("content-type", ""))

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle):
                data = await self._content.readany()
        except TimeoutError:
            raise RejectedError(408, f"Nothing came for {self._idle:g} s; nothing was kept.") from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise BrokenOffError(str(error)) from error
        if not data:
            if self._content.at_eof():
                raise RejectedError(400, "The form ends before its closing boundary; nothing was kept.")
            raise BrokenOffError("no more data")
        return data

    async def _drain(self, limit: int) -> None:
        """Read what stands behind the last boundary, so that the connection can be used again."""
        while not self._content.at_eof() and limit > 0:
            try:
                async with asyncio.timeout(self._idle):
                    limit -= len(await self._content.readany())
            except (TimeoutError, web.RequestPayloadError, ConnectionError):
                return


def open_form(request: web.Request) -> Form:
    """The form that a request carries. Raises RejectedError (415) where it carries none."""
    message = Message()
    message["Content-Type"] = request.headers.get("Content-Type", "")
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data":
        raise RejectedError(415, "Send the video as multipart/form-data: curl -F video=@clip.mp4 URL")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200 or not boundary.isascii():
        raise RejectedError(400, "The Content-Type names no boundary of the multipart/form-data body.")
    return Form(request.content, boundary.encode())


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _disposition(value: str) -> tuple[str, dict[str, str]]:
    """`form-data` and its parameters; `filename*` wins over `filename`."""
    parameters: dict[str, str] = {}
    kind, separator, rest = value.partition(";")
    for found in _PARAMETER.finditer(separator + rest):
        name = found["name"].lower()
        text = found["token"] if found["quoted"] is None else found["quoted"].replace('\\"', '"').replace("%22", '"')
        if name.endswith("*"):
            charset, _, encoded = text.partition("'")
            try:
                parameters[name[:-1]] = unquote(encoded.partition("'")[2], charset or "utf-8", "replace")
            except LookupError:
                continue
        else:
            parameters.setdefault(name, text)
    return kind.strip().lower(), parameters

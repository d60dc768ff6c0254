"""Google's client library, asked from an event loop: in threads of ours, and again while it may help.

The library is synchronous: each call runs in a thread that has connections of its own. Tokens,
requests and sockets are the library's. When to try again is ours: it would send a chunk from its
start where Drive takes the rest.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

import orjson
from google.auth.exceptions import GoogleAuthError
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient import discovery
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

from processors.storage.drive_account import DRIVE, Accounts, unusable
from processors.storage.drive_failures import (
    NETWORK,
    About,
    AccountRefusedError,
    PassingError,
    RefusedError,
    refusal,
    sorted_failure,
    sorted_refusal,
)
from processors.storage.drive_http import Http
from streams.errors import DependencyDownError, SpoolhouseError, TransientError
from streams.settings import Settings

T = TypeVar("T")

THREADS = 6
"""Calls at the same time: the uploads that go side by side, and room for those who ask, verify and restore."""

FIRST_PAUSE, PATIENCE = 0.5, 30.0
"""Seconds: what the pauses between tries grow from, and what all tries of one call may take together."""

FAREWELL = 2.0
"""Seconds that threads have to end when everything closes."""

GOOGLE = "https://www.googleapis.com"


class Client:
    """The client library's view of Drive v3, and the threads that use it."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.drive_timeout
        self.folder_id = _folder_id(settings.drive_folder_id or "")
        self.root = (settings.drive_endpoint or GOOGLE).rstrip("/") + "/"
        self.accounts = Accounts(settings)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="drive")
        self._own = threading.local()
        self._https: list[Http] = []

    async def close(self) -> None:
        """End all calls and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for http in self._https:
            http.interrupt()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await asyncio.to_thread(self._threads.shutdown)
        for http in self._https:
            http.close()

    async def ask(self, work: Callable[[Any], T], about: About) -> T:
        """Run `work` with an authorized Http in a thread; again, with jitter, while what fails may pass.

        Raises what the Drive port says. What `work` raises of its own is passed on.
        """
        started = time.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, about)
            except PassingError as passing:
                pause = random.uniform(0, FIRST_PAUSE * 2.0**tries) if passing.wait is None else passing.wait
                if tries >= passing.tries or time.monotonic() - started + pause > PATIENCE:
                    raise await self._final(passing) from None
            await asyncio.sleep(pause)

    async def _final(self, passing: PassingError) -> SpoolhouseError:
        """What is raised in the end. Where Drive serves nobody just now it is no fault of this video's."""
        final = passing.final
        if not isinstance(final, TransientError):
            return final
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._run, self._smallest, "account")
        except PassingError:
            return DependencyDownError(DRIVE, str(final), retry_after=final.retry_after, unreachable=False)
        except (SpoolhouseError, ValueError):
            return final  # another refusal: this one is told as it came
        return final

    def _smallest(self, http: Any) -> None:
        """The smallest thing that Drive can be asked for."""
        self.files.generateIds(count=1).execute(http=http, num_retries=0)

    @cached_property
    def service(self) -> Any:
        """Drive v3, from the description that the library carries, at our endpoint."""
        told = orjson.loads(get_static_doc("drive", "v3"))
        # Uploads then go there, too; with `client_options.api_endpoint` they would not leave https.
        told["rootUrl"] = self.root
        return discovery.build_from_document(told, http=Http(self._timeout))

    @cached_property
    def files(self) -> Any:
        """Its files."""
        return self.service.files()

    def _run(self, work: Callable[[Any], T], about: About) -> T:
        if not self.folder_id:
            raise unusable("DRIVE_FOLDER_ID is not set. Set it to the last part of the folder's address in the browser")
        account = self.accounts.current()
        http = self._http()
        try:
            return work(AuthorizedHttp(account.tokens, http))
        except HttpError as error:
            failure = sorted_refusal(refusal(error.resp, error.content), about, account)
        except RefusedError as error:
            failure = sorted_refusal(error.refusal, about, account)
        except (*NETWORK, GoogleAuthError) as error:
            http.close()
            failure = sorted_failure(error, account)
        if isinstance(failure, AccountRefusedError):
            self.accounts.refused(account, failure)
        raise failure  # here, where the library's own error, with addresses in it, is no longer its context

    def _http(self) -> Http:
        http: Http | None = getattr(self._own, "http", None)
        if http is None:
            http = self._own.http = Http(self._timeout)
            self._https.append(http)
        return http


def _folder_id(text: str) -> str:
    """The id in what people set: often they paste the folder's whole address."""
    _, _, after = text.strip().rpartition("/folders/")
    return after.partition("?")[0].strip("/ ")

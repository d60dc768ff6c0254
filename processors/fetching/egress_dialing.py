"""How the egress proxy comes to a socket that leads to a host: look up, check, connect to what was checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from processors.fetching.destinations import ADVICE, inner, literal, refusal
from streams.inner_hosts import Address, InnerHosts

LOOK_UP = 15.0
"""Seconds that a look-up may take."""

CONNECT = 20.0
"""Seconds that connecting may take, over all addresses of a host."""

NEXT_ADDRESS = 5.0
"""Seconds after which the next address is tried."""

MAX_ADDRESSES = 16
"""Addresses of one host that are looked at; with more it is refused."""

LookUp = Callable[[str], Awaitable[Sequence[Address]]]
"""The addresses of a name, best first. Raises OSError."""


class RefusedError(Exception):
    """Nobody may go there; says why."""


class UnreachableError(Exception):
    """It may be gone to, but there is no way just now; says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Dialer:
    """Connects to hosts that may be connected to.

    With an upstream proxy hosts are looked up and checked here all the same, and the proxy is given
    the address: it never looks up a name, so a name cannot mean one thing here and another there. It
    sees no names in CONNECT (only in what TLS itself tells), and whoever has no look-up of outside
    names but in the proxy cannot use it.
    """

    def __init__(self, opened: InnerHosts, upstream: str | None = None, look_up: LookUp | None = None) -> None:
        self._opened, self._upstream = opened, upstream
        self._look_up = look_up or _Threads().look_up

    async def dial(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket. Raises RefusedError and UnreachableError."""
        addresses = await self._addresses(host)
        reason = refusal(host, port, addresses, self._opened)
        if reason is not None:
            raise RefusedError(reason)
        for address in addresses:
            if self._upstream is None and is_own(address) and not self._is_opened(host, port, address):
                raise RefusedError(f"{host} is this machine itself ({address}); {ADVICE}")
        try:
            async with asyncio.timeout(CONNECT):
                return await self._first(host, port, addresses)
        except TimeoutError:
            raise UnreachableError(504, f"{host} took no connection within {CONNECT:g} s") from None

    async def _addresses(self, host: str) -> Sequence[Address]:
        if (address := literal(host)) is not None:
            return (address,)
        try:
            async with asyncio.timeout(LOOK_UP):
                addresses = list(dict.fromkeys(await self._look_up(host)))
        except TimeoutError:
            raise UnreachableError(504, f"looking up {host} took longer than {LOOK_UP:g} s") from None
        except (OSError, UnicodeError) as error:
            told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreachableError(502, f"{host} cannot be looked up: {told}") from None
        if len(addresses) > MAX_ADDRESSES:
            raise RefusedError(f"{host} has {len(addresses)} addresses, more than anybody needs")
        return addresses

    def _is_opened(self, host: str, port: int, address: Address) -> bool:
        return self._opened.has_name(host, port) or self._opened.has_address(address, port)

    async def _first(self, host: str, port: int, addresses: Sequence[Address]) -> socket.socket:
        """Connected to the first address that takes it."""
        told = "it has no address"
        for number, address in enumerate(addresses):
            last = number == len(addresses) - 1
            try:
                async with asyncio.timeout(None if last else NEXT_ADDRESS):
                    return await self._connect(address, port)
            except TimeoutError:
                if last:
                    raise
                told = "it took no connection in time"
            except OSError as error:
                told = error.strerror or str(error)
            except ProxyError as error:
                told = f"the proxy of SPOOLHOUSE_DOWNLOAD_PROXY says {str(error)[:100]!r}"
        raise UnreachableError(502, f"{host} cannot be reached: {told}")

    async def _connect(self, address: Address, port: int) -> socket.socket:
        if self._upstream is not None:
            return await self._through(self._upstream, address, port)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)  # noqa: FBT003 - its name says it
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _through(self, upstream: str, address: Address, port: int) -> socket.socket:
        try:
            connection = await Proxy.from_url(upstream).connect(str(address), port, timeout=CONNECT)
        except ProxyError:
            raise
        except (ProxyConnectionError, ProxyTimeoutError, OSError) as error:
            raise UnreachableError(
                502, f"the proxy of SPOOLHOUSE_DOWNLOAD_PROXY cannot be reached: {str(error)[:100]}"
            ) from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def is_own(address: Address) -> bool:
    """Whether it is an address of this machine. The internet's or not: what listens on it was not meant for pages."""
    if inner(address) is not None:
        return False  # that is for the policy to judge
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # sends nothing: it only chooses from where it would be sent
            return bool(ip_address(probe.getsockname()[0]) == address)
        except OSError:
            return False  # there is no way to it at all


class _Threads:
    """Look-ups of the system's own, in threads: many, since a slow server must not hold up the others."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="look-up")

    async def look_up(self, name: str) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _ask, name)
        return [ip_address(one[4][0]) for one in found]


def _ask(name: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]

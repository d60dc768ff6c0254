"""Inner hosts that a person opened for downloads (`SPOOLHOUSE_DOWNLOAD_ALLOW`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

EXAMPLES = "nas.local, nas.local:8080, 192.168.1.0/24, 192.168.1.7:8080, [::1]:8080"

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class InnerHosts:
    """What was opened. None for a port: every port."""

    names: frozenset[tuple[str, int | None]] = frozenset()
    """Host names in lower case, without a final dot, as they stand in a URL."""
    networks: tuple[tuple[Network, int | None], ...] = ()
    """Networks; a single address is the smallest of them."""

    def has_name(self, name: str, port: int) -> bool:
        """Whether this very name is opened, whatever its addresses are."""
        return (name, None) in self.names or (name, port) in self.names

    def has_address(self, address: Address, port: int) -> bool:
        """Whether this address is opened, whatever name led there."""
        return any(address in network and only in {None, port} for network, only in self.networks)


def parsed(entries: Iterable[str]) -> InnerHosts:
    """What a person wrote. Raises ValueError that names the first entry that is none."""
    names: set[tuple[str, int | None]] = set()
    networks: list[tuple[Network, int | None]] = []
    for entry in entries:
        try:
            host, port = _parts(entry.strip().lower())
            if _looks_like_address(host):
                networks.append((ip_network(host), port))
            elif _NAME.fullmatch(host) and len(host) <= 253:
                names.add((host, port))
            else:
                raise ValueError("that is no host name")
        except ValueError as error:
            raise ValueError(f"{entry!r} names no host or network ({error}); it is written like {EXAMPLES}") from None
    return InnerHosts(frozenset(names), tuple(networks))


def _parts(entry: str) -> tuple[str, int | None]:
    """Host and port of an entry."""
    if "://" in entry:
        raise ValueError("that is a URL")
    if "/" in entry:
        return entry, None  # a network
    if bracketed := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", entry):
        host, port = bracketed[1], bracketed[2]
        if ":" not in host:
            raise ValueError("brackets hold an IPv6 address")
    elif entry.count(":") > 1:
        host, port = entry, None  # an IPv6 address by itself
    else:
        host, colon, port = entry.partition(":")
        port = port if colon else None
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise ValueError("ports lie between 1 and 65535")
    return host.removesuffix("."), None if port is None else int(port)


def _looks_like_address(host: str) -> bool:
    """As web browsers tell: what holds a colon, or whose last part is a number, is no name."""
    last = host.partition("/")[0].rpartition(".")[2]
    return ":" in host or "/" in host or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last) is not None

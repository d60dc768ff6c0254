"""Where a download may go: to what everybody on the internet can reach, and to inner hosts that a person opened.

Pure: nothing here asks anyone. `refusal_of` is the early answer to a URL that somebody hands in;
`refusal` is the one that counts, asked by the egress proxy for each connection, with the addresses
that it will connect to.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from streams.inner_hosts import Address, InnerHosts

MAX_URL = 4096
"""Characters."""

NOTHING_OPENED = InnerHosts()

ADVICE = "SPOOLHOUSE_DOWNLOAD_ALLOW opens named hosts"

# What the IANA registries of special addresses hold, and not one address more: everything else of IPv4
# is somebody's on the internet.
_INNER4 = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "means this machine itself"),
        ("10.0.0.0/8", "is private"),
        ("100.64.0.0/10", "is shared by the customers of a provider, and private"),
        ("127.0.0.0/8", "is this machine's own"),
        ("168.63.129.16/32", "is where Azure answers its own machines"),
        ("169.254.0.0/16", "is link-local, where clouds keep the credentials of their machines"),
        ("172.16.0.0/12", "is private"),
        ("192.0.0.0/24", "is reserved"),
        ("192.0.2.0/24", "is for documentation"),
        ("192.88.99.0/24", "is reserved"),
        ("192.168.0.0/16", "is private"),
        ("198.18.0.0/15", "is for measuring networks"),
        ("198.51.100.0/24", "is for documentation"),
        ("203.0.113.0/24", "is for documentation"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved"),
    )
)
# Of IPv6 only 2000::/3 is given out at all; these are the parts of it that are not the internet's.
_GIVEN_OUT = ip_network("2000::/3")
_INNER6 = tuple(
    (ip_network(network), what)
    for network, what in (
        ("2001::/23", "is reserved (Teredo and the like)"),
        ("2001:db8::/32", "is for documentation"),
        ("2002::/16", "hides an IPv4 address (6to4)"),
        ("3fff::/20", "is for documentation"),
    )
)
# Outside it, said by name.
_NAMED6 = tuple(
    (ip_network(network), what)
    for network, what in (
        ("::1/128", "is this machine's own"),
        ("::/128", "means this machine itself"),
        ("fe80::/10", "is link-local"),
        ("fec0::/10", "is site-local"),
        ("fc00::/7", "is private"),
        ("ff00::/8", "is multicast"),
    )
)
_NAT64 = ip_network("64:ff9b::/96")
"""How a network without IPv4 speaks to every IPv4 address, inner ones too."""

_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}")


def refusal(host: str, port: int, addresses: Sequence[Address], opened: InnerHosts = NOTHING_OPENED) -> str | None:
    """Why nobody may connect to `port` of a host that was looked up and has these addresses; None: they may.

    One inner address among them is enough: a name with several would lead to any of them. The host is
    as `checked_host` returns it.
    """
    if not addresses:
        return f"{host} has no address"
    if opened.has_name(host, port):
        return None
    for address in addresses:
        meant = _meant(address)
        what = inner(meant)
        if what is None or opened.has_address(meant, port):
            continue
        named = str(address) if host == str(address) else f"{host} has the address {address}, which"
        return f"{named} {what}; {ADVICE}"
    return None


def inner(address: Address) -> str | None:
    """What an address is that is not the internet's, as the end of a sentence; None where it is."""
    address = _meant(address)
    if isinstance(address, IPv4Address):
        return next((what for network, what in _INNER4 if address in network), None)
    if address.scope_id is not None:
        return "names an interface of this machine"
    if address not in _GIVEN_OUT:
        return next((what for network, what in _NAMED6 if address in network), "is reserved")
    return next((what for network, what in _INNER6 if address in network), None)


def checked_host(written: str) -> str:
    """A host as it stands in a URL or a request, without brackets: lower case, no final dot, addresses in their usual form.

    Raises ValueError for whatever is neither a plain name nor an address in its usual form, such as
    `127.1`, `0x7f000001`, `2130706433` and `0177.0.0.1`, which some look-ups take for addresses.
    """
    host = written.lower().removesuffix(".")
    if ":" in host:
        if "%" in host:
            raise ValueError(f"{_shown(written)} names an interface of this machine; {ADVICE}")
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise ValueError(f"{_shown(written)} is no address") from None
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError(f"{_shown(written)} is an address in a form that is not fetched") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(f"{_shown(written)} is no host name" if host else "it names no host")
    return host


def split_authority(authority: str, default: int | None = None) -> tuple[str, int]:
    """`host:port` of a request, as `checked_host` has it. Raises ValueError, for user names too."""
    if bracketed := re.fullmatch(r"\[([0-9A-Fa-f:.%A-Za-z]*)\](?::(.*))?", authority):
        written, port = bracketed[1], bracketed[2]
        if ":" not in written:
            raise ValueError(f"{_shown(authority)} is no address")
    else:
        written, colon, port = authority.partition(":")
        port = port if colon else None
    if not port:
        if default is None:
            raise ValueError(f"{_shown(authority)} names no port")
        return checked_host(written), default
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{_shown(port)} is no port")
    return checked_host(written), int(port)


def literal(host: str) -> Address | None:
    """The address that a host is; None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def refusal_of(url: str, opened: InnerHosts = NOTHING_OPENED) -> str | None:
    """Why a URL will not be fetched, as far as that can be told without asking anyone; None: it may be tried.

    A user name and a password in it are allowed: they go to the host only.
    """
    if len(url) > MAX_URL:
        return f"a URL has at most {MAX_URL} characters"
    if _CONTROL.search(url):
        return "it holds blanks, control characters or backslashes, which no URL does"
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            return (
                f"only http:// and https:// are fetched, not {_shown(parts.scheme) + '://' if parts.scheme else 'this'}"
            )
        authority = parts.netloc.rpartition("@")[2]
        if not authority:
            return "it names no host"
        host, port = split_authority(_plain(authority), 443 if parts.scheme == "https" else 80)
    except ValueError as error:
        return str(error)
    if (address := literal(host)) is not None:
        return refusal(host, port, (address,), opened)
    if host == "localhost" or host.endswith(".localhost"):
        loopback = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
        if not any(opened.has_address(address, port) for address in loopback):
            return refusal(host, port, loopback, opened)
    return None


def _meant(address: Address) -> Address:
    """The IPv4 address that is really spoken to, where one is written as IPv6."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _plain(authority: str) -> str:
    """An authority as it will be sent: names in other scripts become their ASCII form. Raises ValueError."""
    if authority.isascii():
        return authority
    host, colon, port = unicodedata.normalize("NFKC", authority).partition(":")
    try:
        return host.encode("idna").decode("ascii") + colon + port
    except UnicodeError:
        raise ValueError(f"{_shown(authority)} is no host name") from None


def _shown(text: str) -> str:
    """What somebody wrote, short and printable."""
    return (text if text.isprintable() else repr(text))[:100]

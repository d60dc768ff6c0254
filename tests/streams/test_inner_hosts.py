"""Inner hosts that a person opens for downloads, and the proxy that downloads go through."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from streams.errors import SettingsError
from streams.inner_hosts import parsed
from streams.settings import Settings


@pytest.mark.parametrize(
    ("entry", "name", "port", "opened"),
    [
        ("nas.local", "nas.local", 80, True),
        ("NAS.local.", "nas.local", 8443, True),
        ("nas.local:8080", "nas.local", 8080, True),
        ("nas.local:8080", "nas.local", 80, False),
        ("nas.local", "www.nas.local", 80, False),
        ("192.168.1.0/24", "nas.local", 80, False),
    ],
)
def test_a_name_is_opened_as_it_is_written(entry: str, name: str, port: int, opened: bool) -> None:
    assert parsed([entry]).has_name(name, port) is opened


@pytest.mark.parametrize(
    ("entry", "address", "port", "opened"),
    [
        ("192.168.1.0/24", "192.168.1.77", 80, True),
        ("192.168.1.0/24", "192.168.2.77", 80, False),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.0.0.1:8080", "127.0.0.1", 8081, False),
        ("127.0.0.1", "127.0.0.1", 8081, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::1]:8080", "::1", 80, False),
        ("::1", "::1", 80, True),
        ("fd00::/8", "fd12::1", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
    ],
)
def test_an_address_is_opened_with_its_network(entry: str, address: str, port: int, opened: bool) -> None:
    assert parsed([entry]).has_address(ip_address(address), port) is opened


@pytest.mark.parametrize(
    "entry",
    [
        *("http://nas.local", "nas.local:0", "nas.local:65536", "nas.local:http", "10.0.0.1/8", "1.2.3", "127.1"),
        *("0x7f000001", "300.1.1.1", "[::1", "[nas.local]:80", "a b", "", "*.local", "nas..local", "::1%eth0/64"),
    ],
)
def test_what_names_no_host_stops_the_start(make_settings: Callable[..., Settings], entry: str) -> None:
    """Said with the setting's name, the entry, and how it is written."""
    with pytest.raises(
        SettingsError, match=r"SPOOLHOUSE_DOWNLOAD_ALLOW: .* names no host or network .*nas\.local:8080"
    ):
        make_settings(download_allow=["nas.local", entry])


@pytest.mark.parametrize("url", ["ftp://h:1", "http://h", "socks5://:1080", "h:8080", "http://u:sec ret@h:x"])
def test_a_proxy_that_is_none_stops_the_start(make_settings: Callable[..., Settings], url: str) -> None:
    """Said without the value: it may hold a password."""
    with pytest.raises(SettingsError, match="SPOOLHOUSE_DOWNLOAD_PROXY: it is no URL like") as told:
        make_settings(download_proxy=url)
    assert "sec ret" not in str(told.value)


def test_a_proxy_is_kept_secret(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(download_proxy="socks5://me:hush@proxy:1080", download_allow="nas.local,10.0.0.0/8")
    assert "hush" not in repr(settings)
    assert settings.inner_hosts.has_name("nas.local", 1)

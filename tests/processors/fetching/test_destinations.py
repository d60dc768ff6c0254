"""Where a download may go."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.fetching.destinations import checked_host, inner, refusal, refusal_of, split_authority
from streams.inner_hosts import parsed

INNER = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
    198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1
    64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1
    5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254 fe80::1 fe80::a9fe:a9fe fec0::1 ff02::1 ff0e::1 4000::1
""".split()  # noqa: SIM905 - so many quotes would read worse
OUTER = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255
    172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
    2606:4700::1 2a00:1450:4001::1 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808
""".split()  # noqa: SIM905 - so many quotes would read worse


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_refused(address: str) -> None:
    """By itself, and as the address of a name, even where the name has good ones too."""
    one, good = ip_address(address), ip_address("8.8.8.8")
    assert inner(one) is not None
    assert refusal(address, 80, [one]) is not None
    for several in ([one], [good, one], [one, good], [good, good, one]):
        told = refusal("example.com", 443, several)
        assert told is not None
        assert f"example.com has the address {one}" in told
        assert "SPOOLHOUSE_DOWNLOAD_ALLOW opens named hosts" in told


@pytest.mark.parametrize("address", OUTER)
def test_the_internet_may_be_reached(address: str) -> None:
    assert inner(ip_address(address)) is None
    assert refusal("example.com", 443, [ip_address(address)]) is None


def test_a_name_without_addresses_is_refused() -> None:
    assert refusal("example.com", 443, []) is not None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_is_reached_is_global_ipv4(address: IPv4Address) -> None:
    """Whatever Python's own list calls private is refused; forms that hide an address are judged by what they hide."""
    if inner(address) is None:
        assert address.is_global
        assert not address.is_multicast
    assert inner(IPv6Address(f"::ffff:{address}")) == inner(address)
    assert inner(IPv6Address(f"64:ff9b::{address}")) == inner(address)
    for hidden in (f"::{address}", f"::ffff:0:{address}", f"fe80::5efe:{address}"):
        assert inner(IPv6Address(hidden)) is not None
    assert inner(IPv6Address(int(IPv6Address("2002::")) | int(address) << 80)) is not None  # 6to4
    assert inner(IPv6Address(int(IPv6Address("2001::")) | int(address) ^ 0xFFFFFFFF)) is not None  # Teredo


@given(
    st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0, 2**125 - 1).map(lambda n: IPv6Address((1 << 125) + n))
)
def test_what_is_reached_is_global_ipv6(address: IPv6Address) -> None:
    if inner(address) is None and address.ipv4_mapped is None:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_site_local


@pytest.mark.parametrize(
    ("entry", "host", "port", "addresses", "opened"),
    [
        ("nas.local", "nas.local", 80, "10.0.0.1", True),
        ("nas.local:8080", "nas.local", 80, "10.0.0.1", False),
        ("10.0.0.0/8", "nas.local", 80, "10.0.0.1", True),
        ("10.0.0.0/8", "nas.local", 80, "10.0.0.1 192.168.0.1", False),
        ("10.0.0.0/8", "nas.local", 80, "10.0.0.1 8.8.8.8", True),
        ("10.0.0.0/8", "10.0.0.1", 80, "10.0.0.1", True),
        ("127.0.0.1:80", "127.0.0.1", 81, "127.0.0.1", False),
        ("127.0.0.1:80", "x.example", 80, "::ffff:127.0.0.1", True),
        ("127.0.0.1:80", "x.example", 80, "0.0.0.0", False),
        ("[::1]:80", "x.example", 80, "::1", True),
    ],
)
def test_what_a_person_opened_may_be_reached(entry: str, host: str, port: int, addresses: str, opened: bool) -> None:
    found = [ip_address(address) for address in addresses.split()]
    assert (refusal(host, port, found, parsed([entry])) is None) is opened


ODD = """
    127.1 127.0.1 0x7f000001 0x7f.0.0.1 0X7F.1 2130706433 017700000001 0177.0.0.1 127.0.0.01 127.0.0.1.1 0 00 1 256.1.1.1
    127.0.0.0x1 1.2.3.4.5 0x 1e100.0x7f [::1%25lo] [fe80::1%eth0] [::1]x [::1 ::1] [127.0.0.1] [localhost] [] [v1.x] []:80
    -x.example x..example .example x_%61.example 127。0。0。1 １２７.1 ⑯⑨.254.169.254 a@b%40c x,y
""".split()  # noqa: SIM905 - so many quotes would read worse


@pytest.mark.parametrize("host", ODD)
def test_odd_forms_of_addresses_are_refused(host: str) -> None:
    """Look-ups take some of them for addresses, and each library others."""
    assert refusal_of(f"http://{host}/") is not None
    assert refusal_of(f"https://user:word@{host}:8080/x?y#z") is not None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "//example.com/x",
            "/x",
            "http:example.com",
            "http:/example.com",
            "http://",
            "http:///x",
            "http://@/",
        ),
        *(
            "ftp://example.com",
            "file:///etc/passwd",
            "data:text/html,x",
            "javascript:1",
            "gopher://x",
            "rtmp://x",
            "blob:http://x",
        ),
        *("http://example.com:0", "http://example.com:65536", "http://example.com:x", "http://example.com:-1"),
        *(
            "http://exa mple.com",
            "http://example.com/\n",
            "http://example.com\\@127.0.0.1/",
            "http://example.com/\x00",
            " http://x.org",
        ),
        *("http://example.com/" + "x" * 4096, "http://example.com/\ud800", "http://\u2028x.org"),
        *(
            "http://127.0.0.1",
            "http://127.0.0.1./",
            "http://user@127.0.0.1:80/",
            "http://8.8.8.8@10.0.0.1/",
            "http://[::1]:80/",
        ),
        *(
            "http://[::ffff:a00:1]",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost",
            "HTTP://LOCALHOST.:80",
            "http://x.localhost",
        ),
        *("http://１２７.0.0.1/", "http://ｌｏｃａｌｈｏｓｔ/", "http://169.254.169.254/latest/meta-data/"),
    ],
)
def test_some_urls_are_refused_without_asking_anyone(url: str) -> None:
    told = refusal_of(url)
    assert told
    assert told.isprintable()
    assert len(told) < 400


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com", "HTTPS://EXAMPLE.com:8443/x?y=http://127.0.0.1/#z", "https://user:p%40ss@example.com/"),
        *(
            "http://example.com./",
            "https://münchen.example/ü",
            "http://8.8.8.8/",
            "http://[2606:4700::1]:80/",
            "http://a_b.example",
        ),
        "http://xn--mnchen-3ya.example:80",
    ],
)
def test_other_urls_may_be_tried(url: str) -> None:
    assert refusal_of(url) is None


def test_an_opened_host_may_be_tried() -> None:
    assert refusal_of("http://127.0.0.1:8080/", parsed(["127.0.0.1:8080"])) is None
    assert refusal_of("http://127.0.0.1:8081/", parsed(["127.0.0.1:8080"])) is not None
    assert refusal_of("http://localhost:8080/", parsed(["127.0.0.1:8080"])) is None
    assert refusal_of("http://localhost:8080/", parsed(["localhost"])) is None
    assert refusal_of("https://localhost/", parsed(["localhost:80"])) is not None


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-fx.:%\[\]]{0,40}", fullmatch=True))
@example("127.1")
@example("0x7f.1")
@example("١٢٧.0.0.1")
def test_no_host_passes_that_a_lookup_takes_for_another_address(written: str) -> None:
    """What the C library reads as an IPv4 address is in its usual form, or refused."""
    try:
        host = checked_host(written)
    except ValueError:
        return
    assert host == checked_host(host)
    try:
        packed = socket.inet_aton(host)
    except OSError:
        return
    assert socket.inet_ntoa(packed) == host


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda rest: f"http://{rest}"))
def test_every_url_gets_an_answer(url: str) -> None:
    told = refusal_of(url)
    assert told is None or told.isprintable()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("example.com:443", ("example.com", 443)),
        ("EXAMPLE.com.:443", ("example.com", 443)),
        ("[2606:4700:0::1]:443", ("2606:4700::1", 443)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
    ],
)
def test_an_authority_is_taken_apart(written: str, meant: tuple[str, int]) -> None:
    assert split_authority(written) == meant
    with pytest.raises(ValueError):
        split_authority(written.rpartition(":")[0])
    with pytest.raises(ValueError):
        split_authority(f"user@{written}")

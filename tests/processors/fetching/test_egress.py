"""The egress proxy: what it connects to, what it refuses, and that nobody talks it into anything else."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from processors.fetching import egress_child, egress_dialing
from processors.fetching.egress_dialing import is_own
from processors.fetching.egress_heads import MAX_HEAD
from processors.fetching.registration import credentials
from streams.inner_hosts import Address, parsed
from tests.processors.fetching.proxying import TOKEN, Names, Proxy, proxying, saying, serving


async def test_what_is_opened_is_reached_and_the_rest_is_not() -> None:
    """By plain requests and by tunnels; the reason stands where people see it, and is told to whoever registered."""
    heard: list[bytes] = []
    async with (
        serving(saying("inner secret", heard)) as secret,
        serving(saying("hello")) as port,
        proxying(Names(good=["127.0.0.1"]), f"127.0.0.1:{port}") as proxy,
    ):
        assert (await proxy.ask(f"GET http://good.test:{port}/ HTTP/1.1")).endswith(b"hello")
        tunnelled = await proxy.ask(f"CONNECT good.test:{port} HTTP/1.0", after=b"GET / HTTP/1.1\r\n\r\n")
        assert tunnelled.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
        assert proxy.reports == []
        for host in ("good.test", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]", "[::]", "127.1", "2130706433"):
            for line in (f"GET http://{host}:{secret}/ HTTP/1.1", f"CONNECT {host}:{secret} HTTP/1.1"):
                answer = await proxy.ask(line, after=b"GET / HTTP/1.1\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 403 ")
                first, _, rest = answer.partition(b"\r\n")
                assert rest.startswith(b"X-Spoolhouse-Refused: " + first.removeprefix(b"HTTP/1.1 403 ") + b"\r\n")
                assert b"secret" not in answer
        assert heard == []
        assert len(proxy.reports) == 16
        assert {report.what for report in proxy.reports} == {"refused"}
        assert "good.test has the address 127.0.0.1, which is this machine's own" in proxy.reports[0].reason


@pytest.mark.parametrize(
    "addresses",
    ["169.254.169.254", "8.8.8.8 10.0.0.1", "fd00:ec2::254", "::ffff:192.168.0.1", "8.8.8.8 64:ff9b::7f00:1"],
)
async def test_a_name_with_an_inner_address_is_refused(addresses: str) -> None:
    async with proxying(Names(bad=[addresses])) as proxy:
        assert (await proxy.ask("CONNECT bad.test:443 HTTP/1.1")).startswith(b"HTTP/1.1 403 bad.test has the address ")


async def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """One look-up for each connection, and the connection goes to the very address that was checked."""
    heard: list[bytes] = []
    async with serving(saying("hello")) as port, serving(saying("inner secret", heard), "127.0.0.2", port):
        names = Names(rebound=["127.0.0.1", "127.0.0.2"])
        async with proxying(names, f"127.0.0.1:{port}") as proxy:
            assert (await proxy.ask(f"GET http://rebound.test:{port}/ HTTP/1.1")).endswith(b"hello")
            assert names.asked == ["rebound.test"]
            for line in (f"GET http://rebound.test:{port}/ HTTP/1.1", f"CONNECT rebound.test:{port} HTTP/1.1"):
                assert b" 403 rebound.test has the address 127.0.0.2" in await proxy.ask(line)
        assert heard == []


async def test_this_machines_own_public_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens there may be meant for the inside only."""
    assert not is_own(socket_address("8.8.8.8"))
    monkeypatch.setattr(egress_dialing, "inner", lambda _: None)  # as if loopback's were public ones
    assert is_own(socket_address("127.0.0.1"))
    monkeypatch.setattr(egress_dialing, "refusal", lambda *_: None)
    async with serving(saying("inner secret")) as port, proxying(Names(me=["127.0.0.1"])) as proxy:
        answer = await proxy.ask(f"GET http://me.test:{port}/ HTTP/1.1")
        assert b" 403 me.test is this machine itself (127.0.0.1)" in answer


async def test_a_second_request_on_a_connection_reaches_nobody() -> None:
    """Neither another host nor the same one: one connection, one request."""
    heard: list[bytes] = []

    async def keeping(reader: StreamReader, writer: StreamWriter) -> None:
        """A site that would go on for ever."""
        while head := await reader.read(65536):
            heard.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.close()

    async with serving(keeping) as port, proxying(Names(), f"127.0.0.1:{port}") as proxy:
        second = b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\n"
        line = f"127.0.0.1:{port}/ HTTP/1.1"
        for request, after in (
            ([f"GET http://{line}"], second),
            ([f"POST http://{line}", "Content-Length: 3"], b"abc" + second),
        ):
            answer = await proxy.ask(*request, after=after)
            assert answer.endswith(b"\r\nConnection: close\r\n\r\nhello")
            assert b"keep-alive" not in answer
        assert [head.count(b"HTTP/1.1") for head in heard] == [1, 1]
        assert b"169.254" not in b"".join(heard)
        assert heard[1].endswith(b"\r\n\r\nabc")


async def test_an_old_site_is_understood() -> None:
    """One that ends its lines by line feeds, sends an interim answer, and comes in pieces."""

    async def old(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (b"HTTP/1.1 100 Go on\n", b"\nHTTP/1.1 200 OK\nX: y\n", b"\nbody\n\n", b"more"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(old) as port, proxying(Names(), f"127.0.0.1:{port}") as proxy:
        answer = await proxy.ask(f"GET http://127.0.0.1:{port}/ HTTP/1.1")
        told = b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nbody\n\nmore"
        assert answer == told


async def test_nobody_without_the_token_is_served() -> None:
    heard: list[bytes] = []
    async with serving(saying("x", heard)) as port, proxying(Names(), f"127.0.0.1:{port}") as proxy:
        for token in (None, "", "another token"):
            answer = await proxy.ask(f"GET http://127.0.0.1:{port}/ HTTP/1.1", token=token)
            assert answer.startswith(b"HTTP/1.1 407 ")
        assert heard == []


async def test_heads_are_bounded() -> None:
    """In size, whichever side sends them, and in time."""

    async def endless(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_HEAD)
        await writer.drain()

    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with (
        serving(endless) as port,
        serving(silent) as other,
        proxying(Names(), f"127.0.0.1:{port}", f"127.0.0.1:{other}", head=0.3, idle=0.5) as proxy,
    ):
        line = f"GET http://127.0.0.1:{port}/ HTTP/1.1"
        assert (await proxy.ask(line, "X: " + "x" * MAX_HEAD)).startswith(b"HTTP/1.1 431 ")
        assert (await proxy.ask(line)).startswith(b"HTTP/1.1 502 its head is longer")
        assert (await proxy.ask(f"GET http://127.0.0.1:{other}/ HTTP/1.1")).startswith(b"HTTP/1.1 504 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for char in b"GET http://x":  # slow loris
            writer.write(bytes([char]))
            await asyncio.sleep(0.05)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_what_cannot_be_reached_fails_and_is_not_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        async with proxying(Names(), f"127.0.0.1:{port}") as proxy:
            answer = await proxy.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1")
            assert answer.startswith(b"HTTP/1.1 502 127.0.0.1 cannot be reached: Connect")
            answer = await proxy.ask("CONNECT nosuch.test:443 HTTP/1.1")
            assert answer.startswith(b"HTTP/1.1 502 nosuch.test cannot be looked up: Name or service not known")
            assert {report.what for report in proxy.reports} == {"failed"}


async def test_a_lookup_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_dialing, "LOOK_UP", 0.1)
    names = Names()

    async def never(name: str) -> list[object]:
        await asyncio.Event().wait()
        return []

    names.look_up = never  # type: ignore[method-assign, assignment]
    async with proxying(names) as proxy:
        assert (await proxy.ask("CONNECT slow.test:443 HTTP/1.1")).startswith(b"HTTP/1.1 504 looking up slow.test")


async def test_the_next_address_is_tried() -> None:
    """A host with several addresses is reached by the first that takes a connection."""
    async with (
        serving(saying("hello")) as port,
        proxying(Names(two=["127.0.0.3 127.0.0.1"]), "127.0.0.0/8") as proxy,
    ):
        assert (await proxy.ask(f"GET http://two.test:{port}/ HTTP/1.1")).endswith(b"hello")


async def test_every_byte_passes_both_ways_at_the_receivers_pace(rng: Random) -> None:
    """Much at once, a slow reader, and an end of one direction before the other's."""
    data = rng.randbytes(12_000_000)

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        while taken := await reader.read(300_000):
            writer.write(taken)
            await writer.drain()
        writer.write(b"that was all")
        await writer.drain()

    async with serving(echo) as port, proxying(Names(), f"127.0.0.1:{port}", upstream=None) as proxy:
        answer = await proxy.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1", token="no")
        assert answer.startswith(b"HTTP/1.1 407")
        got = await tunnelled(proxy.port, port, data)
        assert got == data + b"that was all"


async def test_a_client_that_goes_is_noticed() -> None:
    """By the server, too: nothing is fetched for nobody."""
    gone = asyncio.Event()

    async def streaming(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            assert await reader.read() == b""
        finally:
            gone.set()

    async with serving(streaming) as port, proxying(Names(), f"127.0.0.1:{port}") as proxy:
        asking = asyncio.create_task(proxy.ask(f"GET http://127.0.0.1:{port}/ HTTP/1.1"))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(10):
            await gone.wait()


async def test_an_answer_that_was_cut_short_does_not_seem_to_be_whole() -> None:
    """Without a length its end is the connection's; when the site's connection breaks, so does ours."""

    async def breaking(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        await asyncio.sleep(0.1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with serving(breaking) as port, proxying(Names(), f"127.0.0.1:{port}") as proxy:
        for request in (f"GET http://127.0.0.1:{port}/ HTTP/1.1", f"CONNECT 127.0.0.1:{port} HTTP/1.1"):
            with pytest.raises(ConnectionResetError):
                await proxy.ask(request, after=b"GET / HTTP/1.1\r\n\r\n")


async def test_what_does_not_move_is_given_up() -> None:
    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port, proxying(Names(), f"127.0.0.1:{port}", idle=1) as proxy:
        with pytest.raises(ConnectionResetError):
            await proxy.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1")


async def test_a_client_has_a_bounded_number_of_connections(
    monkeypatch: pytest.MonkeyPatch, public_folder: Path
) -> None:
    """More of them wait until one ends."""
    monkeypatch.setattr(egress_child, "MAX_CONNECTIONS", 2)
    held = asyncio.Event()
    heard: list[bytes] = []

    async def holding(reader: StreamReader, writer: StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await held.wait()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    loop = asyncio.get_running_loop()
    async with serving(holding) as port:
        with socket.socket(socket.AF_UNIX) as door, socket.socket(socket.AF_UNIX) as registration:
            door.bind(str(public_folder / "door"))
            door.listen()
            door.setblocking(False)  # noqa: FBT003
            dialer = egress_dialing.Dialer(parsed([f"127.0.0.1:{port}"]))
            taking = asyncio.create_task(egress_child.Registrations(dialer).take(door))
            registration.connect(str(public_folder / "door"))
            registration.setblocking(False)  # noqa: FBT003
            with socket.create_server(("127.0.0.1", 0)) as listener:
                socket.send_fds(registration, [b'{"token": "%s"}' % TOKEN.encode()], [listener.fileno()])
                proxy = Proxy(listener.getsockname()[1])
                assert await loop.sock_recv(registration, 100) == b'{"ready": true}\n'
            asking = [asyncio.create_task(proxy.ask(f"GET http://127.0.0.1:{port}/ HTTP/1.1")) for _ in range(5)]
            await asyncio.sleep(0.3)
            assert len(heard) == 2
            held.set()
            answers = await asyncio.gather(*asking)
            assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 5
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


# ---------------------------------------------------------------- through a proxy of the user's


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_an_upstream_proxy_is_given_checked_addresses(kind: str) -> None:
    """Never a name, and never anything that was refused."""
    asked: list[str] = []
    handshake = http_upstream if kind == "http" else socks5_upstream

    async def upstream(reader: StreamReader, writer: StreamWriter) -> None:
        wanted = await handshake(reader, writer)
        asked.append(wanted)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Host: good.test\r\n" in head or b"tunnelled" in head
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfrom far away")
        await writer.drain()

    names = Names(good=["93.184.216.34"], bad=["10.0.0.1"])
    async with (
        serving(upstream) as port,
        proxying(names, upstream=f"{kind}://me:hush@127.0.0.1:{port}") as proxy,
    ):
        assert (await proxy.ask("GET http://good.test/ HTTP/1.1")).endswith(b"from far away")
        answer = await proxy.ask("CONNECT good.test:443 HTTP/1.1", after=b"tunnelled\r\n\r\n")
        assert answer.endswith(b"from far away")
        for host in ("bad.test:80", "127.0.0.1:80", "[::1]:80"):
            assert (await proxy.ask(f"CONNECT {host} HTTP/1.1")).startswith(b"HTTP/1.1 403 ")
        assert asked == ["93.184.216.34:80", "93.184.216.34:443"]


async def test_an_upstream_proxy_that_says_no_or_is_away_is_told_without_its_password() -> None:
    async def no(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who are you\r\n\r\n")

    names = Names(good=["93.184.216.34"])
    async with serving(no) as port, proxying(names, upstream=f"http://me:hush@127.0.0.1:{port}") as proxy:
        answer = await proxy.ask("CONNECT good.test:443 HTTP/1.1")
        assert (
            b"502 good.test cannot be reached: the proxy of SPOOLHOUSE_DOWNLOAD_PROXY says '407 Who are you'" in answer
        )
    async with proxying(names, upstream=f"http://me:hush@127.0.0.1:{port}") as proxy:
        answer = await proxy.ask("CONNECT good.test:443 HTTP/1.1")
        assert b"502 the proxy of SPOOLHOUSE_DOWNLOAD_PROXY cannot be reached" in answer
        assert b"hush" not in answer


async def http_upstream(reader: StreamReader, writer: StreamWriter) -> str:
    """What an HTTP proxy was asked for."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Proxy-Authorization: Basic bWU6aHVzaA==" in head
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    return head.split()[1].decode()


async def socks5_upstream(reader: StreamReader, writer: StreamWriter) -> str:
    """What a SOCKS proxy was asked for: an IPv4 address and a port."""
    _, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(b"\x05\x02")
    _, length = await reader.readexactly(2)
    assert await reader.readexactly(length) == b"me"
    assert await reader.readexactly((await reader.readexactly(1))[0]) == b"hush"
    writer.write(b"\x01\x00")
    assert await reader.readexactly(4) == b"\x05\x01\x00\x01"
    address, port = await reader.readexactly(4), await reader.readexactly(2)
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    return f"{socket.inet_ntoa(address)}:{int.from_bytes(port, 'big')}"


# ---------------------------------------------------------------- helpers


def socket_address(text: str) -> Address:
    return ip_address(text)


async def tunnelled(proxy: int, port: int, data: bytes) -> bytes:
    """All that comes back of a tunnel through which all of `data` goes, while the reader is slow at first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
    writer.write(b"Proxy-Authorization: " + credentials(TOKEN) + b"\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.2)
    async with asyncio.timeout(30):
        got = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    return got

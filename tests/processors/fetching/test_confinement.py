"""A child that gave up the network: there is one way out, for it and for all that it starts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from processors.fetching.egress import Egress, open_egress
from streams.errors import StartError
from streams.settings import Settings
from tests.processors.fetching import confined
from tests.processors.fetching.proxying import serving

PROGRAM = Path(confined.__file__)
ROOT = PROGRAM.parents[3]
NOBODY = 65534

MakeSettings = Callable[..., Settings]


class World:
    """A site that may be reached, and inner things that may not."""

    def __init__(self, egress: Egress, asked: dict[str, Any]) -> None:
        self.egress, self.asked = egress, asked
        self.leaks: list[object] = []
        self.endless = asyncio.Event()
        """Somebody asks for `/endless`."""

    async def child(
        self,
        *urls: str,
        namespace: bool = True,
        landlock: bool = True,
        user: int | None = None,
        python: str = sys.executable,
    ) -> dict[str, Any]:
        """What a child found out."""
        asked = {**self.asked, "urls": urls, "namespace": namespace, "landlock": landlock, "user": user}
        asked["python"] = python
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PROGRAM), json.dumps(asked)),
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            printed, _ = await process.communicate()
        found: dict[str, Any] = json.loads(printed)
        return found


@asynccontextmanager
async def worlds(make_settings: MakeSettings, folder: Path) -> AsyncGenerator[World]:
    """The proxy's process, and around it a site, a secret service, a datagram socket and unix sockets."""
    leaks: list[object] = []

    async def secret(reader: StreamReader, writer: StreamWriter) -> None:
        leaks.append(writer.get_extra_info("peername"))
        writer.write(b"inner secret")

    async def site(reader: StreamReader, writer: StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if path.startswith("/to/"):
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {path.removeprefix('/to/')}\r\n\r\n".encode())
        elif path == "/endless":
            world.endless.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello")
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with serving(secret) as inner, serving(site) as port:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_UNIX) as unix,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        ):
            udp.bind(("127.0.0.1", 0))
            unix.bind(str(folder / "unix"))
            unix.listen()
            datagram.bind(str(folder / "datagram"))
            for one in (folder / "unix", folder / "datagram"):
                one.chmod(0o777)
            async with open_egress(make_settings(download_allow=f"127.0.0.1:{port}")) as egress:
                asked = {
                    "path": str(egress.socket_path),
                    "site": f"http://127.0.0.1:{port}/",
                    "secret": inner,
                    "udp": udp.getsockname()[1],
                    "unix": str(folder / "unix"),
                    "datagram": str(folder / "datagram"),
                    "parent": os.getpid(),
                    "handle": udp.fileno(),
                }
                world = World(egress, asked)
                yield world
                for one in (udp, datagram, unix):
                    one.setblocking(False)  # noqa: FBT003
                    with pytest.raises(BlockingIOError):
                        leaks.append(one.accept() if one is unix else one.recv(100))
                world.leaks += leaks


@pytest.fixture
async def world(make_settings: MakeSettings, public_folder: Path) -> AsyncGenerator[World]:
    async with worlds(make_settings, public_folder) as world:
        yield world
    assert world.leaks == []


def nothing_but_the_proxy(tries: dict[str, str]) -> None:
    """Every way is closed but the one."""
    assert tries.pop("through_proxy") == "yes: 'hello'"
    assert {name: told for name, told in tries.items() if not told.startswith("no: ")} == {}


@pytest.mark.parametrize("walls", ["namespace landlock", "namespace", "landlock"])
async def test_there_is_one_way_out(world: World, walls: str) -> None:
    """For the child, its threads, and the programs that it starts, which know of no audit hook.

    A network namespace is enough for that, and so is Landlock.
    """
    wanted = set(walls.split())
    found = await world.child(namespace="namespace" in wanted, landlock="landlock" in wanted)
    if not wanted <= set(found["walls"]):
        pytest.skip(f"this machine has only {found['walls']}")
    assert wanted == {"namespace", "landlock"} & set(found["walls"])
    for who in ("own", "thread", "started"):
        if "landlock" not in wanted:
            found[who].pop("signal_parent")
        nothing_but_the_proxy(found[who])


async def test_another_user_than_root_is_confined_too(world: World) -> None:
    """By a user namespace, where the system permits that."""
    if os.geteuid() != 0:
        pytest.skip("whoever runs this is that user already")
    for path, mode in ((world.egress.socket_path.parent, 0o711), (world.egress.socket_path, 0o777)):
        path.chmod(mode)
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    found = await world.child(user=NOBODY, python=python)
    if not {"namespace", "landlock"} & set(found["walls"]):
        pytest.skip("this machine permits neither user namespaces nor Landlock")
    for who in ("own", "thread", "started"):
        nothing_but_the_proxy(found[who])


async def test_without_both_python_is_held_by_the_audit_hook(make_settings: MakeSettings, public_folder: Path) -> None:
    """And a program that it starts may connect by TCP, though it cannot look up a name, nor use any other socket."""
    async with worlds(make_settings, public_folder) as world:
        found = await world.child(namespace=False, landlock=False)
        for who in ("own", "thread"):
            found[who].pop("signal_parent")
            assert "the only way out is the egress proxy" in found[who]["tcp"]
            found[who].pop("curl")
            nothing_but_the_proxy(found[who])
        assert found["started"]["through_proxy"] == "yes: 'hello'"
    assert len(world.leaks) >= 1  # what this machine cannot hold is known, and said in confinement.py


async def test_redirects_lead_to_nothing_inner(world: World) -> None:
    """A page that may be fetched sends whoever fetches it inside: refused, and it is told why."""
    site, inner = world.asked["site"], world.asked["secret"]
    targets = [
        "http://169.254.169.254/latest/meta-data/",
        *(
            f"http://{host}:{inner}/"
            for host in ("127.0.0.1", "[::1]", "localhost", "[::ffff:7f00:1]", "0.0.0.0", "127.1")
        ),
        f"http://2130706433:{inner}/",
        "http://10.0.0.1/",
    ]
    found = await world.child(*[f"{site}to/{target}" for target in targets], site)
    *refused, good = found["fetched"].values()
    assert good == "hello"
    assert all(told.startswith("no: HTTP Error 403: ") for told in refused), refused
    assert len(found["refusals"]) == len({told.removeprefix("no: HTTP Error 403: ") for told in refused})
    assert any("169.254.169.254 is link-local" in told for told in found["refusals"])


async def test_only_who_registered_may_use_the_way_out(world: World) -> None:
    """Not even whoever sees its port: there is a token. And when a child has gone, so has its way out."""
    found = await world.child(namespace=False)
    address = found["proxy"].rpartition("@")[2]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.partition(":")[0], int(address.partition(":")[2])))
    assert world.egress.starts == 1


async def test_what_is_no_registration_is_hung_up_on(world: World) -> None:
    """Nonsense, no socket, a socket that does not listen, no token."""
    with socket.socket() as idle, socket.create_server(("127.0.0.1", 0)) as listening:
        for message, handles in (
            (b"\xff", [listening]), (b"{}", [listening]), (b'{"token": 1}', [listening]), (b"[]", [listening]),
            (b'{"token": "short"}', [listening]), (b'{"token": "long enough for anybody"}', []),
            (b'{"token": "long enough for anybody"}', [idle]), (b'{"token": "long enough for anybody"}', [sys.stderr]),
        ):  # fmt: skip
            with socket.socket(socket.AF_UNIX) as registration:
                registration.connect(str(world.egress.socket_path))
                socket.send_fds(registration, [message], [one.fileno() for one in handles])
                registration.settimeout(20)
                assert registration.recv(100) == b""
    assert (await world.child())["own"]["through_proxy"] == "yes: 'hello'"
    assert world.egress.starts == 1


async def test_a_proxy_that_was_killed_is_started_again(world: World) -> None:
    """What goes through it fails like a network; whoever comes next is served again."""
    before = world.egress.pid
    assert before is not None
    assert os.getsid(before) == before
    assert (await world.child())["own"]["through_proxy"] == "yes: 'hello'"
    os.kill(before, signal.SIGKILL)
    assert (await world.child())["own"]["through_proxy"] == "yes: 'hello'"
    assert world.egress.starts == 2
    assert world.egress.pid not in {None, before}


async def test_a_download_that_was_under_way_fails_when_the_proxy_is_killed(world: World) -> None:
    """It does not hang, and does not seem to be whole."""
    endless = world.asked["site"] + "endless"
    child = asyncio.create_task(world.child(endless))
    async with asyncio.timeout(30):
        await world.endless.wait()
    assert world.egress.pid is not None
    os.kill(world.egress.pid, signal.SIGKILL)
    found = await child
    assert found["fetched"][endless].startswith("no: ")
    assert found["refusals"] == []
    assert (await world.child())["own"]["through_proxy"] == "yes: 'hello'"


async def test_nobody_registers_where_there_is_no_proxy(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a proxy nothing is fetched: the child is told so. One that does not come up stops the start."""
    from processors.fetching import confinement, egress

    monkeypatch.setattr(confinement, "REGISTER", 0.2)
    with pytest.raises(confinement.ConfinementError, match="the egress proxy of downloads cannot be reached"):
        confinement.confine_network("/nowhere", namespace=False)
    monkeypatch.setattr(egress, "PROGRAM", "processors.fetching.nothing")
    with pytest.raises(StartError, match=r"did not come up: .*No module named processors\.fetching\.nothing"):
        async with open_egress(make_settings()):
            pass


async def test_the_proxy_ends_with_its_parent(make_settings: MakeSettings) -> None:
    """Also when that is killed; and its folder is private."""
    program = (
        "import asyncio\n"
        "from processors.fetching.egress import open_egress\n"
        "from streams.settings import load_settings\n"
        "async def main():\n"
        "    async with open_egress(load_settings()) as egress:\n"
        "        print('up', egress.pid, oct(egress.socket_path.parent.stat().st_mode), egress.socket_path, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(b"up "):
        assert line, "it ended"
    _, pid, mode, path = line.split()
    assert mode == b"0o40700"
    process.kill()
    await process.wait()
    folder = Path(os.fsdecode(path)).parent
    assert folder.exists()
    async with asyncio.timeout(20):
        while Path(f"/proc/{int(pid)}").exists() and "Z" not in Path(f"/proc/{int(pid)}/stat").read_text("ascii"):
            await asyncio.sleep(0.02)
    async with open_egress(make_settings()) as egress:
        assert not folder.exists()  # what others left behind is cleared away
        async with open_egress(make_settings()):
            assert egress.socket_path.exists()  # and what others use is not

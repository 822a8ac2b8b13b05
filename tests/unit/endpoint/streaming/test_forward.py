# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry connections between channels and ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import typing as t

import pytest
import uvloop

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.tests.support.channels import ForwardClient, forward_pair
from pvecri.streaming import forward
from pvecri.streaming.channel import ChannelReset

Handler = t.Callable[[asyncio.StreamReader, asyncio.StreamWriter], t.Awaitable[None]]


async def own_sockets() -> list[socket.socket]:
    return forward.make_sockets("")


@contextlib.asynccontextmanager
async def forwarding(make: forward.MakeSockets = own_sockets) -> t.AsyncIterator[ForwardClient]:
    session, client = forward_pair()
    task = asyncio.get_running_loop().create_task(forward.forward(session, make))
    try:
        yield client
    finally:
        client.link.lose()
        await asyncio.wait_for(task, 10)


@contextlib.asynccontextmanager
async def listening(handler: Handler, host: str = "127.0.0.1") -> t.AsyncIterator[int]:
    server = await asyncio.start_server(handler, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only after the client's end: half-closes must be passed on."""
    data = await reader.read(-1)
    writer.write(data[::-1])
    writer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(coroutine: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_forward_reaches_either_loopback_address(host):
    async def scenario() -> None:
        async with listening(echo, host) as port, forwarding() as client:
            data, error = client.open(port)
            await data.write(b"abc")
            await data.close_write()
            assert await data.read_all() == b"cba"
            assert await error.read_all() == b""

    run(scenario())


def test_forward_serves_many_at_once_and_large_ones():
    async def scenario() -> None:
        async with listening(echo) as port, forwarding() as client:

            async def once(content: bytes) -> None:
                data, error = client.open(port)

                async def send() -> None:
                    for start in range(0, len(content), 65536):
                        await data.write(content[start : start + 65536])
                    await data.close_write()

                sending = asyncio.get_running_loop().create_task(send())
                assert await data.read_all() == content[::-1]
                assert await error.read_all() == b""
                await sending

            await asyncio.gather(*(once(os.urandom(300_000)) for _unused in range(20)))

    run(scenario())


def test_forward_tells_that_nobody_listens_and_goes_on():
    async def scenario() -> None:
        port = free_port()
        async with listening(echo) as open_port, forwarding() as client:
            data, error = client.open(port)
            assert f"nothing listens on port {port}" in (await error.read_all()).decode()
            assert await data.read_all() == b""
            data, error = client.open(open_port)
            await data.close_write()
            assert await data.read_all() == b""
            assert await error.read_all() == b""

    run(scenario())


def test_forward_passes_on_that_the_program_ends_first():
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        assert await reader.read(-1) == b"see you"
        writer.close()

    async def scenario() -> None:
        async with listening(greet) as port, forwarding() as client:
            data, error = client.open(port)
            assert await data.read_all() == b"bye"
            await data.write(b"see you")
            await data.close_write()
            assert await error.read_all() == b""

    run(scenario())


def test_forward_passes_on_that_the_program_breaks_off():
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def scenario() -> None:
        async with listening(break_off) as port, forwarding() as client:
            data, _error = client.open(port)
            await data.write(b"x")
            with pytest.raises(ChannelReset):
                await data.read_all()

    run(scenario())


def test_forward_passes_on_that_the_client_resets():
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()
        ended.set()

    async def scenario() -> None:
        async with listening(wait) as port, forwarding() as client:
            data, _error = client.open(port)
            await data.write(b"x")
            data.reset()
            await ended.wait()

    run(scenario())


def test_forward_ends_connections_with_the_session():
    async def scenario() -> list[bool]:
        ended = []

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)
            writer.close()
            ended.append(True)

        async with listening(wait) as port:
            async with forwarding() as client:
                for _unused in range(3):
                    data, _error = client.open(port)
                    await data.write(b"x")
                await asyncio.sleep(0.05)
            while len(ended) < 3:
                await asyncio.sleep(0.01)
        return ended

    assert run(scenario()) == [True] * 3


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (NotFound("gone"), "the pod has no network any more"),
        (WrongState("sandbox x is stopped, not ready"), "sandbox x is stopped, not ready"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_forward_tells_why_there_is_no_network(failure, text):
    async def make() -> list[socket.socket]:
        raise failure

    async def scenario() -> None:
        async with forwarding(make) as client:
            _data, error = client.open(80)
            said = (await error.read_all()).decode()
            assert text in said
            assert "port 80" in said

    run(scenario())


def test_forward_gives_up_a_port_that_never_accepts(monkeypatch):
    monkeypatch.setattr(forward, "CONNECT_TIMEOUT_S", 0.05)

    async def never(*_unused: t.Any) -> None:
        await asyncio.sleep(60)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
        async with forwarding() as client:
            _data, error = client.open(80)
            assert "did not accept a connection within" in (await error.read_all()).decode()

    run(scenario())


def test_forward_ends_what_is_still_connecting_with_the_session(monkeypatch):
    made: list[socket.socket] = []
    began = asyncio.Event()

    async def make() -> list[socket.socket]:
        made.extend(forward.make_sockets(""))
        return list(made)

    async def never(*_unused: t.Any) -> None:
        began.set()
        await asyncio.sleep(60)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
        async with forwarding(make) as client:
            client.open(80)
            await began.wait()
        assert {each.fileno() for each in made} == {-1}

    run(scenario())


def test_forward_says_so_without_any_family():
    async def make() -> list[socket.socket]:
        return []

    async def scenario() -> None:
        async with forwarding(make) as client:
            _data, error = client.open(80)
            assert "neither IPv4 nor IPv6" in (await error.read_all()).decode()

    run(scenario())


def test_make_sockets_does_without_a_family_that_the_kernel_lacks(monkeypatch):
    real = socket.socket

    def make(family: int, *rest: t.Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(forward.socket, "socket", make)
    (only,) = forward.make_sockets("")
    with only:
        assert only.family == socket.AF_INET


def test_make_sockets_leaves_none_open_when_one_fails(monkeypatch):
    real, made = socket.socket, []

    def make(family: int, *rest: t.Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(24, "Too many open files")
        made.append(real(family, *rest))
        return made[-1]

    monkeypatch.setattr(forward.socket, "socket", make)
    with pytest.raises(OSError, match="Too many"):
        forward.make_sockets("")
    assert [each.fileno() for each in made] == [-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_make_sockets_belong_to_the_namespace(tmp_path):
    path = str(tmp_path / "ns")
    netns.pin(path)
    try:
        listener = netns.run_inside(path, lambda: socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        inside, _six = forward.make_sockets(path)
        outside, _six_too = forward.make_sockets("")
        with inside, outside, listener:
            inside.setblocking(True)
            outside.setblocking(True)
            inside.connect(("127.0.0.1", port))
            with pytest.raises(ConnectionRefusedError):
                outside.connect(("127.0.0.1", port))
    finally:
        netns.unpin(path)
    with pytest.raises(NotFound):
        forward.make_sockets(path)

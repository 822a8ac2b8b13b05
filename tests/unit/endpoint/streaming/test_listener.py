# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accept connections, read one request of each within bounds, and hand it over."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pathlib
import shutil
import socket
import ssl
import typing as t

import pytest
import uvloop

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.tests.support.certificates import Authority
from pvecri.config.model import StreamingConfig
from pvecri.streaming.http import HeadReader, answer_bytes
from pvecri.streaming.listener import Listener, url_base
from pvecri.streaming.tls import Tls
from pvecri.streaming.upgrade_request import UpgradeRequest

HEAD = (
    b"GET /exec/abc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Y: a, b\r\nx-y: c\r\n\r\n"
)


def run(coroutine: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


class Taker:
    """Answers each request with its target, and keeps it."""

    def __init__(self) -> None:
        self.requests: list[UpgradeRequest] = []

    def __call__(self, reader: HeadReader, request: UpgradeRequest) -> None:
        self.requests.append(request)
        reader.answer(200, request.target)


class Server:
    def __init__(self, listener: Listener, port: int, taker: Taker) -> None:
        self.listener = listener
        self.port = port
        self.taker = taker

    async def open(self, **options: t.Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)

    async def ask(self, *pieces: bytes, **options: t.Any) -> bytes:
        """Send pieces and return all that is answered."""
        reader, writer = await self.open(**options)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await reader.read(-1)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(**options: t.Any) -> t.AsyncIterator[Server]:
    taker = Taker()
    listener = Listener(taker, **options)
    port = await listener.start("127.0.0.1", 0)
    try:
        yield Server(listener, port, taker)
    finally:
        await listener.close()


def ask(*pieces: bytes, **options: t.Any) -> tuple[bytes, list[UpgradeRequest]]:
    async def scenario() -> tuple[bytes, list[UpgradeRequest]]:
        async with serving(**options) as server:
            return await server.ask(*pieces), server.taker.requests

    return t.cast("tuple[bytes, list[UpgradeRequest]]", run(scenario()))


def test_a_head_is_handed_over_with_what_follows_it():
    answered, (request,) = ask(HEAD + b"\x80\x03rest")
    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answered.endswith(b"\r\n\r\n/exec/abc\n")
    assert (request.method, request.target, request.leftover) == ("GET", "/exec/abc", b"\x80\x03rest")
    assert request.listed("X-Y") == ["a", "b", "c"]


def test_a_head_may_come_byte_by_byte():
    answered, (request,) = ask(*(HEAD[index : index + 1] for index in range(len(HEAD))))
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert request.values("upgrade") == ["SPDY/3.1"]


@pytest.mark.parametrize("field", [b"Content-Length: 0", b"Transfer-Encoding: chunked"])
def test_an_empty_body_is_none(field):
    end = b"0\r\n\r\n" if b"chunked" in field else b""
    answered, (request,) = ask(
        HEAD.replace(b"GET", b"POST").replace(b"Host: x", b"Host: x\r\n" + field) + end
    )
    assert (answered[:12], request.method) == (b"HTTP/1.1 200", "POST")


HOSTILE = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    (b"GET\r\n\r\n", b"400"),
    (b"GET /exec/abc HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /exec/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"413"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, b"431"),
    (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 8_000, b"431"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3_000_000 + b"\r\n\r\n", b"431"),
    (b"\r\n" * 20_000, b"4"),
    (b"\0" * 1000, b"400"),
]


@pytest.mark.parametrize(("data", "status"), HOSTILE, ids=lambda value: repr(value[:40]))
def test_what_is_no_request_is_answered_and_handed_to_nobody(data, status):
    answered, requests = ask(data)
    assert answered.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close\r\n" in answered
    assert requests == []


def test_who_says_nothing_is_answered_in_time():
    answered, requests = ask(timeout_s=0.1)
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert requests == []


def test_who_says_little_by_little_is_answered_in_time():
    async def scenario() -> None:
        async with serving(timeout_s=0.2) as server:
            reader, writer = await server.open()
            answered = asyncio.get_running_loop().create_task(reader.read(-1))
            writer.write(b"GET / HTTP/1.1\r\n")
            while not answered.done():
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.01)
            assert answered.result().startswith(b"HTTP/1.1 408 ")
            writer.close()

    run(scenario())


def test_a_body_that_trickles_has_an_end():
    chunks = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered, requests = ask(chunks, *(b"0" * 1000 for _unused in range(40)))
    assert answered.startswith(b"HTTP/1.1 4")
    assert requests == []


def test_who_leaves_early_is_forgotten():
    async def scenario() -> None:
        async with serving(max_waiting=2) as server:
            for _unused in range(20):
                _reader, writer = await server.open()
                writer.write(b"GET ")
                writer.close()
            assert (await server.ask(HEAD)).startswith(b"HTTP/1.1 200 ")

    run(scenario())


def test_the_silent_cannot_keep_others_out():
    async def scenario() -> None:
        async with serving(max_waiting=8, timeout_s=20) as server:
            silent = [await server.open() for _unused in range(40)]
            for _unused in range(20):
                assert (await server.ask(HEAD)).startswith(b"HTTP/1.1 200 ")
            # The first ones had to go.
            assert await silent[0][0].read(-1) == b""
            for _reader, writer in silent:
                writer.close()

    run(scenario())


def test_those_who_were_refused_fill_no_table():
    async def scenario() -> None:
        async with serving(max_waiting=4) as server:
            before = len(os.listdir("/proc/self/fd"))
            clients = []
            for _index in range(100):
                clients.append(await server.open())
                clients[-1][1].write(HEAD)
                await clients[-1][0].read(1)
            # They do not close, though they were answered.
            assert len(os.listdir("/proc/self/fd")) - before - len(clients) <= 5
            for _reader, writer in clients:
                writer.close()

    run(scenario())


def test_close_drops_who_waits_and_frees_the_port():
    async def scenario() -> None:
        async with serving() as server:
            reader, writer = await server.open()
            await asyncio.sleep(0.02)
            await server.listener.close()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(-1) == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await server.open()

    run(scenario())


def test_start_says_that_the_port_is_taken():
    async def scenario() -> None:
        async with serving() as server:
            with pytest.raises(WrongState, match=r"streaming\.port"):
                await Listener(server.taker).start("127.0.0.1", server.port)

    run(scenario())


def test_start_says_that_the_address_is_not_there():
    for address in ("192.0.2.7", "no-such-host.invalid"):
        with pytest.raises(WrongState, match=f"streams cannot be served on {address}"):
            run(Listener(Taker()).start(address, 0))


def test_accept_goes_on_after_a_lack_of_descriptors(monkeypatch):
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        real, failures = loop.sock_accept, [OSError(errno.EMFILE, "x"), OSError(errno.ECONNABORTED, "x")]

        async def accept(listening: socket.socket) -> t.Any:
            if failures:
                raise failures.pop()
            return await real(listening)

        monkeypatch.setattr(loop, "sock_accept", accept)
        async with serving() as server:
            assert (await server.ask(HEAD)).startswith(b"HTTP/1.1 200 ")
        assert not failures

    run(scenario())


def test_an_answer_reaches_who_still_sends():
    async def scenario() -> None:
        async with serving() as server:
            answered = await server.ask(HEAD, *(b"x" * 100_000 for _unused in range(20)))
            assert answered.startswith(b"HTTP/1.1 200 ")

    run(scenario())


def test_answer_bytes_are_one_whole_answer():
    assert answer_bytes(404, "no").split(b"\r\n\r\n") == [
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\nContent-Length: 3\r\nConnection: close",
        b"no\n",
    ]
    assert answer_bytes(799, "x", [(b"A", b"b")], kind="application/json").startswith(
        b"HTTP/1.1 799 Error\r\nContent-Type: application/json;"
    )


URLS = [
    (("http", "127.0.0.1", 80), "http://127.0.0.1:80"),
    (("http", "::1", 80), "http://[::1]:80"),
    (("https", "0.0.0.0", 443), "https://127.0.0.1:443"),
    (("https", "::", 443), "https://[::1]:443"),
    (("https", "node1", 443), "https://node1:443"),
    (("https", "0.0.0.0", 443, "node1.example"), "https://node1.example:443"),
    (("https", "0.0.0.0", 443, "fd00::7"), "https://[fd00::7]:443"),
]


@pytest.mark.parametrize(("arguments", "url"), URLS)
def test_url_base_names_what_clients_of_the_node_reach(arguments, url):
    assert url_base(*arguments) == url


# ---- TLS ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return Authority(tmp_path_factory.mktemp("tls"))


def tls_of(authority: Authority, *, name: str = "server", client_ca: str = "") -> Tls:
    server = authority.server(name, "IP:127.0.0.1")
    return Tls(StreamingConfig(tls_cert=server.cert, tls_key=server.key, tls_client_ca=client_ca))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca)


def test_tls_serves_those_who_trust_its_authority(authority):
    tls = tls_of(authority)

    async def scenario() -> None:
        async with serving(tls=lambda: tls.context) as server:
            assert (await server.ask(HEAD, ssl=trusting(authority))).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(ssl.SSLCertVerificationError):
                await server.ask(HEAD, ssl=ssl.create_default_context())
            # Without TLS, and without an end of the handshake: nobody else has to wait.
            assert b"200 OK" not in await server.ask(HEAD)
            silent = [await server.open() for _unused in range(5)]
            assert (await server.ask(HEAD, ssl=trusting(authority))).startswith(b"HTTP/1.1 200 ")
            for _reader, writer in silent:
                writer.close()

    run(scenario())


def test_tls_wants_clients_certificates_of_the_authority_that_was_named(authority, tmp_path):
    tls = tls_of(authority, client_ca=authority.ca)
    other = Authority(tmp_path / "other", "other")

    async def scenario() -> None:
        async with serving(tls=lambda: tls.context) as server:
            for maker, is_fine in ((authority, True), (other, False), (None, False)):
                context = trusting(authority)
                if maker is not None:
                    client = maker.client("client")
                    context.load_cert_chain(client.cert, client.key)
                answered = b""
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    answered = await server.ask(HEAD, ssl=context)
                assert answered.startswith(b"HTTP/1.1 200 ") is is_fine
            assert len(server.taker.requests) == 1

    run(scenario())


def test_tls_handshakes_end_in_time(authority):
    tls = tls_of(authority)

    async def scenario() -> None:
        async with serving(tls=lambda: tls.context, timeout_s=0.1) as server:
            assert await server.ask() == b""

    run(scenario())


def test_tls_takes_over_a_renewed_certificate(authority, tmp_path):
    tls = tls_of(authority, name="renewed")
    first = tls.context
    tls.refresh()
    assert tls.context is first
    tls_of(authority, name="renewed")
    tls.refresh()
    assert tls.context is not first


def test_tls_keeps_the_old_certificate_when_the_new_one_is_none(authority):
    tls = tls_of(authority, name="broken")
    first = tls.context
    path = pathlib.Path(authority.ca).parent / "broken.pem"
    path.write_text("nothing")
    with pytest.raises(InvalidSpec, match="are no certificate and its key"):
        tls.refresh()
    tls.refresh()
    assert tls.context is first
    path.unlink()
    with pytest.raises(InvalidSpec, match="No such file"):
        tls.refresh()


def test_tls_says_that_an_authority_is_none(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(InvalidSpec, match="has no certificates"):
        tls_of(authority, client_ca=str(path))

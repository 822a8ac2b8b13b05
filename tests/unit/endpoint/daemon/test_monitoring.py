# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for health and metrics over HTTP, politely and not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
import typing as t

import pytest

from pvecri.config.model import MetricsConfig
from pvecri.daemon import monitoring
from pvecri.daemon.health import Readiness
from pvecri.daemon.monitoring import Monitoring
from pvecri.daemon.operations import Operations


class Answers:
    """What the daemon would say, and what is asked of it."""

    def __init__(self) -> None:
        self.readiness = Readiness(True, "ready\n")
        self.page = "x 1\n"
        self.may_end = threading.Event()
        self.may_end.set()

    def ready(self) -> t.Callable[[], Readiness]:
        return lambda: self.readiness

    def metrics(self) -> t.Callable[[], str]:
        def page() -> str:
            self.may_end.wait(30)
            return self.page

        return page


@contextlib.asynccontextmanager
async def served(answers: Answers, **limits: t.Any) -> t.AsyncIterator[Monitoring]:
    operations = Operations()
    made = Monitoring(
        MetricsConfig(**limits.pop("config", {})),
        operations,
        readiness=answers.ready,
        metrics=answers.metrics,
        **limits,
    )
    await made.serve()
    try:
        yield made
    finally:
        answers.may_end.set()
        made.close()
        operations.close()


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(data)
        answer = await reader.read()
    writer.close()
    return answer


async def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    data = await exchange(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _end, body = data.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _colon, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


def run(answers: Answers, test: t.Callable[[Monitoring], t.Awaitable[None]], **limits: t.Any) -> None:
    async def main() -> None:
        async with served(answers, **limits) as made:
            await test(made)

    asyncio.run(main())


def test_the_three_paths() -> None:
    answers = Answers()

    async def test(made: Monitoring) -> None:
        assert (await ask(made.port, "/healthz"))[::2] == (200, "ok\n")
        assert (await ask(made.port, "/readyz?verbose"))[::2] == (200, "ready\n")
        answers.readiness = Readiness(False, "requests: failed: starting\n")
        assert (await ask(made.port, "/readyz"))[::2] == (503, "requests: failed: starting\n")
        status, headers, body = await ask(made.port, "/metrics")
        assert (status, body) == (200, "x 1\n")
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert headers["connection"] == "close"
        status, headers, body = await ask(made.port, "/metrics", "HEAD")
        assert (status, body, headers["content-length"]) == (200, "", "4")

    run(answers, test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /" + b"x" * 100_000, 431),
    ],
)
def test_odd_requests_are_refused(request_: bytes, status: int) -> None:
    async def test(made: Monitoring) -> None:
        answer = await exchange(made.port, request_)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert (await ask(made.port, "/healthz"))[0] == 200

    run(Answers(), test)


def test_who_is_slow_to_ask_is_let_go() -> None:
    async def test(made: Monitoring) -> None:
        assert (await exchange(made.port, b"GET /healthz HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")

    run(Answers(), test, timeout_s=0.05)


def test_who_is_slow_to_take_the_answer_is_let_go() -> None:
    answers = Answers()
    answers.page = "x" * 30_000_000

    async def test(made: Monitoring) -> None:
        with socket.create_connection(("127.0.0.1", made.port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(30):
                while not made._readers:
                    await asyncio.sleep(0.01)
                while made._readers:
                    await asyncio.sleep(0.01)
        answers.page = "y"
        assert (await ask(made.port, "/metrics"))[2] == "y"

    run(answers, test, timeout_s=0.3)


def test_connections_are_bounded() -> None:
    answers = Answers()
    answers.may_end.clear()

    async def test(made: Monitoring) -> None:
        waiting = [asyncio.ensure_future(ask(made.port, "/metrics")) for _number in range(2)]
        while len(made._readers) < 2:
            await asyncio.sleep(0.01)
        assert (await ask(made.port, "/metrics"))[::2] == (503, "too many connections\n")
        idle = [await asyncio.open_connection("127.0.0.1", made.port) for _number in range(2)]
        while len(made._readers) < 4:
            await asyncio.sleep(0.01)
        # Beyond twice as many nobody is heard at all.
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        answers.may_end.set()
        assert [found[0] for found in await asyncio.gather(*waiting)] == [200, 200]
        for _reader, other in [*idle, (reader, writer)]:
            other.close()

    run(answers, test, connections=2)


def test_a_failure_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers()

    async def test(made: Monitoring) -> None:
        answers.page = t.cast(str, None)
        answers.readiness = t.cast(Readiness, None)
        assert (await ask(made.port, "/readyz"))[0] == 500
        assert (await ask(made.port, "/healthz"))[0] == 200

    run(answers, test)
    assert "a request for /readyz failed" in caplog.text


def test_a_client_that_leaves_while_it_is_answered_is_forgotten() -> None:
    answers = Answers()
    answers.may_end.clear()

    async def test(made: Monitoring) -> None:
        _reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        while not made._tasks:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        answers.may_end.set()
        async with asyncio.timeout(30):
            while made._readers or made._tasks:
                await asyncio.sleep(0.01)

    run(answers, test)


def test_a_connection_that_was_closed_meanwhile_gets_no_answer() -> None:
    answers = Answers()
    answers.may_end.clear()

    async def test(made: Monitoring) -> None:
        asking = asyncio.ensure_future(exchange(made.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
        async with asyncio.timeout(30):
            while not made._tasks:
                await asyncio.sleep(0.01)
            for reader in list(made._readers):
                reader.abort()
            answers.may_end.set()
            with contextlib.suppress(ConnectionResetError):
                assert await asking == b""
            while made._tasks or made._readers:
                await asyncio.sleep(0.01)

    run(answers, test)


def test_a_port_that_is_taken_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitoring, "_RETRY_S", 0.02)

    async def main() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            operations, answers = Operations(), Answers()
            made = Monitoring(
                MetricsConfig(port=port), operations, readiness=answers.ready, metrics=answers.metrics
            )
            task = asyncio.ensure_future(made.serve())
            async with asyncio.timeout(30):
                while caplog.text.count("cannot be served yet") < 1:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                assert made.port == 0
                other.close()
                await task
        assert (await ask(port, "/healthz"))[0] == 200
        made.close()
        operations.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert caplog.text.count("cannot be served yet") == 1


def test_a_host_without_what_speaks_http_is_told_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pvecri.streaming.http", None)

    async def test(made: Monitoring) -> None:
        assert made.port == 0

    run(Answers(), test)
    assert "metrics are not served" in caplog.text


def test_listening_to_other_hosts_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def test(made: Monitoring) -> None:
        assert (await ask(made.port, "/healthz"))[0] == 200

    run(Answers(), test, config={"address": "0.0.0.0", "allow_remote": True})
    assert "to other hosts" in caplog.text


def test_the_end_lets_go_of_everybody() -> None:
    answers = Answers()
    answers.may_end.clear()

    async def main() -> None:
        async with served(answers) as made:
            asking = asyncio.ensure_future(exchange(made.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
            while not made._tasks:
                await asyncio.sleep(0.01)
            made.close()
            with contextlib.suppress(ConnectionResetError):
                assert await asking == b""

    asyncio.run(main())
